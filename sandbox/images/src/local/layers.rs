//! The layers of a node, and who needs them: an image its topmost layer, a layer its parent, a container what it was made from,
//! and a [`LayerRef`] whatever work goes on. A layer that nobody needs any more is deleted at once.

use super::{
    Inner, LocalStore, State,
    disk::{self, Disk, Scratch, remove},
    error::{Result, StoreError, invalid},
    stage::Staged,
};
use crate::Digest;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Docker's limit; overlayfs takes 500, but the names of 128 fill a page of mount options.
const MAX_DEPTH: usize = 125;
/// File of a layer's record in its directory of the data base.
const RECORD: &str = "layer.json";
/// A layer's tar without the content of its files.
pub(crate) const SPLIT: &str = "tar-split.zst";
/// In a layer's directory below `overlay2`: the chain id, so that one without a record is known as left over.
const MARK: &str = "layer";

/// Names a layer together with all below it (image-spec, config.md, "Layer ChainID").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);

impl ChainId {
    /// A layer on top of others.
    pub fn of(parent: Option<&Self>, diff_id: &Digest) -> Self {
        match parent {
            None => Self(diff_id.clone()),
            Some(parent) => Self(Digest::of(format!("{parent} {diff_id}").as_bytes())),
        }
    }

    /// The topmost of some layers, which are given lowest first.
    pub fn of_all(diff_ids: &[Digest]) -> Option<Self> {
        diff_ids.iter().fold(None, |below, diff_id| Some(Self::of(below.as_ref(), diff_id)))
    }

    /// As a digest.
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is written of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) diff_id: Digest,
    pub(crate) parent: Option<ChainId>,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Bytes of its tar.
    pub(crate) tar_size: u64,
    /// Name of its link below `overlay2/l`.
    pub(crate) link: String,
    pub(crate) place: Place,
}

/// Where a layer lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// `overlay2/<id>`. Files that later entries of its own tar have replaced are kept under these numbers.
    Own { id: String, replaced: Vec<u32> },
    /// In the host's catalogue, as this blob.
    Catalogue { blob: Digest, media_type: String },
}

/// A layer in memory.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) record: Arc<Record>,
    /// Images, containers, layers on top and [`LayerRef`]s.
    references: usize,
}

/// Keeps a layer while work goes on with it.
#[derive(Debug)]
pub struct LayerRef {
    store: Arc<Inner>,
    chain: ChainId,
    pub(crate) record: Arc<Record>,
}

impl LayerRef {
    /// Its chain id.
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// Digest of its uncompressed tar.
    pub fn diff_id(&self) -> &Digest {
        &self.record.diff_id
    }

    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        self.record.size
    }

    /// Bytes of its uncompressed tar.
    pub fn tar_size(&self) -> u64 {
        self.record.tar_size
    }

    /// Whether its tar holds nothing, as after a build step that changed no file.
    pub fn is_empty(&self) -> bool {
        // 1024 zeros.
        self.record.diff_id.hex() == "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    }
}

impl Clone for LayerRef {
    fn clone(&self) -> Self {
        if let Some(layer) = self.store.state().layers.get_mut(&self.chain) {
            layer.references += 1;
        }
        Self { store: self.store.clone(), chain: self.chain.clone(), record: self.record.clone() }
    }
}

impl Drop for LayerRef {
    fn drop(&mut self) {
        let garbage = release(&self.store.disk, &mut self.store.state(), &self.chain);
        // Deleting may take long: after the lock.
        drop(garbage);
    }
}

/// The layers of an image as overlayfs wants them: **topmost first**.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerStack {
    /// Absolute paths of the unpacked layers.
    pub dirs: Vec<PathBuf>,
    /// `l/XXXXXXXXXXXXXXXXXXXXXXXXXX`, relative to `/var/lib/docker/overlay2`: short enough for mount options.
    pub links: Vec<String>,
}

impl LayerStack {
    /// The short links as absolute paths: an option string that does not depend on the working directory, but is longer.
    pub fn absolute_links(&self, store: &LocalStore) -> Vec<PathBuf> {
        self.links.iter().map(|link| store.disk().overlay().join(link)).collect()
    }
}

