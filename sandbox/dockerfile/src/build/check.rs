//! What BuildKit says of a whole Dockerfile before anything of it runs: it converts all that the target needs first
//! (frontend/dockerfile/dockerfile2llb/convert.go). [`check_references`] needs the file alone and comes before base images are
//! looked for; [`check`] needs their configurations.

use super::backend::{Answer, Backend, BackendError, Commit, Download, Files, Image, Platform, Workspace};
use super::config::Config;
use super::error::BuildError;
use super::options::{Context, Options};
use super::plan::{Plan, global_args};
use super::stage::{self, Results, Shared, base_name, platform};
use crate::language::shell::{Lexer, Variables};
use crate::language::{Dockerfile, Instruction, Kind, Sharing, Stage, parse_mount};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Checks how stages name their bases and each other, those too that the target does not need.
///
/// # Errors
/// BuildKit's, in its order.
pub fn check_references(file: &Dockerfile, options: &Options) -> Result<(), BuildError> {
    let globals = global_args(file, options)?.globals();
    for stage in &file.stages {
        let at = |error: BuildError| error.at(stage.line..=stage.line);
        base_name(stage, &globals, file.escape).map_err(at)?;
        platform(stage, &globals, file.escape).map_err(at)?;
    }
    Plan::new(file, options)?;
    let mut needs = Vec::new();
    for stage in &file.stages {
        let mut list = Vec::new();
        for instruction in &stage.instructions {
            list.extend(named(file, instruction)?.into_iter().map(|index| (index, instruction)));
        }
        needs.push(list);
    }
    for (index, stage) in file.stages.iter().enumerate() {
        let (mut open, mut seen) = (BTreeSet::new(), BTreeSet::new());
        if let Some(first) = circle(&needs, index, &mut open, &mut seen) {
            let name = stage.name.clone().unwrap_or_else(|| format!("stage-{index}"));
            let error = BuildError::invalid(format!("circular dependency detected on stage: {name}"));
            return Err(error.at(first.line..=first.last_line));
        }
    }
    Ok(())
}

/// The stages that an instruction names with `--from`, earlier or later ones.
fn named(file: &Dockerfile, instruction: &Instruction) -> Result<Vec<usize>, BuildError> {
    let by_name = |name: &str| {
        let same = |stage: &Stage| stage.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name));
        file.stages.iter().rposition(same)
    };
    match &instruction.kind {
        Kind::Copy(copy) => {
            let Some(from) = &copy.from else { return Ok(Vec::new()) };
            let read = Lexer::new(file.escape).word(from, &Variables::new()).map_err(BuildError::invalid)?;
            if read != *from {
                return Err(BuildError::invalid(super::copy::FROM_VARIABLE));
            }
            match from.parse::<usize>() {
                Ok(index) if index < file.stages.len() => Ok(vec![index]),
                Ok(index) => Err(BuildError::invalid(format!("invalid stage index {index}"))),
                Err(_) => Ok(by_name(from).into_iter().collect()),
            }
        }
        Kind::Run(run) => {
            let mounts = run.mounts.iter().filter_map(|mount| parse_mount(mount, None).ok()?.from);
            Ok(mounts.filter_map(|from| by_name(&from)).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The instruction with which a circle begins, from a stage on.
fn circle<'f>(
    needs: &[Vec<(usize, &'f Instruction)>],
    index: usize,
    open: &mut BTreeSet<usize>,
    seen: &mut BTreeSet<usize>,
) -> Option<&'f Instruction> {
    if !seen.insert(index) {
        return None;
    }
    open.insert(index);
    for (next, instruction) in &needs[index] {
        if open.contains(next) || circle(needs, *next, open, seen).is_some() {
            return Some(*instruction);
        }
    }
    open.remove(&index);
    None
}

/// Checks the instructions of the stages that the target needs. `bases` are the configurations of images, by their names as the file
/// or a named context has them.
///
/// # Errors
/// BuildKit's, with the lines in question.
pub fn check(
    file: &Dockerfile,
    options: &Options,
    bases: &BTreeMap<String, Config>,
) -> Result<(), BuildError> {
    let plan = Plan::new(file, options)?;
    let shared = Shared {
        backend: &Known(bases),
        options,
        context: &Context::default(),
        plan: &plan,
        escape: file.escape,
        emit: &|_| (),
        dry: true,
    };
    let results = Results::new(plan.stages.len());
    let mut wanted = (0..plan.stages.len()).filter(|index| plan.wanted[*index]);
    wanted.try_for_each(|index| stage::build(&shared, &results, index).map(drop))
}

/// Knows configurations of images, and does nothing.
struct Known<'a>(&'a BTreeMap<String, Config>);

fn nothing<T>() -> Answer<T> {
    Err(BackendError("nothing is done in a check".into()))
}

impl Backend for Known<'_> {
    fn image(&self, name: &str, _: Option<&Platform>, _: bool, _: &mut dyn FnMut(&str)) -> Answer<Image> {
        Ok(Image { config: self.0.get(name).cloned().unwrap_or_default(), ..Image::default() })
    }

    fn cached(&self, _: &Commit<'_>, _: &[String]) -> Answer<Option<Image>> {
        nothing()
    }

    fn workspace(&self, _: &str, _: &str) -> Answer<Box<dyn Workspace>> {
        nothing()
    }

    fn files(&self, _: &str) -> Answer<Box<dyn Files>> {
        nothing()
    }

    fn commit(&self, _: &Commit<'_>) -> Answer<String> {
        nothing()
    }

    fn fetch(&self, _: &str) -> Answer<Download> {
        nothing()
    }

    fn git(&self, _: &str, _: bool, _: &str) -> Answer<Box<dyn Files>> {
        nothing()
    }

    fn cache(&self, _: &str, _: Sharing, _: &str) -> Answer<Box<dyn Files>> {
        nothing()
    }

    fn secret(&self, _: &str) -> Answer<Option<Vec<u8>>> {
        nothing()
    }

    fn ssh(&self, _: &str) -> Answer<Option<PathBuf>> {
        nothing()
    }
}
