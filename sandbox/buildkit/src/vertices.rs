//! Makes BuildKit's vertices of the builder's events: `[1/3] FROM …` of the first step of a stage, `[2/3] RUN …` of those that make
//! layers. Steps that change the configuration only have none, as in BuildKit.

use crate::progress::{Progress, Step};
use drydock_dockerfile::build::{
    Event, NamedContext, Options, Output, StepId, Stream, stage_label, step_title,
};
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
            _ => {
                let total = 1 + layers(&file.stages[index]);
                step_title(&stage_label(file, index), 1, total, &format!("FROM {full}"))
            }
        }
    }
}

/// Steps of a stage that make layers.
fn layers(stage: &Stage) -> usize {
    let makes = |kind: &Kind| matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_));
    stage.instructions.iter().filter(|instruction| makes(&instruction.kind)).count()
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

    /// The first stage that begins with an image shows it.
    fn begins(&mut self, id: StepId) {
        let Some((index, base)) = id.stage.and_then(|index| Some((index, self.bases.get(index)?))) else {
            return;
        };
        if let Some(full) = base.full().filter(|_| !base.is_result())
            && self.shown.insert(full)
        {
            let name = base.title(&self.file, index);
            self.running.insert(id, self.progress.step(&name));
        }
    }
}

impl Output for Vertices {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { id, .. } if id.step == 0 && id.trigger == 0 => self.begins(id),
            Event::Started { id, title, .. } if !title.is_empty() => {
                self.running.insert(id, self.progress.step(title));
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
                    step.fail(of_step(message));
                }
            }
            // Containers and images of steps are not shown by BuildKit; base images were pulled and warnings given
            // before.
            _ => {}
        }
    }
}

/// What a step says where a build says what it was about when the step failed (`solver/edge.go`).
fn of_step(message: &str) -> &str {
    let about = ["failed to compute cache key: ", "failed to load cache key: "];
    about.iter().find_map(|about| message.strip_prefix(about)).unwrap_or(message)
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

    fn started(vertices: &mut Vertices, stage: usize, step: usize, title: &str) {
        let id = StepId { stage: Some(stage), step, trigger: 0 };
        vertices.event(Event::Started { id, source: "", title, number: 1, total: 1 });
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
    fn steps_are_vertices() {
        let progress = Progress::new("x");
        let file = parse(&format!("ARG v=1\nFROM busybox:$v\nENV a=b\n{}", "RUN x\n".repeat(11))).unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), HashSet::new());
        let id = |step| StepId { stage: Some(0), step, trigger: 0 };
        started(&mut vertices, 0, 0, "");
        vertices.event(Event::Done { id: id(0), image: "" });
        started(&mut vertices, 0, 1, "");
        vertices.event(Event::Done { id: id(1), image: "" });
        started(&mut vertices, 0, 2, "[ 2/12] RUN one");
        vertices.event(Event::Cached(id(2)));
        vertices.event(Event::Done { id: id(2), image: "" });
        started(&mut vertices, 0, 3, "[ 3/12] RUN two");
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
        started(&mut vertices, 0, 0, "");
        started(&mut vertices, 1, 0, "");
        assert_eq!(names(&progress), [""; 0]);
    }

    #[test]
    fn a_step_does_not_say_what_it_failed_at() {
        assert_eq!(of_step("failed to compute cache key: \"/x\": not found"), "\"/x\": not found");
        assert_eq!(of_step("process \"x\" failed"), "process \"x\" failed");
    }

    #[test]
    fn stages_of_one_image_share_its_step() {
        let progress = Progress::new("x");
        let file = parse("FROM a\nFROM a:latest\nFROM b").unwrap();
        let mut vertices = Vertices::new(progress.clone(), &file, &Options::default(), HashSet::new());
        for stage in 0..3 {
            started(&mut vertices, stage, 0, "");
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
        for stage in [0, 1] {
            started(&mut vertices, stage, 0, "");
            vertices.event(Event::Done { id: StepId { stage: Some(stage), ..StepId::default() }, image: "" });
        }
        let mut names = names(&progress);
        names.retain(|name| !name.ends_with(" done"));
        assert_eq!(names, ["[context base] docker.io/library/busybox:latest"]);
    }
}
