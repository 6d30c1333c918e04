//! The base images of a build, found before anything else is fetched: a name that is wrong is said at once, and the triggers of an
//! image may use files of the context.

use super::paths::needed;
use super::{Prepared, blocking};
use crate::client::BuildClient;
use crate::engine::BaseImage;
use crate::error::of_build;
use crate::progress::{Progress, Step, Times};
use crate::vertices::{self as stage, global_variables};
use drydock_dockerfile::build::{BuildError, Config, ErrorKind, NamedContext, Options, Platform};
use drydock_dockerfile::language::shell::Lexer;
use drydock_dockerfile::language::{Dockerfile, Kind, parse_mount};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Status;

/// Layers of a pull that are shown.
const MAX_LAYERS: usize = 200;

/// How often a layer's progress is told.
const INTERVAL: Duration = Duration::from_millis(100);

/// A base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// As the Dockerfile, or `--build-context`, names it.
    name: String,
    /// Its full name.
    full: String,
    /// The step that shows where it comes from.
    metadata: String,
    /// The step that shows its layers.
    title: String,
    platform: Option<Platform>,
    lines: RangeInclusive<usize>,
    /// A stage begins with it, so that its triggers run.
    begins: bool,
}

/// The images that the target needs, each once: those that stages begin with, then those of `--from`.
pub fn bases(file: &Dockerfile, options: &Options) -> Vec<Base> {
    let variables = global_variables(file, options);
    let (mut list, mut seen) = (Vec::new(), HashSet::new());
    let mut add = |base: &stage::Base, title: String, platform: Option<Platform>, lines, begins| {
        let Some(full) = base.full() else { return };
        let (name, metadata) = match base {
            stage::Base::None => return,
            stage::Base::Image(name) => (name.clone(), format!("[internal] load metadata for {full}")),
            stage::Base::Context(context, name) => {
                (name.clone(), format!("[context {context}] load metadata for {full}"))
            }
        };
        if seen.insert((full.clone(), platform.as_ref().map(ToString::to_string))) {
            let metadata = if base.is_result() { String::new() } else { metadata };
            list.push(Base { name, full, metadata, title, platform, lines, begins });
        }
    };
    let needed = needed(file, options);
    for index in &needed {
        let (stage, base) = (&file.stages[*index], stage::Base::of(file, options, &variables, *index));
        let platform = stage.platform.as_deref().and_then(|text| {
            let text = Lexer::new(file.escape).word(text, &variables).ok()?;
            parse_platform(&text)
        });
        let title = base.title(file, *index);
        add(&base, title, platform.or_else(|| options.platform.clone()), stage.line..=stage.line, true);
    }
    for instruction in needed.iter().flat_map(|index| &file.stages[*index].instructions) {
        for base in sources(file, options, &instruction.kind) {
            let title = match &base {
                stage::Base::Context(..) => base.title(file, 0),
                _ => format!("FROM {}", base.full().unwrap_or_default()),
            };
            add(&base, title, options.platform.clone(), instruction.line..=instruction.last_line, false);
        }
    }
    list
}

/// The images that an instruction takes files of.
fn sources(file: &Dockerfile, options: &Options, kind: &Kind) -> Vec<stage::Base> {
    let names: Vec<String> = match kind {
        Kind::Copy(copy) => copy.from.iter().cloned().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|m| parse_mount(m, None).ok()?.from).collect(),
        _ => Vec::new(),
    };
    let is_stage = |name: &str| {
        name.parse::<usize>().is_ok()
            || file.stages.iter().any(|s| s.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name)))
    };
    let base = |name: String| match options.contexts.get(&name) {
        Some(NamedContext::Image(image)) => stage::Base::Context(name, image.clone()),
        None if name != "scratch" && !is_stage(&name) => stage::Base::Image(name),
        _ => stage::Base::None,
    };
    names.into_iter().map(base).collect()
}

fn parse_platform(text: &str) -> Option<Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    let (os, architecture) = (parts.next()?, parts.next()?);
    Some(Platform { os, architecture, variant: parts.next().unwrap_or_default() })
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// A trigger may use files of the context.
    pub files: bool,
    /// Full names of images whose layers were shown.
    pub shown: HashSet<String>,
    /// Their configurations, by the names in the file.
    pub configs: BTreeMap<String, Config>,
}

impl Prepared {
    /// Finds the base images, or pulls them.
    pub(super) async fn resolve(
        &self,
        options: &Options,
        client: &Arc<BuildClient>,
    ) -> Result<Found, Status> {
        let mut found = Found::default();
        for base in bases(&self.dockerfile, options) {
            let (engine, progress) = (Arc::clone(&self.site.engine), self.site.progress.clone());
            let image = BaseImage {
                name: base.name.clone(),
                platform: base.platform.clone(),
                pull: options.pull,
                client: Arc::clone(client),
                cancelled: self.site.cancel.clone(),
            };
            let (named, name) = (base.name.clone(), base.name.clone());
            let (lines, begins) = (base.lines.clone(), base.begins);
            let full = base.full.clone();
            let resolved = blocking(move || {
                let mut show = Show::new(progress, base);
                let resolved = engine.resolve(&image, &mut |line| show.line(line));
                let resolved = resolved.map_err(|error| format!("{named}: {error}"));
                let pulled = show.end(resolved.as_ref().err().map(String::as_str));
                resolved.map(|config| (config, pulled))
            });
            let error = |message| BuildError {
                message,
                code: None,
                lines: Some(lines.clone()),
                kind: ErrorKind::Failed,
            };
            let (config, pulled) =
                resolved.await?.map_err(|message| of_build(&error(message), &self.source))?;
            found.files |=
                begins && config.on_build.iter().flatten().any(|trigger| super::paths::uses_files(trigger));
            found.configs.insert(name, config);
            if pulled {
                found.shown.insert(full);
            }
        }
        Ok(found)
    }
}

