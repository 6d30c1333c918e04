//! What this crate asks of an engine: [`BuildEngine`]. It knows HTTP/2 and protobuf, but no images, containers or layers; those
//! are behind this trait. All its methods are called on threads that may block.

use crate::client::BuildClient;
use drydock_dockerfile::build::{
    Answer, BuildError, Config, Context, Files, Image, Options, Output, Platform,
};
use drydock_dockerfile::language::Dockerfile;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// An engine that builds images.
pub trait BuildEngine: Send + Sync + 'static {
    /// What `docker buildx inspect` shows.
    fn worker(&self) -> Worker;

    /// A directory of the engine's own for files of running builds. It must exist; what is made in it is removed again.
    ///
    /// # Errors
    /// If it can't be made.
    fn scratch(&self) -> Answer<PathBuf>;

    /// Finds the base image of a stage before the build: here, or pulled (always, with `base.pull`). `log` gets the lines of the
    /// pull, as `POST /images/create` has them. Its configuration is returned.
    ///
    /// # Errors
    /// `failed to resolve source metadata for docker.io/library/x:latest: …`; the name as written is put before it.
    fn resolve(&self, base: &BaseImage, log: &mut dyn FnMut(&str)) -> Answer<Config>;

    /// Asks what an image is: one that is here, or one at a registry, of which nothing else is fetched.
    ///
    /// # Errors
    /// `x:1: not found`, and those of registries.
    fn outline(&self, import: &OutlineRequest) -> Answer<ImageOutline>;

    /// Writes into an image's configuration which steps made it (`--cache-to type=inline`). The new image's id.
    ///
    /// # Errors
    /// If it can't be written.
    fn with_inline_cache(&self, image: &str) -> Answer<String>;

    /// The environment of an image that is here and need not be pulled, for checks of a Dockerfile.
    fn environment(&self, image: &str) -> Option<Vec<String>>;

    /// Builds an image: [`drydock_dockerfile::build::build`] with a backend that has `request.settings` and `request.client`.
    ///
    /// # Errors
    /// In BuildKit's words, without `failed to solve: `.
    fn build(&self, request: &BuildRequest, out: &mut dyn Output) -> Result<Image, BuildError>;

    /// The image is the result of a build: it is shown, and kept, even without a name.
    ///
    /// # Errors
    /// If it is gone.
    fn keep(&self, image: &str) -> Answer<()>;

    /// Names an image. The name is normalised except for the tag (`docker.io/library/x`).
    ///
    /// # Errors
    /// If the name can't be given.
    fn tag(&self, image: &str, name: &str) -> Answer<()>;

    /// The files of an image, to be sent to a client (`--output type=local`).
    ///
    /// # Errors
    /// If they can't be mounted.
    fn files(&self, image: &str) -> Answer<Box<dyn Files>>;

    /// A git repository (its working tree) or an archive on a web server (unpacked) or a file there (named `context`), as the
    /// context of a build.
    ///
    /// # Errors
    /// If it can't be had.
    fn remote_context(&self, url: &str, keep_git_dir: bool) -> Answer<Box<dyn Files>>;

    /// `docker buildx du`.
    ///
    /// # Errors
    /// If a filter is wrong or the cache can't be read.
    fn disk_usage(&self, filters: &[String]) -> Answer<Vec<CacheRecord>>;

    /// `docker buildx prune`; what was removed.
    ///
    /// # Errors
    /// If a filter is wrong or the cache can't be changed.
    fn prune(&self, prune: &Prune) -> Answer<Vec<CacheRecord>>;
}

/// Describes an engine to clients.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    /// The engine's id.
    pub id: String,
    /// What it builds for, its own platform first.
    pub platforms: Vec<Platform>,
    /// Address of the node for `host-gateway` in `--add-host`.
    pub host_gateway: Option<IpAddr>,
    /// `Labels` of `docker buildx inspect`.
    pub labels: BTreeMap<String, String>,
    /// Version of BuildKit whose habits it has, `v0.25.1`.
    pub buildkit_version: String,
    /// What of the build cache goes by itself.
    pub gc: Vec<Prune>,
}

