//! The limits of a session: every number that a learner can push against, in one place. The kernel enforces them
//! (control groups, btrfs quota groups, rlimits, per-user-namespace sysctls).

use serde::{Deserialize, Serialize};

/// What one session may use. All of its nodes share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU time, in thousandths of one CPU.
    pub cpu_millis: u32,
    /// Memory with kernel memory, page cache and tmpfs, in bytes. Swap is not given.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Disk space of all nodes together, with metadata, in bytes.
    pub disk: u64,
    /// Open files per process.
    pub open_files: u64,
    /// inotify watches.
    pub inotify_watches: u32,
    /// inotify instances.
    pub inotify_instances: u32,
    /// Nodes.
    pub nodes: u8,
}

/// A limit that cannot be enforced, or with which no node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}; it must be {least} to {most}")]
pub struct OutOfBounds {
    /// The field's name.
    pub name: &'static str,
    /// What it is.
    pub value: u64,
    /// What it may be at least.
    pub least: u64,
    /// What it may be at most.
    pub most: u64,
}

impl Limits {
    /// Most nodes that any session may have; their numbers are the last byte of their addresses.
    pub const MAX_NODES: u8 = 50;

    /// Whether sessions can have these limits.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let bounds: [(&'static str, u64, u64, u64); 8] = [
            ("nodes", self.nodes.into(), 1, Self::MAX_NODES.into()),
            ("cpu_millis", self.cpu_millis.into(), 10, 1_000_000),
            ("memory", self.memory, 32 << 20, 1 << 44),
            ("pids", self.pids.into(), 16, 1 << 20),
            ("disk", self.disk, 16 << 20, 1 << 44),
            ("open_files", self.open_files, 64, 1 << 20),
            ("inotify_watches", self.inotify_watches.into(), 16, 1 << 22),
            ("inotify_instances", self.inotify_instances.into(), 4, 1 << 16),
        ];
        match bounds.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((name, value, least, most)) => Err(OutOfBounds { name, value, least, most }),
            None => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_millis: 2000,
            memory: 1 << 30,
            pids: 1000,
            disk: 2 << 30,
            open_files: 16_384,
            inotify_watches: 16_384,
            inotify_instances: 256,
            nodes: 5,
        }
    }
}
