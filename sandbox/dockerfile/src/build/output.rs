//! What a build tells while it runs: [`Event`]s, from which both the classic lines ([`ClassicLines`]) and BuildKit's stream of
//! vertices can be made.

use std::fmt::Write;

/// Names a step within a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StepId {
    /// Index of the stage in the Dockerfile; `None` for the `ARG`s before the first.
    pub stage: Option<usize>,
    /// 0 is the `FROM`.
    pub step: usize,
    /// Which trigger of the base image it is, from 1; those run after the `FROM`.
    pub trigger: usize,
}

/// Where output of a command comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step begins.
    Started {
        /// Which.
        id: StepId,
        /// The instruction as written.
        source: &'a str,
        /// What BuildKit calls it, `[stage-1 2/3] RUN …`; empty if it does not show it, and for a FROM.
        title: &'a str,
        /// Number of the step in all that is built, from 1.
        number: usize,
        /// Of how many.
        total: usize,
    },
    /// Triggers of the base image will run now.
    Triggers(usize),
    /// BuildKit has a step of its own here: `[internal] preparing inline document`.
    Internal(&'a str),
    /// An image that is no stage's base is used: its name.
    Image(&'a str),
    /// A line of a pull.
    Pull {
        /// In which step.
        id: StepId,
        /// A JSON object or a text, as the backend gives it.
        line: &'a str,
    },
    /// It was found in the cache.
    Cached(StepId),
    /// It runs in this container.
    Running {
        /// Which step.
        id: StepId,
        /// The container's id, 64 digits.
        container: &'a str,
    },
    /// Its command writes.
    Log {
        /// Which step.
        id: StepId,
        /// Where.
        stream: Stream,
        /// What.
        data: &'a [u8],
    },
    /// The container of a step is gone.
    Removed {
        /// Which step.
        id: StepId,
        /// The container's id.
        container: &'a str,
    },
    /// A step is done.
    Done {
        /// Which.
        id: StepId,
        /// The image after it, `sha256:…`; empty for scratch, or for a global `ARG`.
        image: &'a str,
    },
    /// A step failed, and with it the build (whose error follows as the result of [`super::build`]).
    Failed {
        /// Which.
        id: StepId,
        /// Why.
        message: &'a str,
    },
    /// A stage is done.
    StageDone {
        /// Which.
        stage: usize,
        /// Its image.
        image: &'a str,
    },
    /// A line for people (`Note: overriding previous HEALTHCHECK: …`, `[Warning] …`).
    Note(&'a str),
    /// A warning about the Dockerfile.
    Warning(&'a str),
    /// The image is made.
    Built {
        /// `sha256:…`.
        image: &'a str,
    },
    /// The image has this name now. The builder names nothing; who does says it so.
    Tagged(&'a str),
}

/// Gets the events of a build, in order; those of parallel stages interleaved.
pub trait Output: Send {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>) + Send> Output for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// What a client of `POST /build` gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// `{"stream": "…"}`.
    Stream(String),
    /// Bytes of a command, also `stream`; standard error the CLI shows in red.
    Log(Stream, &'a [u8]),
    /// `{"aux": {"ID": "sha256:…"}}`.
    Aux(&'a str),
    /// A line of a pull, to be passed on.
    Pull(&'a str),
}

/// Makes the lines of the classic builder.
#[derive(Debug)]
pub struct ClassicLines<F> {
    send: F,
}

impl<F: FnMut(Line<'_>) + Send> ClassicLines<F> {
    /// `send` is called with each line.
    pub fn new(send: F) -> Self {
        Self { send }
    }
}

/// Twelve digits of an id.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, id)| id);
    id.get(..12).unwrap_or(id)
}

impl<F: FnMut(Line<'_>) + Send> Output for ClassicLines<F> {
    fn event(&mut self, event: Event<'_>) {
        let mut text = String::new();
        // Writing to a String can't fail.
        _ = match event {
            Event::Started { source, number, total, .. } => {
                writeln!(text, "Step {number}/{total} : {source}")
            }
            Event::Triggers(1) => writeln!(text, "# Executing 1 build trigger"),
            Event::Triggers(count) => writeln!(text, "# Executing {count} build triggers"),
            Event::Cached(_) => writeln!(text, " ---> Using cache"),
            Event::Running { container, .. } => writeln!(text, " ---> Running in {}", short_id(container)),
            Event::Removed { container, .. } => {
                writeln!(text, " ---> Removed intermediate container {}", short_id(container))
            }
            // The ARGs before the first FROM have no image.
            Event::Done { id: StepId { stage: None, .. }, .. } => return,
            Event::Done { image, .. } => writeln!(text, " ---> {}", short_id(image)),
            Event::Note(note) => writeln!(text, "{note}"),
            Event::Warning(warning) => writeln!(text, "[WARNING]: {warning}"),
            Event::Built { image } => writeln!(text, "Successfully built {}", short_id(image)),
            Event::Tagged(name) => writeln!(text, "Successfully tagged {name}"),
            Event::Log { stream, data, .. } => return (self.send)(Line::Log(stream, data)),
            Event::Pull { line, .. } => return (self.send)(Line::Pull(line)),
            Event::StageDone { image, .. } if !image.is_empty() => return (self.send)(Line::Aux(image)),
            _ => return,
        };
        (self.send)(Line::Stream(text));
    }
}
