//! The engine as the builder sees it. All of this is called in threads that may block.

use super::cache::{Held, Way};
use super::inline::Import;
use super::step::{Mounted, Step};
use super::{Cancel, Request, download, records};
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{VERSION, lines};
use crate::images;
use drydock_buildkit::{BuildClient, ImageOutline};
use drydock_dockerfile::build::{
    Answer, Backend, BackendError, Commit, Config, Download, Files, Image, Platform, Turn, Workspace,
};
use drydock_dockerfile::language::Sharing;
use drydock_images::config::{HistoryEntry, ImageConfig};
use drydock_images::local::{self, LayerRef, NewImage, Origin, StoreError};
use drydock_images::{Digest, Reference};
use drydock_registry::AuthConfig;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// The engine, for one build. A clone is the same build.
#[derive(Clone)]
pub struct Node {
    pub(super) engine: Arc<Engine>,
    pub(super) runtime: Handle,
    pub(super) request: Request,
    pub(super) cancel: Arc<Cancel>,
    /// Images of `--cache-from` that say which steps made them.
    pub(super) imports: Arc<[Import]>,
    /// Can be asked, if the build came over a session.
    client: Option<Arc<BuildClient>>,
    /// What a prune leaves alone meanwhile.
    held: Arc<Held>,
}

impl From<Error> for BackendError {
    fn from(error: Error) -> Self {
        Self(error.message)
    }
}

impl Node {
    /// To be made where a runtime is.
    pub fn new(engine: Arc<Engine>, request: &Request, cancel: Arc<Cancel>) -> Self {
        let held = Arc::new(engine.build_cache.hold());
        let (runtime, request) = (Handle::current(), request.clone());
        Self { engine, runtime, request, cancel, imports: Arc::default(), client: None, held }
    }

    /// With a client that can be asked.
    pub fn with_client(mut self, client: Arc<BuildClient>) -> Self {
        self.client = Some(client);
        self
    }

    /// With images whose steps need not be done again.
    pub fn with_imports(mut self, imports: &[ImageOutline]) -> Self {
        self.imports = imports.iter().filter_map(Import::read).collect();
        self
    }

