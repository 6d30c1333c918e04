//! Makes BuildKit's vertices of the builder's events: `[internal] load metadata for …` and `[1/3] FROM …` of the first step of a
//! stage, `[2/3] RUN …` of those that make layers. Steps that change the configuration only have none, as in BuildKit.

use crate::progress::{Progress, Step, Times};
use crate::proto::control::VertexWarning;
use drydock_dockerfile::build::{Event, Options, Output, StepId, Stream};
use drydock_dockerfile::language::shell::{Lexer, Variables};
use drydock_dockerfile::language::{Dockerfile, Kind, Stage};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// Nothing, or an earlier stage: no step of its own.
    None,
    /// An image, by its normalised name.
    Image(String),
}

/// Steps of one build, from the events of its builder.
#[derive(Debug)]
pub struct Vertices {
    progress: Progress,
    bases: Vec<Base>,
    single: bool,
    running: HashMap<StepId, Running>,
    /// What warnings are about.
    definition: String,
}

#[derive(Debug)]
struct Running {
    /// `load metadata` of a FROM, until layers are pulled.
    metadata: Option<Step>,
    step: Option<Step>,
    /// Name of the FROM, whose vertex begins later.
    name: String,
    layers: BTreeMap<String, Times>,
}

/// A line of a pull.
#[derive(Deserialize)]
struct PullLine {
    #[serde(default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default, rename = "progressDetail")]
    detail: PullDetail,
}

#[derive(Deserialize, Default)]
struct PullDetail {
    #[serde(default)]
    current: u64,
    #[serde(default)]
    total: u64,
}

/// Layers of a pull that are shown.
const MAX_LAYERS: usize = 200;

impl Vertices {
    /// For a build of this file. `definition` is the digest of the step that loaded it.
    pub fn new(progress: Progress, file: &Dockerfile, options: &Options, definition: String) -> Self {
        let variables = global_variables(file, options);
        let base = |(index, stage): (usize, &Stage)| {
            let name = Lexer::new(file.escape).word(&stage.base, &variables);
            let name = name.unwrap_or_else(|_| stage.base.clone());
            let same = |s: &Stage| s.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(&name));
            if name == "scratch" || file.stages[..index].iter().any(same) {
                Base::None
            } else {
                Base::Image(normalise(&name))
            }
        };
        let bases = file.stages.iter().enumerate().map(base).collect();
        Self { progress, bases, single: file.stages.len() == 1, running: HashMap::new(), definition }
    }

    fn started(&mut self, id: StepId, source: &str, stage: &str, number: usize, total: usize) {
        let Some(base) = id.stage.and_then(|index| self.bases.get(index)) else { return };
        // Only an image is a step of its own.
        let (number, total) = match base {
            Base::Image(_) => (number, total),
            Base::None if id.step == 0 => return,
            Base::None => (number.saturating_sub(1), total.saturating_sub(1)),
        };
        if number == 0 {
            return;
        }
        let stage = if self.single { String::new() } else { format!("{stage} ") };
        let width = total.to_string().len();
        let source = if id.step == 0 { base.from() } else { source.to_owned() };
        let name = format!("[{stage}{number:>width$}/{total}] {source}");
        let (metadata, step) = match base {
            Base::Image(image) if id.step == 0 => {
                (Some(self.progress.step(&format!("[internal] load metadata for {image}"))), None)
            }
            _ => (None, Some(self.progress.step(&name))),
        };
        self.running.insert(id, Running { metadata, step, name, layers: BTreeMap::new() });
    }

    fn pull(&mut self, id: StepId, line: &str) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let Ok(line) = serde_json::from_str::<PullLine>(line) else { return };
        let transfers = line.detail.total > 0 || line.status.starts_with("Pull complete");
        if line.id.is_empty() || !transfers && !running.layers.contains_key(&line.id) {
            return;
        }
        if let Some(metadata) = running.metadata.take() {
            metadata.done();
        }
        let step = running.step.get_or_insert_with(|| self.progress.step(&running.name));
        let action = match line.status.as_str() {
            "Extracting" => "extracting",
            "Pull complete" | "Download complete" => "done",
            _ => "downloading",
        };
        if running.layers.len() >= MAX_LAYERS && !running.layers.contains_key(&line.id) {
            return;
        }
        let times = running.layers.entry(line.id.clone()).or_insert_with(|| Times::begin(action));
        times.action = action;
        if line.status == "Pull complete" {
            *times = times.end();
        }
        step.status(&line.id, line.detail.current, line.detail.total, *times);
    }

    fn done(&mut self, id: StepId) {
        let Some(running) = self.running.remove(&id) else { return };
        if let Some(metadata) = running.metadata {
            metadata.done();
            // The image was here already; its layers are used as they are.
            self.progress.step(&running.name).done();
        }
        if let Some(step) = running.step {
            step.done();
        }
    }

    fn failed(&mut self, id: StepId, message: &str) {
        let Some(running) = self.running.remove(&id) else { return };
        if let Some(step) = running.metadata.or(running.step) {
            step.fail(message);
        }
    }
}

