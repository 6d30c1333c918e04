//! The host's catalogue on a node: a read-only mount of an image store that all sessions share. Its images are not listed until
//! they are "pulled", which only makes them known: the layers stay where they are. It may be missing, and the operator
//! may add images at any time.

use super::{
    LocalStore, disk,
    error::{Result, StoreError},
    images::{NewImage, Origin},
    layers::{LayerRef, Place},
    names, stage,
};
use crate::{
    Digest, Reference,
    config::ImageConfig,
    oci::{self, Descriptor, Index, Manifest},
};
use std::{collections::BTreeMap, path::PathBuf};

/// An image that can be pulled from the catalogue.
#[derive(Debug, Clone)]
pub struct CatalogueImage {
    /// Its name with a tag.
    pub name: Reference,
    /// Digest of its manifest.
    pub digest: Digest,
    /// What its manifest is.
    pub media_type: String,
    /// Bytes of its manifest.
    pub manifest_size: u64,
    /// Its id when it is pulled.
    pub id: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// What is said of it ([`crate::NewImage::facts`]): where its content comes from.
    pub facts: BTreeMap<String, String>,
    /// Bytes of its compressed layers.
    pub size: u64,
}

/// How far pulling one layer is. Layers are named as Docker does: by the first 12 digits of the digest of what is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStep {
    /// "Already exists"
    Exists,
    /// "Pulling fs layer"
    Pulling,
    /// "Download complete"
    Downloaded,
    /// "Pull complete"
    Complete,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id.
    pub id: Digest,
    /// Digest of its manifest.
    pub digest: Digest,
    /// The name meant nothing or another image before ("Downloaded newer image"); else "Image is up to date".
    pub newer: bool,
}

impl LocalStore {
    /// What the catalogue has, by name; entries that can't be read are left out. Empty if there is no catalogue.
    pub fn catalogue(&self) -> Vec<CatalogueImage> {
        let mut images: Vec<_> =
            self.catalogue_index().iter().filter_map(|entry| self.catalogue_image(entry)).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        images
    }

    /// Looks a name up in the catalogue: by digest if it has one, else by tag (`latest` without one).
    pub fn in_catalogue(&self, name: &Reference) -> Option<CatalogueImage> {
        let wanted = names::key(name);
        let fits = |entry: &&Descriptor| {
            let Some(named) = entry.name().and_then(|n| Reference::parse(n).ok()) else { return false };
            match wanted.digest() {
                Some(digest) => named.name() == wanted.name() && entry.digest.to_string() == digest,
                None => names::key(&named) == wanted,
            }
        };
        self.catalogue_index().iter().find(fits).and_then(|entry| self.catalogue_image(entry))
    }

    /// Makes an image of the catalogue known on the node; `None` if the catalogue does not have it. Nothing is copied.
    pub fn pull_from_catalogue(
        &self,
        name: &Reference,
        progress: &mut dyn FnMut(&str, PullStep),
    ) -> Result<Option<Pulled>> {
        let Some(found) = self.in_catalogue(name) else { return Ok(None) };
        let gone = |what: &Digest| StoreError::Damaged(format!("the catalogue lost {what}: try again"));
        let manifest_bytes = self.catalogue_blob(&found.digest).ok_or_else(|| gone(&found.digest))?;
        let manifest: Manifest = serde_json::from_slice(&manifest_bytes).map_err(|_| gone(&found.digest))?;
        let config = self.catalogue_blob(&found.id).ok_or_else(|| gone(&found.id))?;
        let mut top: Option<LayerRef> = None;
        for (layer, diff_id) in manifest.layers.iter().zip(&found.config.rootfs.diff_ids) {
            let short = &layer.digest.hex()[..12];
            let chain = super::ChainId::of(top.as_ref().map(LayerRef::chain), diff_id);
            top = Some(match self.layer(&chain) {
                Some(there) => {
                    progress(short, PullStep::Exists);
                    there
                }
                None => {
                    progress(short, PullStep::Pulling);
                    let entered = self.enter_from_catalogue(layer, diff_id, top.as_ref())?;
                    progress(short, PullStep::Downloaded);
                    progress(short, PullStep::Complete);
                    entered
                }
            });
        }
        let new = NewImage { config: &config, top: top.as_ref(), parent: None, origin: Origin::Catalogue };
        let id = self.create(&new)?;
        self.keep_manifest(&id, &found.digest, &manifest_bytes)?;
        let newer = self.name_pulled(name, &id, &found.digest)?;
        Ok(Some(Pulled { id, digest: found.digest, newer }))
    }

    fn enter_from_catalogue(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        below: Option<&LayerRef>,
    ) -> Result<LayerRef> {
        let dir = self.disk().catalogue().join("layers").join(diff_id.hex());
        if !dir.is_dir() {
            return Err(StoreError::Damaged(format!("the catalogue has no layer {diff_id}")));
        }
        let noted = |key| layer.annotations.get(key).and_then(|n: &String| n.parse::<u64>().ok());
        let size = match noted(oci::CONTENT_SIZE) {
            Some(size) => size,
            None => stage::content_size(&dir).map_err(StoreError::path("read", &dir))?,
        };
        let place = Place::Catalogue { blob: layer.digest.clone(), media_type: layer.media_type.clone() };
        self.register_in_place(diff_id.clone(), below, (size, noted(oci::TAR_SIZE).unwrap_or(0)), place)
    }

    /// Gives a pulled image its name and its digest. Tells whether the name means something else now.
    pub(crate) fn name_pulled(&self, name: &Reference, id: &Digest, digest: &Digest) -> Result<bool> {
        let canonical = name.name_only().with_digest(&digest.to_string())?;
        let mut wanted = vec![canonical];
        if name.digest().is_none() {
            wanted.push(name.clone().with_default_tag());
        }
        let mut state = self.state();
        if !state.images.contains_key(id) {
            return Err(StoreError::NotFound(id.to_string()));
        }
        let newer = wanted.iter().any(|name| state.names.get(name) != Some(id));
        if newer {
            state.names.set(self.disk(), &wanted, id)?;
        }
        Ok(newer)
    }

    fn catalogue_index(&self) -> Vec<Descriptor> {
        let bytes = disk::read(&self.disk().catalogue().join("index.json")).unwrap_or_default();
        serde_json::from_slice::<Index>(&bytes).map(|index| index.manifests).unwrap_or_default()
    }

    fn catalogue_image(&self, entry: &Descriptor) -> Option<CatalogueImage> {
        let name = Reference::parse(entry.name()?).ok()?.with_default_tag();
        let manifest: Manifest = serde_json::from_slice(&self.catalogue_blob(&entry.digest)?).ok()?;
        let config: ImageConfig =
            serde_json::from_slice(&self.catalogue_blob(&manifest.config.digest)?).ok()?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return None;
        }
        let size = manifest.layers.iter().map(|l| l.size).sum();
        let (digest, facts) = (entry.digest.clone(), entry.annotations.clone());
        let (media_type, manifest_size) = (entry.media_type.clone(), entry.size);
        let id = manifest.config.digest;
        Some(CatalogueImage { name, digest, media_type, manifest_size, id, config, facts, size })
    }

    fn catalogue_blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = disk::read(&self.catalogue_blob_path(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    pub(crate) fn catalogue_blob_path(&self, digest: &Digest) -> PathBuf {
        self.disk().catalogue().join("blobs/sha256").join(digest.hex())
    }
}
