//! The node's image store as the place where pulls end and pushes begin.
//!
//! The store's calls block; here each goes to a thread that may.

use crate::{
    Error, Events, ImageSink, ImageSource, KnownBlob, LayerBlob, LayerContent, PullLayer, PulledImage,
    PushImage, PushLayer, SinkError, digest::short, events::Meter,
};
use bytes::Bytes;
use drydock_images::{
    Digest, Reference,
    local::{ChainId, LocalStore, Pull},
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fmt::Display,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

/// One pull into a store. A sink is for one pull at a time; several tags may come one after another.
pub struct StoreSink {
    store: LocalStore,
    pull: Mutex<Option<Arc<Pull>>>,
}

impl StoreSink {
    /// A sink that nothing has come to yet.
    pub fn new(store: LocalStore) -> Self {
        Self { store, pull: Mutex::new(None) }
    }

    fn set(&self, pull: Option<Arc<Pull>>) -> Option<Arc<Pull>> {
        std::mem::replace(&mut *self.pull.lock().unwrap_or_else(PoisonError::into_inner), pull)
    }

    fn pull(&self) -> Result<Arc<Pull>, SinkError> {
        let pull = self.pull.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pull.ok_or_else(|| SinkError("a layer came before its image".into()))
    }
}

impl ImageSink for StoreSink {
    async fn begin(&self, image: &PulledImage) -> Result<(), SinkError> {
        let (store, image) = (self.store.clone(), image.clone());
        let pull =
            blocking(move || store.begin_pull(&image.reference, &image.manifest, &image.config)).await?;
        self.set(Some(Arc::new(pull)));
        Ok(())
    }

    async fn has_image(&self, config: &Digest) -> bool {
        let (store, config) = (self.store.clone(), config.clone());
        blocking(move || store.get(&config)).await.is_ok()
    }

    async fn has_layers(&self, diff_ids: &[Digest]) -> bool {
        let Ok(pull) = self.pull() else { return false };
        diff_ids.len().checked_sub(1).and_then(|n| pull.layers().get(n).map(|layer| layer.2)).unwrap_or(true)
    }

    async fn layer(&self, layer: PullLayer, blob: LayerBlob, events: Events) -> Result<(), SinkError> {
        let pull = self.pull()?;
        let meter = Meter::new(events, short(&layer.digest), "Extracting", blob.size);
        blocking(move || pull.add_layer(layer.index, Watched { inner: blob.file, meter })).await
    }

    async fn finish(&self, image: PulledImage) -> Result<bool, SinkError> {
        let pull = self.set(None).ok_or_else(|| SinkError("an image ended that had not begun".into()))?;
        let pull = Arc::into_inner(pull).ok_or_else(|| SinkError("a layer is still coming".into()))?;
        blocking(move || pull.finish(Some(&image.digest)).map(|pulled| pulled.newer)).await
    }
}

/// Reports what is read.
struct Watched {
    inner: std::fs::File,
    meter: Meter,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.meter.add(n as u64);
        Ok(n)
    }
}

/// The layers of an image in a store.
pub struct StoreSource {
    store: LocalStore,
    chains: HashMap<Digest, ChainId>,
}

impl ImageSource for StoreSource {
    fn open(&self, layer: &PushLayer) -> io::Result<LayerContent> {
        let chain = self.chains.get(&layer.diff_id).ok_or(io::ErrorKind::NotFound)?;
        let blob = self.store.layer_blob(chain).map_err(io::Error::other)?;
        let reader = Box::new(blob.open().map_err(io::Error::other)?);
        Ok(LayerContent::Blob { reader, size: blob.size, media_type: blob.media_type.clone() })
    }
}

/// The rootfs of a configuration.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Prepares an image of a store for a push to a registry. It blocks.
pub fn push_image(
    store: &LocalStore,
    id: &Digest,
    target: &Reference,
) -> Result<(PushImage, Arc<StoreSource>), Error> {
    let refused = |e: &dyn Display| Error::Sink(e.to_string());
    let config = store.config_bytes(id).map_err(|e| refused(&e))?;
    let parsed: Config = serde_json::from_slice(&config).map_err(|e| refused(&e))?;
    let elsewhere = repositories(store, id, target);
    let mut chains = HashMap::new();
    let mut layers = Vec::new();
    let mut parent = None;
    for diff_id in parsed.rootfs.diff_ids {
        let chain = ChainId::of(parent.as_ref(), &diff_id);
        let layer =
            store.layer(&chain).ok_or_else(|| refused(&format!("layer does not exist: {diff_id}")))?;
        let known = store.known_blob(&chain).into_iter().flat_map(|(media_type, digest, size)| {
            let blob = KnownBlob { digest, size, media_type, repository: Some(target.name()) };
            let mounts =
                elsewhere.iter().map(|name| KnownBlob { repository: Some(name.clone()), ..blob.clone() });
            std::iter::once(blob.clone()).chain(mounts).collect::<Vec<_>>()
        });
        layers.push(PushLayer { diff_id: diff_id.clone(), size: layer.tar_size(), known: known.collect() });
        chains.insert(diff_id, chain.clone());
        parent = Some(chain);
    }
    let source = StoreSource { store: store.clone(), chains };
    Ok((PushImage { config: Bytes::from(config), layers }, Arc::new(source)))
}

/// Other repositories of the registry that have the image: a name with a digest means that it was there.
fn repositories(store: &LocalStore, id: &Digest, target: &Reference) -> Vec<String> {
    let mut names: Vec<String> = store
        .names()
        .into_iter()
        .filter(|(name, image)| image == id && name.digest().is_some() && name.domain() == target.domain())
        .map(|(name, _)| name.name())
        .filter(|name| *name != target.name())
        .collect();
    names.sort();
    names.dedup();
    names
}

async fn blocking<T: Send + 'static, E: Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, SinkError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| SinkError(e.to_string()))?;
    done.map_err(|e| SinkError(e.to_string()))
}
