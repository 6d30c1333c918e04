//! What the engine of a node and the node's init say to each other ([`crate::channel::Channel`] messages), and what a container's
//! child reports before it becomes the container.
//!
//! ```text
//! engine ── EngineToInit / InitToEngine ── node init ── clone ──▶ child ── exec ──▶ the container's program
//!    └───────────── ToChild / FromChild (report channel) ───────────┘
//! ```
//!
//! The init keeps process descriptors and the engine's ends of pipes, so a new engine process takes running containers over
//! from it: after a start of the engine, [`InitToEngine::Alive`] comes for each, then [`InitToEngine::Synced`].

use super::spec::Interface;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Names a process that the engine has asked for: a container's id, or an exec's.
pub type Key = String;

/// Names that a key may have: up to 64 characters.
pub const MAX_KEY: usize = 64;

/// engine → node init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineToInit {
    /// Make a container. Descriptors: `[spec, report]` with a tty (the master comes over the report channel), else
    /// `[spec, report, stdin, stdout, stderr]`. `spec` is a memory file with a [`super::spec::ContainerSpec`] from its
    /// start, postcard. Answered by [`InitToEngine::Started`] or [`InitToEngine::Refused`].
    Run {
        /// Names it from now on.
        key: Key,
        /// The namespaces that are cloned at once (`CLONE_NEW…`), as [`super::spec::Namespaces::clone_flags`] has it.
        flags: i32,
        /// Process of the node whose pid namespace it joins.
        join_pid: Option<i32>,
        /// The descriptors that come after these.
        with: With,
    },
    /// A container will soon be made, with [`EXPECTED`] namespaces: clone its child now. Descriptor: `[channel]`, over which it is given what
    /// `Run` would have given it, with a `(`[`With`]`, i32)`: the namespaces that are still to be made. Not answered.
    Expect,
    /// The expected child has been given its container. Answered as `Run` is.
    Adopt {
        /// Names it from now on.
        key: Key,
    },
    /// Start a process in a container. Descriptors: `[spec, report, pidfd]`, then as for `Run`; `spec` holds a
    /// [`super::spec::ProcessSpec`], `pidfd` is the container's first process. Answered as `Run` is.
    Exec {
        /// Names it from now on.
        key: Key,
        /// The container's control group below the node's.
        cgroup: String,
    },
    /// Keep these descriptors (up to 4) for an engine to come.
    Keep {
        /// Whose.
        key: Key,
    },
    /// The engine has noted the exit, or does not want to know of it (after [`FromChild::Failed`]): forget the process and what was
    /// kept for it.
    Forget {
        /// Which.
        key: Key,
    },
}

/// What more a container's child is given, a descriptor for each that is true, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct With {
    /// The compiled code of a WebAssembly container, for reading.
    pub code: bool,
    /// The network namespace that it takes for its own, made beforehand ([`super::net::prepare`]). Without it a new one is cloned.
    pub net: bool,
    /// The `/dev` that it takes for its own ([`super::beforehand`]). Without it it makes one.
    pub dev: bool,
    /// Its `/sys/fs/cgroup`, likewise.
    pub groups: bool,
}

impl With {
    /// What is left to be made of the namespaces that a container shall have of its own (`CLONE_NEW…`).
    pub fn namespaces(self, flags: i32) -> i32 {
        flags & if self.net { !libc::CLONE_NEWNET } else { !0 }
    }

    /// What is left to be made of them by a child that was expected; nothing if it is not for this container.
    pub fn of_expected(self, flags: i32) -> Option<i32> {
        let left = self.namespaces(flags);
        (left & !libc::CLONE_NEWNET == EXPECTED).then_some(left & !CLONED)
    }
}

/// The namespaces that most containers have of their own, without that of their network, which is made beforehand.
pub const EXPECTED: i32 = libc::CLONE_NEWNS | CLONED;

/// Those that a child has while it waits for its container. The mount namespace is none: it is to have all that the node has mounted
/// when the container is asked for.
pub const CLONED: i32 = libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// How long a child may wait for its container, which is as old as its first process for whoever asks `ps`, to the second.
pub const FRESH: Duration = Duration::from_secs(1);

/// node init → engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitToEngine {
    /// A process of an earlier engine. Descriptors: `[pidfd, kept…]`.
    Alive {
        /// Its name.
        key: Key,
        /// Its process id in the node.
        pid: i32,
        /// Its exit status, if it has ended meanwhile.
        exited: Option<i32>,
    },
    /// All [`Self::Alive`] have been told.
    Synced,
    /// It is cloned. Descriptor: `[pidfd]`. What follows comes over the report channel.
    Started {
        /// Its name.
        key: Key,
        /// Its process id in the node.
        pid: i32,
    },
    /// It could not be cloned.
    Refused {
        /// Its name.
        key: Key,
        /// `errno`.
        errno: i32,
        /// What failed, for people.
        message: String,
    },
    /// It has ended.
    Exited {
        /// Its name.
        key: Key,
        /// Exit status, 128 + n for signal n.
        status: i32,
    },
}

/// The child → engine, over the report channel. When the channel closes without [`Self::Failed`], the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// It has a network namespace of its own that was cloned with it (before anything else, and only then). Descriptor: the namespace, since what
    /// `/proc` tells of this process is closed to all until its program runs.
    Network,
    /// The root is built; it goes on when [`ToChild::Go`] is there. Descriptor, with a tty: `[pty master]`.
    Prepared,
    /// Its interfaces are set up (only if it has been told of any). It goes on when [`ToChild::Linked`] is there.
    Linked,
    /// It can't become the container.
    Failed(Failure),
}

/// engine → the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// Its control groups are there: the first that is told.
    Place,
    /// Its root file system is mounted, and its files are there. Descriptor: `[a detached copy of the root's mount]`, since what is
    /// mounted after the child is cloned need not be in its mount namespace.
    Root,
    /// Its interfaces are there: set them up and start the program when the root is built.
    Go(Vec<Interface>),
    /// What it sends passes: it may start its program. Said after [`FromChild::Linked`].
    Linked,
}

/// Why a program was not started; Docker makes exit codes of it (127, 126, 128).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// In runc's words where it has some: `exec: "x": executable file not found in $PATH`.
    pub message: String,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// There is no such program (127).
    NotFound,
    /// It can't be executed (126).
    NotExecutable,
    /// Everything else (128).
    Other,
}
