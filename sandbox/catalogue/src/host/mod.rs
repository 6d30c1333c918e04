//! The builder's backend on the operator's host: images are in a store of the work directory, which sees the catalogue as a node
//! does; the file system of a step is an overlay mount. Takes our own Dockerfiles only.

mod run;

use crate::{Error, Result, work::Work};
use drydock_dockerfile::{
    build::{
        Answer, Backend, BackendError, Commit, Download, Files, Image, Platform, RunRequest, Stream,
        Workspace,
    },
    language::Sharing,
};
use drydock_images::{
    Digest, Reference,
    config::{HistoryEntry, ImageConfig},
    local::{self, LayerRef, LocalStore, NewImage, Origin},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The backend.
pub(crate) struct Host {
    local: LocalStore,
    commands: Arc<run::Commands>,
}

impl Host {
    /// Makes its store in the work directory. `catalogue` is the directory of the host's store. The calling thread must have mounts of
    /// its own ([`crate::work::own_mounts`]).
    pub(crate) fn new(
        work: &Work,
        catalogue: &Path,
        mirror: Option<&str>,
        stop: Option<Arc<AtomicBool>>,
    ) -> Result<Self> {
        let root = work.sub("docker", 0o700)?;
        let point = root.join("catalogue");
        fs::create_dir(&point).map_err(Error::path("make", &point))?;
        bind(catalogue, &point).map_err(Error::path("mount", &point))?;
        let local = LocalStore::open(&root)?;
        Ok(Self { local, commands: Arc::new(run::Commands::new(work, mirror, stop)?) })
    }

    /// The store that images are made in.
    pub(crate) fn local(&self) -> &LocalStore {
        &self.local
    }

    fn mounted(&self, image: &str) -> Answer<Mounted> {
        let stack = match image {
            "" => Vec::new(),
            id => self.local.layer_stack(&parse(id)?).map_err(said)?.absolute_links(&self.local),
        };
        let number = self.commands.number();
        let dir = self.local.root().join("overlay2").join(format!("step-{number}"));
        Mounted::new(dir, &stack).map_err(|e| BackendError(format!("cannot mount the image: {e}")))
    }

    fn write(&self, step: &Commit<'_>, layer: Option<&LayerRef>) -> Answer<String> {
        let parent = match step.parent {
            "" => None,
            id => Some(self.local.get(&parse(id)?).map_err(said)?),
        };
        let below = match (&parent, step.platform) {
            (Some(parent), _) => (*parent.config).clone(),
            (None, Some(of)) => {
                ImageConfig { os: of.os.clone(), architecture: of.architecture.clone(), ..scratch() }
            }
            (None, None) => scratch(),
        };
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let entry = HistoryEntry {
            created: Some(local::now()),
            created_by: text(step.created_by),
            author: text(step.author),
            comment: text(step.comment),
            empty_layer: false,
        };
        let mut config = below.child(layer.map(LayerRef::diff_id), entry);
        config.author = text(step.author);
        config.config = convert(step.config)?;
        let bytes = serde_json::to_vec(&config).map_err(|e| BackendError(e.to_string()))?;
        let inherited = match (layer, &parent) {
            (None, Some(parent)) => self.local.top_layer(&parent.id).map_err(said)?,
            _ => None,
        };
        let parent = parent.as_ref().map(|parent| &parent.id);
        let new =
            NewImage { config: &bytes, top: layer.or(inherited.as_ref()), parent, origin: Origin::Built };
        Ok(self.local.create(&new).map_err(said)?.to_string())
    }
}

impl Backend for Host {
    fn image(
        &self,
        name: &str,
        _platform: Option<&Platform>,
        _pull: bool,
        _log: &mut dyn FnMut(&str),
    ) -> Answer<Image> {
        let reference = Reference::parse(name).map_err(|e| BackendError(e.to_string()))?;
        let pulled = self.local.pull_from_catalogue(&reference, &mut |_, _| {}).map_err(said)?;
        let pulled = pulled.ok_or_else(|| BackendError(format!("{name} is not in the catalogue")))?;
        let image = self.local.get(&pulled.id).map_err(said)?;
        let author = image.config.author.clone().unwrap_or_default();
        Ok(Image { id: image.id.to_string(), config: convert(&image.config.config)?, author })
    }

    fn cached(&self, _step: &Commit<'_>, _from: &[String]) -> Answer<Option<Image>> {
        Ok(None)
    }

    fn workspace(&self, parent: &str, _id: &str) -> Answer<Box<dyn Workspace>> {
        let mounted = self.mounted(parent)?;
        let host = Self { local: self.local.clone(), commands: self.commands.clone() };
        Ok(Box::new(Step { mounted, host }))
    }

    fn files(&self, image: &str) -> Answer<Box<dyn Files>> {
        Ok(Box::new(self.mounted(image)?))
    }

    fn commit(&self, step: &Commit<'_>) -> Answer<String> {
        self.write(step, None)
    }

    fn fetch(&self, _url: &str) -> Answer<Download> {
        never("ADD from an address")
    }

    fn git(&self, _url: &str, _keep_git_dir: bool, _checksum: &str) -> Answer<Box<dyn Files>> {
        never("ADD from a repository")
    }

    fn cache(&self, _id: &str, _sharing: Sharing, _: &str) -> Answer<Box<dyn Files>> {
        never("RUN --mount=type=cache")
    }

    fn secret(&self, _id: &str) -> Answer<Option<Vec<u8>>> {
        Ok(None)
    }

    fn ssh(&self, _id: &str) -> Answer<Option<PathBuf>> {
        Ok(None)
    }

    fn cancelled(&self) -> bool {
        self.commands.stopped()
    }
}

/// One step's file system.
struct Step {
    mounted: Mounted,
    host: Host,
}

impl Workspace for Step {
    fn path(&self) -> &Path {
        self.mounted.path()
    }

    fn run(&mut self, command: &RunRequest, log: &mut dyn FnMut(Stream, &[u8])) -> Answer<i32> {
        self.host.commands.run(&self.mounted.merged(), command, log)
    }

    fn commit(&mut self, step: &Commit<'_>) -> Answer<String> {
        self.mounted.unmount();
        let upper = self.mounted.upper();
        if !step.keep_empty && fs::read_dir(&upper)?.next().is_none() {
            return self.host.write(step, None);
        }
        let below = match step.parent {
            "" => None,
            id => self.host.local.top_layer(&parse(id)?).map_err(said)?,
        };
        let layer = self.host.local.adopt_layer(&upper, below.as_ref()).map_err(said)?;
        self.host.write(step, Some(&layer))
    }
}

/// An overlay over the layers of an image.
struct Mounted {
    dir: PathBuf,
    root: PathBuf,
    mounted: bool,
}

impl Mounted {
    /// `stack` has the layers topmost first.
    fn new(dir: PathBuf, stack: &[PathBuf]) -> std::io::Result<Self> {
        for sub in ["diff", "work", "merged", "empty"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let mut mounted = Self { root: dir.join("merged"), dir, mounted: false };
        let empty = mounted.dir.join("empty");
        let lower: Vec<_> = match stack {
            [] => vec![empty.display().to_string()],
            stack => stack.iter().map(|layer| layer.display().to_string()).collect(),
        };
        // The work directory is thrown away if the machine fails meanwhile, so nothing has to be synced. The layers' marks are
        // those of nodes, which mount with `userxattr`.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr,volatile",
            lower.join(":"),
            mounted.upper().display(),
            mounted.dir.join("work").display()
        );
        mount(Some("overlay"), &mounted.root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        mounted.mounted = true;
        Ok(mounted)
    }

    fn upper(&self) -> PathBuf {
        self.dir.join("diff")
    }

    fn merged(&self) -> PathBuf {
        self.root.clone()
    }

    fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            // The namespace ends with the process in any case.
            let _gone_later = umount2(&self.root, MntFlags::MNT_DETACH);
        }
    }
}

impl Files for Mounted {
    fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
        // Otherwise it goes with the work directory.
        let _left_over = fs::remove_dir_all(&self.dir);
    }
}

/// Mounts a directory or file read-only at another place.
fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
    mount(None::<&str>, to, None::<&str>, flags, None::<&str>)
}

fn scratch() -> ImageConfig {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ImageConfig { architecture: architecture.into(), os: "linux".into(), ..ImageConfig::default() }
}

/// The builder and the store have types of their own for the same JSON.
fn convert<A: serde::Serialize, B: serde::de::DeserializeOwned>(from: &A) -> Answer<B> {
    serde_json::to_value(from).and_then(serde_json::from_value).map_err(|e| BackendError(e.to_string()))
}

fn parse(id: &str) -> Answer<Digest> {
    id.parse().map_err(|_| BackendError(format!("invalid image id: {id}")))
}

fn said(error: local::StoreError) -> BackendError {
    BackendError(error.to_string())
}

fn never<T>(what: &str) -> Answer<T> {
    Err(BackendError(format!("the catalogue's Dockerfiles must not use {what}")))
}

impl run::Commands {
    fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}
