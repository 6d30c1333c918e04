//! The crate's one error: why a request was refused or failed. Its text is for people; its kind is for serve.

use drydock_protocol::{
    NodeName, TerminalId,
    pipe::{ErrorKind, Reply},
};
use std::io;

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such node.
    #[error("there is no {0} in this session")]
    NoNode(NodeName),
    /// The node does not run.
    #[error("the node {0} is switched off; switch it on first")]
    NodeOff(NodeName),
    /// The node could not be switched on.
    #[error("the node {node} could not be started: {message}")]
    NodeFailed {
        /// Which node.
        node: NodeName,
        /// What the spawner said.
        message: String,
    },
    /// No such terminal.
    #[error("there is no terminal {0} (any more)")]
    NoTerminal(TerminalId),
    /// Enough is open.
    #[error("{0}")]
    Limit(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A program could not be started.
    #[error("{message}")]
    Spawn {
        /// Number of the error.
        errno: i32,
        /// What failed.
        message: String,
    },
    /// Nothing answers at a port.
    #[error(
        "nothing listens on port {port} of {node} (a server that listens on 127.0.0.1 only can't be reached from outside)"
    )]
    PortClosed {
        /// Which node.
        node: NodeName,
        /// Which port.
        port: u16,
    },
    /// The kernel or another process of the session failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What kind of failure it is for serve.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoNode(_) | Self::NoTerminal(_) => ErrorKind::NotFound,
            Self::NodeOff(_) | Self::PortClosed { .. } => ErrorKind::Conflict,
            Self::Limit(_) => ErrorKind::Limit,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Spawn { errno, .. } if *errno == nix::errno::Errno::ENOENT as i32 => ErrorKind::NotFound,
            Self::Spawn { errno, .. } if *errno == nix::errno::Errno::EAGAIN as i32 => ErrorKind::Limit,
            Self::Spawn { .. } | Self::NodeFailed { .. } | Self::Io { .. } => ErrorKind::Failed,
        }
    }

    /// The error as a sentence for people.
    pub fn sentence(&self) -> String {
        let text = self.to_string();
        let mut chars = text.chars();
        let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
        format!("{first}{}{stop}", chars.as_str())
    }

    /// The error as the answer to a request.
    pub fn reply(&self) -> Reply {
        Reply::Error { kind: self.kind(), message: self.sentence() }
    }
}
