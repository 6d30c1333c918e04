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
