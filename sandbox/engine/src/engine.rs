//! The engine of a node: what all requests share, and its life from the first connection to its end.

use crate::error::{Error, Result};
use crate::{
    build::Cache,
    cgroup::Groups,
    config::{Config, DaemonConfig},
    containers::{Containers, spare::Spare},
    events::Events,
    exec::Execs,
    images::Registries,
    init::Init,
    journal,
    picture::Activities,
    ready::Ready,
    rootfs::Roots,
    volumes::Volumes,
    wasm::Wasm,
};
use drydock_images::local::LocalStore;
use drydock_network::Networks;
use drydock_protocol::NodeName;
use drydock_runtime::container::{CANNOT_START, EngineBoot};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use tokio::sync::oneshot;

/// Everything that a request may need.
#[derive(Debug)]
pub struct Engine {
    /// Which node this is.
    pub node: NodeName,
    /// `/var/lib/docker`.
    pub root: PathBuf,
    /// `/etc/docker/daemon.json`.
    pub config: Config,
    /// Makes processes for us.
    pub init: Arc<Init>,
    /// All containers.
    pub containers: Containers,
    /// Programs that run in containers beside their first.
    pub execs: Execs,
    /// The node's images and their layers. Blocks: call it from `spawn_blocking`.
    pub images: LocalStore,
    /// Root file systems of containers.
    pub roots: Roots,
    /// The way to registries.
    pub registries: Registries,
    /// Networks of containers.
    pub networks: Networks,
    /// What lies ready for the next container.
    pub ready: Ready,
    /// Volumes.
    pub volumes: Volumes,
    /// What happened, for `docker events`.
    pub events: Events,
    /// The pulls, pushes and builds under way, for the page.
    pub activities: Activities,
    /// Control groups of containers.
    pub groups: Arc<Groups>,
    /// BuildKit's API, once a client has asked for it.
    pub buildkit: OnceLock<drydock_buildkit::BuildKit>,
    /// Steps of builds.
    pub build_cache: Arc<Cache>,
    /// What runs WebAssembly containers, if the host has it.
    pub wasm: Option<Wasm>,
}

/// Runs the engine until the node ends or it is told to stop. Returns the exit status for the process.
pub fn run(boot: EngineBoot) -> i32 {
    // A client that goes away must not take the engine with it. Blocked, not ignored: `Command` resets the mask of what it runs.
    let mut pipe = nix::sys::signal::SigSet::empty();
    pipe.add(nix::sys::signal::Signal::SIGPIPE);
    let _always_works = pipe.thread_block();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime for the engine");
            return 1;
        }
    };
    let status = runtime.block_on(live(boot));
    // Blocking work (a tar stream whose client is gone) must not hold up the end.
    runtime.shutdown_background();
    status
}

/// Reads `daemon.json`; tells what it is for networks too.
fn configure() -> std::result::Result<(DaemonConfig, drydock_network::Config), String> {
    let crate::config::Settings { config, idle, .. } = crate::config::read(Path::new(crate::config::FILE))?;
    for name in idle {
        journal::warning(&format!("{}: {name} has no effect on this node", crate::config::FILE));
    }
    let networks = drydock_network::Config {
        pools: config.pools()?,
        default_bridge: config.default_bridge()?,
        ..drydock_network::Config::default()
    };
    Ok((config, networks))
}

async fn live(boot: EngineBoot) -> i32 {
    let EngineBoot { node, channel, listener, pictures, wasm } = boot;
    let (gone, node_ends) = oneshot::channel();
    let (init, survivors) = Init::connect(channel, gone);
    journal::info("Starting up");
    let engine = match open(node, init, wasm) {
        Ok(engine) => engine,
        Err(status) => return status,
    };
    let Ok(survivors) = survivors.await else { return 0 };
    crate::containers::adopt(&engine, survivors).await;
    if let Some(pictures) = pictures {
        tokio::spawn(crate::picture::send(engine.clone(), pictures));
    }
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "no signals for the engine");
            return 1;
        }
    };
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(hangup) => drop(tokio::spawn(crate::config::watch(engine.clone(), hangup))),
        Err(error) => tracing::warn!(%error, "the engine does not reload its configuration"),
    }
    journal::info("Daemon has completed initialization");
    journal::info("API listen on /run/docker.sock");
    tokio::select! {
        () = crate::http::serve(engine.clone(), listener) => 1,
        _ = terminate.recv() => {
            journal::info("Processing signal 'terminated'");
            if !engine.config.get().keeps_containers() {
                crate::containers::stop_all(&engine).await;
            }
            crate::containers::save_all(&engine);
            0
        }
        _ = node_ends => 0,
    }
}

/// The engine with all that it has on the disk; the error is the status with which it ends.
fn open(node: NodeName, init: Arc<Init>, wasm: Option<OwnedFd>) -> Result<Arc<Engine>, i32> {
    let root = PathBuf::from("/var/lib/docker");
    let (config, mut networks) = configure().map_err(|why| {
        journal::last_words(&why);
        CANNOT_START
    })?;
    let images = LocalStore::open(&root).map_err(|error| {
        tracing::error!(%error, "no image store for the engine");
        1
    })?;
    let roots = Roots::new(&root);
    roots.prepare().map_err(|error| {
        tracing::error!(%error, "no place for containers");
        1
    })?;
    networks.engine_id = crate::api::system::info::engine_id(&root);
    let networks = Networks::open(networks).map_err(|error| {
        tracing::error!(%error, "no networks for the engine");
        1
    })?;
    Ok(Arc::new(Engine {
        node,
        init,
        containers: Containers::new(root.join("containers"), Spare::new("/run/docker/unsaved".into())),
        execs: Execs::default(),
        build_cache: Cache::new(images.clone()),
        images,
        roots,
        registries: Registries::new(&root, &config),
        config: Config::new(config),
        networks,
        ready: Ready::default(),
        volumes: Volumes::open(&root),
        events: Events::default(),
        activities: Activities::default(),
        groups: Arc::new(Groups::detect()),
        buildkit: OnceLock::new(),
        wasm: wasm.and_then(|program| {
            let wasm = Wasm::new(program, &root);
            wasm.inspect_err(|error| tracing::warn!(%error, "no WebAssembly containers")).ok()
        }),
        root,
    }))
}

/// Does work in a thread that may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(error.to_string()))?
}
