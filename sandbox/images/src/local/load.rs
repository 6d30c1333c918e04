//! `docker load`: images from a tar, as `docker save` of any age and OCI tools write it. Layers are unpacked while the tar
//! arrives (a spooled copy would double what a load needs of the quota); what they belong to is said by documents that may come
//! before or after them. Nothing is visible before all of an image has come.

use super::{
    ChainId, LocalStore,
    error::{Result, StoreError, invalid},
    images::{NewImage, Origin},
    layers::LayerRef,
    stage::{Expected, Staged},
};
use crate::{
    Digest, Reference,
    config::ImageConfig,
    entries, inflate,
    oci::{self, Compression, Descriptor, Index, Manifest},
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    path::{Component, Path, PathBuf},
};
use tar::EntryType;

/// Most entries of an archive.
const MAX_ENTRIES: u64 = 16_384;
/// Most bytes of all documents together.
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Most links in a row.
const MAX_LINKS: usize = 8;
/// Where containerd keeps the whole name of an image.
const NAME: &str = "io.containerd.image.name";

/// What a load tells on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadEvent {
    /// A layer was new and is there now ("Loading layer").
    Layer {
        /// Its diff id.
        diff_id: Digest,
        /// Bytes of its tar.
        size: u64,
    },
    /// An image is there (for the engine's `load` event).
    Image(Digest),
    /// A line for the user, with its line end: "Loaded image: busybox:latest".
    Message(String),
}

/// An entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    parent: Option<String>,
}

/// What an archive held, by cleaned path.
#[derive(Default)]
struct Arrived {
    documents: HashMap<PathBuf, Vec<u8>>,
    layers: HashMap<PathBuf, Layer>,
    links: HashMap<PathBuf, PathBuf>,
    bytes: u64,
}

/// A layer that has come. It may turn out to be something else that nobody asks for, so an error waits.
enum Layer {
    Staged(Box<Staged>),
    /// Its place in another image of the archive, or in an image that was there.
    Registered(Digest),
    Failed(StoreError),
}

