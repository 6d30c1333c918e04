//! Makes BuildKit's vertices of the builder's events: `[1/3] FROM …` of the first step of a stage, `[2/3] RUN …` of those that make
//! layers. Steps that change the configuration only have none, as in BuildKit.

use crate::progress::{Progress, Step};
use drydock_dockerfile::build::{Event, NamedContext, Options, Output, StepId, Stream};
use drydock_dockerfile::language::shell::{Lexer, Variables};
use drydock_dockerfile::language::{Dockerfile, Kind, Stage};
use std::collections::{HashMap, HashSet};

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing, an earlier stage, a directory: no step of its own.
    None,
    /// An image, by the name in the Dockerfile.
    Image(String),
    /// A named context and its image.
    Context(String, String),
}

impl Base {
    /// That of a stage.
    pub fn of(file: &Dockerfile, options: &Options, variables: &Variables, index: usize) -> Self {
        let stage = &file.stages[index];
        let name = Lexer::new(file.escape).word(&stage.base, variables);
        let name = name.unwrap_or_else(|_| stage.base.clone());
        let same = |s: &Stage| s.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(&name));
        match options.contexts.get(&name) {
            Some(NamedContext::Image(image)) => Self::Context(name, image.clone()),
            Some(NamedContext::Directory(_)) => Self::None,
            // The builder refuses a blank one.
            None if name.is_empty() || name == "scratch" || file.stages[..index].iter().any(same) => {
                Self::None
            }
            None => Self::Image(name),
        }
    }

    /// The image's full name.
    pub fn full(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Image(name) | Self::Context(_, name) => Some(normalise(name)),
        }
    }

    /// It is the result of another build, which has steps of its own.
    pub fn is_result(&self) -> bool {
        matches!(self, Self::Context(_, image) if image.starts_with("sha256:"))
    }

    /// Name of the step that shows the image.
    pub fn title(&self, file: &Dockerfile, index: usize) -> String {
        let full = self.full().unwrap_or_default();
        match self {
            Self::Context(name, _) => format!("[context {name}] {full}"),
            _ => title(file, index, 1, 1 + layers(&file.stages[index]), &format!("FROM {full}")),
        }
    }
}

/// Steps of a stage that make layers.
fn layers(stage: &Stage) -> usize {
    let makes = |kind: &Kind| matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_));
    stage.instructions.iter().filter(|instruction| makes(&instruction.kind)).count()
}

/// `[stage 1/3] RUN x`.
fn title(file: &Dockerfile, index: usize, number: usize, total: usize, text: &str) -> String {
    let stage = match file.stages.get(index).and_then(|stage| stage.name.as_deref()) {
        _ if file.stages.len() == 1 => String::new(),
        Some(name) => format!("{name} "),
        None => format!("stage-{index} "),
    };
    let width = total.to_string().len();
    format!("[{stage}{number:>width$}/{total}] {text}")
}

/// Steps of one build, from the events of its builder.
#[derive(Debug)]
pub struct Vertices {
    progress: Progress,
    file: Dockerfile,
    bases: Vec<Base>,
    running: HashMap<StepId, Step>,
    /// Full names of images that stages begin with: the first stage has the step.
    shown: HashSet<String>,
}

impl Vertices {
    /// For a build of this file. Images in `shown` have their steps already.
    pub fn new(progress: Progress, file: &Dockerfile, options: &Options, shown: HashSet<String>) -> Self {
        let variables = global_variables(file, options);
        let bases = (0..file.stages.len()).map(|index| Base::of(file, options, &variables, index)).collect();
        Self { progress, file: file.clone(), bases, running: HashMap::new(), shown }
    }