/// A layer in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its chain id.
    pub chain: ChainId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// It lies in the host's catalogue and takes no room on the node.
    pub in_catalogue: bool,
}

impl LocalStore {
    /// Takes hold of a layer, if it is there.
    pub fn layer(&self, chain: &ChainId) -> Option<LayerRef> {
        let record = {
            let mut state = self.state();
            let layer = state.layers.get_mut(chain)?;
            layer.references += 1;
            layer.record.clone()
        };
        let layer = LayerRef { store: self.0.clone(), chain: chain.clone(), record };
        self.layer_dir(&layer.record).is_dir().then_some(layer)
    }

    /// All layers.
    pub fn layers(&self) -> Vec<LayerInfo> {
        let state = self.state();
        let info = |(chain, layer): (&ChainId, &Layer)| LayerInfo {
            chain: chain.clone(),
            parent: layer.record.parent.clone(),
            diff_id: layer.record.diff_id.clone(),
            size: layer.record.size,
            in_catalogue: matches!(layer.record.place, Place::Catalogue { .. }),
        };
        state.layers.iter().map(info).collect()
    }

    /// The layers from this one down; none for an image without layers.
    pub fn stack(&self, top: Option<&ChainId>) -> Result<LayerStack> {
        let mut stack = LayerStack::default();
        let state = self.state();
        let mut next = top.cloned();
        while let Some(chain) = next.take() {
            let Some(layer) = state.layers.get(&chain) else {
                return Err(StoreError::Damaged(format!("layer does not exist: {chain}")));
            };
            let dir = self.layer_dir(&layer.record);
            if !dir.is_dir() {
                return Err(StoreError::Damaged(format!(
                    "layer {} is gone: pull the image again",
                    dir.display()
                )));
            }
            stack.dirs.push(dir);
            stack.links.push(format!("l/{}", layer.record.link));
            next.clone_from(&layer.record.parent);
        }
        Ok(stack)
    }

    /// Makes a container keep the layers of an image until [`LocalStore::release`], whatever becomes of the image; tells them.
    pub fn hold(&self, container: &str, image: &Digest) -> Result<LayerStack> {
        check_container(container)?;
        let top = self.get(image)?.top;
        let stack = self.stack(top.as_ref())?;
        let text = top.as_ref().map_or_else(String::new, ToString::to_string);
        let garbage;
        {
            let mut state = self.state();
            if top.as_ref().is_some_and(|chain| !state.layers.contains_key(chain)) {
                return Err(StoreError::NotFound(image.to_string()));
            }
            self.disk().write(&self.disk().holds().join(container), text.as_bytes())?;
            if let Some(chain) = &top {
                state.retain_layer(chain)?;
            }
            let before = state.holds.insert(container.to_owned(), top);
            garbage = before.flatten().map(|chain| release(self.disk(), &mut state, &chain));
        }
        drop(garbage);
        Ok(stack)
    }

    /// The layers that a container holds; `None` if it holds none.
    pub fn held(&self, container: &str) -> Result<Option<LayerStack>> {
        let top = self.state().holds.get(container).cloned();
        top.map(|top| self.stack(top.as_ref())).transpose()
    }

    /// Takes hold of the topmost layer that a container holds: what `docker commit` builds on, even if the image is gone.
    pub fn held_layer(&self, container: &str) -> Option<LayerRef> {
        let top = self.state().holds.get(container).cloned().flatten()?;
        self.layer(&top)
    }

    /// Containers that hold layers. Those that the engine does not know any more should be released.
    pub fn holders(&self) -> Vec<String> {
        self.state().holds.keys().cloned().collect()
    }

    /// Ends [`LocalStore::hold`].
    pub fn release(&self, container: &str) -> Result<()> {
        let garbage;
        {
            let mut state = self.state();
            let Some(top) = state.holds.remove(container) else { return Ok(()) };
            remove(&self.disk().holds().join(container))?;
            garbage = top.map(|chain| release(self.disk(), &mut state, &chain));
        }
        drop(garbage);
        Ok(())
    }

