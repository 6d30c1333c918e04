//! The builder: [`build`] makes an image of a Dockerfile with the help of a [`Backend`].
//!
//! `plan` says which stages are needed; a `stage::Builder` runs each, instruction by instruction: `metadata` those that change the
//! configuration only, `run` and `copy` those that change files. Every instruction is looked up in the cache first, by its parent
//! image and a [`CacheKey`], as the classic builder does it.

mod args;
mod backend;
mod check;
mod config;
mod copy;
mod error;
mod metadata;
mod mounts;
mod options;
mod output;
mod plan;
mod ports;
mod run;
mod schedule;
mod stage;
mod told;

pub use backend::{
    Answer, Backend, BackendError, Commit, Download, Files, Image, Platform, RunMount, RunRequest, RunSource,
    Turn, Workspace,
};
pub use check::{check, check_references};
pub use config::{CacheKey, Config, DEFAULT_PATH};
pub use error::{BuildError, ErrorKind};
pub use metadata::{apply_changes, signal_number};
pub use options::{Context, Mode, NamedContext, Options};
pub use output::{ClassicLines, Event, Line, Output, StepId, Stream, short_id};
pub use told::{stage_label, step_title};

use crate::language::Dockerfile;
use std::sync::{Mutex, PoisonError};

/// Builds an image.
///
/// # Errors
/// In Docker's words. What happened before was told to `out`.
pub fn build(
    backend: &dyn Backend,
    file: &Dockerfile,
    options: &Options,
    context: &Context,
    out: &mut dyn Output,
) -> Result<Image, BuildError> {
    if options.squash {
        return Err(BuildError::invalid("squash is only supported with experimental mode"));
    }
    let mut plan = plan::Plan::new(file, options)?;
    if !file.warnings.is_empty() {
        file.warnings.iter().for_each(|warning| out.event(Event::Warning(&warning.text)));
        out.event(Event::Warning("Empty continuation lines will become errors in a future release."));
    }
    for (step, instruction) in file.global_args.iter().enumerate() {
        let id = StepId { step, ..StepId::default() };
        let (number, source) = (step + 1, &instruction.source);
        out.event(Event::Started { id, source, title: "", number, total: plan.total });
        out.event(Event::Done { id, image: "" });
    }
    let shared_out = Mutex::new(&mut *out);
    let emit = |event: Event<'_>| {
        shared_out.lock().unwrap_or_else(PoisonError::into_inner).event(event);
    };
    let escape = file.escape;
    let shared = stage::Shared { backend, options, context, plan: &plan, escape, emit: &emit, dry: false };
    let (image, used) = schedule::all(&shared)?;
    used.iter().for_each(|args| plan.args.merge_referenced(args));
    let unused = plan.args.unused();
    if !unused.is_empty() {
        let unused = crate::language::go::list(&unused);
        out.event(Event::Note(&format!("[Warning] One or more build-args {unused} were not consumed")));
    }
    if image.id.is_empty() {
        return Err(BuildError::failed("No image was generated. Is your Dockerfile empty?"));
    }
    out.event(Event::Built { image: &image.id });
    Ok(image)
}
