//! The instructions of a Dockerfile, typed. Variables in them are not yet expanded: that needs the values at their place in a
//! build (see [`crate::build`]).

use super::device::Device;
use serde::{Deserialize, Serialize};

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dockerfile {
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// From each `FROM` to the next.
    pub stages: Vec<Stage>,
    /// `\`, or what `# escape=` says.
    pub escape: char,
    /// `# name=value` lines before all others, names in lower case.
    pub directives: Vec<(String, String)>,
    /// What is not right with the lines.
    pub warnings: Vec<LineWarning>,
}

/// A warning about lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineWarning {
    /// The last line of the instruction.
    pub line: usize,
    /// What Docker prints after `[WARNING]: `.
    pub text: String,
}

/// `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// After `AS`, in lower case.
    pub name: Option<String>,
    /// Image or stage, with variables.
    pub base: String,
    /// `--platform`.
    pub platform: Option<String>,
    /// The line as written.
    pub source: String,
    /// Line of the `FROM`.
    pub line: usize,
    /// Comments before it, without their marks.
    pub comments: Vec<String>,
    /// In order.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// What it does.
    pub kind: Kind,
    /// The logical line as written, as Docker shows it in `Step 1/2 : …`.
    pub source: String,
    /// First line.
    pub line: usize,
    /// Last line.
    pub last_line: usize,
    /// Comments before it, without their marks.
    pub comments: Vec<String>,
}

/// What comments say of a name: the rest of the line that begins with it.
pub fn description<'c>(comments: &'c [String], name: &str) -> &'c str {
    let of = |line: &'c String| line.strip_prefix(name)?.strip_prefix(' ');
    if name.is_empty() { "" } else { comments.iter().find_map(of).unwrap_or_default() }
}

/// `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Before the `=`.
    pub name: String,
    /// After it.
    pub value: String,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `ADD`.
    Add(Copy),
    /// `ARG`: names and defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`: ports, ranges, variables.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Health),
    /// `LABEL`. The second is false for labels of `docker build --label`, in which nothing is expanded.
    Label(Vec<Pair>, bool),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the trigger's text.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// A command in shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// One text in shell form; words in exec form. Empty: nothing was written.
    pub words: Vec<String>,
    /// Shell form: the shell is put before it.
    pub shell: bool,
    /// Here-documents.
    pub files: Vec<InlineFile>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Its terminator; the file's name in COPY.
    pub name: String,
    /// Content, not chomped.
    pub data: String,
    /// `<<-`.
    pub chomp: bool,
    /// Variables in it are expanded (COPY and ADD).
    pub expand: bool,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// Paths, wildcards, addresses.
    pub sources: Vec<String>,
    /// Here-documents (chomped).
    pub files: Vec<InlineFile>,
    /// Where to.
    pub destination: String,
    /// `--from`: a stage's name or number, or an image.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: String,
    /// `--chmod`.
    pub chmod: String,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: String,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// What to run.
    pub command: CommandLine,
    /// `--mount` values as written, for expansion; checked when the file is read.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Network,
    /// `--security=insecure`.
    pub insecure: bool,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Network {
    /// That of the build.
    #[default]
    Default,
    /// None.
    None,
    /// The host's.
    Host,
}

/// `HEALTHCHECK`, as in an image's configuration. Durations in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `NONE`; `CMD` and words; `CMD-SHELL` and a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks; 0 is inherited.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// When a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in that period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures until it is unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
