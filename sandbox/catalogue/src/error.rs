//! What can go wrong with the catalogue, for the operator.

use std::{io, path::PathBuf};

/// Why an image could not be added. Nothing half made is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no recipe of that name.
    #[error("there is no recipe for `{0}`: `drydock image catalogue` lists what can be added")]
    Unknown(String),
    /// It can't be exported.
    #[error("the catalogue does not have {0}: `drydock image add` makes it")]
    Absent(String),
    /// The binary was built without the programs of hello-world, hello-wasm and whoami.
    #[error(
        "this build of drydock is without the program `{0}` of the catalogue's own images: build it with `make build`, \
         or make the programs alone with `make programs`"
    )]
    NoProgram(String),
    /// A recipe of ours is wrong.
    #[error("the recipe of `{name}` is wrong: {what}")]
    Recipe {
        /// Which.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A step failed.
    #[error("making `{name}` failed: {what}{}", if .tail.is_empty() { String::new() } else { format!(". It said last:\n{}", .tail) })]
    Build {
        /// The image.
        name: String,
        /// The builder's words.
        what: String,
        /// The last lines that the step printed.
        tail: String,
    },
    /// Somebody asked for an end.
    #[error("stopped; nothing was left behind")]
    Stopped,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] drydock_images::Error),
    /// The work directory's store refused.
    #[error("the work directory: {0}")]
    Local(#[from] drydock_images::local::StoreError),
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// A function for `map_err`: says what was tried.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |e| Self::Io { what, source: e.into() }
    }

    /// The same for work on a path.
    pub(crate) fn path<E: Into<io::Error>>(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |e| Self::Io { what: format!("cannot {verb} {}", path.display()), source: e.into() }
    }
}