impl Output for Vertices {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { id, source, stage, stage_number, stage_total, .. } => {
                self.started(id, source, stage, stage_number, stage_total);
            }
            Event::Pull { id, line } => self.pull(id, line),
            Event::Cached(id) => {
                if let Some(step) = self.running.get_mut(&id).and_then(|r| r.step.as_mut()) {
                    step.cached();
                }
            }
            Event::Log { id, stream, data } => {
                if let Some(step) = self.running.get(&id).and_then(|r| r.step.as_ref()) {
                    step.log(if stream == Stream::Stdout { 1 } else { 2 }, data);
                }
            }
            Event::Done { id, .. } => self.done(id),
            Event::Failed { id, message } => self.failed(id, message),
            Event::Warning(text) => self.progress.warning(VertexWarning {
                vertex: self.definition.clone(),
                level: 1,
                short: text.as_bytes().to_vec(),
                ..VertexWarning::default()
            }),
            // Containers, triggers and images of steps are not shown by BuildKit.
            _ => {}
        }
    }
}

impl Base {
    fn from(&self) -> String {
        match self {
            Self::None => "FROM scratch".into(),
            Self::Image(name) => format!("FROM {name}"),
        }
    }
}

/// The variables that a FROM can use.
pub fn global_variables(file: &Dockerfile, options: &Options) -> Variables {
    let mut variables = Variables::new();
    if let Some(host) = options.host.as_ref() {
        let target = options.platform.as_ref().unwrap_or(host);
        for (prefix, platform) in [("BUILD", host), ("TARGET", target)] {
            variables.insert(format!("{prefix}PLATFORM"), platform.to_string());
            variables.insert(format!("{prefix}OS"), platform.os.clone());
            variables.insert(format!("{prefix}ARCH"), platform.architecture.clone());
            variables.insert(format!("{prefix}VARIANT"), platform.variant.clone());
        }
    }
    for instruction in &file.global_args {
        let Kind::Arg(list) = &instruction.kind else { continue };
        for (name, default) in list {
            let given = options.build_args.get(name).cloned().flatten();
            let default =
                default.as_deref().and_then(|text| Lexer::new(file.escape).word(text, &variables).ok());
            if let Some(value) = given.or(default) {
                variables.insert(name.clone(), value);
            }
        }
    }
    variables
}

