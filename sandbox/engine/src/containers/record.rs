//! A container as it is remembered: in memory while the engine runs, and on the disk as `config.v2.json` and
//! `hostconfig.json`, where Docker has them. A file is replaced as a whole (written beside, renamed), never in parts, and not
//! synced: after a power cut a node is gone anyway.

use super::model::{Config, EndpointSettings, HostConfig, MountPoint, MountRequest};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Largest file that is read back; learners may put anything there.
const MAX_FILE: u64 = 4 << 20;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Never started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended and will be started again after a pause.
    Restarting,
    /// It has ended.
    Exited,
    /// It is being removed.
    Removing,
    /// Its removal has failed.
    Dead,
}

impl Phase {
    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// Whether it has processes.
    pub fn alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Docker's `Running` also holds between two runs of a restarting container.
    pub fn running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// What is true at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    pub phase: Phase,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What the health checks say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    pub failing_streak: u64,
    /// The last five.
    pub log: VecDeque<Probe>,
}

/// One health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Probe {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i32,
    pub output: String,
}

/// A mount with what is needed to make it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mounted {
    #[serde(flatten)]
    pub point: MountPoint,
    /// The `--mount` that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<MountRequest>,
    /// Id of the image that it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// An empty volume first gets what the image has there.
    pub copy: bool,
    /// The engine named this volume for this container: `docker rm -v` removes it.
    pub anonymous: bool,
}

/// Everything about a container that outlives the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Record {
    #[serde(rename = "ID")]
    pub id: String,
    pub created: Timestamp,
    /// Without the slash.
    pub name: String,
    pub path: String,
    pub args: Vec<String>,
    pub config: Config,
    /// It is the container of a step of a BuildKit build, which lists do not show.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub step: bool,
    /// Not in this file, but beside it.
    #[serde(skip)]
    pub host: HostConfig,
    /// Id of its image.
    pub image: String,
    /// Bytes of the image's files.
    pub image_size: u64,
    pub platform: String,
    pub state: State,
    pub networks: BTreeMap<String, EndpointSettings>,
    /// Hardware addresses that were asked for, by network: what networks give is forgotten when it stops.
    pub wished_macs: BTreeMap<String, String>,
    /// What the networks have given to it, while it runs.
    pub endpoints: Vec<drydock_network::Endpoint>,
    /// Where its ports are published, while it runs.
    pub published: Vec<drydock_network::Binding>,
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    pub mount_points: Vec<Mounted>,
    pub restart_count: u64,
    pub has_been_started_before: bool,
    /// `docker stop` has ended it: `unless-stopped` holds.
    pub has_been_manually_stopped: bool,
}

impl Record {
    /// The 12 characters that people see.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Seconds that it has to end by itself.
    pub fn stop_timeout(&self) -> i64 {
        self.config.stop_timeout.unwrap_or(10)
    }

    /// Attributes of its events.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone().unwrap_or_default();
        if !self.config.image.is_empty() {
            attributes.insert("image".into(), self.config.image.clone());
        }
        attributes.insert("name".into(), self.name.clone());
        attributes
    }

    /// Writes both files into the container's directory.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        replace(&dir.join("hostconfig.json"), &serde_json::to_vec(&self.host)?)?;
        self.save_state(dir)
    }

    /// Writes what changes while it lives.
    pub fn save_state(&self, dir: &Path) -> io::Result<()> {
        replace(&dir.join("config.v2.json"), &serde_json::to_vec(self)?)
    }

    /// Reads both files.
    pub fn load(dir: &Path) -> io::Result<Self> {
        let mut record: Self = serde_json::from_slice(&read_bounded(&dir.join("config.v2.json"))?)?;
        record.host = serde_json::from_slice(&read_bounded(&dir.join("hostconfig.json"))?)?;
        if dir.file_name().and_then(|n| n.to_str()) != Some(record.id.as_str()) || record.id.len() != 64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not this container's files"));
        }
        Ok(record)
    }
}

/// A regular file's content; never waits for a FIFO, never reads without end.
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a file in place as a whole.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let _left_over = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    io::Write::write_all(&mut file, bytes)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let temp = tempfile::tempdir().unwrap();
        let id = "a".repeat(64);
        let dir = temp.path().join(&id);
        fs::create_dir(&dir).unwrap();
        let mut record = Record { id, name: "x".into(), ..Record::default() };
        record.host.resources.memory = 7;
        record.state.phase = Phase::Running;
        record.mount_points.push(Mounted { anonymous: true, ..Mounted::default() });
        record.save(&dir).unwrap();
        assert_eq!(Record::load(&dir).unwrap(), record);
        fs::remove_file(dir.join("hostconfig.json")).unwrap();
        nix::unistd::mkfifo(&dir.join("hostconfig.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Record::load(&dir).is_err());
    }
}
