//! The images of a node: their configurations, and finding them.

use super::{
    LocalStore, State,
    disk::{self, Disk},
    error::{Result, StoreError, invalid},
    layers::{ChainId, Layer, LayerRef, LayerStack},
};
use crate::{AnyReference, Digest, Reference, config::ImageConfig};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    sync::Arc,
};

/// Where an image came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From the host's catalogue.
    Catalogue,
    /// From a registry.
    Pulled,
    /// By `docker build` or `docker commit`.
    Built,
    /// A step of a BuildKit build: in the build cache only ([`super::steps`]).
    Step,
    /// By `docker load`.
    Loaded,
    /// By `docker import`.
    Imported,
    /// Nobody remembers.
    #[default]
    Unknown,
}

/// What BuildKit's Dockerfile frontend writes beside each step of an image's history.
const BUILDKIT: &str = "buildkit.dockerfile.v0";

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its configuration.
    pub id: Digest,
    /// Its configuration.
    pub config: Arc<ImageConfig>,
    /// Its names with tags, familiar, sorted: `busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Its names with digests, familiar, sorted: `busybox@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Bytes of the files of all its layers.
    pub size: u64,
    /// The image that it was built on, by a build or commit on this node.
    pub parent: Option<Digest>,
    /// When it got a name last, RFC 3339.
    pub last_tag_time: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// It is a step in the build cache, perhaps an image too.
    pub cached: bool,
    /// Its topmost layer.
    pub top: Option<ChainId>,
}

impl Image {
    /// When it was made, in seconds since 1970; 0 if it does not say.
    pub fn created_unix(&self) -> i64 {
        self.config.created.as_deref().and_then(crate::oci::unix_seconds).unwrap_or(0)
    }

    /// The image that it was made from, as a client sees it: BuildKit's images know of none.
    pub fn shown_parent(&self) -> Option<&Digest> {
        self.parent.as_ref().filter(|_| !is_buildkits(&self.config))
    }

    /// Whether BuildKit made its topmost step.
    pub fn is_buildkits(&self) -> bool {
        is_buildkits(&self.config)
    }

    /// Whether it has a name with a tag.
    pub fn is_tagged(&self) -> bool {
        !self.repo_tags.is_empty()
    }
}

fn is_buildkits(config: &ImageConfig) -> bool {
    config.history.last().is_some_and(|step| step.comment.as_deref() == Some(BUILDKIT))
}

/// A new image.
#[derive(Debug)]
pub struct NewImage<'a> {
    /// The bytes of its configuration, whose digest becomes its id.
    pub config: &'a [u8],
    /// Its topmost layer; must fit the configuration.
    pub top: Option<&'a LayerRef>,
    /// The image that it was built on.
    pub parent: Option<&'a Digest>,
    /// Where it comes from.
    pub origin: Origin,
}

/// An image in memory.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) config: Arc<ImageConfig>,
    pub(crate) top: Option<ChainId>,
    pub(crate) metadata: Metadata,
}

/// What is written of an image beside its configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) parent: Option<Digest>,
    pub(crate) origin: Origin,
    /// In the build cache. Whether users see it too tells the origin.
    pub(crate) cached: bool,
    pub(crate) last_tag_time: Option<String>,
    /// Manifests that it came with, as they are kept.
    pub(crate) manifests: BTreeSet<Digest>,
}

impl Record {
    /// Whether users see it.
    pub(crate) fn is_shown(&self) -> bool {
        self.metadata.origin != Origin::Step
    }

    /// The image that it was made from, as users see it.
    fn shown_parent(&self) -> Option<&Digest> {
        self.metadata.parent.as_ref().filter(|_| !is_buildkits(&self.config))
    }

    pub(crate) fn write_metadata(&self, disk: &Disk, id: &Digest) -> Result<()> {
        let json = serde_json::to_vec(&self.metadata).map_err(StoreError::io("write an image's record"))?;
        disk.write(&disk.image_metadata(id), &json)
    }
}

impl LocalStore {
    /// All images, the newest first. Images without a name that others are built on are there too; steps in the build cache are not.
    pub fn images(&self) -> Vec<Image> {
        let state = self.state();
        let shown = state.images.iter().filter(|(_, record)| record.is_shown());
        let mut images: Vec<_> = shown.map(|(id, record)| state.image(id, record)).collect();
        images.sort_by_cached_key(|image| (std::cmp::Reverse(image.created_unix()), image.id.clone()));
        images
    }

    /// An image by its id, or a step in the build cache.
    pub fn get(&self, id: &Digest) -> Result<Image> {
        let state = self.state();
        match state.images.get(id) {
            Some(record) => Ok(state.image(id, record)),
            None => Err(StoreError::NotFound(id.to_string())),
        }
    }

