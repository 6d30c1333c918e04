//! What a client asks for.

use super::backend::Platform;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Whose words and habits a build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// `POST /build`: all stages up to the target, one after the other; history as `/bin/sh -c #(nop) …`.
    #[default]
    Classic,
    /// Only the stages that the target needs, those that are independent at the same time; history as `CMD ["x"]`.
    BuildKit,
}

/// Options of a build. Limits, extra hosts, `/dev/shm` and the network of a build are the backend's business: they are the same
/// for all commands of a build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whose words and habits.
    pub mode: Mode,
    /// `--target`.
    pub target: String,
    /// `--build-arg`; without a value: unset.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages that take nothing from the cache.
    pub no_cache_stages: Vec<String>,
    /// `--pull`.
    pub pull: bool,
    /// `--cache-from`.
    pub cache_from: Vec<String>,
    /// `--platform`.
    pub platform: Option<Platform>,
    /// Platform of the node, `linux/amd64`.
    pub host: Option<Platform>,
    /// `--squash`, which is refused.
    pub squash: bool,
    /// `rm=0`: containers of steps are not reported as removed.
    pub keep_containers: bool,
    /// `forcerm=1`: that of a failed step is, too.
    pub force_remove: bool,
    /// `--build-context NAME=…`: what else than stages and images `FROM` and `--from` can name.
    pub contexts: BTreeMap<String, NamedContext>,
}

/// `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory here.
    Directory(PathBuf),
    /// An image.
    Image(String),
}

/// The files of a build.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Directory with the files, from which the ignored ones have been taken away
    /// ([`crate::files::unpack_context`]). `None`: a Dockerfile on standard input.
    pub root: Option<PathBuf>,
}
