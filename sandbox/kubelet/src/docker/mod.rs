//! The node's Docker engine as the kubelet asks it: a small client of its API over `/run/docker.sock` (as dockershim was one). Whoever
//! connects first starts the engine. What pods are made of lives in the engine; the kubelet keeps nothing that it could not ask again.

mod client;
mod frames;
mod types;

pub use client::Docker;
pub use frames::{Frames, Source};
pub use types::{Container, Image, Limits};

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It could not be reached, or went away.
    #[error("Cannot connect to the Docker daemon at unix:///run/docker.sock: {0}")]
    Connection(String),
    /// It refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// It did not answer in time.
    #[error("operation timeout: context deadline exceeded")]
    Timeout,
    /// Its answer makes no sense.
    #[error("the engine's answer can't be read: {0}")]
    Answer(String),
}

impl DockerError {
    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// It is in use already (a container's name).
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }
}
