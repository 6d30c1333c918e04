//! What the processes of a session say to each other. All are [`crate::channel::Channel`] messages.
//!
//! ```text
//! session process ── ToSpawner / FromSpawner ── spawner (pid 1 of the session)
//!        │                                         │ clones
//!        └────────── ToInit / FromInit ────────── node init (pid 1 of a node)
//! ```
//!
//! The spawner and the inits live with the learner's processes, but none of these can be traced or opened by them:
//! they were forked from the warden without exec, so their memory belongs to the host's user namespace.

use drydock_protocol::{
    NodeName, SessionId,
    frame::Size,
    pipe::{FileOp, Step},
};
use serde::{Deserialize, Serialize};
use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// What a session process is born with.
#[derive(Debug)]
pub struct SessionBoot {
    /// The session.
    pub id: SessionId,
    /// Its limits (the kernel holds it to them; here for what the session process counts itself).
    pub limits: crate::limits::Limits,
    /// Channel to the spawner.
    pub spawner: crate::channel::Channel,
    /// Listening Unix stream socket on which `drydock serve` connects ([`drydock_protocol::pipe`]).
    pub listener: OwnedFd,
    /// Control group directories (`nodes`), for reading figures. See [`crate::cgroup`].
    pub cgroup: crate::cgroup::NodesDir,
    /// Steps of the start so far.
    pub trace: Vec<Step>,
    /// Zero of their time line.
    pub origin: Instant,
}

/// session process → spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSpawner {
    /// Switch a node on; answered by [`FromSpawner::Up`] or [`FromSpawner::Failed`].
    PowerOn(NodeName),
    /// End all processes of a node; answered by [`FromSpawner::Down`].
    PowerOff(NodeName),
    /// Switch it off and let go of its disk; answered by [`FromSpawner::Removed`].
    Remove(NodeName),
}

/// spawner → session process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromSpawner {
    /// The session is given to somebody, who asked for it so long after zero of the time line.
    Given(Duration),
    /// There is a node, one of the first or one that the warden has handed in; [`FromSpawner::Up`] follows.
    Added(NodeName),
    /// A node runs. One descriptor comes along: the channel to its init ([`ToInit`]).
    Up {
        /// Which node.
        node: NodeName,
        /// Process id of its init, as the session process sees it.
        pid: i32,
        /// Steps of its start.
        trace: Vec<Step>,
    },
    /// A node's init has ended, and all of its processes with it.
    Down {
        /// Which node.
        node: NodeName,
        /// True if it was the node's own `reboot`.
        reboot: bool,
    },
    /// Nothing of the node is left but its disk.
    Removed(NodeName),
    /// A node could not be started.
    Failed {
        /// Which node.
        node: NodeName,
        /// Why, for people.
        message: String,
    },
}

/// session process → node init.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToInit {
    /// Start a process; answered by [`FromInit::Spawned`] or [`FromInit::SpawnFailed`].
    Spawn {
        /// The session process's own number for this process.
        id: u32,
        /// Program (looked up in PATH) and arguments; empty: root's login shell.
        argv: Vec<Vec<u8>>,
        /// Added to the environment (HOME, PATH, TERM, LANG and so on are set).
        env: Vec<(String, String)>,
        /// Working directory; absent: the home directory.
        cwd: Option<String>,
        /// A pty of this size as controlling terminal; absent: three pipes.
        tty: Option<Size>,
    },
    /// Do file work on the connection that comes as the one descriptor, in a process of its own.
    /// Nothing is answered here; the connection is answered.
    File {
        /// What to do.
        op: FileOp,
    },
}

/// node init → session process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromInit {
    /// It runs, leader of a session and process group of its own. Descriptors: with a tty `[pidfd, pty master]`,
    /// else `[pidfd, stdin, stdout, stderr]` (our ends of the pipes).
    Spawned {
        /// The number from the request.
        id: u32,
        /// Process id inside the node.
        pid: i32,
    },
    /// It could not be started.
    SpawnFailed {
        /// The number from the request.
        id: u32,
        /// `errno` of the step that failed (ENOENT: no such program or directory).
        errno: i32,
        /// What failed, for people.
        message: String,
    },
    /// The node's Docker engine has been started. One descriptor comes along: a channel on which it tells what the page
    /// shows of it, from the beginning.
    Engine,
    /// The process has ended. Processes that it left behind may still run and hold the pty.
    Exited {
        /// The number from the request.
        id: u32,
        /// Exit status, 128 + n for signal n.
        status: i32,
    },
}

/// warden → spawner, over a connection to the spawner's own socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWarden {
    /// Here are the disks of new nodes. Descriptors: for each the mounts of [`crate::launch::NodeDisk`], root first.
    Disks(Vec<NodeName>),
    /// Start nodes whose disks are there.
    Start {
        /// Their names.
        names: Vec<NodeName>,
        /// They are the session's first.
        given: Option<Given>,
    },
}

/// What is known of a session when it is asked for, and not before ([`crate::launch::Launch`] may have been earlier).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// When it was asked for, after [`crate::launch::Launch::origin`].
    pub after: Duration,
    /// The Kubernetes cluster that its nodes make up, if they shall.
    pub cluster: Option<crate::cluster::ClusterWish>,
}
