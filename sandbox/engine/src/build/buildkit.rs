//! The engine as BuildKit's API sees it ([`drydock_buildkit`]): the same builder and the same [`Node`] as the classic way, with a client
//! that can be asked for secrets, its SSH agent and credentials. All of this is called in threads that may block.

use super::{Cancel, Scratch, backend::Node, download, git_ref, inline, records, request};
use crate::containers::model::{HostConfig, Ulimit};
use crate::engine::Engine;
use crate::error::Error;
use crate::images;
use drydock_buildkit::{
    BaseImage, BuildClient, BuildEngine, BuildRequest, CacheRecord, ImageOutline, NetworkMode,
    OutlineRequest, Prune, Settings, Worker,
};
use drydock_dockerfile::build::{
    self, Answer, Backend, BackendError, BuildError, Config, Event, Files, Image, Options, Output,
};
use drydock_dockerfile::files::{Tree, unpack_context};
use drydock_images::Reference;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// The version of BuildKit in the Docker Engine that this one is like.
const BUILDKIT: &str = "v0.25.1";
/// Files of builds under way.
const SCRATCH: &str = "tmp/buildkit";

/// The engine, for BuildKit's API.
#[derive(Debug)]
pub struct Builder(pub Arc<Engine>);

/// Hands a client's cancelling on to a build, until it is dropped.
struct Following(tokio::task::JoinHandle<()>);

