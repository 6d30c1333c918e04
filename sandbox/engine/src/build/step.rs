//! The container of a build step: a writable root over the layers of the image so far, in which commands run as in any container
//! (with the same walls and limits, and shown by `docker ps`), and which becomes the next layer.

use super::Scratch;
use super::backend::{Node, digest};
use crate::clock::Timestamp;
use crate::containers::model::{Config, EndpointSettings, HostConfig, MountPoint};
use crate::containers::record::{Mounted as MountedPoint, Record};
use crate::containers::streams::Stream as Output;
use crate::containers::wait::{Condition, wait};
use crate::containers::{Container, failures, names, remove, start, stop, validate};
use crate::engine::Engine;
use crate::error::{Context as _, Error, Result};
use crate::rootfs::Floor;
use drydock_dockerfile::build::{Answer, Commit, Files, RunRequest, RunSource, Stream, Workspace};
use drydock_dockerfile::language::Network;
use drydock_images::local::LayerStack;
use nix::mount::{MntFlags, MsFlags};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name that commands of BuildKit's builds see.
const BUILDKIT_HOST: &str = "buildkitsandbox";

/// A root file system that is mounted until this is dropped.
pub(super) struct Mounted {
    engine: Arc<Engine>,
    id: String,
    path: PathBuf,
    /// The directories go too.
    discard: bool,
}

impl Mounted {
    /// Over the layers of an image; empty for `scratch`. `id` names it.
    pub(super) fn new(engine: &Arc<Engine>, image: &str, id: &str) -> Result<Self> {
        Self::on(Floor::Nothing, engine, image, id)
    }

    fn on(floor: Floor, engine: &Arc<Engine>, image: &str, id: &str) -> Result<Self> {
        let layers = match image {
            "" => LayerStack { dirs: vec![], links: vec![] },
            image => engine.images.hold(id, &digest(image)?)?,
        };
        let mut mounted =
            Self { engine: engine.clone(), id: id.to_owned(), path: PathBuf::new(), discard: true };
        engine.roots.create(id)?;
        mounted.path = engine.roots.mount_on(floor, id, &layers)?;
        Ok(mounted)
    }

    /// Unmounts it; what was changed stays.
    fn unmount(&mut self) {
        if !self.path.as_os_str().is_empty() {
            self.engine.roots.unmount(&self.id);
            self.path = PathBuf::new();
        }
    }
}

impl Files for Mounted {
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
        if !self.discard {
            return;
        }
        let _not_held = self.engine.images.release(&self.id);
        match self.engine.roots.discard(&self.id) {
            Ok(doomed) => drop(drydock_runtime::clear::tree(&doomed)),
            Err(error) => tracing::warn!(%error, "files of a build step stay"),
        }
    }
}

/// The container of a step.
pub(super) struct Step {
    node: Node,
    parent: String,
    root: Mounted,
    /// While a command runs, and after it.
    container: Option<Arc<Container>>,
    keep: bool,
}

impl Step {
    pub(super) fn new(node: Node, parent: &str, id: &str) -> Result<Self> {
        let floor = if node.has_client() { Floor::Step } else { Floor::Container };
        let root = Mounted::on(floor, &node.engine, parent, id)?;
        Ok(Self { node, parent: parent.to_owned(), root, container: None, keep: false })
    }

