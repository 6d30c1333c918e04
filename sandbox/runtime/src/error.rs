//! The crate's one error: which step failed, on what, and what the kernel said.

use std::{fmt::Display, io};

/// A step of the sandbox failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct Error {
    step: String,
    source: io::Error,
}

/// Result of a step.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of `step` (a few words that name what was done to what).
    pub fn new(step: impl Display, source: impl Into<io::Error>) -> Self {
        Self { step: step.to_string(), source: source.into() }
    }

    /// What the kernel said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The error number, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Says which step a system call belonged to.
pub(crate) trait Context<T> {
    /// Names the step.
    fn step<S: Display>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn step<S: Display>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::new(step(), e))
    }
}
