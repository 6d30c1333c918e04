//! How the steps of a stage are told: which BuildKit shows, under what names and numbers (dockerfile2llb's `prefixCommand`).

use super::options::Mode;
use super::output::Event;
use super::stage::Builder;
use crate::language::{Dockerfile, Instruction, Kind, Mount, MountKind, Run, parse_mount};

impl Builder<'_> {
    /// Tells an instruction.
    pub fn begin(&mut self, instruction: &Instruction) {
        self.title.clear();
        if self.mode() == Mode::BuildKit {
            self.inputs(&instruction.kind);
            // BuildKit counts a WORKDIR that makes nothing, and does not show it.
            let root = |path: &str| self.next_workdir(path).is_ok_and(|path| path == "/");
            let nothing = matches!(&instruction.kind, Kind::Workdir(path) if root(path));
            if makes_layer(instruction) && !nothing {
                self.shown += 1;
                let label = &self.shared.plan.labels[self.index];
                self.title = step_title(label, self.shown, self.counted, &self.text(instruction));
            }
        }
        self.started(&instruction.source);
    }

    /// Tells what BuildKit has steps of its own for, before the one that uses them.
    fn inputs(&self, kind: &Kind) {
        let (from, documents) = match kind {
            Kind::Copy(copy) | Kind::Add(copy) => (copy.from.iter().cloned().collect(), copy.files.len()),
            Kind::Run(run) => {
                let expand = |word: &str| self.expand(word).map_err(|e| e.message);
                let mounts = run.mounts.iter().filter_map(|mount| parse_mount(mount, Some(&expand)).ok());
                let mounts: Vec<_> = mounts.collect();
                let owned = |mount: &&Mount| {
                    mount.kind == MountKind::Cache
                        && (mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some())
                };
                for _ in mounts.iter().filter(owned) {
                    self.emit(Event::Internal("[internal] setting cache mount permissions"));
                }
                let from = mounts.into_iter().filter_map(|mount| mount.from);
                (from.collect(), usize::from(self.command(&run.command).1.is_some()))
            }
            _ => (Vec::new(), 0),
        };
        (0..documents).for_each(|_| self.emit(Event::Internal("[internal] preparing inline document")));
        let contexts = &self.shared.options.contexts;
        let image = |name: &&String| {
            *name != "scratch" && !contexts.contains_key(*name) && matches!(self.stage_index(name), Ok(None))
        };
        from.iter().filter(image).for_each(|name| self.emit(Event::Image(name)));
    }

    pub fn started(&self, source: &str) {
        self.emit(Event::Started {
            id: self.id,
            source,
            title: &self.title,
            number: self.shared.plan.first_step[self.index] + self.id.step,
            total: self.shared.plan.total,
        });
    }

    /// An instruction as BuildKit shows it: with its variables, and the script of a here-document summed up.
    fn text(&self, instruction: &Instruction) -> String {
        let (mut lexer, mut known) = (self.lexer(), self.variables());
        let mut text = instruction.source.clone();
        if let Kind::Run(run) = &instruction.kind {
            (lexer.raw_quotes, lexer.skip_unset) = (true, true);
            text.push_str(&summary(run));
            let expand = |word: &str| self.expand(word).map_err(|e| e.message);
            let secrets = run.mounts.iter().filter_map(|m| parse_mount(m, Some(&expand)).ok()?.env);
            let secrets: Vec<_> = secrets.map(|name| (name, "****".to_owned())).collect();
            known.extend(secrets);
        }
        let text = lexer.word(&text, &known).unwrap_or(text);
        let (name, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
        let trigger = if self.id.trigger > 0 { "ONBUILD " } else { "" };
        format!("{trigger}{}{rest}", name.to_uppercase())
    }
}

/// What BuildKit calls a stage before the numbers of its steps: nothing if there is no other, and it counts images of `--from` and
/// whatever a `RUN --mount` begins with among them.
pub fn stage_label(file: &Dockerfile, index: usize) -> String {
    let name = match file.stages.get(index).and_then(|stage| stage.name.as_deref()) {
        Some(name) => format!("{name} "),
        None => format!("stage-{index} "),
    };
    let more = |instruction: &Instruction| match &instruction.kind {
        Kind::Run(run) => !run.mounts.is_empty(),
        Kind::Copy(copy) => copy.from.as_ref().is_some_and(|from| from.parse::<usize>().is_err()),
        _ => false,
    };
    match file.stages.as_slice() {
        [only] if !only.instructions.iter().any(more) => String::new(),
        _ => name,
    }
}

/// `[stage-1 2/3] RUN x`.
pub fn step_title(label: &str, number: usize, total: usize, text: &str) -> String {
    let width = total.to_string().len();
    format!("[{label}{number:>width$}/{total}] {text}")
}

/// Whether it is a step of BuildKit's.
pub(super) fn makes_layer(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

/// ` (first line...)` of the script of a RUN.
fn summary(run: &Run) -> String {
    // With more on the line than the script, the line says enough.
    let alone = |word: &String| word.starts_with("<<") && !word.contains(char::is_whitespace);
    let script = run.command.files.first().filter(|_| run.command.words.iter().all(alone));
    let Some(script) = script else { return String::new() };
    let mut lines = script.data.trim().lines();
    let first = lines.next().unwrap_or_default();
    format!(" ({first}{})", if lines.next().is_some() { "..." } else { "" })
}