    /// A container with this root, known to the engine.
    fn contain(&self, command: &RunRequest, mounts: Vec<MountedPoint>) -> Result<Arc<Container>> {
        let engine = &self.node.engine;
        let id = self.root.id.clone();
        let mut host = self.node.request.host.clone();
        match command.network {
            Network::Default => {}
            Network::None => host.network_mode = "none".to_owned(),
            Network::Host => host.network_mode = "host".to_owned(),
        }
        host.privileged |= command.insecure;
        let borrowed = host.network_mode.starts_with("container:");
        let mut config = Config {
            hostname: match self.node.has_client() {
                true => BUILDKIT_HOST.to_owned(),
                // That of the container whose network it is.
                false if borrowed => String::new(),
                false => id.get(..12).unwrap_or_default().to_owned(),
            },
            user: command.user.clone(),
            env: Some(command.env.clone()),
            cmd: Some(command.argv.clone()),
            image: self.parent.clone(),
            working_dir: command.workdir.clone(),
            ..Config::default()
        };
        let warnings = validate::check(&mut config, &mut host, &engine.groups)?;
        warnings.iter().for_each(|warning| tracing::debug!(warning, "build"));
        paths(&mut host);
        let (path, args) =
            command.argv.split_first().ok_or_else(|| Error::invalid("no command specified"))?;
        let networks = match host.network_mode.strip_prefix("container:") {
            Some(_) => BTreeMap::new(),
            None => BTreeMap::from([(host.network_mode.clone(), EndpointSettings::default())]),
        };
        let record = Record {
            created: Timestamp::now(),
            path: path.clone(),
            args: args.to_vec(),
            image: self.parent.clone(),
            platform: "linux".to_owned(),
            name: names::generate(&engine.containers, &id)?,
            config,
            host,
            networks,
            mount_points: mounts,
            step: self.node.has_client(),
            id,
            ..Record::default()
        };
        let dir = engine.containers.dir(&record.id);
        let made = fs::DirBuilder::new().recursive(true).mode(0o710).create(&dir);
        if let Err(error) = made.and_then(|()| record.save(&dir)) {
            engine.containers.release(&record.name, &record.id);
            return Err(error).doing(|| format!("write {}", dir.display()));
        }
        engine.container_event(&record, "create", &[]);
        let container = Arc::new(Container::new(record, engine.containers.root()));
        engine.containers.add(container.clone());
        Ok(container)
    }

    fn run_it(&mut self, command: &RunRequest, log: &mut dyn FnMut(Stream, &[u8])) -> Result<i32> {
        let engine = self.node.engine.clone();
        let runtime = self.node.runtime.clone();
        let cancel = self.node.cancel.clone();
        let scratch = Sources::new(&engine)?;
        let mounts = command.mounts.iter().map(|mount| scratch.mount(mount)).collect::<Result<Vec<_>>>()?;
        let container = self.contain(command, mounts)?;
        self.container = Some(container.clone());
        let mut output = container.streams.attach(true, true);
        let ended = wait(&container, Condition::NextExit);
        let _runtime = runtime.enter();
        if let Err(error) = runtime.block_on(start::start(&engine, &container)) {
            // BuildKit runs runc itself: what that says is output of the step, and it ends with 1.
            let said = failures::words_of_runc(&error.message).filter(|_| self.node.has_client());
            let said = said.ok_or_else(|| error.clone())?;
            log(Stream::Stderr, format!("runc run failed: {said}\n").as_bytes());
            return Ok(1);
        }
        // The log is told outside of `block_on`, since it may have to wait for the client.
        loop {
            let piece = runtime.block_on(async {
                tokio::select! {
                    piece = output.recv() => Some(piece),
                    () = cancel.wait() => None,
                }
            });
            match piece {
                Some(Some((Output::Err, data))) => log(Stream::Stderr, &data),
                Some(Some((_, data))) => log(Stream::Stdout, &data),
                Some(None) => break,
                None => {
                    runtime.block_on(stop::kill_for_removal(&engine, &container))?;
                    return Err(Error::internal("context canceled"));
                }
            }
        }
        let end = runtime.block_on(ended);
        match end.error {
            Some(error) => Err(Error::internal(error.message)),
            None => Ok(i32::try_from(end.status_code).unwrap_or(i32::MAX)),
        }
    }

    fn commit_it(&mut self, step: &Commit<'_>) -> Result<String> {
        let engine = self.node.engine.clone();
        let store = &engine.images;
        let upper = engine.roots.parts(&self.root.id).upper;
        let below = match self.parent.as_str() {
            "" => None,
            parent => store.top_layer(&digest(parent)?)?,
        };
        self.root.unmount();
        let layer = if self.node.request.options.keep_containers {
            store.commit_layer(&upper, below.as_ref())?
        } else {
            // Nobody writes to it any more, so it becomes the layer as it is.
            let layer = store.adopt_layer(&upper, below.as_ref())?;
            let _for_a_container_that_stays = fs::create_dir(&upper);
            layer
        };
        let layer = Some(layer).filter(|layer| step.keep_empty || !layer.is_empty());
        self.node.write(step, layer.as_ref())
    }
}

impl Workspace for Step {
    fn path(&self) -> &Path {
        &self.root.path
    }

    fn run(&mut self, command: &RunRequest, log: &mut dyn FnMut(Stream, &[u8])) -> Answer<i32> {
        Ok(self.run_it(command, log)?)
    }