impl LocalStore {
    /// Takes images in from a tar, which may be compressed: those whose configuration is wanted.
    pub fn load(
        &self,
        from: impl Read,
        wanted: &dyn Fn(&ImageConfig) -> bool,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<()> {
        let plain = inflate::inflate(from).map_err(StoreError::io("read the image"))?;
        let mut arrived = Arrived::default();
        entries::for_each(plain, MAX_ENTRIES, |meta, content| {
            let path = clean(Path::new(&String::from_utf8_lossy(&meta.path).into_owned()));
            match meta.kind {
                EntryType::Regular | EntryType::Continuous => {
                    arrived.take(self, path, content);
                    Ok(())
                }
                // `docker save` of old wrote a layer that several images have once, and links to it.
                EntryType::Symlink => {
                    let target = PathBuf::from(String::from_utf8_lossy(&meta.link).into_owned());
                    let target = path.parent().unwrap_or(Path::new("")).join(target);
                    arrived.links.insert(path, clean(&target));
                    Ok(())
                }
                EntryType::Link => {
                    let target = PathBuf::from(String::from_utf8_lossy(&meta.link).into_owned());
                    arrived.links.insert(path, clean(&target));
                    Ok(())
                }
                _ => Ok(()),
            }
        })?;
        let items = arrived.items()?;
        self.enter_items(&items, &mut arrived, wanted, progress)
    }

    fn enter_items(
        &self,
        items: &[Item],
        arrived: &mut Arrived,
        wanted: &dyn Fn(&ImageConfig) -> bool,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<()> {
        let (mut ids, mut named) = (Vec::new(), false);
        for item in items {
            let bytes = arrived.document(&item.config)?.to_vec();
            let config: ImageConfig = serde_json::from_slice(&bytes)
                .map_err(|e| StoreError::Invalid(format!("invalid image configuration: {e}")))?;
            if !matches!(config.os.as_str(), "" | "linux" | "wasi" | "wasip1") {
                return invalid(format!("cannot load {} image on linux", config.os.escape_debug()));
            }
            if !wanted(&config) {
                continue;
            }
            let top = self.enter_layers(item, &config, arrived, progress)?;
            // A parent counts only if it is in the same archive, before its child or after it.
            let parent = item.parent.as_deref().and_then(|p| p.parse::<Digest>().ok());
            let parent =
                parent.filter(|p| ids.contains(p) || items.iter().any(|i| i.config.contains(p.hex())));
            let (top, parent) = (top.as_ref(), parent.as_ref());
            let id = self.create(&NewImage { config: &bytes, top, parent, origin: Origin::Loaded })?;
            for tag in item.repo_tags.iter().flatten() {
                let name = Reference::parse(tag)?;
                if name.tag().is_none() || name.digest().is_some() {
                    return invalid(format!("invalid tag {tag:?}"));
                }
                if let Some(before) = self.tag(&id, &name)? {
                    progress(LoadEvent::Message(format!(
                        "The image {} already exists, renaming the old one with ID {before} to empty string\n",
                        name.familiar()
                    )));
                }
                progress(LoadEvent::Message(format!("Loaded image: {}\n", name.familiar())));
                named = true;
            }
            progress(LoadEvent::Image(id.clone()));
            ids.push(id);
        }
        if !named && !ids.is_empty() {
            let lines = ids.iter().map(|id| format!("Loaded image ID: {id}\n")).collect();
            progress(LoadEvent::Message(lines));
        }
        Ok(())
    }

    /// The layers of an image; tells the topmost.
    fn enter_layers(
        &self,
        item: &Item,
        config: &ImageConfig,
        arrived: &mut Arrived,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<Option<LayerRef>> {
        let paths = item.layers.as_deref().unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if paths.len() != diff_ids.len() {
            return invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                paths.len(),
                diff_ids.len()
            ));
        }
        let mut top: Option<LayerRef> = None;
        for (number, (path, diff_id)) in paths.iter().zip(diff_ids).enumerate() {
            let chain = ChainId::of(top.as_ref().map(LayerRef::chain), diff_id);
            let layer = match self.layer(&chain) {
                Some(layer) => layer,
                None => {
                    let layer = arrived.enter_layer(self, path, top.as_ref())?;
                    let size = layer.tar_size();
                    progress(LoadEvent::Layer { diff_id: layer.diff_id().clone(), size });
                    layer
                }
            };
            if layer.diff_id() != diff_id {
                return invalid(format!(
                    "invalid diffID for layer {number}: expected \"{diff_id}\", got \"{}\"",
                    layer.diff_id()
                ));
            }
            top = Some(layer);
        }
        Ok(top)
    }

    /// Makes an image of a root file system (`docker import`), which comes as a tar, perhaps compressed. `config` becomes its
    /// configuration but for layers, history and time; its comment is the message.
    pub fn import(
        &self,
        from: impl Read,
        mut config: ImageConfig,
        name: Option<&Reference>,
    ) -> Result<Digest> {
        let layer = self.add_layer(from, None)?;
        config.created = Some(super::now());
        config.rootfs.diff_ids = vec![layer.diff_id().clone()];
        config.history = vec![crate::config::HistoryEntry {
            created: config.created.clone(),
            comment: config.comment.clone(),
            ..Default::default()
        }];
        let bytes = serde_json::to_vec(&config).map_err(StoreError::io("write JSON"))?;
        let new = NewImage { config: &bytes, top: Some(&layer), parent: None, origin: Origin::Imported };
        let id = self.create(&new)?;
        if let Some(name) = name {
            self.tag(&id, name)?;
        }
        Ok(id)
    }
}

impl Arrived {
    fn take(&mut self, store: &LocalStore, path: PathBuf, content: &mut dyn Read) {
        let mut content = BufReader::with_capacity(64 << 10, content);
        let head = content.fill_buf().unwrap_or_default();
        if is_layer(&path, head) {
            let staged = store.stage(&mut content, Expected::default());
            let layer = staged.map_or_else(Layer::Failed, |staged| Layer::Staged(Box::new(staged)));
            self.layers.insert(path, layer);
            return;
        }
        let mut bytes = Vec::new();
        let limit = oci::MAX_JSON.min(MAX_DOCUMENTS.saturating_sub(self.bytes));
        if content.take(limit + 1).read_to_end(&mut bytes).is_ok() && bytes.len() as u64 <= limit {
            self.bytes += bytes.len() as u64;
            self.documents.insert(path, bytes);
        }
    }