    /// Whether it came over a session: BuildKit's way.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    fn way(&self) -> Way {
        if self.has_client() { Way::BuildKit } else { Way::Classic }
    }

    /// Who this build is at a registry.
    pub(super) fn credentials(&self, domain: &str) -> Result<AuthConfig> {
        let hub = "https://index.docker.io/v1/";
        let known = &self.request.credentials;
        let known = known.get(domain).or_else(|| known.get(hub).filter(|_| domain == "docker.io"));
        if let (None, Some(client)) = (known, &self.client) {
            // As BuildKit names it.
            let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
            let asked = client.credentials(host).map_err(|error| Error::internal(error.0))?;
            if let Some((username, password)) = asked {
                return Ok(AuthConfig { username, password, ..AuthConfig::default() });
            }
        }
        Ok(known.cloned().unwrap_or_default())
    }

    /// Pulls, and gives each line to `log`.
    fn pull(&self, name: &Reference, platform: Option<&Platform>, log: &mut dyn FnMut(&str)) -> Result<()> {
        let platform = platform.map(|platform| {
            let text = platform.to_string();
            text.parse::<drydock_registry::Platform>().map_err(|error| Error::invalid(error.to_string()))
        });
        let platform = platform.transpose()?;
        let auth = self.credentials(name.domain())?;
        let (name, engine) = (name.clone(), self.engine.clone());
        let (told, mut hear) = lines::channel();
        let work =
            self.runtime.spawn(async move { images::pull(&engine, &name, platform, auth, &told).await });
        while let Some(line) = hear.blocking_recv() {
            log(String::from_utf8_lossy(&line).trim_end());
            if self.cancel.is_set() {
                work.abort();
            }
        }
        self.runtime.block_on(work).map_err(|_| Error::internal("context canceled"))?
    }

    /// Waits for work, but no longer than the client does.
    pub(super) fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.cancel.wait() => Err(Error::internal("context canceled")),
            }
        })
    }

    /// BuildKit has words of its own for an image that is not for the platform.
    fn no_match(&self, error: Error) -> Error {
        let other = error.message.starts_with("no matching manifest for ");
        if other && self.client.is_some() {
            return Error::not_found("no match for platform in manifest: not found");
        }
        error
    }

    /// Why a file or a repository is not there.
    fn not_had(&self, failed: download::Failed) -> Error {
        if !self.has_client() {
            return failed.into();
        }
        let error = failed.in_buildkits_words();
        Error { message: format!("failed to load cache key: {}", error.message), ..error }
    }

    fn shown(image: &local::Image) -> Result<Image> {
        let config = serde_json::to_value(&image.config.config).and_then(serde_json::from_value::<Config>);
        let config = config.map_err(|error| Error::internal(error.to_string()))?;
        let author = image.config.author.clone().unwrap_or_default();
        Ok(Image { id: image.id.to_string(), config, author })
    }

    /// Writes an image on top of `step.parent`, with a layer or without.
    pub(super) fn write(&self, step: &Commit<'_>, layer: Option<&LayerRef>) -> Result<String> {
        let store = &self.engine.images;
        let parent = match step.parent {
            "" => None,
            id => Some(store.get(&digest(id)?)?),
        };
        let held = parent.as_ref().map(|parent| store.top_layer(&parent.id)).transpose()?.flatten();
        let mut config =
            parent.as_ref().map_or_else(ImageConfig::default, |parent| ImageConfig::clone(&parent.config));
        let created = Some(Timestamp::now().to_string());
        config.config = images::from_builder(step.config)?;
        config.created.clone_from(&created);
        // BuildKit's images say nothing of the engine and its containers.
        config.docker_version = self.client.is_none().then(|| VERSION.to_owned());
        config.comment = None;
        config.author = Some(step.author.to_owned()).filter(|author| !author.is_empty());
        self.set_platform(&mut config, step.platform, parent.is_some());
        let made_with =
            serde_json::to_value(&step.key.config).map_err(|error| Error::internal(error.to_string()))?;
        config.other.insert("container_config".to_owned(), made_with);
        config.other.remove("container");
        if self.client.is_none() && !step.container.is_empty() {
            config.other.insert("container".to_owned(), json!(step.container));
        }
        if let Some(layer) = layer {
            config.rootfs.diff_ids.push(layer.diff_id().clone());
        }
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        config.history.push(HistoryEntry {
            created,
            created_by: text(step.created_by),
            author: text(step.author),
            comment: text(step.comment),
            empty_layer: layer.is_none(),
        });
        let bytes = serde_json::to_vec(&config).map_err(|error| Error::internal(error.to_string()))?;
        let new = NewImage {
            config: &bytes,
            top: layer.or(held.as_ref()),
            parent: parent.as_ref().map(|parent| &parent.id),
            origin: if self.client.is_some() { Origin::Step } else { Origin::Built },
        };
        let id = store.create(&new)?.to_string();
        // As dockerd: what a container of the classic builder has made, so not COPY.
        if self.client.is_none() && !step.container.is_empty() {
            images::emit(&self.engine, "create", &id, &id);
        }
        self.note(step, &id);
        Ok(id)
    }

    /// A step has made this image; the build needs it.
    pub(super) fn note(&self, step: &Commit<'_>, id: &str) {
        self.held.add(id);
        let description = records::description(step);
        self.engine.build_cache.note(self.way(), step.parent, step.key, id, description);
    }

    fn set_platform(&self, config: &mut ImageConfig, asked: Option<&Platform>, inherited: bool) {
        let own = self.request.options.host.as_ref();
        if let Some(platform) = asked.or(own.filter(|_| !inherited)) {
            config.os.clone_from(&platform.os);
            config.architecture.clone_from(&platform.architecture);
            config.variant = Some(platform.variant.clone()).filter(|variant| !variant.is_empty());
        }
    }
}

/// Whether an image is for the platform that was asked for.
fn fits(image: &local::Image, platform: Option<&Platform>) -> bool {
    let (os, architecture) = (&image.config.os, &image.config.architecture);
    let wanted = platform.map(|platform| platform.to_string().parse::<drydock_registry::Platform>());
    match wanted {
        Some(Ok(wanted)) if !os.is_empty() => {
            wanted.rank(&drydock_registry::Platform::new(os, architecture)).is_some()
        }
        _ => true,
    }
}

pub(super) fn digest(id: &str) -> Result<Digest> {
    id.parse().map_err(|_| Error::internal(format!("{id} is no image")))
}

