//! The crate's one error: text in Docker's words, and the kind from which the engine makes a status code.

use drydock_go::io_text;
use std::io;

/// Something about networks was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of error: the engine's status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 400
    Invalid,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409
    Conflict,
    /// 500
    Internal,
    /// 501
    NotImplemented,
    /// 503
    Unavailable,
}

impl Kind {
    /// The HTTP status that Docker answers with.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::Unavailable => 503,
        }
    }

    pub(crate) fn error(self, message: impl Into<String>) -> Error {
        Error { kind: self, message: message.into() }
    }
}

impl Error {
    /// What kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn context(self, before: &str) -> Self {
        Self { message: format!("{before}{}", self.message), ..self }
    }

    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Kind::Internal.error(format!("{what}: {}", io_text(error)))
    }
}

impl From<drydock_runtime::Error> for Error {
    fn from(error: drydock_runtime::Error) -> Self {
        Kind::Internal.error(error.to_string())
    }
}