    /// Where a layer is unpacked.
    pub(crate) fn layer_dir(&self, record: &Record) -> PathBuf {
        layer_dir(self.disk(), record)
    }

    /// Gives an unpacked layer its place on top of another one.
    pub(crate) fn register(&self, staged: Staged, parent: Option<&LayerRef>) -> Result<LayerRef> {
        let parent = parent.map(|p| p.chain.clone());
        let chain = ChainId::of(parent.as_ref(), &staged.diff_id);
        if let Some(layer) = self.layer(&chain) {
            return Ok(layer);
        }
        let id = disk::random(b"0123456789abcdef", 64)?;
        disk::write_new(&staged.dir.0.join(MARK), chain.to_string().as_bytes())?;
        let record = Record {
            diff_id: staged.diff_id,
            parent,
            size: staged.size,
            tar_size: staged.tar_size,
            link: new_link()?,
            place: Place::Own { id: id.clone(), replaced: staged.replaced },
        };
        let entry = self.disk().fresh_dir()?;
        let split = staged.dir.0.join(SPLIT);
        fs::rename(&split, entry.0.join(SPLIT)).map_err(StoreError::path("rename", &split))?;
        let to = self.disk().overlay().join(&id);
        disk::write_new(&staged.dir.0.join("link"), record.link.as_bytes())?;
        fs::rename(&staged.dir.0, &to).map_err(StoreError::path("rename", &to))?;
        let registered = self.enter(chain, record, entry);
        if registered.as_ref().map_or(true, |layer| !in_cache(&layer.record, &id)) {
            // Another thread was first, or the entry can't be written.
            drop(self.disk().take_away(&to));
        }
        registered
    }

    /// Registers a layer that lies in the catalogue, without copying anything.
    pub(crate) fn register_in_place(
        &self,
        diff_id: Digest,
        parent: Option<&LayerRef>,
        sizes: (u64, u64),
        place: Place,
    ) -> Result<LayerRef> {
        let parent = parent.map(|p| p.chain.clone());
        let chain = ChainId::of(parent.as_ref(), &diff_id);
        let (size, tar_size) = sizes;
        let record = Record { diff_id, parent, size, tar_size, link: new_link()?, place };
        self.enter(chain, record, self.disk().fresh_dir()?)
    }

    /// Makes a layer known whose files are in place.
    fn enter(&self, chain: ChainId, record: Record, entry: Scratch) -> Result<LayerRef> {
        write_entry(&entry.0, &record)?;
        let target = match &record.place {
            Place::Own { id, .. } => Path::new("..").join(id).join("diff"),
            Place::Catalogue { .. } => Path::new("../../catalogue/layers").join(record.diff_id.hex()),
        };
        let link = self.disk().links().join(&record.link);
        symlink(&target, &link).map_err(StoreError::path("symlink", &link))?;
        let entered = self.enter_locked(chain, record, &entry.0);
        match &entered {
            Ok((_, _, Some(stale))) => drop(disk::remove(&self.disk().links().join(stale))),
            Err(_) => drop(disk::remove(&link)),
            Ok(_) => {}
        }
        let (chain, record, _) = entered?;
        Ok(LayerRef { store: self.0.clone(), chain, record })
    }

    /// Also tells the name of a link that is not needed: the new one's if another thread was first, the old one's if the layer's
    /// files were lost and are here again.
    fn enter_locked(
        &self,
        chain: ChainId,
        record: Record,
        entry: &Path,
    ) -> Result<(ChainId, Arc<Record>, Option<String>)> {
        let mut state = self.state();
        if depth(&state, record.parent.as_ref()) >= MAX_DEPTH {
            return invalid("max depth exceeded");
        }
        let to = self.disk().layer(chain.digest());
        if let Some(layer) = state.layers.get_mut(&chain) {
            layer.references += 1;
            if layer_dir(self.disk(), &layer.record).is_dir() {
                return Ok((chain, layer.record.clone(), Some(record.link)));
            }
            drop(self.disk().take_away(&to));
            disk::replace(entry, &to)?;
            let stale = layer.record.link.clone();
            layer.record = Arc::new(record);
            return Ok((chain, layer.record.clone(), Some(stale)));
        }
        drop(self.disk().take_away(&to));
        disk::replace(entry, &to)?;
        if let Some(parent) = record.parent.as_ref().and_then(|p| state.layers.get_mut(p)) {
            parent.references += 1;
        }
        let record = Arc::new(record);
        state.layers.insert(chain.clone(), Layer { record: record.clone(), references: 1 });
        Ok((chain, record, None))
    }
}