    /// Follows links of the archive.
    fn resolve(&self, path: &str) -> PathBuf {
        let mut path = clean(Path::new(path));
        for _ in 0..MAX_LINKS {
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => break,
            }
        }
        path
    }

    fn document(&self, path: &str) -> Result<&[u8]> {
        match self.documents.get(&self.resolve(path)) {
            Some(bytes) => Ok(bytes),
            None => invalid(format!("open {}: no such file or directory", path.escape_debug())),
        }
    }

    fn enter_layer(&mut self, store: &LocalStore, path: &str, below: Option<&LayerRef>) -> Result<LayerRef> {
        let key = self.resolve(path);
        match self.layers.remove(&key) {
            Some(Layer::Staged(staged)) => {
                let layer = store.register(*staged, below)?;
                self.layers.insert(key, Layer::Registered(layer.chain().digest().clone()));
                Ok(layer)
            }
            // The same layer on top of others: it is read again from where it lies.
            Some(Layer::Registered(chain)) => {
                let first = store.layers().into_iter().find(|l| *l.chain.digest() == chain);
                let first =
                    first.ok_or_else(|| StoreError::Damaged(format!("layer does not exist: {chain}")))?;
                self.layers.insert(key, Layer::Registered(chain));
                store.add_known_layer(store.layer_tar(&first.chain)?, below, &first.diff_id)
            }
            Some(Layer::Failed(error)) => Err(error),
            None => invalid(format!("open {}: no such file or directory", path.escape_debug())),
        }
    }

    /// The images of the archive: what `manifest.json` says, else what an OCI layout's index says.
    fn items(&self) -> Result<Vec<Item>> {
        let parse = |e: serde_json::Error| StoreError::Invalid(format!("invalid manifest: {e}"));
        if let Ok(bytes) = self.document("manifest.json") {
            let items: Option<Vec<Item>> = serde_json::from_slice(bytes).map_err(parse)?;
            return items.ok_or_else(|| {
                StoreError::Invalid("invalid manifest, manifest cannot be null (but can be [])".into())
            });
        }
        let Ok(bytes) = self.document("index.json") else {
            return invalid("open manifest.json: no such file or directory");
        };
        let index: Index = serde_json::from_slice(bytes).map_err(parse)?;
        let mut items = Vec::new();
        for entry in &index.manifests {
            self.item_of(entry, entry, 0, &mut items)?;
        }
        Ok(items)
    }

    /// An image of an OCI layout; of an index inside, the image for this machine.
    fn item_of(
        &self,
        entry: &Descriptor,
        named: &Descriptor,
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let bytes = self.document(&path(&entry.digest))?;
        if Digest::of(bytes) != entry.digest {
            return invalid(format!("digest mismatch: the content of {} is another", entry.digest));
        }
        let parse = |e: serde_json::Error| StoreError::Invalid(format!("invalid manifest: {e}"));
        if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
            let fits = |of: &&Descriptor| of.platform.as_ref().is_none_or(|p| p.fits());
            return match index.manifests.iter().find(fits) {
                Some(inner) if depth < MAX_LINKS => self.item_of(inner, named, depth + 1, items),
                _ => invalid("the archive has no image for this machine"),
            };
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(parse)?;
        let name = named.annotations.get(NAME).or_else(|| named.annotations.get(oci::REF_NAME));
        // Tools write a bare tag or nothing sensible where a name belongs.
        let name = name.filter(|n| n.contains(['/', ':'])).and_then(|n| Reference::parse(n).ok());
        items.push(Item {
            config: path(&manifest.config.digest),
            repo_tags: name.map(|n| vec![n.with_default_tag().familiar()]),
            layers: Some(manifest.layers.iter().map(|l| path(&l.digest)).collect()),
            parent: None,
        });
        Ok(())
    }
}

/// Whether a file of an archive is a layer; all other files are JSON documents.
fn is_layer(path: &Path, head: &[u8]) -> bool {
    inflate::sniff(head) != Compression::None
        || head.get(257..262) == Some(b"ustar")
        || path.extension().is_some_and(|e| e == "tar")
        || (head.len() >= 512 && head[..512].iter().all(|b| *b == 0))
}

/// A path within the archive, without `.` and `..`; it can't leave the archive, being only compared with others.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}