impl Backend for Node {
    fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: bool,
        log: &mut dyn FnMut(&str),
    ) -> Answer<Image> {
        let store = &self.engine.images;
        // An id may be a step's.
        let found = match name.parse().map_or_else(|_| store.find(name), |id| store.get(&id)) {
            Ok(image) => Some(image),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(Error::from(error).into()),
        };
        let is_id = found.as_ref().is_some_and(|image| image.id.to_string() == name);
        let fits = |image: &local::Image| fits(image, platform);
        if let Some(image) = found.as_ref().filter(|image| is_id || !pull && fits(image)) {
            return Ok(Self::shown(image)?);
        }
        let reference = Reference::parse(name).map_err(Error::from)?.with_default_tag();
        self.pull(&reference, platform, log).map_err(|error| self.no_match(error))?;
        let image = store.find(&reference.familiar()).map_err(Error::from)?;
        if !fits(&image) {
            let text = format!("no match for platform in manifest {}: not found", image.id);
            return Err(Error::not_found(text).into());
        }
        // The name goes on meaning what it meant: a build for another platform is no `docker pull`.
        if let Some(before) = found.filter(|before| before.id != image.id && !fits(before)) {
            self.runtime.block_on(images::tag(&self.engine, &before.id, &reference))?;
        }
        Ok(Self::shown(&image)?)
    }

    fn cached(&self, step: &Commit<'_>, cache_from: &[String]) -> Answer<Option<Image>> {
        let mut found = self.engine.build_cache.find(self.way(), step.parent, step.key, cache_from);
        match &found {
            Some(found) => self.held.add(&found.id.to_string()),
            None => found = self.imported(step)?,
        }
        Ok(found.as_ref().map(Self::shown).transpose()?)
    }

    fn turn(&self, step: &Commit<'_>) -> Answer<(Turn, bool)> {
        let turn = self.engine.build_cache.turn(self.way(), step.parent, step.key);
        let (guard, waited) = self.unless_cancelled(async { Ok(turn.await) })?;
        Ok((Box::new(guard), waited))
    }

    fn workspace(&self, parent: &str, id: &str) -> Answer<Box<dyn Workspace>> {
        Ok(Box::new(Step::new(self.clone(), parent, id)?))
    }

    fn files(&self, image: &str) -> Answer<Box<dyn Files>> {
        let id = crate::containers::names::new_id();
        Ok(Box::new(Mounted::new(&self.engine, image, &id)?))
    }

    fn commit(&self, step: &Commit<'_>) -> Answer<String> {
        Ok(self.write(step, None)?)
    }

    fn fetch(&self, url: &str) -> Answer<Download> {
        Ok(download::file(&self.engine, url, &self.cancel).map_err(|failed| self.not_had(failed))?)
    }

    fn git(&self, url: &str, keep_git_dir: bool, checksum: &str) -> Answer<Box<dyn Files>> {
        let tree = download::git(&self.engine, url, keep_git_dir, checksum, &self.cancel);
        Ok(Box::new(tree.map_err(|failed| self.not_had(failed))?))
    }

    fn cache(&self, id: &str, sharing: Sharing, what: &str) -> Answer<Box<dyn Files>> {
        Ok(Box::new(Kept::new(&self.engine, id, sharing, what, &self.held)?))
    }

    // The classic way has no session over which a client could be asked.
    fn secret(&self, id: &str) -> Answer<Option<Vec<u8>>> {
        self.client.as_ref().map_or(Ok(None), |client| client.secret(id))
    }

    fn ssh(&self, id: &str) -> Answer<Option<PathBuf>> {
        self.client.as_ref().map_or(Ok(None), |client| client.ssh(id))
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_set()
    }
}

/// The directory of a cache mount, locked as its sharing asks.
struct Kept {
    path: PathBuf,
    _lock: Option<nix::fcntl::Flock<fs::File>>,
}

impl Kept {
    fn new(engine: &Engine, id: &str, sharing: Sharing, what: &str, held: &Held) -> Result<Self> {
        use crate::error::Context;
        let name = Digest::of(id.as_bytes());
        let root = records::mounts(&engine.root);
        fs::create_dir_all(&root).doing(|| format!("mkdir {}", root.display()))?;
        // A private cache that is in use makes room for the next one.
        for number in 0..1000 {
            let directory = format!("{}-{number}", &name.hex()[..32]);
            let path = root.join(&directory);
            // Before it is there: a prune beside us must not take it.
            held.add(&directory);
            fs::create_dir_all(path.join("data")).doing(|| format!("mkdir {}", path.display()))?;
            let described = path.join(records::MOUNT_WHAT);
            if !described.exists() {
                fs::write(&described, what).doing(|| format!("write {}", described.display()))?;
            }
            if sharing == Sharing::Shared {
                engine.build_cache.used(&directory);
                return Ok(Self { path: path.join("data"), _lock: None });
            }
            let file = fs::File::create(path.join("lock")).doing(|| format!("create {}", path.display()))?;
            use nix::fcntl::{Flock, FlockArg};
            let how = if sharing == Sharing::Locked {
                FlockArg::LockExclusive
            } else {
                FlockArg::LockExclusiveNonblock
            };
            match Flock::lock(file, how) {
                Ok(lock) => {
                    engine.build_cache.used(&directory);
                    return Ok(Self { path: path.join("data"), _lock: Some(lock) });
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => return Err(error).doing(|| "lock a build cache".to_owned()),
            }
        }
        Err(Error::internal(format!("too many builds use the cache {id}")))
    }
}

impl Files for Kept {
    fn path(&self) -> &Path {
        &self.path
    }
}
