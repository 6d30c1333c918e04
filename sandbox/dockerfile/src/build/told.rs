//! How the steps of a stage are told: which BuildKit shows, under what names and numbers (dockerfile2llb's `prefixCommand`).

use super::options::Mode;
use super::output::Event;
use super::stage::Builder;
use crate::language::{Instruction, Kind, Run, parse_mount};

impl Builder<'_> {
    /// Tells an instruction.
    pub fn begin(&mut self, instruction: &Instruction) {
        let title = self.title(instruction);
        // BuildKit counts a WORKDIR that makes nothing, and does not show it.
        let nothing = self.mode() == Mode::BuildKit
            && matches!(&instruction.kind, Kind::Workdir(path) if self.next_workdir(path).is_ok_and(|p| p == "/"));
        if self.mode() == Mode::BuildKit {
            self.inputs(&instruction.kind);
        }
        self.started(&instruction.source, &title, makes_layer(instruction) && !nothing);
    }

    /// Tells what BuildKit has steps of its own for, before the one that uses them.
    fn inputs(&self, kind: &Kind) {
        let (from, documents) = match kind {
            Kind::Copy(copy) | Kind::Add(copy) => (copy.from.iter().cloned().collect(), copy.files.len()),
            Kind::Run(run) => {
                let from = run.mounts.iter().filter_map(|m| parse_mount(m, None).ok()?.from);
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

    pub fn started(&mut self, source: &str, title: &str, shown: bool) {
        let stage = &self.shared.plan.stages[self.index];
        self.shown += usize::from(shown);
        let name = stage.name.clone().unwrap_or_else(|| format!("stage-{}", self.index));
        self.emit(Event::Started {
            id: self.id,
            source,
            title,
            stage: &name,
            number: self.shared.plan.first_step[self.index] + self.id.step,
            total: self.shared.plan.total,
            stage_number: if shown { self.shown } else { 0 },
            stage_total: self.counted,
        });
    }

    /// What BuildKit calls a step.
    fn title(&self, instruction: &Instruction) -> String {
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