/// Shows a pull: first where it comes from, then its layers.
struct Show {
    progress: Progress,
    base: Base,
    metadata: Option<Step>,
    step: Option<Step>,
    /// Times of each, and when it was told last.
    layers: BTreeMap<String, (Times, Option<Instant>)>,
}

/// A line of a pull.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default, rename = "progressDetail")]
    detail: Detail,
}

#[derive(Deserialize, Default)]
struct Detail {
    #[serde(default)]
    current: u64,
    #[serde(default)]
    total: u64,
}

impl Show {
    fn new(progress: Progress, base: Base) -> Self {
        let metadata = (!base.metadata.is_empty()).then(|| progress.step(&base.metadata));
        Self { progress, base, metadata, step: None, layers: BTreeMap::new() }
    }

    fn line(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Line>(line) else { return };
        let transfers = line.detail.total > 0 || line.status == "Pull complete";
        let known = self.layers.contains_key(&line.id);
        if line.id.is_empty() || !transfers && !known || self.layers.len() >= MAX_LAYERS && !known {
            return;
        }
        if let Some(metadata) = self.metadata.take() {
            metadata.done();
        }
        let step = self.step.get_or_insert_with(|| self.progress.step(&self.base.title));
        let action = match line.status.as_str() {
            "Extracting" => "extracting",
            "Pull complete" | "Download complete" => "done",
            _ => "downloading",
        };
        let begin = || (Times::begin(action), None);
        let (times, told) = self.layers.entry(line.id.clone()).or_insert_with(begin);
        let soon = told.is_some_and(|told: Instant| told.elapsed() < INTERVAL);
        if soon && times.action == action && line.status != "Pull complete" {
            return;
        }
        (*told, times.action) = (Some(Instant::now()), action);
        if line.status == "Pull complete" {
            *times = times.end();
        }
        step.status(&line.id, line.detail.current, line.detail.total, *times);
    }

    /// Whether layers were shown.
    fn end(self, error: Option<&str>) -> bool {
        let pulled = self.step.is_some();
        if let Some(step) = self.metadata.or(self.step) {
            match error {
                Some(error) => step.fail(error),
                None => step.done(),
            }
        }
        pulled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;

    #[test]
    fn base_images_are_those_of_needed_stages() {
        let text = "ARG v=1\nFROM --platform=linux/arm64 a:$v AS one\nFROM unused\nFROM scratch AS two\n\
                    FROM one\nCOPY --from=two x /\nFROM one\nFROM ctx\nRUN x\nCOPY --from=4 x /\n\
                    COPY --from=nginx x /\nRUN --mount=from=ONE,target=/m x";
        let mut options = Options::default();
        options.contexts.insert("ctx".into(), NamedContext::Image("busybox".into()));
        let list = bases(&parse(text).unwrap(), &options);
        let names: Vec<_> =
            list.iter().map(|b| (b.name.as_str(), b.title.as_str(), *b.lines.start())).collect();
        assert_eq!(
            names,
            [
                ("a:1", "[one 1/1] FROM docker.io/library/a:1", 2),
                ("busybox", "[context ctx] docker.io/library/busybox:latest", 8),
                ("nginx", "FROM docker.io/library/nginx:latest", 11),
            ]
        );
        assert_eq!(list[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
        assert_eq!(list[0].metadata, "[internal] load metadata for docker.io/library/a:1");
    }

    #[test]
    fn layers_of_a_pull_are_statuses() {
        let progress = Progress::new("x");
        let base = bases(&parse("FROM busybox").unwrap(), &Options::default()).remove(0);
        let mut show = Show::new(progress.clone(), base);
        for line in [
            r#"{"status":"Pulling from library/busybox","id":"latest"}"#,
            "no json",
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"aa"}"#,
            r#"{"status":"Pull complete","progressDetail":{},"id":"aa"}"#,
        ] {
            show.line(line);
        }
        assert!(show.end(None));
        let (all, _) = progress.since(0).unwrap();
        assert_eq!((all.statuses[0].current, all.statuses[0].total), (5, 10));
        assert!(all.statuses[1].completed.is_some());
        let names: Vec<_> = all.vertexes.iter().map(|v| (v.name.as_str(), v.completed.is_some())).collect();
        let (metadata, from) = (
            "[internal] load metadata for docker.io/library/busybox:latest",
            "[1/1] FROM docker.io/library/busybox:latest",
        );
        assert_eq!(names, [(metadata, false), (metadata, true), (from, false), (from, true)]);
    }
}