/// What to build.
#[derive(Debug)]
pub struct BuildRequest {
    /// The Dockerfile, parsed.
    pub dockerfile: Dockerfile,
    /// Target, arguments, labels, cache, platform, named contexts.
    pub options: Options,
    /// What images of `--cache-from` say of the steps that made them.
    pub imports: Vec<ImageOutline>,
    /// Files of the client. Empty for a Dockerfile that needs none.
    pub context: Context,
    /// How commands run.
    pub settings: Settings,
    /// Asks the client for secrets, its SSH agent, and credentials.
    pub client: Arc<BuildClient>,
    /// Is cancelled when the client gives up. [`drydock_dockerfile::build::Backend::cancelled`] must say so, and a running command
    /// must be ended.
    pub cancelled: CancellationToken,
}

/// A base image to find.
#[derive(Debug)]
pub struct BaseImage {
    /// Its name as the Dockerfile has it, or an id.
    pub name: String,
    /// `--platform`.
    pub platform: Option<Platform>,
    /// `--pull`.
    pub pull: bool,
    /// For credentials.
    pub client: Arc<BuildClient>,
    /// Is cancelled when the client gives up.
    pub cancelled: CancellationToken,
}

/// An image that a build wants to know of: one of `--cache-from`, or a frontend.
#[derive(Debug)]
pub struct OutlineRequest {
    /// Its name as the client has it.
    pub name: String,
    /// For credentials.
    pub client: Arc<BuildClient>,
    /// Is cancelled when the client gives up.
    pub cancelled: CancellationToken,
}

/// What such an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOutline {
    /// Where its layers are: a name with the digest of a manifest. `None`: here.
    pub registry: Option<String>,
    /// Its configuration, byte by byte.
    pub config: Vec<u8>,
}

/// How the commands of a build run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--network`.
    pub network: NetworkMode,
    /// `--add-host`.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `--shm-size` in bytes; 0 is the default.
    pub shm_size: u64,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// `BUILDKIT_SANDBOX_HOSTNAME`.
    pub hostname: String,
    /// `BUILDKIT_CACHE_MOUNT_NS`: put before the ids of cache mounts.
    pub cache_namespace: String,
}

/// `--network` of a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The engine's default network.
    #[default]
    Default,
    /// The node's own.
    Host,
    /// None.
    None,
}

/// `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// -1 is unlimited.
    pub soft: i64,
    /// -1 is unlimited.
    pub hard: i64,
}

/// Something in the build cache.
#[derive(Debug, Clone, Default)]
pub struct CacheRecord {
    /// Its id.
    pub id: String,
    /// It still changes (a cache mount).
    pub mutable: bool,
    /// A build uses it now.
    pub in_use: bool,
    /// Bytes.
    pub size: u64,
    /// What it was made from.
    pub parents: Vec<String>,
    /// When.
    pub created: Option<SystemTime>,
    /// When it was last used.
    pub last_used: Option<SystemTime>,
    /// How often.
    pub usage_count: u64,
    /// `[2/3] RUN …`.
    pub description: String,
    /// `regular`, `source.local`, `exec.cachemount`.
    pub kind: String,
    /// Images have it too.
    pub shared: bool,
}

/// `docker buildx prune`.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// `--filter`.
    pub filters: Vec<String>,
    /// `--all`.
    pub all: bool,
    /// Younger ones stay.
    pub keep_duration: Duration,
    /// Bytes that may stay in any case.
    pub reserved_space: u64,
    /// Bytes that may be used at most; 0: no such limit.
    pub max_used_space: u64,
    /// Bytes of the disk that are to be free; 0: no such wish.
    pub min_free_space: u64,
}
