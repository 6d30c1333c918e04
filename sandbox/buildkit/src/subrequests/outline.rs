//! `docker build --call=outline`: what a target can be given (dockerfile2llb/outline.go).

use super::{Location, table};
use crate::error::Source;
use crate::frontend::needed;
use crate::vertices::global_variables;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drydock_dockerfile::build::Options;
use drydock_dockerfile::language::shell::{Lexer, Variables};
use drydock_dockerfile::language::{
    Dockerfile, Instruction, Kind, MountKind, Run, Stage, description, parse_mount,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The answer.
#[derive(Debug, Serialize)]
pub struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Wanted>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Wanted>,
    sources: [String; 1],
}

#[derive(Debug, Clone, Serialize)]
struct Arg {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

/// A secret or an SSH agent.
#[derive(Debug, Serialize)]
struct Wanted {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

/// What was found, each under its name.
#[derive(Default)]
struct Found {
    args: BTreeMap<String, Arg>,
    secrets: BTreeMap<String, Wanted>,
    ssh: BTreeMap<String, Wanted>,
}

impl Outline {
    /// That of the options' target.
    pub fn of(file: &Dockerfile, options: &Options, source: &Source) -> Self {
        let (variables, global) = (global_variables(file, options), globals(file, options));
        let mut found = Found::default();
        let needed = needed(file, options);
        // The target's own ones count before those of what it is made from.
        for stage in needed.iter().rev().map(|index| &file.stages[*index]) {
            found.stage(file.escape, stage, options, &variables, &global);
        }
        let target = needed.last().and_then(|index| file.stages.get(*index));
        let name = target.and_then(|stage| stage.name.clone()).unwrap_or_default();
        let line = |location: &Location| location.ranges[0].start.line;
        let sorted = |map: BTreeMap<String, Wanted>| {
            let mut list: Vec<_> = map.into_values().collect();
            list.sort_by_key(|wanted| line(&wanted.location));
            list
        };
        let mut args: Vec<_> = found.args.into_values().collect();
        args.sort_by_key(|arg| line(&arg.location));
        Self {
            description: target.map_or("", |stage| description(&stage.comments, &name)).to_owned(),
            name,
            args,
            secrets: sorted(found.secrets),
            ssh: sorted(found.ssh),
            sources: [STANDARD.encode(&source.data)],
        }
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            let name = if self.name.is_empty() { "(default)" } else { &self.name };
            let mut rows = Vec::new();
            if !self.description.is_empty() {
                rows.push(vec!["DESCRIPTION:".to_owned(), self.description.clone()]);
            }
            text += &table(1, &["TARGET:", name], rows);
            text.push('\n');
        }
        if !self.args.is_empty() {
            let row = |arg: &Arg| vec![arg.name.clone(), arg.value.clone(), arg.description.clone()];
            text += &table(3, &["BUILD ARG", "VALUE", "DESCRIPTION"], self.args.iter().map(row).collect());
            text.push('\n');
        }
        for (title, list) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !list.is_empty() {
                let required = |wanted: &Wanted| if wanted.required { "true" } else { "" }.to_owned();
                let row = |wanted: &Wanted| vec![wanted.name.clone(), required(wanted)];
                text += &table(3, &[title, "REQUIRED"], list.iter().map(row).collect());
                text.push('\n');
            }
        }
        text
    }
}

/// The ARGs before the first FROM, and which others each is made of.
fn globals(file: &Dockerfile, options: &Options) -> BTreeMap<String, (Arg, BTreeSet<String>)> {
    let (mut all, mut known) = (BTreeMap::new(), Variables::new());
    for instruction in &file.global_args {
        let Kind::Arg(list) = &instruction.kind else { continue };
        for (name, default) in list {
            let given = options.build_args.get(name).cloned().flatten();
            let looked = default.as_deref().map(|text| Lexer::new(file.escape).look(text, &known));
            let of = looked.as_ref().filter(|_| given.is_none()).map(|l| l.set.clone()).unwrap_or_default();
            let value = given.or_else(|| looked.map(|looked| looked.word)).unwrap_or_default();
            known.insert(name.clone(), value.clone());
            all.insert(name.clone(), (arg(name, value, instruction), of));
        }
    }
    all
}