impl State {
    /// One more image needs this layer.
    pub(crate) fn retain_layer(&mut self, chain: &ChainId) -> Result<()> {
        match self.layers.get_mut(chain) {
            Some(layer) => layer.references += 1,
            None => return Err(StoreError::Damaged(format!("layer does not exist: {chain}"))),
        }
        Ok(())
    }
}

/// One reference less; takes away what nobody needs any more and tells it, topmost first. Deleting happens when the answer is
/// dropped.
pub(crate) fn release(disk: &Disk, state: &mut State, chain: &ChainId) -> Vec<(ChainId, Vec<Scratch>)> {
    let mut garbage = Vec::new();
    let mut next = Some(chain.clone());
    while let Some(chain) = next.take() {
        let Some(layer) = state.layers.get_mut(&chain) else { break };
        layer.references = layer.references.saturating_sub(1);
        if layer.references > 0 {
            break;
        }
        let record = layer.record.clone();
        state.layers.remove(&chain);
        garbage.push((chain.clone(), take_layer(disk, &chain, &record)));
        next.clone_from(&record.parent);
    }
    garbage
}

fn take_layer(disk: &Disk, chain: &ChainId, record: &Record) -> Vec<Scratch> {
    let mut taken = Vec::new();
    // The entry first: without it the rest is known as left over.
    taken.extend(disk.take_away(&disk.layer(chain.digest())));
    let _ = remove(&disk.links().join(&record.link));
    if let Place::Own { id, .. } = &record.place {
        taken.extend(disk.take_away(&disk.overlay().join(id)));
    }
    taken
}

fn layer_dir(disk: &Disk, record: &Record) -> PathBuf {
    match &record.place {
        Place::Own { id, .. } => disk.overlay().join(id).join("diff"),
        Place::Catalogue { .. } => disk.catalogue().join("layers").join(record.diff_id.hex()),
    }
}

fn in_cache(record: &Record, cache: &str) -> bool {
    matches!(&record.place, Place::Own { id, .. } if id == cache)
}

fn new_link() -> Result<String> {
    disk::random(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 26)
}

/// Docker's own files, for people who look, and our record.
fn write_entry(dir: &Path, record: &Record) -> Result<()> {
    let json = serde_json::to_vec(record).map_err(StoreError::io("write a layer's record"))?;
    disk::write_new(&dir.join("diff"), record.diff_id.to_string().as_bytes())?;
    disk::write_new(&dir.join("size"), record.size.to_string().as_bytes())?;
    if let Some(parent) = &record.parent {
        disk::write_new(&dir.join("parent"), parent.to_string().as_bytes())?;
    }
    if let Place::Own { id, .. } = &record.place {
        disk::write_new(&dir.join("cache-id"), id.as_bytes())?;
    }
    disk::write_new(&dir.join(RECORD), &json)
}

fn depth(state: &State, top: Option<&ChainId>) -> usize {
    let parent = |chain: &&ChainId| state.layers.get(*chain).and_then(|l| l.record.parent.as_ref());
    std::iter::successors(top, parent).take(MAX_DEPTH).count()
}

fn check_container(name: &str) -> Result<()> {
    let ok = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if ok { Ok(()) } else { invalid(format!("invalid container id: {}", name.escape_debug())) }
}

