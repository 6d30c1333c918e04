//! What can go wrong with an image, for people: each text names the thing, the cause and the way on.

use std::{io, path::PathBuf};

/// Why work on an image failed. Nothing half made is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no image of that name.
    #[error(
        "there is no image `{0}`: prepare it with `drydock image build {0}` or `drydock image import FILE`"
    )]
    NotFound(String),
    /// The name of an image has characters or a length that names do not have.
    #[error(
        "`{0}` is not a name for an image: use letters, digits and . _ : / - (at most 128, letter or digit first)"
    )]
    Name(String),
    /// The store misses a part of an image.
    #[error(
        "the image `{name}` is damaged ({what}): prepare it again with `drydock image build` or `import`"
    )]
    Damaged {
        /// The image.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// An image file or a layer is refused.
    #[error("the image is refused: {0}")]
    Refused(String),
    /// A tar is damaged, or none.
    #[error("the image is refused: its tar is damaged, cut short or no tar at all ({what})")]
    Tar {
        /// What the decoder says of it.
        what: String,
        /// It ends too soon.
        cut: bool,
    },
    /// The content of a blob is not what its digest says.
    #[error(
        "the image file is damaged: the content of {expected} has the digest {found}; copy the file again"
    )]
    Digest {
        /// The digest by which it is known.
        expected: String,
        /// The digest that its content has.
        found: String,
    },
    /// A program that a build needs is missing.
    #[error("`{program}` is missing: run `apt-get install {package}`")]
    Missing {
        /// The program or file.
        program: &'static str,
        /// Debian packages that bring it.
        package: &'static str,
    },
    /// The build's own program failed.
    #[error("building the image failed: {program} ended with {status}. It said last:\n{tail}")]
    Build {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines that it printed.
        tail: String,
    },
    /// Somebody asked for an end.
    #[error("stopped")]
    Stopped,
    /// Only root can keep the owners of files.
    #[error("image work needs root (owners and modes of files are kept): run it with sudo")]
    NotRoot,
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

/// An error for refused content.
pub(crate) fn refused<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(why.into()))
}