    fn started(&mut self, id: StepId, text: &str, number: usize, total: usize) {
        let Some((index, base)) = id.stage.and_then(|index| Some((index, self.bases.get(index)?))) else {
            return;
        };
        let first = id.step == 0 && id.trigger == 0;
        if first {
            // The first stage that begins with an image shows it.
            if let Some(full) = base.full().filter(|_| !base.is_result())
                && self.shown.insert(full)
            {
                let name = base.title(&self.file, index);
                self.running.insert(id, self.progress.step(&name));
            }
            return;
        }
        // 0: no layer.
        let Some(before) = number.checked_sub(1) else { return };
        let (number, total) = match base {
            Base::Image(_) => (number, total),
            // BuildKit counts it among the steps and does not number it.
            Base::Context(..) => (before, total),
            Base::None => (before, total.saturating_sub(1)),
        };
        let name = title(&self.file, index, number, total, text);
        self.running.insert(id, self.progress.step(&name));
    }
}

impl Output for Vertices {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { id, title, stage_number, stage_total, .. } => {
                self.started(id, title, stage_number, stage_total);
            }
            Event::Internal(name) => self.progress.step(name).done(),
            Event::Image(name) => {
                let full = normalise(name);
                if self.shown.insert(full.clone()) {
                    self.progress.step(&format!("FROM {full}")).done();
                }
            }
            Event::Cached(id) => {
                if let Some(step) = self.running.get_mut(&id) {
                    step.cached();
                }
            }
            Event::Log { id, stream, data } => {
                if let Some(step) = self.running.get(&id) {
                    step.log(if stream == Stream::Stdout { 1 } else { 2 }, data);
                }
            }
            Event::Done { id, .. } => {
                if let Some(step) = self.running.remove(&id) {
                    step.done();
                }
            }
            Event::Failed { id, message } => {
                if let Some(step) = self.running.remove(&id) {
                    step.fail(message);
                }
            }
            // Containers and images of steps are not shown by BuildKit; base images were pulled and warnings given
            // before.
            _ => {}
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
            id: StepId { stage: Some(stage), step, trigger: 0 },
            source,
            title: source,
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
        let file = parse(&format!("ARG v=1\nFROM busybox:$v\nENV a=b\n{}", "RUN x\n".repeat(11))).unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), HashSet::new());
        let id = |step| StepId { stage: Some(0), step, trigger: 0 };
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
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), HashSet::new());
        started(&mut vertices, 0, 0, "FROM scratch AS a", 1, 2);
        started(&mut vertices, 0, 1, "COPY x /", 2, 2);
        started(&mut vertices, 1, 0, "FROM a", 1, 2);
        started(&mut vertices, 1, 1, "RUN two", 2, 2);
        assert_eq!(names(&progress), ["[a 1/1] COPY x /", "[stage-1 1/1] RUN two"]);
    }

    #[test]
    fn stages_of_one_image_share_its_step() {
        let progress = Progress::new("x");
        let file = parse("FROM a\nFROM a:latest\nFROM b").unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), HashSet::new());
        for stage in 0..3 {
            started(&mut vertices, stage, 0, "FROM", 1, 1);
        }
        assert_eq!(names(&progress).len(), 2);
    }

    #[test]
    fn named_contexts_are_steps_of_their_own() {
        let progress = Progress::new("x");
        let file = parse("FROM base\nRUN one\nFROM other\nRUN two").unwrap();
        let mut options = Options::default();
        options.contexts.insert("base".into(), NamedContext::Image("busybox".into()));
        options.contexts.insert("other".into(), NamedContext::Image("sha256:00".into()));
        let mut vertices = Vertices::new(progress.clone(), &file, &options, HashSet::new());
        for (stage, base, run) in [(0, "FROM base", "RUN one"), (1, "FROM other", "RUN two")] {
            started(&mut vertices, stage, 0, base, 1, 2);
            vertices.event(Event::Done { id: StepId { stage: Some(stage), ..StepId::default() }, image: "" });
            started(&mut vertices, stage, 1, run, 2, 2);
        }
        let mut names = names(&progress);
        names.retain(|name| !name.ends_with(" done"));
        assert_eq!(
            names,
            [
                "[context base] docker.io/library/busybox:latest",
                "[stage-0 1/2] RUN one",
                "[stage-1 1/2] RUN two",
            ]
        );
    }
}
