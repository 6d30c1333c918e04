//! Which files of its context a Dockerfile uses, so that a client sends no others (frontend/dockerfile/dockerfile2llb does the same).

use crate::vertices::global_variables;
use drydock_dockerfile::build::Options;
use drydock_dockerfile::language::shell::Lexer;
use drydock_dockerfile::language::{Copy, Dockerfile, Kind, MountKind, parse_mount};
use std::collections::BTreeSet;

/// More than these are all.
const MAX_PATHS: usize = 1000;

/// Files that are used.
#[derive(Debug, PartialEq, Eq)]
pub enum Used {
    /// All, or unknown.
    All,
    /// These.
    Paths(BTreeSet<String>),
}

impl Used {
    /// None at all.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Paths(BTreeSet::new())
    }

    /// For the client.
    pub fn follow(self) -> Option<Vec<String>> {
        match self {
            Self::All => None,
            Self::Paths(paths) => Some(paths.into_iter().collect()),
        }
    }

    fn add(&mut self, path: &str) {
        let path = clean(path);
        match self {
            Self::Paths(paths)
                if !path.is_empty() && !path.contains(['$', '\\']) && paths.len() < MAX_PATHS =>
            {
                paths.insert(path);
            }
            _ => *self = Self::All,
        }
    }

    fn copy(&mut self, copy: &Copy) {
        let remote = |source: &str| source.contains("://") || source.starts_with("git@");
        let here = |source: &&String| !remote(source) && !copy.files.iter().any(|f| source.contains(&f.name));
        copy.sources.iter().filter(here).for_each(|source| self.add(source));
    }
}

/// What the stages that are needed use of the context.
pub fn used(file: &Dockerfile, options: &Options) -> Used {
    let mut used = Used::Paths(BTreeSet::new());
    for index in needed(file, options) {
        for instruction in &file.stages[index].instructions {
            match &instruction.kind {
                Kind::Copy(copy) | Kind::Add(copy) if copy.from.is_none() => used.copy(copy),
                Kind::Run(run) => {
                    // Variables stay as they are written, and make the path unknown.
                    let read = |mount: &String| parse_mount(mount, Some(&|word| Ok(word.to_owned()))).ok();
                    for mount in run.mounts.iter().filter_map(read) {
                        if mount.kind == MountKind::Bind && mount.from.is_none() {
                            used.add(&mount.source);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    used
}

/// Whether a trigger of a base image may use files of the context.
pub fn uses_files(trigger: &str) -> bool {
    let word = trigger.split_whitespace().next().unwrap_or_default().to_uppercase();
    matches!(word.as_str(), "COPY" | "ADD" | "RUN")
}

/// Indices of the stages that the target needs.
pub fn needed(file: &Dockerfile, options: &Options) -> BTreeSet<usize> {
    let named = |name: &str, before: usize| {
        let same = |stage: &drydock_dockerfile::language::Stage| {
            stage.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name))
        };
        let found = file.stages.iter().position(same).or_else(|| name.parse().ok());
        found.filter(|index| *index < before)
    };
    let variables = global_variables(file, options);
    let count = file.stages.len();
    let target = named(&options.target, count).unwrap_or(count.saturating_sub(1));
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        let Some(stage) = file.stages.get(index).filter(|_| needed.insert(index)) else { continue };
        let base = Lexer::new(file.escape).word(&stage.base, &variables);
        open.extend(named(&base.unwrap_or_default(), index));
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Copy(copy) => open.extend(copy.from.as_deref().and_then(|from| named(from, index))),
                Kind::Run(run) => {
                    let mounts = run.mounts.iter().filter_map(|mount| parse_mount(mount, None).ok()?.from);
                    open.extend(mounts.filter_map(|from| named(&from, index)));
                }
                _ => {}
            }
        }
    }
    needed
}

/// A path without `.`, `..` and slashes at the ends.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;

    fn paths(text: &str, target: &str) -> Used {
        let options = Options { target: target.into(), ..Options::default() };
        used(&parse(text).unwrap(), &options)
    }

    fn list(paths: &[&str]) -> Used {
        Used::Paths(paths.iter().map(|p| (*p).to_owned()).collect())
    }

    #[test]
    fn only_what_the_target_copies_is_sent() {
        let text = "FROM a AS one\nCOPY ./x /y/../z /d/\nFROM a AS two\nCOPY other /\nFROM a\n\
                    COPY --from=one /d /d\nADD https://x.example/f *.txt /e/\nRUN --mount=source=src,target=/s x";
        assert_eq!(paths(text, ""), list(&["*.txt", "src", "x", "z"]));
        assert_eq!(paths(text, "two"), list(&["other"]));
        assert!(paths("FROM a\nRUN x", "").is_nothing());
        assert!(paths("FROM a\nCOPY <<f /x\ny\nf\n", "").is_nothing());
    }

    #[test]
    fn triggers_that_use_files_are_known() {
        assert!(uses_files("copy . /x") && uses_files("ADD a b") && !uses_files("ENV a=b"));
    }

    #[test]
    fn everything_is_sent_if_a_path_is_not_known() {
        for copy in ["COPY . /", "COPY / /", "COPY $x /", "COPY a/.. /", "RUN --mount=target=/s x"] {
            assert_eq!(paths(&format!("FROM a\nCOPY f /\n{copy}"), ""), Used::All, "{copy}");
        }
    }
}
