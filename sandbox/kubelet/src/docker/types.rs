//! The parts of the Engine API's answers that the kubelet reads.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Text by name.
pub type Texts = BTreeMap<String, String>;

/// `null` is as good as nothing.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// `GET /containers/json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// Names, each with a leading slash.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// `running`, `exited`, `created` …
    pub state: String,
    /// What we noted on it.
    #[serde(deserialize_with = "or_default")]
    pub labels: Texts,
    /// Seconds since 1970.
    pub created: i64,
}

/// `GET /containers/ID/json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerDetails {
    /// Its id.
    pub id: String,
    /// Its name with a leading slash.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Id of its image.
    pub image: String,
    /// How it is.
    pub state: ContainerState,
    /// What it was made from.
    pub config: Config,
    /// What it may use.
    pub host_config: Limits,
    /// Where its output is kept.
    pub log_path: String,
    /// Where its files are kept.
    #[serde(deserialize_with = "or_default")]
    pub graph_driver: GraphDriver,
}

/// How a container is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// `running`, `exited`, `created` …
    pub status: String,
    /// It runs.
    pub running: bool,
    /// Its first process, or 0.
    pub pid: i32,
    /// Its exit status.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// The kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
}

/// What a container may use; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limits {
    /// Its weight among those that want CPU.
    pub cpu_shares: i64,
    /// Microseconds of CPU in each period.
    pub cpu_quota: i64,
    /// Length of a period, in microseconds.
    pub cpu_period: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes, with those on the swap device.
    pub memory_swap: i64,
}

/// What a container was made from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The image's name as it was asked for.
    pub image: String,
    /// Its user.
    pub user: String,
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is open.
    pub open_stdin: bool,
    /// What we noted on it.
    #[serde(deserialize_with = "or_default")]
    pub labels: Texts,
}

/// A container that the kubelet made, listed and looked at.
pub type Container = ContainerDetails;

/// Answer to a creation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Created {
    /// Id of what was made.
    pub id: String,
}

/// `GET /images/NAME/json` and `GET /images/json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    /// Its names.
    #[serde(deserialize_with = "or_default")]
    pub repo_tags: Vec<String>,
    /// Its names by digest.
    #[serde(deserialize_with = "or_default")]
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size: i64,
    /// What it says of its containers (not in lists).
    #[serde(deserialize_with = "or_default")]
    pub config: Config,
    /// Where its layers lie on the node (not in lists).
    #[serde(deserialize_with = "or_default")]
    pub graph_driver: GraphDriver,
}

/// Where the layers of an image or a container lie.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    /// Of an image without layers nothing.
    #[serde(deserialize_with = "or_default")]
    pub data: Layers,
}

/// Directories of layers, as overlay2 has them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Layers {
    /// The topmost; a container's own.
    pub upper_dir: String,
    /// Those below, topmost first, with colons between.
    pub lower_dir: String,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Processors.
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes of memory.
    pub mem_total: i64,
    /// `Debian GNU/Linux 13 (trixie)`.
    pub operating_system: String,
    /// Of the kernel.
    pub kernel_version: String,
    /// Of the engine.
    pub server_version: String,
    /// `x86_64`.
    pub architecture: String,
}

/// `GET /exec/ID/json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecDetails {
    /// It runs.
    pub running: bool,
    /// Its exit status, once it has ended.
    pub exit_code: Option<i32>,
}

/// `GET /events`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// `die`, `oom`, `start` …
    #[serde(rename = "Action")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
}

/// What an event is about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Actor {
    /// A container's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its labels and more.
    #[serde(deserialize_with = "or_default")]
    pub attributes: Texts,
}