    /// Finds an image by what a user typed: a name with tag or digest, an id, or the beginning of exactly one id.
    pub fn find(&self, text: &str) -> Result<Image> {
        let state = self.state();
        let id = match AnyReference::parse(text)? {
            AnyReference::Digest(digest) => digest.parse::<Digest>().ok(),
            AnyReference::Named(reference) => {
                state.names.get(&reference).cloned().or_else(|| state.id_by_prefix(text))
            }
        };
        let found = id.and_then(|id| state.images.get_key_value(&id));
        match found.filter(|(_, record)| record.is_shown()) {
            Some((id, record)) => Ok(state.image(id, record)),
            None => Err(StoreError::NotFound(familiar(text))),
        }
    }

    /// Bytes of an image's configuration.
    pub fn config_bytes(&self, id: &Digest) -> Result<Vec<u8>> {
        let bytes = disk::read(&self.disk().image_content(id))
            .map_err(|_| StoreError::Damaged(format!("the configuration of {id} can't be read")))?;
        if Digest::of(&bytes) == *id {
            Ok(bytes)
        } else {
            Err(StoreError::Damaged(format!("the configuration of {id} was changed")))
        }
    }

    /// Manifests of an image that were pulled or pushed, by digest; [`LocalStore::manifest`] has their bytes.
    pub fn manifests(&self, id: &Digest) -> Vec<Digest> {
        let state = self.state();
        state.images.get(id).map_or_else(Vec::new, |r| r.metadata.manifests.iter().cloned().collect())
    }

    /// Keeps a manifest of an image.
    pub(crate) fn keep_manifest(&self, id: &Digest, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        let Some(record) = state.images.get_mut(id) else {
            return Err(StoreError::NotFound(id.to_string()));
        };
        self.disk().write(&self.disk().manifest(digest), bytes)?;
        if record.metadata.manifests.insert(digest.clone()) {
            record.write_metadata(self.disk(), id)
        } else {
            Ok(())
        }
    }

    /// Notes that an image was pushed: it gets the digest that the registry gave (`name@sha256:…`), and its manifest is kept.
    pub fn pushed(&self, id: &Digest, name: &Reference, manifest: &[u8]) -> Result<Digest> {
        let digest = Digest::of(manifest);
        self.keep_manifest(id, &digest, manifest)?;
        let canonical = name.name_only().with_digest(&digest.to_string())?;
        self.state().names.set(self.disk(), &[canonical], id)?;
        Ok(digest)
    }

    /// Images that were built on this one, as users see it: not those that BuildKit made.
    pub fn children(&self, id: &Digest) -> Vec<Digest> {
        self.state().children(id)
    }

    /// The layers of an image, topmost first.
    pub fn layer_stack(&self, id: &Digest) -> Result<LayerStack> {
        self.stack(self.get(id)?.top.as_ref())
    }

    /// Takes hold of an image's topmost layer; `None` for an image without layers.
    pub fn top_layer(&self, id: &Digest) -> Result<Option<LayerRef>> {
        let Some(top) = self.get(id)?.top else { return Ok(None) };
        match self.layer(&top) {
            Some(layer) => Ok(Some(layer)),
            None => Err(StoreError::Damaged(format!("layer does not exist: {top}"))),
        }
    }

    /// Takes an image in and tells its id. One that is there already stays as it is; a step that comes as an image is one from now
    /// on, and the other way round.
    pub fn create(&self, new: &NewImage<'_>) -> Result<Digest> {
        let id = Digest::of(new.config);
        let config: ImageConfig = serde_json::from_slice(new.config)
            .map_err(|e| StoreError::Invalid(format!("invalid image configuration: {e}")))?;
        let top = ChainId::of_all(&config.rootfs.diff_ids);
        if top.as_ref() != new.top.map(LayerRef::chain) {
            return invalid("layers from manifest don't match image configuration");
        }
        let metadata = Metadata {
            parent: new.parent.cloned(),
            origin: new.origin,
            cached: new.origin == Origin::Step,
            ..Metadata::default()
        };
        let mut state = self.state();
        if let Some(record) = state.images.get_mut(&id) {
            record.meet(self.disk(), &id, new.origin)?;
            return Ok(id);
        }
        let record = Record { config: Arc::new(config), top, metadata };
        record.write_metadata(self.disk(), &id)?;
        self.disk().write(&self.disk().image_content(&id), new.config)?;
        if let Some(top) = &record.top {
            state.retain_layer(top)?;
        }
        state.images.insert(id.clone(), record);
        Ok(id)
    }
}