/// An image's full name: `docker.io/library/busybox:latest`.
pub fn normalise(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let host = first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase);
    let mut full = match (first, host) {
        ("", _) => format!("docker.io/library/{rest}"),
        ("docker.io" | "index.docker.io", _) if !rest.contains('/') => format!("docker.io/library/{rest}"),
        ("index.docker.io", _) => format!("docker.io/{rest}"),
        (_, true) => name.to_owned(),
        _ => format!("docker.io/{name}"),
    };
    let last = full.rsplit('/').next().unwrap_or_default();
    if !last.contains([':', '@']) {
        full.push_str(":latest");
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;

    #[test]
    fn names_are_normalised() {
        for (name, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("a/b:1", "docker.io/a/b:1"),
            ("localhost/x", "localhost/x:latest"),
            ("r.example:5000/x/y", "r.example:5000/x/y:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("busybox@sha256:00", "docker.io/library/busybox@sha256:00"),
        ] {
            assert_eq!(normalise(name), full);
        }
    }

    fn started(
        vertices: &mut Vertices,
        stage: usize,
        step: usize,
        source: &str,
        number: usize,
        total: usize,
    ) {
        let name = format!("stage-{stage}");
        vertices.event(Event::Started {
            id: StepId { stage: Some(stage), step },
            source,
            stage: &name,
            number: 1,
            total: 1,
            stage_number: number,
            stage_total: total,
        });
    }

    fn names(progress: &Progress) -> Vec<String> {
        let mut names = Vec::new();
        for vertex in progress.since(0).unwrap().0.vertexes {
            let mark = if vertex.completed.is_none() {
                ""
            } else if vertex.cached {
                " cached"
            } else if vertex.error.is_empty() {
                " done"
            } else {
                " failed"
            };
            names.push(format!("{}{mark}", vertex.name));
        }
        names
    }

    #[test]
    fn steps_are_named_as_buildkit_names_them() {
        let progress = Progress::new("x");
        let file = parse("ARG v=1\nFROM busybox:$v\nENV a=b\nRUN one").unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), String::new());
        let id = |step| StepId { stage: Some(0), step };
        started(&mut vertices, 0, 0, "FROM busybox:$v", 1, 12);
        vertices.event(Event::Done { id: id(0), image: "" });
        started(&mut vertices, 0, 1, "ENV a=b", 0, 12);
        vertices.event(Event::Done { id: id(1), image: "" });
        started(&mut vertices, 0, 2, "RUN one", 2, 12);
        vertices.event(Event::Cached(id(2)));
        vertices.event(Event::Done { id: id(2), image: "" });
        started(&mut vertices, 0, 3, "RUN two", 3, 12);
        vertices.event(Event::Failed { id: id(3), message: "no" });
        assert_eq!(
            names(&progress),
            [
                "[internal] load metadata for docker.io/library/busybox:1",
                "[internal] load metadata for docker.io/library/busybox:1 done",
                "[ 1/12] FROM docker.io/library/busybox:1",
                "[ 1/12] FROM docker.io/library/busybox:1 done",
                "[ 2/12] RUN one",
                "[ 2/12] RUN one cached",
                "[ 3/12] RUN two",
                "[ 3/12] RUN two failed",
            ]
        );
    }

    #[test]
    fn scratch_and_earlier_stages_are_no_steps() {
        let progress = Progress::new("x");
        let file = parse("FROM scratch AS a\nCOPY x /\nFROM a\nRUN two").unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), String::new());
        started(&mut vertices, 0, 0, "FROM scratch AS a", 1, 2);
        started(&mut vertices, 0, 1, "COPY x /", 2, 2);
        started(&mut vertices, 1, 0, "FROM a", 1, 2);
        started(&mut vertices, 1, 1, "RUN two", 2, 2);
        assert_eq!(names(&progress), ["[stage-0 1/1] COPY x /", "[stage-1 1/1] RUN two"]);
    }

    #[test]
    fn layers_of_a_pull_are_statuses() {
        let progress = Progress::new("x");
        let file = parse("FROM busybox").unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), String::new());
        let id = StepId { stage: Some(0), step: 0 };
        started(&mut vertices, 0, 0, "FROM busybox", 1, 1);
        for line in [
            r#"{"status":"Pulling from library/busybox","id":"latest"}"#,
            "no json",
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"aa"}"#,
            r#"{"status":"Pull complete","progressDetail":{},"id":"aa"}"#,
        ] {
            vertices.event(Event::Pull { id, line });
        }
        vertices.event(Event::Done { id, image: "" });
        let (all, _) = progress.since(0).unwrap();
        assert_eq!(all.statuses.len(), 2);
        assert_eq!((all.statuses[0].current, all.statuses[0].total), (5, 10));
        assert!(all.statuses[1].completed.is_some());
        assert_eq!(names(&progress).last().unwrap(), "[1/1] FROM docker.io/library/busybox:latest done");
    }
}
