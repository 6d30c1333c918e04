//! The store's side of a pull: takes what a registry client brings, in the order in which it comes, and shows nothing of it
//! before [`Pull::finish`].

use super::{
    ChainId, LocalStore, Pulled,
    error::{Result, StoreError, invalid},
    images::{NewImage, Origin},
    layers::LayerRef,
    stage::{Expected, Staged},
};
use crate::{Digest, Reference, config::ImageConfig, oci::Manifest};
use std::{io::Read, sync::Mutex};

/// Largest manifest or configuration.
const MAX_JSON: usize = crate::oci::MAX_JSON as usize;

/// A pull that is under way. Layers may come in any order and from several threads. Dropping it without
/// [`Pull::finish`] leaves nothing.
#[derive(Debug)]
pub struct Pull {
    store: LocalStore,
    name: Reference,
    digest: Digest,
    manifest_bytes: Vec<u8>,
    manifest: Manifest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
    layers: Vec<Mutex<Arrival>>,
}

#[derive(Debug)]
enum Arrival {
    Missing,
    Here(LayerRef),
    Staged(Box<Staged>),
}

impl LocalStore {
    /// Begins a pull with an image's manifest (not an index) and its configuration, which are checked against each other.
    pub fn begin_pull(&self, name: &Reference, manifest: &[u8], config: &[u8]) -> Result<Pull> {
        if manifest.len() > MAX_JSON || config.len() > MAX_JSON {
            return invalid("the manifest or the configuration of the image is too large");
        }
        let digest = Digest::of(manifest);
        let parsed: Manifest = serde_json::from_slice(manifest)
            .map_err(|e| StoreError::Invalid(format!("invalid manifest {digest}: {e}")))?;
        let id = Digest::of(config);
        if parsed.config.digest != id {
            return invalid(format!("image config verification failed for digest {}", parsed.config.digest));
        }
        let config_bytes = config.to_vec();
        let config: ImageConfig = serde_json::from_slice(config)
            .map_err(|e| StoreError::Invalid(format!("invalid image configuration: {e}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != parsed.layers.len() {
            return invalid("layers from manifest don't match image configuration");
        }
        let here = |n: usize| {
            let chain = ChainId::of_all(&diff_ids[..=n])?;
            self.layer(&chain)
        };
        let arrivals = (0..diff_ids.len()).map(|n| here(n).map_or(Arrival::Missing, Arrival::Here));
        let layers = arrivals.map(Mutex::new).collect();
        Ok(Pull {
            store: self.clone(),
            name: name.clone(),
            digest,
            manifest_bytes: manifest.to_vec(),
            manifest: parsed,
            config_bytes,
            config,
            layers,
        })
    }
}

impl Pull {
    /// Digest of the manifest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The image's configuration.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The layers, lowest first: digest and size of each blob, and whether the node has the layer ("Already exists").
    pub fn layers(&self) -> Vec<(Digest, u64, bool)> {
        let there = |n: usize| !matches!(*self.arrival(n), Arrival::Missing);
        let layers = self.manifest.layers.iter().enumerate();
        layers.map(|(n, layer)| (layer.digest.clone(), layer.size, there(n))).collect()
    }

    /// Takes a layer's blob, as it comes over the line. Checks its digest and that of its content. One that is there already is not
    /// read.
    pub fn add_layer(&self, number: usize, blob: impl Read) -> Result<()> {
        let (Some(layer), Some(diff_id)) =
            (self.manifest.layers.get(number), self.config.rootfs.diff_ids.get(number))
        else {
            return invalid(format!("there is no layer {number}"));
        };
        if !matches!(*self.arrival(number), Arrival::Missing) {
            return Ok(());
        }
        let expected = Expected { diff_id: Some(diff_id), blob: Some(&layer.digest) };
        // One byte more than is told: whoever sends more has another blob.
        let staged = self.store.stage(blob.take(layer.size + 1), expected)?;
        let mut arrival = self.arrival(number);
        if matches!(*arrival, Arrival::Missing) {
            *arrival = Arrival::Staged(Box::new(staged));
        }
        Ok(())
    }

    fn arrival(&self, number: usize) -> std::sync::MutexGuard<'_, Arrival> {
        self.layers[number].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Puts the layers in their places, and gives the image its name and digest. `index_digest` is the digest under which the
    /// user knows it if the registry answered with an index: Docker shows and keeps that one.
    pub fn finish(self, index_digest: Option<&Digest>) -> Result<Pulled> {
        let mut top: Option<LayerRef> = None;
        for (number, arrival) in self.layers.into_iter().enumerate() {
            let arrival = arrival.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            top = Some(match arrival {
                Arrival::Here(layer) => layer,
                Arrival::Staged(staged) => self.store.register(*staged, top.as_ref())?,
                Arrival::Missing => return invalid(format!("layer {number} has not come")),
            });
        }
        let new =
            NewImage { config: &self.config_bytes, top: top.as_ref(), parent: None, origin: Origin::Pulled };
        let id = self.store.create(&new)?;
        let digest = index_digest.unwrap_or(&self.digest).clone();
        self.store.keep_manifest(&id, &self.digest, &self.manifest_bytes)?;
        let newer = self.store.name_pulled(&self.name, &id, &digest)?;
        Ok(Pulled { id, digest, newer })
    }
}