impl State {
    pub(crate) fn image(&self, id: &Digest, record: &Record) -> Image {
        let (digests, tags): (Vec<_>, Vec<_>) =
            self.names.of(id).into_iter().partition(|name| name.digest().is_some());
        let familiar = |names: Vec<Reference>| names.iter().map(Reference::familiar).collect();
        Image {
            id: id.clone(),
            config: record.config.clone(),
            repo_tags: familiar(tags),
            repo_digests: familiar(digests),
            size: self.size(record.top.as_ref()),
            parent: record.metadata.parent.clone(),
            last_tag_time: record.metadata.last_tag_time.clone(),
            origin: record.metadata.origin,
            cached: record.metadata.cached,
            top: record.top.clone(),
        }
    }

    /// Bytes of the files of a layer and all below it.
    pub(crate) fn size(&self, top: Option<&ChainId>) -> u64 {
        let chain = std::iter::successors(top.and_then(|t| self.layers.get(t)), |layer| {
            self.layers.get(layer.record.parent.as_ref()?)
        });
        chain.map(|layer| layer.record.size).sum()
    }

    pub(crate) fn children(&self, id: &Digest) -> Vec<Digest> {
        let is_child = |record: &Record| record.shown_parent() == Some(id);
        self.images.iter().filter(|(_, record)| is_child(record)).map(|(id, _)| id.clone()).collect()
    }

    fn id_by_prefix(&self, text: &str) -> Option<Digest> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if prefix.is_empty() || !prefix.bytes().all(hex) {
            return None;
        }
        let shown = self.images.iter().filter(|(_, record)| record.is_shown());
        let mut found = shown.map(|(id, _)| id).filter(|id| id.hex().starts_with(prefix));
        found.next().filter(|_| found.next().is_none()).cloned()
    }
}

/// What the user asked for, as Docker repeats it.
fn familiar(text: &str) -> String {
    match AnyReference::parse(text) {
        Ok(AnyReference::Named(reference)) => reference.with_default_tag().familiar(),
        Ok(AnyReference::Digest(digest)) => digest,
        Err(_) => text.to_owned(),
    }
}

/// The images whose configuration is what their names say and whose layers are known. Others are deleted: they can't be used, and
/// nobody could remove them.
pub(crate) fn read_all(disk: &Disk, layers: &HashMap<ChainId, Layer>) -> Result<BTreeMap<Digest, Record>> {
    let mut images = BTreeMap::new();
    for id in disk::digests_in(&disk.image_contents())? {
        match read_one(disk, &id, layers)? {
            Some(record) => drop(images.insert(id, record)),
            None => drop(disk::remove(&disk.image_content(&id))),
        }
    }
    let metadata = disk.image_metadata(&Digest::of(b"")).parent().map(disk::digests_in);
    for id in metadata.transpose()?.unwrap_or_default() {
        if !images.contains_key(&id) {
            let _ = disk::remove(&disk.image_metadata(&id));
        }
    }
    for manifest in disk::digests_in(&disk.manifests())? {
        if !images.values().any(|record: &Record| record.metadata.manifests.contains(&manifest)) {
            let _ = disk::remove(&disk.manifest(&manifest));
        }
    }
    Ok(images)
}

fn read_one(disk: &Disk, id: &Digest, layers: &HashMap<ChainId, Layer>) -> Result<Option<Record>> {
    let bytes = disk::read_if_whole(&disk.image_content(id))?.filter(|bytes| Digest::of(bytes) == *id);
    let Some(config) = bytes.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok()) else {
        return Ok(None);
    };
    let top = ChainId::of_all(&config.rootfs.diff_ids);
    if top.as_ref().is_some_and(|top| !layers.contains_key(top)) {
        return Ok(None);
    }
    let metadata = disk::read_if_whole(&disk.image_metadata(id))?;
    let metadata = metadata.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    Ok(Some(Record { config: Arc::new(config), top, metadata }))
}

impl State {
    /// Forgets an image and tells the garbage that it leaves. Its names are gone already.
    pub(crate) fn forget(&mut self, disk: &Disk, id: &Digest) -> Vec<(ChainId, Vec<super::disk::Scratch>)> {
        let Some(record) = self.images.remove(id) else { return Vec::new() };
        for manifest in &record.metadata.manifests {
            let _ = fs::remove_file(disk.manifest(manifest));
        }
        let _ = fs::remove_file(disk.image_content(id));
        let _ = fs::remove_file(disk.image_metadata(id));
        record.top.map_or_else(Vec::new, |top| super::layers::release(disk, self, &top))
    }
}
