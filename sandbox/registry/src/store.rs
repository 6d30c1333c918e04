//! The node's image store as the place where pulls end and pushes begin.
//!
//! The store's calls block; here each goes to a thread that may.

use crate::{
    Descriptor, Error, Events, ImageSink, ImageSource, KnownBlob, LayerBlob, LayerContent, PullLayer,
    PulledImage, PushImage, PushLayer, SinkError,
    digest::short,
    events::Meter,
    manifest::{Manifest, RawManifest},
    media_type,
};
use bytes::Bytes;
use drydock_images::{
    Digest, Reference,
    local::{ChainId, LayerRef, LocalStore, StoreError},
};
use std::{
    collections::HashMap,
    fmt::Display,
    io::{self, Read},
    sync::{Mutex, PoisonError},
};

/// Pulls into a store, layer by layer, the lowest first: what has come stays if the rest does not. A sink is for one pull at a time;
/// several tags may come one after another.
pub struct StoreSink {
    store: LocalStore,
    /// The topmost layer so far, held so that nobody removes it.
    top: Mutex<Option<LayerRef>>,
}

impl StoreSink {
    /// A sink that nothing has come to yet.
    pub fn new(store: LocalStore) -> Self {
        Self { store, top: Mutex::default() }
    }

    /// The topmost layer that has come, or was there.
    pub fn top(&self) -> Option<LayerRef> {
        self.top.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_top(&self, layer: Option<LayerRef>) {
        *self.top.lock().unwrap_or_else(PoisonError::into_inner) = layer;
    }
}

impl ImageSink for StoreSink {
    async fn has_image(&self, config: &Digest) -> bool {
        self.store.get(config).is_ok()
    }

    async fn has_layers(&self, diff_ids: &[Digest]) -> bool {
        let Some(chain) = ChainId::of_all(diff_ids) else { return true };
        let layer = self.store.layer(&chain);
        let there = layer.is_some();
        if there {
            self.set_top(layer);
        }
        there
    }

    async fn layer(&self, layer: PullLayer, blob: LayerBlob, events: Events) -> Result<(), SinkError> {
        // The lowest layer lies on nothing, whatever an earlier image of this pull had on top.
        let (store, below) = (self.store.clone(), self.top().filter(|_| layer.index > 0));
        let added = blocking(move || {
            let meter = Meter::new(events, short(&layer.digest), "Extracting", blob.size);
            let mut reader = Watched { inner: blob.file, meter };
            store.add_known_layer(&mut reader, below.as_ref(), &layer.diff_id)
        });
        self.set_top(Some(added.await?));
        Ok(())
    }

    async fn finish(&self, image: PulledImage) -> Result<bool, SinkError> {
        let store = self.store.clone();
        let done = blocking(move || {
            let pull = store.begin_pull(&image.reference, &image.manifest, &image.config)?;
            let index = (image.digest != image.manifest_digest).then_some(&image.digest);
            pull.finish(index).map(|pulled| pulled.newer)
        });
        let done = done.await;
        self.set_top(None);
        done
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

/// Images of a store that are pushed. A layer of the catalogue goes as it is, one of the node's own is packed once and always to the
/// same bytes, so that a registry that has it is not sent it again.
pub struct StoreSource {
    store: LocalStore,
    chains: HashMap<Digest, ChainId>,
}

impl StoreSource {
    /// A source without images.
    pub fn new(store: LocalStore) -> Self {
        Self { store, chains: HashMap::new() }
    }

    /// Prepares an image for a push to a registry. It blocks.
    pub fn add(&mut self, id: &Digest, target: &Reference) -> Result<PushImage, Error> {
        let refused = |e: StoreError| Error::Sink(e.to_string());
        let config = Bytes::from(self.store.config_bytes(id).map_err(refused)?);
        let mut there = self.known_at(target);
        let mut below: Option<ChainId> = None;
        let mut layers = Vec::new();
        for diff_id in &self.store.get(id).map_err(refused)?.config.rootfs.diff_ids {
            let chain = ChainId::of(below.as_ref(), diff_id);
            let layer = self.store.layer(&chain);
            let layer =
                layer.ok_or_else(|| Error::Sink(format!("layer does not exist: {}", chain.digest())))?;
            let mut known = there.remove(&chain).unwrap_or_default();
            // In this repository before others.
            known.sort_by_key(|blob| blob.repository.as_deref() != Some(&target.name()));
            let own = self.store.known_blob(&chain).map(|(media_type, digest, size)| KnownBlob {
                digest,
                size,
                media_type,
                repository: None,
            });
            let size = own.as_ref().map_or(layer.size(), |own| own.size);
            known.extend(own);
            layers.push(PushLayer { diff_id: diff_id.clone(), size, known });
            self.chains.insert(diff_id.clone(), chain.clone());
            below = Some(chain);
        }
        Ok(PushImage { config, layers })
    }

    /// Layers that are known to be at the registry, as blobs of images that were pulled from there or pushed to it: a name with a digest
    /// says where an image was, its manifests as what.
    fn known_at(&self, target: &Reference) -> HashMap<ChainId, Vec<KnownBlob>> {
        let mut known: HashMap<ChainId, Vec<KnownBlob>> = HashMap::new();
        let names = self.store.names().into_iter();
        for (name, id) in names.filter(|(n, _)| n.digest().is_some() && n.domain() == target.domain()) {
            let Ok(image) = self.store.get(&id) else { continue };
            for blobs in self.store.manifests(&id).iter().filter_map(|digest| self.blobs(digest)) {
                let mut below: Option<ChainId> = None;
                for (diff_id, blob) in image.config.rootfs.diff_ids.iter().zip(blobs) {
                    let chain = ChainId::of(below.as_ref(), diff_id);
                    // Of another kind than what is pushed.
                    if blob.media_type != media_type::OCI_LAYER_ZSTD {
                        let repository = Some(name.name());
                        known.entry(chain.clone()).or_default().push(KnownBlob { repository, ..blob });
                    }
                    below = Some(chain);
                }
            }
        }
        known
    }

    /// The layers of a manifest that was kept, the lowest first.
    fn blobs(&self, manifest: &Digest) -> Option<Vec<KnownBlob>> {
        let bytes = self.store.manifest(manifest)?;
        let Manifest::Image { layers, .. } = RawManifest::parse(&bytes).ok()?.understand("").ok()? else {
            return None;
        };
        let blob = |layer: Descriptor| KnownBlob {
            digest: layer.digest,
            size: layer.size,
            media_type: layer.media_type,
            repository: None,
        };
        Some(layers.into_iter().map(blob).collect())
    }
}

impl ImageSource for StoreSource {
    fn open(&self, layer: &PushLayer) -> io::Result<LayerContent> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("layer does not exist: {}", layer.diff_id));
        let chain = self.chains.get(&layer.diff_id).ok_or_else(missing)?;
        let blob = self.store.layer_blob(chain).map_err(io::Error::other)?;
        let reader = Box::new(blob.open().map_err(io::Error::other)?);
        Ok(LayerContent::Blob { reader, size: blob.size, media_type: blob.media_type.clone() })
    }
}

async fn blocking<T: Send + 'static, E: Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, SinkError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| SinkError(e.to_string()))?;
    done.map_err(|e| SinkError(e.to_string()))
}
