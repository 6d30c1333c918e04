//! Why a build ended without an image.

use super::backend::BackendError;
use crate::language::ParseError;
use std::ops::RangeInclusive;

/// Why a build ended without an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// Docker's words, to be passed on as they are.
    pub message: String,
    /// Exit code of the command that failed (`errorDetail.code`).
    pub code: Option<i32>,
    /// The lines of the Dockerfile in question, if it is about some.
    pub lines: Option<RangeInclusive<usize>>,
    /// How to treat it.
    pub kind: ErrorKind,
}

/// How to treat an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The Dockerfile or an option is wrong (HTTP 400, if nothing was sent yet).
    Invalid,
    /// A step failed.
    Failed,
    /// [`super::Backend::cancelled`] said so.
    Cancelled,
}

impl BuildError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None, lines: None, kind: ErrorKind::Invalid }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, ..Self::invalid(message) }
    }

    pub(super) fn at(mut self, lines: RangeInclusive<usize>) -> Self {
        self.lines.get_or_insert(lines);
        self
    }
}

impl From<ParseError> for BuildError {
    fn from(error: ParseError) -> Self {
        Self::invalid(error.message).at(error.lines)
    }
}

impl From<BackendError> for BuildError {
    fn from(error: BackendError) -> Self {
        Self::failed(error.0)
    }
}
