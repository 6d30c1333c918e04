//! The image store of one node: what `docker images` lists, and the layers below the node's containers. It lies in
//! `/var/lib/docker` as Docker's own with the overlay2 driver does, so that a learner finds what books describe:
//!
//! ```text
//! catalogue/                              the host's catalogue, read-only (an OCI layout with unpacked layers)
//! image/overlay2/repositories.json        names → image ids
//! image/overlay2/imagedb/content/sha256/  configurations; the name of a file is the image's id
//! image/overlay2/imagedb/metadata/sha256/ what else is known of an image
//! image/overlay2/layerdb/sha256/<chain>/  what is known of a layer, and its tar without the content of its files
//! image/overlay2/layerdb/mounts/          which container holds which layers
//! image/overlay2/manifests/sha256/        manifests of pulled images
//! image/overlay2/tmp/                     work in progress, deleted at the next start
//! overlay2/<cache id>/diff                an unpacked layer
//! overlay2/l/<26 characters>              short links to them, for the options of an overlay mount
//! ```
//!
//! [`LocalStore`] is the one entry point: cheap to clone, safe to use from several threads, and everything in it blocks
//! (call it from `spawn_blocking`). One process opens a directory at a time. What it finds there is not believed: files are read
//! with bounds, and an image whose parts are not all there is not listed. A thing gets its final name when it is complete, so a
//! killed engine leaves no half image; a crash of the whole machine ends the session anyway, so nothing is synced.

mod blob;
mod catalogue;
mod commit;
mod disk;
mod error;
mod history;
mod images;
mod layers;
mod load;
mod names;
mod pull;
mod remove;
mod save;
mod stage;
mod steps;

pub(crate) use disk::open_file;
pub(crate) use stage::content_size;

pub use blob::{LayerBlob, LayerTar};
pub use catalogue::{CatalogueImage, PullStep, Pulled};
pub use error::{Result, StoreError};
pub use history::HistoryItem;
pub use images::{Image, NewImage, Origin};
pub use layers::{ChainId, LayerInfo, LayerRef, LayerStack};
pub use load::LoadEvent;
pub use pull::Pull;
pub use remove::{ImageUser, Pruned, Removal, RemoveOptions};

use crate::Digest;
use disk::Disk;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The image store of a node. Clones are the same store.
#[derive(Debug, Clone)]
pub struct LocalStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Disk,
    state: Mutex<State>,
}

/// What is on disk, in memory. Never hold it while unpacking, and never drop a [`LayerRef`] while holding it.
#[derive(Debug, Default)]
struct State {
    images: BTreeMap<Digest, images::Record>,
    names: names::Names,
    layers: HashMap<ChainId, layers::Layer>,
    /// Container → the topmost layer below it.
    holds: BTreeMap<String, Option<ChainId>>,
}

impl LocalStore {
    /// Opens the store in a directory (`/var/lib/docker`) and makes what is missing. Deletes what a killed engine has left half
    /// made, and layers that nothing needs. Fails, and deletes nothing, if the machine is short of descriptors or memory.
    pub fn open(root: &Path) -> Result<Self> {
        let disk = Disk::open(root)?;
        let mut state = State { layers: layers::read_all(&disk)?, ..State::default() };
        state.images = images::read_all(&disk, &state.layers)?;
        state.names = names::Names::read(&disk, &state.images)?;
        state.holds = layers::read_holds(&disk, &state.layers)?;
        layers::count_references(&mut state);
        let garbage = layers::remove_unused(&disk, &mut state);
        drop(garbage);
        layers::remove_orphans(&disk, &state)?;
        Ok(Self(Arc::new(Inner { disk, state: Mutex::new(state) })))
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.0.disk.root
    }

    fn disk(&self) -> &Disk {
        &self.0.disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }
}

impl Inner {
    /// Every change leaves the state whole before anything can panic, so a poisoned lock is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds and nanoseconds since 1970 as Docker writes times.
pub fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = crate::oci::rfc3339(now.as_secs());
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), now.subsec_nanos())
}