    fn commit(&mut self, step: &Commit<'_>) -> Answer<String> {
        Ok(self.commit_it(step)?)
    }

    fn finish(&mut self, keep: bool) {
        self.keep = keep;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        self.root.unmount();
        // From here on the container owns the directories.
        self.root.discard = false;
        if self.keep {
            return;
        }
        let engine = self.node.engine.clone();
        self.node.runtime.spawn(async move {
            if let Err(error) = remove::remove(&engine, &container, remove::Options::auto()).await {
                tracing::warn!(container = container.id, %error, "the container of a build step stays");
            }
        });
    }
}

fn belongs(path: &Path, mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
    chown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What is hidden and read-only in every container.
fn paths(host: &mut HostConfig) {
    crate::containers::create::paths(host);
}

/// Files for the mounts of a command, taken away after it.
struct Sources {
    scratch: Scratch,
    overlays: std::cell::RefCell<Vec<PathBuf>>,
    number: std::cell::Cell<u32>,
}

impl Sources {
    fn new(engine: &Engine) -> Result<Self> {
        Ok(Self {
            scratch: Scratch::new(engine, "mounts")?,
            overlays: Default::default(),
            number: Default::default(),
        })
    }

    fn place(&self) -> PathBuf {
        let number = self.number.get();
        self.number.set(number + 1);
        self.scratch.path().join(number.to_string())
    }

    fn mount(&self, mount: &drydock_dockerfile::build::RunMount) -> Result<MountedPoint> {
        let mut point = MountPoint {
            kind: "bind".to_owned(),
            destination: mount.target.clone(),
            rw: !mount.read_only,
            propagation: "rprivate".to_owned(),
            ..MountPoint::default()
        };
        let source = match &mount.source {
            RunSource::Bind { path, discard: false } => path.clone(),
            RunSource::Bind { path, discard: true } => self.over(path)?,
            RunSource::Tmpfs { size } => {
                point.kind = "tmpfs".to_owned();
                let mut mounted = MountedPoint { point, ..MountedPoint::default() };
                if let Some(size) = size {
                    let text = serde_json::json!({ "Type": "tmpfs", "TmpfsOptions": { "SizeBytes": size } });
                    mounted.spec = serde_json::from_value(text).ok();
                }
                return Ok(mounted);
            }
            RunSource::Content { data, mode, uid, gid } => {
                let path = self.place();
                let write = || {
                    fs::write(&path, data)?;
                    belongs(&path, *mode, *uid, *gid)
                };
                write().doing(|| "write a file for a build step".to_owned())?;
                path
            }
            RunSource::Socket { path, mode, uid, gid } => {
                belongs(path, *mode, *uid, *gid).doing(|| format!("chown {}", path.display()))?;
                path.clone()
            }
        };
        point.source = source.to_string_lossy().into_owned();
        Ok(MountedPoint { point, ..MountedPoint::default() })
    }

    /// A file or directory that may be written to and stays as it is: a copy, or an overlay.
    fn over(&self, path: &Path) -> Result<PathBuf> {
        let place = self.place();
        let meta = fs::metadata(path).doing(|| format!("stat {}", path.display()))?;
        if !meta.is_dir() {
            fs::copy(path, &place)
                .and_then(|_| chown(&place, Some(meta.uid()), Some(meta.gid())))
                .doing(|| format!("copy {}", path.display()))?;
            return Ok(place);
        }
        let text = path.to_string_lossy();
        if text.contains([':', ',', '\\']) {
            return Err(Error::invalid(format!(
                "{text} can't be mounted writable: its name has one of : , \\"
            )));
        }
        for name in ["diff", "work", "merged"] {
            fs::create_dir_all(place.join(name)).doing(|| format!("mkdir {}", place.display()))?;
        }
        let own = place.display();
        let options = format!("lowerdir={text},upperdir={own}/diff,workdir={own}/work,userxattr,volatile");
        let merged = place.join("merged");
        nix::mount::mount(
            Some("overlay"),
            &merged,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .doing(|| format!("mount over {text}"))?;
        self.overlays.borrow_mut().push(merged.clone());
        Ok(merged)
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        for overlay in self.overlays.borrow().iter() {
            let _gone = nix::mount::umount2(overlay, MntFlags::MNT_DETACH);
        }
    }
}
