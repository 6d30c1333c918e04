//! Which stages are built, and which need which.

use super::args::Args;
use super::error::BuildError;
use super::options::{Mode, Options};
use super::told::stage_label;
use crate::language::shell::Lexer;
use crate::language::{Dockerfile, Instruction, Kind, Pair, Stage, parse_mount, suggest};
use std::collections::BTreeSet;

/// Stages that one Dockerfile may have.
const MAX_STAGES: usize = 1000;

/// Instructions that one Dockerfile may have. (Docker has no limit, but an image of more than 127 layers can't be run.)
const MAX_STEPS: usize = 10_000;

/// What is to be built.
#[derive(Debug)]
pub(super) struct Plan {
    /// Stages, the last being the target.
    pub stages: Vec<Stage>,
    /// What BuildKit calls each one before the numbers of its steps.
    pub labels: Vec<String>,
    /// The stages that each one needs.
    pub needs: Vec<BTreeSet<usize>>,
    /// Whether it is to be built at all.
    pub wanted: Vec<bool>,
    /// The ARGs before the first FROM, evaluated.
    pub args: Args,
    /// Number of the first step of each stage, from 1.
    pub first_step: Vec<usize>,
    /// Of all steps.
    pub total: usize,
}

impl Plan {
    pub fn new(file: &Dockerfile, options: &Options) -> Result<Self, BuildError> {
        let mut stages = file.stages.clone();
        if stages.is_empty() {
            return Err(BuildError::invalid("dockerfile contains no stages to build"));
        }
        if stages.len() > MAX_STAGES {
            return Err(BuildError::invalid(format!("dockerfile contains more than {MAX_STAGES} stages")));
        }
        let target = target(&stages, options)?;
        stages.truncate(target + 1);
        add_labels(&mut stages[target], options);
        let args = global_args(file, options)?;
        let needs: Vec<_> =
            (0..stages.len()).map(|index| needs(&stages, index, &args, file.escape)).collect();
        let mut wanted = vec![options.mode == Mode::Classic; stages.len()];
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            wanted[index] = true;
            open.extend(needs[index].iter().filter(|n| !wanted[**n]));
        }
        let mut total = file.global_args.len();
        let mut first_step = Vec::new();
        for (stage, wanted) in stages.iter().zip(&wanted) {
            first_step.push(total + 1);
            total += if *wanted { 1 + stage.instructions.len() } else { 0 };
        }
        if total > MAX_STEPS {
            return Err(BuildError::invalid(format!(
                "dockerfile contains more than {MAX_STEPS} instructions"
            )));
        }
        let labels = (0..stages.len()).map(|index| stage_label(file, index)).collect();
        Ok(Self { stages, labels, needs, wanted, args, first_step, total })
    }

    /// Index of a stage by its name, or by its number if `numbers`.
    pub fn find(&self, name: &str, numbers: bool) -> Option<usize> {
        find(&self.stages, name).or_else(|| name.parse().ok().filter(|n| numbers && *n < self.stages.len()))
    }
}

fn find(stages: &[Stage], name: &str) -> Option<usize> {
    stages.iter().position(|s| s.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)))
}

fn target(stages: &[Stage], options: &Options) -> Result<usize, BuildError> {
    let name = &options.target;
    if name.is_empty() {
        return Ok(stages.len() - 1);
    }
    if let Some(index) = find(stages, name) {
        return Ok(index);
    }
    if let Some(index) = name.parse().ok().filter(|n| *n < stages.len() && options.mode == Mode::BuildKit) {
        return Ok(index);
    }
    let message = format!("target stage {} could not be found", crate::language::go::quote(name));
    let names: Vec<&str> = stages.iter().filter_map(|s| s.name.as_deref()).collect();
    Err(BuildError::invalid(match options.mode {
        Mode::Classic => message,
        Mode::BuildKit => suggest(message, name, &names, true),
    }))
}

/// `docker build --label` is a LABEL at the end, in which nothing is expanded.
fn add_labels(stage: &mut Stage, options: &Options) {
    for (name, value) in &options.labels {
        stage.instructions.push(Instruction {
            kind: Kind::Label(vec![Pair { name: name.clone(), value: value.clone() }], false),
            source: format!("LABEL {name}={value}"),
            line: stage.line,
            last_line: stage.line,
            comments: Vec::new(),
        });
    }
}

/// The ARGs before the first FROM.
pub(super) fn global_args(file: &Dockerfile, options: &Options) -> Result<Args, BuildError> {
    let mut args = Args::new(options);
    let lexer = Lexer::new(file.escape);
    for instruction in &file.global_args {
        let Kind::Arg(list) = &instruction.kind else { continue };
        for (name, value) in list {
            let known = args.globals();
            let expand = |text: &str| {
                lexer
                    .word(text, &known)
                    .map_err(|e| BuildError::invalid(e).at(instruction.line..=instruction.last_line))
            };
            let (name, value) = (expand(name)?, value.as_deref().map(expand).transpose()?);
            args.declare_global(&name, value);
            if args.size() > super::stage::MAX_VALUES {
                return Err(BuildError::invalid("build arguments are too large"));
            }
        }
    }
    Ok(args)
}

/// The earlier stages that a stage refers to.
fn needs(stages: &[Stage], index: usize, args: &Args, escape: char) -> BTreeSet<usize> {
    let stage = &stages[index];
    let earlier = |name: &str, numbers: bool| {
        let named = find(&stages[..index], name);
        named.or_else(|| name.parse().ok().filter(|n| numbers && *n < index))
    };
    let mut needs = BTreeSet::new();
    if let Ok(base) = Lexer::new(escape).word(&stage.base, &args.globals()) {
        needs.extend(earlier(&base, false));
    }
    for instruction in &stage.instructions {
        match &instruction.kind {
            Kind::Copy(copy) => needs.extend(copy.from.as_deref().and_then(|from| earlier(from, true))),
            Kind::Run(run) => {
                let mounts = run.mounts.iter().filter_map(|m| parse_mount(m, None).ok()?.from);
                needs.extend(mounts.filter_map(|from| earlier(&from, true)));
            }
            _ => {}
        }
    }
    needs
}