fn arg(name: &str, value: String, instruction: &Instruction) -> Arg {
    let description = description(&instruction.comments, name).to_owned();
    Arg { name: name.to_owned(), description, value, location: location(instruction) }
}

fn location(instruction: &Instruction) -> Location {
    Location::of(instruction.line, instruction.last_line)
}

impl Found {
    fn stage(
        &mut self,
        escape: char,
        stage: &Stage,
        options: &Options,
        variables: &Variables,
        global: &BTreeMap<String, (Arg, BTreeSet<String>)>,
    ) {
        let lexer = Lexer::new(escape);
        let texts = std::iter::once(&stage.base).chain(&stage.platform);
        let mut open: Vec<String> = texts.flat_map(|text| lexer.look(text, variables).set).collect();
        let mut known = Variables::new();
        let mut own: BTreeMap<String, Arg> = BTreeMap::new();
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(list) => {
                    for (name, default) in list {
                        let given = options.build_args.get(name).cloned().flatten();
                        if given.is_none() && default.is_none() && variables.contains_key(name) {
                            known.insert(name.clone(), variables[name].clone());
                            open.push(name.clone());
                            continue;
                        }
                        let default = default.as_deref().map(|text| lexer.look(text, &known).word);
                        let value = given.or(default).unwrap_or_default();
                        known.insert(name.clone(), value.clone());
                        own.insert(name.clone(), arg(name, value, instruction));
                    }
                }
                Kind::Env(pairs) => {
                    let read = |text: &String| lexer.look(text, &known).word;
                    let new: Vec<_> =
                        pairs.iter().map(|pair| (read(&pair.name), read(&pair.value))).collect();
                    known.extend(new);
                }
                Kind::Run(run) => self.mounts(run, &lexer, &known, instruction),
                _ => {}
            }
        }
        // What a global one is made of is used with it.
        while let Some(name) = open.pop() {
            if let Some((arg, of)) = global.get(&name).filter(|_| !own.contains_key(&name)) {
                own.insert(name, arg.clone());
                open.extend(of.iter().cloned());
            }
        }
        own.into_iter().for_each(|(name, arg)| _ = self.args.entry(name).or_insert(arg));
    }

    fn mounts(&mut self, run: &Run, lexer: &Lexer, known: &Variables, instruction: &Instruction) {
        let expand = |text: &str| lexer.word(text, known);
        for mount in run.mounts.iter().filter_map(|mount| parse_mount(mount, Some(&expand)).ok()) {
            let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned();
            let id = [&mount.id, &mount.source].into_iter().find(|name| !name.is_empty()).cloned();
            let (list, name) = match mount.kind {
                MountKind::Secret => (&mut self.secrets, id.unwrap_or_else(|| base(&mount.target))),
                MountKind::Ssh => (&mut self.ssh, id.unwrap_or_else(|| "default".to_owned())),
                _ => continue,
            };
            let wanted =
                Wanted { name: name.clone(), required: mount.required, location: location(instruction) };
            list.entry(name).or_insert(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;

    #[test]
    fn a_target_tells_what_it_can_be_given() {
        let text = "# V the version\nARG V=1\nARG UNUSED=x\nARG FULL=$V.0\nFROM a AS other\nARG OTHER\n\
                    # final the result\nFROM busybox:$FULL AS final\n# MODE how\nARG MODE=fast$V TARGETARCH\nARG V\n\
                    RUN --mount=type=secret,id=token,required=true --mount=type=ssh x\n";
        let mut options = Options::default();
        options.build_args.insert("MODE".into(), Some("slow".into()));
        let source = Source { name: "Dockerfile".into(), data: text.as_bytes().into() };
        let outline = Outline::of(&parse(text).unwrap(), &options, &source);
        assert_eq!(
            outline.text(),
            "TARGET:      final\nDESCRIPTION: the result\n\n\
             BUILD ARG    VALUE   DESCRIPTION\nV            1       the version\nFULL         1.0     \n\
             MODE         slow    how\nTARGETARCH           \n\n\
             SECRET   REQUIRED\ntoken    true\n\nSSH       REQUIRED\ndefault   \n\n"
        );
        options.target = "other".into();
        let outline = Outline::of(&parse(text).unwrap(), &options, &source);
        assert_eq!(outline.args.iter().map(|arg| arg.name.as_str()).collect::<Vec<_>>(), ["OTHER"]);
    }
}
