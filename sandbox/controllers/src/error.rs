//! Why a controller could not do its work. All of these are tried again by the work queue.

/// An error of a controller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// An object says something that nobody can work with.
    #[error("{0}")]
    Object(String),
    /// Something that must be there is not yet.
    #[error("{0}")]
    NotYet(String),
    /// A file of the control plane cannot be used.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: String,
    },
    /// The command line says something that nobody understands.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The API server's error in its own words, without the prefix of the client.
    pub fn text(&self) -> String {
        match self {
            Self::Api(error) => text(error),
            other => other.to_string(),
        }
    }
}

/// An error in the API server's own words.
pub fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
