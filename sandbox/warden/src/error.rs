//! What can go wrong in the warden, with what serve is told about it.

use crate::messages::FailureKind;
use drydock_protocol::{NodeName, SessionId};
use std::{io, path::PathBuf};

/// A request or the warden itself failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such session.
    #[error("there is no session {0}")]
    NoSession(SessionId),
    /// No such node.
    #[error("session {0} has no {1}")]
    NoNode(SessionId, NodeName),
    /// The id is taken.
    #[error("session {0} exists already")]
    SessionExists(SessionId),
    /// The node is there.
    #[error("{1} of session {0} exists already")]
    NodeExists(SessionId, NodeName),
    /// A number out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// All id ranges are in use.
    #[error("all {0} id ranges of this server are in use: end a session first")]
    Full(u32),
    /// Sessions run.
    #[error("{0} sessions still run: end them first")]
    Busy(usize),
    /// The node image.
    #[error("node image: {0}")]
    Image(#[from] drydock_images::Error),
    /// A step of the sandbox.
    #[error(transparent)]
    Sandbox(#[from] drydock_runtime::Error),
    /// A file or directory of the state directory.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, #[source] io::Error),
    /// Another warden.
    #[error("another warden runs for {path}", path = .0.display())]
    Running(PathBuf),
    /// Something of the host that is missing.
    #[error("{0}")]
    Host(String),
}

impl Error {
    /// The kind that serve is told.
    pub fn failure(&self) -> FailureKind {
        match self {
            Self::NoSession(_) | Self::NoNode(..) | Self::Image(_) => FailureKind::NotFound,
            Self::SessionExists(_) | Self::NodeExists(..) | Self::Busy(_) | Self::Running(_) => {
                FailureKind::InUse
            }
            Self::Invalid(_) => FailureKind::Invalid,
            Self::Full(_) => FailureKind::Full,
            Self::Sandbox(e) if e.errno() == Some(28) => FailureKind::Full,
            Self::Sandbox(_) | Self::File(..) | Self::Host(_) => FailureKind::Failed,
        }
    }
}

/// Names the file in an I/O error.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |e| Error::File(path, e)
}