impl Following {
    fn start(runtime: &Handle, token: CancellationToken, cancel: Arc<Cancel>) -> Self {
        Self(runtime.spawn(async move {
            token.cancelled().await;
            cancel.set();
        }))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Builder {
    /// The engine for one build.
    fn node(
        &self,
        options: Options,
        host: HostConfig,
        client: &Arc<BuildClient>,
        cancel: Arc<Cancel>,
    ) -> Node {
        let request = request::Request {
            remote: None,
            options,
            dockerfile: String::new(),
            tags: vec![],
            quiet: false,
            host,
            credentials: HashMap::new(),
        };
        Node::new(self.0.clone(), &request, cancel).with_client(client.clone())
    }
}

impl BuildEngine for Builder {
    fn worker(&self) -> Worker {
        let gateway = self.0.networks.find("bridge").ok().and_then(|network| {
            network.ipam.config.iter().flatten().find_map(|config| config.gateway.parse::<IpAddr>().ok())
        });
        let labels = labels(gateway);
        Worker {
            id: format!("drydock-{}", self.0.node),
            platforms: vec![request::own_platform()],
            host_gateway: gateway,
            labels,
            buildkit_version: BUILDKIT.to_owned(),
            gc: super::gc::policy(&self.0.root),
        }
    }

    fn scratch(&self) -> Answer<PathBuf> {
        let path = self.0.root.join(SCRATCH);
        std::fs::create_dir_all(&path).map_err(|e| BackendError(format!("mkdir {}: {e}", path.display())))?;
        Ok(path)
    }

    fn resolve(&self, base: &BaseImage, log: &mut dyn FnMut(&str)) -> Answer<Config> {
        let cancel = Arc::new(Cancel::default());
        let _following = Following::start(&Handle::current(), base.cancelled.clone(), cancel.clone());
        let node = self.node(Options::default(), HostConfig::default(), &base.client, cancel);
        let image = node.image(&base.name, base.platform.as_ref(), base.pull, log).map_err(|error| {
            let full = Reference::parse(&base.name).map(|name| name.with_default_tag().to_string());
            match full {
                Ok(full) => BackendError(format!("failed to resolve source metadata for {full}: {error}")),
                Err(_) => error,
            }
        })?;
        Ok(image.config)
    }

    fn outline(&self, import: &OutlineRequest) -> Answer<ImageOutline> {
        let store = &self.0.images;
        let name = Reference::parse(&import.name).map_err(Error::from)?.with_default_tag();
        if let Ok(image) = store.find(&name.familiar()) {
            let config = store.config_bytes(&image.id).map_err(Error::from)?;
            return Ok(ImageOutline { registry: None, config });
        }
        let cancel = Arc::new(Cancel::default());
        let _following = Following::start(&Handle::current(), import.cancelled.clone(), cancel.clone());
        let node = self.node(Options::default(), HostConfig::default(), &import.client, cancel);
        let auth = node.credentials(name.domain())?;
        let found = node.unless_cancelled(images::outline(&self.0, &name, auth))?;
        Ok(ImageOutline { registry: found.at.map(|at| at.to_string()), config: found.config })
    }

    fn with_inline_cache(&self, image: &str) -> Answer<String> {
        Ok(inline::export(&self.0, &super::backend::digest(image)?)?.to_string())
    }

    fn environment(&self, image: &str) -> Option<Vec<String>> {
        let store = &self.0.images;
        let config = match store.find(image) {
            Ok(found) => found.config,
            Err(_) => {
                let name = Reference::parse(image).ok()?;
                Arc::new(store.in_catalogue(&name)?.config)
            }
        };
        Some(config.config.env.clone().unwrap_or_default())
    }

    fn build(&self, request: &BuildRequest, out: &mut dyn Output) -> Result<Image, BuildError> {
        let cancel = Arc::new(Cancel::default());
        let _following = Following::start(&Handle::current(), request.cancelled.clone(), cancel.clone());
        let shown = self.0.activities.begin("build");
        let mut options = request.options.clone();
        options.host.get_or_insert_with(request::own_platform);
        let node = self.node(options, host(&request.settings), &request.client, cancel);
        let node = node.with_imports(&request.imports);
        let mut out = |event: Event<'_>| {
            if let Event::Started { number, total, source, .. } = &event {
                shown.step(*number as u64, *total as u64, source);
            }
            out.event(event);
        };
        let (file, context) = (&request.dockerfile, &request.context);
        let built = build::build(&node, file, &node.request.options, context, &mut out);
        drop(node);
        super::gc::after_build(&self.0);
        built
    }

    fn keep(&self, image: &str) -> Answer<()> {
        self.0.images.keep(&super::backend::digest(image)?).map_err(Error::from)?;
        images::emit(&self.0, "create", image, image);
        Ok(())
    }

    fn tag(&self, image: &str, name: &str) -> Answer<()> {
        let name = Reference::parse(name).map_err(Error::from)?.with_default_tag();
        let id = super::backend::digest(image)?;
        Ok(Handle::current().block_on(images::tag(&self.0, &id, &name))?)
    }

    fn files(&self, image: &str) -> Answer<Box<dyn Files>> {
        let id = crate::containers::names::new_id();
        Ok(Box::new(super::step::Mounted::new(&self.0, image, &id)?))
    }

    fn remote_context(&self, url: &str, keep_git_dir: bool) -> Answer<Box<dyn Files>> {
        let cancel = Cancel::default();
        if git_ref::is_git(url) {
            let tree = download::git(&self.0, url, keep_git_dir, "", &cancel);
            return Ok(Box::new(tree.map_err(download::Failed::in_buildkits_words)?));
        }
        let file = download::file(&self.0, url, &cancel);
        let file = file.map_err(download::Failed::in_buildkits_words)?;
        Ok(Box::new(Fetched::new(&self.0, file)?))
    }

    fn disk_usage(&self, filters: &[String]) -> Answer<Vec<CacheRecord>> {
        Ok(records::filtered(&self.0, filters)?)
    }

    fn prune(&self, prune: &Prune) -> Answer<Vec<CacheRecord>> {
        Ok(records::prune(&self.0, prune)?)
    }
}

/// What the worker says of itself. No `…worker.snapshotter`: buildx takes an engine with that label for one with containerd's image
/// store, leaves pushes to its exporter and offers exporters that are not here.
fn labels(gateway: Option<IpAddr>) -> BTreeMap<String, String> {
    let label =
        |ip: IpAddr| ("org.mobyproject.buildkit.worker.moby.host-gateway-ip".to_owned(), ip.to_string());
    gateway.into_iter().map(label).collect()
}

/// What all containers of a build have.
fn host(settings: &Settings) -> HostConfig {
    let network = match settings.network {
        NetworkMode::Default => "default",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    let mut host = HostConfig { network_mode: network.to_owned(), ..HostConfig::default() };
    let hosts: Vec<String> = settings.extra_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect();
    host.extra_hosts = Some(hosts).filter(|hosts| !hosts.is_empty());
    host.shm_size = i64::try_from(settings.shm_size).unwrap_or(i64::MAX);
    let limits = settings.ulimits.iter();
    let limits: Vec<Ulimit> =
        limits.map(|limit| Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }).collect();
    host.resources.ulimits = Some(limits).filter(|limits| !limits.is_empty());
    host.resources.cgroup_parent.clone_from(&settings.cgroup_parent);
    host.log_config.driver = "none".to_owned();
    host
}

/// A context from a web server: the files of an archive, or one file named `context`.
struct Fetched(Scratch);

impl Fetched {
    fn new(engine: &Engine, mut file: build::Download) -> crate::error::Result<Self> {
        use crate::error::Context as _;
        let scratch = Scratch::new(engine, "context")?;
        let mut bytes = Vec::new();
        file.content.read_to_end(&mut bytes).doing(|| "read the context".to_owned())?;
        let tree = Tree::open(scratch.path()).doing(|| "open the context".to_owned())?;
        if unpack_context(&mut bytes.as_slice(), &tree, "Dockerfile").is_err() {
            std::fs::write(scratch.path().join("context"), &bytes)
                .doing(|| "write the context".to_owned())?;
        }
        Ok(Self(scratch))
    }
}

impl Files for Fetched {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_one_of_a_graphdriver() {
        let labels = labels(Some(IpAddr::from([172, 17, 0, 1])));
        assert_eq!(labels["org.mobyproject.buildkit.worker.moby.host-gateway-ip"], "172.17.0.1");
        assert!(!labels.contains_key("org.mobyproject.buildkit.worker.snapshotter"));
    }
}
