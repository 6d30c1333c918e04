//! What the builder asks of an engine.

use super::config::{CacheKey, Config};
use super::output::Stream;
use crate::language::{Network, Sharing};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a backend can't do, in words for the learner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

impl From<String> for BackendError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<std::io::Error> for BackendError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What everything of a backend returns.
pub type Answer<T> = Result<T, BackendError>;

/// `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v8`, or empty.
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// An image as the builder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// `sha256:…`; empty for `scratch`.
    pub id: String,
    /// Its configuration.
    pub config: Config,
    /// `MAINTAINER`.
    pub author: String,
}

/// Whoever has it makes a step, until it is dropped.
pub type Turn = Box<dyn std::any::Any + Send>;

/// The engine. Methods may be called from several threads at once (stages that don't need each other).
pub trait Backend: Sync {
    /// The image of a `FROM`, a `COPY --from` or a mount: found here, or pulled (always, with `pull`). A name may also be an
    /// image's id. `log` gets the lines of the pull.
    ///
    /// # Errors
    /// `pull access denied for x, repository does not exist or may require 'docker login': denied: …` and so on.
    fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        log: &mut dyn FnMut(&str),
    ) -> Answer<Image>;

    /// An image that was made from `step.parent` by this step before, here or among `cache_from`. What only a step that was done has
    /// (`container`, `created_by`) is empty. [`CacheKey::digest`] is good for an index, [`CacheKey::is_of`] for a comparison.
    ///
    /// # Errors
    /// If the store can't be read. Not if there is none.
    fn cached(&self, step: &Commit<'_>, cache_from: &[String]) -> Answer<Option<Image>>;

    /// The right to make a step. Whoever shares its cache with other builds waits for the one that is making this step, and says whether there
    /// was one.
    ///
    /// # Errors
    /// If the build is cancelled meanwhile.
    fn turn(&self, _step: &Commit<'_>) -> Answer<(Turn, bool)> {
        Ok((Box::new(()), false))
    }

    /// A writable root over the layers of `parent`, named `id` (64 hexadecimal digits: the container of the step).
    ///
    /// # Errors
    /// If it can't be made.
    fn workspace(&self, parent: &str, id: &str) -> Answer<Box<dyn Workspace>>;

    /// The files of an image to read from, until the handle is dropped; an empty directory for an empty id (scratch).
    ///
    /// # Errors
    /// If they can't be mounted.
    fn files(&self, image: &str) -> Answer<Box<dyn Files>>;

    /// Writes an image that differs from `step.parent` by configuration only.
    ///
    /// # Errors
    /// If it can't be written.
    fn commit(&self, step: &Commit<'_>) -> Answer<String>;

    /// A file from an address (`ADD https://…`). The builder checks `--checksum`.
    ///
    /// # Errors
    /// If it can't be had.
    fn fetch(&self, url: &str) -> Answer<Download>;

    /// A working tree of a git repository (`ADD https://github.com/x/y.git#branch:dir`).
    ///
    /// # Errors
    /// If it can't be had.
    fn git(&self, url: &str, keep_git_dir: bool, checksum: &str) -> Answer<Box<dyn Files>>;

    /// The directory of a cache mount, made if it is missing, and held (locked for [`Sharing::Locked`]; one of its own, when
    /// [`Sharing::Private`] ones are in use) until the handle is dropped. `what` says what it is for, if it is new.
    ///
    /// # Errors
    /// If it can't be made.
    fn cache(&self, id: &str, sharing: Sharing, what: &str) -> Answer<Box<dyn Files>>;

    /// A secret that the client gave.
    ///
    /// # Errors
    /// If the client can't be asked. Not if there is none.
    fn secret(&self, id: &str) -> Answer<Option<Vec<u8>>>;

    /// A socket (a path here) that leads to the client's SSH agent.
    ///
    /// # Errors
    /// If there can be none. Not if the client gave none.
    fn ssh(&self, id: &str) -> Answer<Option<PathBuf>>;

    /// Whether the build is to end now. Asked between steps; a running command is the backend's to end.
    fn cancelled(&self) -> bool {
        false
    }
}

/// A tree of files to read, kept until it is dropped.
pub trait Files: Send {
    /// Its root, an absolute path.
    fn path(&self) -> &Path;
}

/// The container of a step. Dropping it gives it up.
pub trait Workspace: Send {
    /// Root of its file system, an absolute path; mounted until the workspace is dropped.
    fn path(&self) -> &Path;

    /// Runs a command and waits for it. `log` gets what it writes.
    ///
    /// # Errors
    /// If it could not be started (Docker's words: `failed to create task for container: …`); a failed command is a status.
    fn run(&mut self, command: &RunRequest, log: &mut dyn FnMut(Stream, &[u8])) -> Answer<i32>;

    /// Makes an image of what was changed. A change of nothing is a layer only if `step.keep_empty`.
    ///
    /// # Errors
    /// If it can't be written.
    fn commit(&mut self, step: &Commit<'_>) -> Answer<String>;

    /// Called before it is dropped when a command ran: whether the container is to stay for `docker ps -a` (that of a failed step
    /// does, unless `--force-rm` was given).
    fn finish(&mut self, _keep: bool) {}
}

/// An image to write.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Image that it is a child of; empty for scratch.
    pub parent: &'a str,
    /// Its configuration.
    pub config: &'a Config,
    /// What a later build finds it by. `key.config` is its `container_config`.
    pub key: &'a CacheKey,
    /// Container of the step (`container`), or empty.
    pub container: &'a str,
    /// `MAINTAINER`.
    pub author: &'a str,
    /// `created_by` of the new history entry.
    pub created_by: &'a str,
    /// What BuildKit calls the step; empty for one that it does not show.
    pub title: &'a str,
    /// Its `comment`.
    pub comment: &'a str,
    /// A layer without files is written too, as BuildKit does it.
    pub keep_empty: bool,
    /// `--platform` of the stage.
    pub platform: Option<&'a Platform>,
}

/// A command in a workspace.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// As in `USER`.
    pub user: String,
    /// As in `WORKDIR`; made if it is missing.
    pub workdir: String,
    /// Mounted in this order.
    pub mounts: Vec<RunMount>,
    /// `RUN --network`; [`Network::Default`] is what the build's options say.
    pub network: Network,
    /// `RUN --security=insecure`.
    pub insecure: bool,
}

/// A mount of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMount {
    /// Absolute path in the container. Made if it is missing; the builder takes it away again.
    pub target: String,
    /// What.
    pub source: RunSource,
    /// Nothing may be written.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq)]
pub enum RunSource {
    /// A file or directory here, by absolute path.
    Bind {
        /// Which.
        path: PathBuf,
        /// What is written to it is not kept (and must not reach `path`). Only if it is not read-only.
        discard: bool,
    },
    /// Memory.
    Tmpfs {
        /// Its limit in bytes.
        size: Option<u64>,
    },
    /// A file in memory with this content: secrets, scripts of here-documents.
    Content {
        /// Its bytes.
        data: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The socket of an SSH agent here.
    Socket {
        /// Which.
        path: PathBuf,
        /// Its mode in the container.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// A file from an address.
pub struct Download {
    /// What the server calls it (`Content-Disposition`), if it does.
    pub name: Option<String>,
    /// `Last-Modified`, seconds since 1970.
    pub modified: Option<i64>,
    /// Its bytes.
    pub content: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("name", &self.name)
            .field("modified", &self.modified)
            .finish_non_exhaustive()
    }
}
