//! What can go wrong with a node's images. The texts are what the Docker client shows, in Docker's words where it has some;
//! the variant decides the status code.

use crate::{Error, ReferenceError};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why work on a node's images failed. Nothing half made is left behind.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such image (404). Holds what the user asked for, in its familiar form.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The image is in use (409).
    #[error("{0}")]
    Conflict(String),
    /// What came from outside is not acceptable (400): a tar, a configuration, a digest.
    #[error("{0}")]
    Invalid(String),
    /// A text is not a reference (400).
    #[error("invalid reference format")]
    Reference(#[from] ReferenceError),
    /// The store misses something, or it was changed (500).
    #[error("{0}")]
    Damaged(String),
    /// The system refused (500).
    #[error("{what}: {}", words(source))]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What everything in this module returns.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |e| Self::Io { what, source: e.into() }
    }

    pub(crate) fn path<E: Into<io::Error>>(
        verb: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        let path: PathBuf = path.as_ref().to_owned();
        move |e| Self::Io { what: format!("{verb} {}", path.display()), source: e.into() }
    }

    /// Whether the disk or the quota is full.
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(why) => Self::Invalid(format!("invalid tar: {why}")),
            // Go's words for what is cut short, and for what is none.
            Error::Tar { cut: true, .. } => Self::Invalid("unexpected EOF".into()),
            Error::Tar { .. } => Self::Invalid("archive/tar: invalid tar header".into()),
            Error::Digest { expected, found } => {
                Self::Invalid(format!("digest mismatch: expected {expected}, got {found}"))
            }
            Error::Io { what, source } => Self::Io { what, source },
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// The system's error as Go prints it: "no space left on device".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

pub(crate) fn invalid<T>(why: impl Into<String>) -> Result<T> {
    Err(StoreError::Invalid(why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_in_gos_words() {
        let error = StoreError::path("write", "/x")(io::Error::from_raw_os_error(28));
        assert_eq!(error.to_string(), "write /x: no space left on device");
        assert!(error.is_full());
    }
}