/// The layers that the data base knows and whose parents it knows too.
pub(crate) fn read_all(disk: &Disk) -> Result<HashMap<ChainId, Layer>> {
    let mut found = BTreeMap::new();
    for name in disk::digests_in(&disk.layers())? {
        let Some(bytes) = disk::read_if_whole(&disk.layer(&name).join(RECORD))? else { continue };
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { continue };
        if is_plausible(&record) && ChainId::of(record.parent.as_ref(), &record.diff_id).0 == name {
            found.insert(ChainId(name), record);
        }
    }
    let mut layers = HashMap::new();
    for (chain, record) in &found {
        // Digests can't go in a circle; the bound is for hash collisions of the mind.
        let below = std::iter::successors(record.parent.as_ref(), |c| found.get(c)?.parent.as_ref());
        if below.take(MAX_DEPTH).all(|c| found.contains_key(c)) {
            layers.insert(chain.clone(), Layer { record: Arc::new(record.clone()), references: 0 });
        }
    }
    Ok(layers)
}

fn is_plausible(record: &Record) -> bool {
    let link = record.link.len() == 26 && record.link.bytes().all(|b| b.is_ascii_alphanumeric());
    let id = match &record.place {
        Place::Own { id, .. } => Digest::from_hex(id).is_ok(),
        Place::Catalogue { .. } => true,
    };
    link && id
}

/// What containers hold, as far as it is there.
pub(crate) fn read_holds(
    disk: &Disk,
    layers: &HashMap<ChainId, Layer>,
) -> Result<BTreeMap<String, Option<ChainId>>> {
    let mut holds = BTreeMap::new();
    for name in disk::names_in(&disk.holds())? {
        let Some(bytes) = disk::read_if_whole(&disk.holds().join(&name))? else { continue };
        let top = match std::str::from_utf8(&bytes).unwrap_or("?") {
            "" => None,
            text => match text.parse() {
                Ok(digest) => Some(ChainId(digest)),
                Err(_) => continue,
            },
        };
        if top.as_ref().is_none_or(|chain| layers.contains_key(chain)) && check_container(&name).is_ok() {
            holds.insert(name, top);
        }
    }
    Ok(holds)
}

/// Counts from nothing who needs which layer.
pub(crate) fn count_references(state: &mut State) {
    let parents: Vec<_> = state.layers.values().filter_map(|l| l.record.parent.clone()).collect();
    let images: Vec<_> = state.images.values().filter_map(|i| i.top.clone()).collect();
    let holds: Vec<_> = state.holds.values().flatten().cloned().collect();
    for chain in parents.iter().chain(&images).chain(&holds) {
        if let Some(layer) = state.layers.get_mut(chain) {
            layer.references += 1;
        }
    }
}

/// Takes away layers that nothing needs.
pub(crate) fn remove_unused(disk: &Disk, state: &mut State) -> Vec<(ChainId, Vec<Scratch>)> {
    let unused: Vec<_> =
        state.layers.iter().filter(|(_, l)| l.references == 0).map(|(chain, _)| chain.clone()).collect();
    unused.iter().flat_map(|chain| release(disk, state, chain)).collect()
}

/// Deletes what a killed engine left outside of the temporary directory: unpacked layers and links without an entry.
/// Containers' directories have no mark, so they stay.
pub(crate) fn remove_orphans(disk: &Disk, state: &State) -> Result<()> {
    for name in disk::names_in(&disk.overlay())? {
        let dir = disk.overlay().join(&name);
        let Ok(mark) = disk::read(&dir.join(MARK)) else { continue };
        let chain = std::str::from_utf8(&mark).ok().and_then(|m| m.parse().ok()).map(ChainId);
        let layer = chain.and_then(|chain| state.layers.get(&chain));
        if !layer.is_some_and(|l| in_cache(&l.record, &name)) {
            drop(disk.take_away(&dir));
        }
    }
    let known: std::collections::HashSet<_> = state.layers.values().map(|l| l.record.link.as_str()).collect();
    for name in disk::names_in(&disk.links())? {
        let link = disk.links().join(&name);
        let Ok(target) = fs::read_link(&link) else { continue };
        // The engine may have links of its own for containers; ours lead to layers that are not there.
        if !known.contains(name.as_str()) && fs::metadata(disk.links().join(target)).is_err() {
            let _ = remove(&link);
        }
    }
    for chain in disk::digests_in(&disk.layers())? {
        if !state.layers.contains_key(&ChainId(chain.clone())) {
            drop(disk.take_away(&disk.layer(&chain)));
        }
    }
    Ok(())
}
