//! `docker save`: images as one tar that is both an OCI image layout and what Docker itself reads (`manifest.json`). Streamed: every
//! size is known before, so nothing is written to disk.

use super::{
    ChainId, LocalStore,
    error::{Result, StoreError},
    layers::LayerRef,
};
use crate::{
    AnyReference, Digest, Reference,
    config::ImageConfig,
    oci::{self, Descriptor, Index, Manifest},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};
use tar::{EntryType, Header};

/// Where containerd keeps the whole name of an image.
const NAME: &str = "io.containerd.image.name";

/// An entry of `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Digest>,
    layer_sources: BTreeMap<Digest, Descriptor>,
}

/// The content of one blob.
enum Blob {
    Bytes(Vec<u8>),
    Layer(LayerRef, u64),
}

/// Everything of the tar, gathered before the first byte is written.
#[derive(Default)]
struct Archive {
    items: Vec<Item>,
    index: Index,
    /// Familiar name → tag → topmost layer: what the oldest engines read.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
    blobs: BTreeMap<Digest, Blob>,
}

impl LocalStore {
    /// Writes images as one tar: by name (all tags of a repository if no tag is given), by id or by the beginning of one. Refuses an
    /// unknown name before anything is written. `saved` hears of each image once all is gathered.
    pub fn save(&self, names: &[&str], to: &mut dyn Write, saved: &mut dyn FnMut(&Digest)) -> Result<()> {
        let (archive, ids) = self.gather(names)?;
        ids.iter().for_each(saved);
        self.write_archive(&archive, to)
    }

    fn gather(&self, names: &[&str]) -> Result<(Archive, Vec<Digest>)> {
        let mut wanted: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for name in names {
            for (id, reference) in self.meant(name)? {
                let known = wanted.iter().position(|(known, _)| *known == id);
                let at = known.unwrap_or_else(|| {
                    wanted.push((id, Vec::new()));
                    wanted.len() - 1
                });
                if let Some(reference) = reference.filter(|r| !wanted[at].1.contains(r)) {
                    wanted[at].1.push(reference);
                }
            }
        }
        let mut archive = Archive::default();
        for (id, references) in &wanted {
            self.gather_image(id, references, &mut archive)?;
        }
        let ids: Vec<_> = wanted.into_iter().map(|(id, _)| id).collect();
        for (item, id) in archive.items.iter_mut().zip(&ids) {
            // A parent that does not come along is of no use elsewhere.
            item.parent = self.get(id)?.parent.filter(|parent| ids.contains(parent));
        }
        Ok((archive, ids))
    }

    /// The images that an argument means, each with the name under which it is saved.
    fn meant(&self, text: &str) -> Result<Vec<(Digest, Option<Reference>)>> {
        let AnyReference::Named(reference) = AnyReference::parse(text)? else {
            return Ok(vec![(self.find(text)?.id, None)]);
        };
        if reference.is_name_only() {
            let fits = |name: &Reference| name.name() == reference.name() && name.tag().is_some();
            let all: Vec<_> = self.names().into_iter().filter(|(name, _)| fits(name)).collect();
            if !all.is_empty() {
                return Ok(all.into_iter().map(|(name, id)| (id, Some(name))).collect());
            }
        }
        match self.id_of(&reference) {
            Some(id) => Ok(vec![(id, Some(reference).filter(|r| r.digest().is_none() && r.tag().is_some()))]),
            None => Ok(vec![(self.find(text)?.id, None)]),
        }
    }

    fn gather_image(&self, id: &Digest, references: &[Reference], archive: &mut Archive) -> Result<()> {
        let bytes = self.config_bytes(id)?;
        let config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Damaged(format!("the configuration of {id} can't be read: {e}")))?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.is_empty() {
            return Err(StoreError::Invalid("empty export - not implemented".into()));
        }
        let mut layers = Vec::new();
        let mut below: Option<ChainId> = None;
        for diff_id in diff_ids {
            let chain = ChainId::of(below.as_ref(), diff_id);
            let missing = || StoreError::Damaged(format!("layer does not exist: {chain}"));
            let layer = self.layer(&chain).ok_or_else(missing)?;
            let size = self.tar_size_of(&layer)?;
            layers.push(Descriptor::new(oci::LAYER_TAR, diff_id.clone(), size));
            archive.blobs.insert(diff_id.clone(), Blob::Layer(layer, size));
            below = Some(chain);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(oci::MANIFEST.into()),
            config: Descriptor::new(oci::CONFIG, id.clone(), bytes.len() as u64),
            layers: layers.clone(),
        };
        let manifest = json(&manifest)?;
        let digest = Digest::of(&manifest);
        let entry = Descriptor::new(oci::MANIFEST, digest.clone(), manifest.len() as u64);
        archive.blobs.insert(id.clone(), Blob::Bytes(bytes));
        archive.blobs.insert(digest, Blob::Bytes(manifest));
        for reference in references {
            let tag = reference.tag().unwrap_or(crate::DEFAULT_TAG).to_owned();
            let mut named = entry.clone();
            named.annotations.insert(NAME.into(), reference.to_string());
            named.annotations.insert(oci::REF_NAME.into(), tag.clone());
            archive.index.manifests.push(named);
            let tags = archive.repositories.entry(reference.familiar_name()).or_default();
            tags.extend(diff_ids.last().map(|top| (tag, top.hex().to_owned())));
        }
        if references.is_empty() {
            archive.index.manifests.push(entry);
        }
        let names: Vec<_> = references.iter().map(Reference::familiar).collect();
        archive.items.push(Item {
            config: blob_path(id),
            repo_tags: Some(names).filter(|n| !n.is_empty()),
            layers: diff_ids.iter().map(blob_path).collect(),
            parent: None,
            layer_sources: diff_ids.iter().cloned().zip(layers).collect(),
        });
        Ok(())
    }

    fn write_archive(&self, archive: &Archive, to: &mut dyn Write) -> Result<()> {
        let mut tar = tar::Builder::new(to);
        for directory in ["blobs/", "blobs/sha256/"] {
            put(&mut tar, directory, EntryType::Directory, 0, &mut io::empty())?;
        }
        for (digest, blob) in &archive.blobs {
            let path = blob_path(digest);
            match blob {
                Blob::Bytes(bytes) => put_file(&mut tar, &path, bytes)?,
                Blob::Layer(layer, size) => {
                    let mut content = self.tar_of(layer.clone())?;
                    put(&mut tar, &path, EntryType::Regular, *size, &mut content.by_ref().take(*size))?;
                    // The last read says whether the layer is still what it was.
                    io::copy(&mut content, &mut io::sink()).map_err(StoreError::io("read a layer"))?;
                }
            }
        }
        put_file(&mut tar, "index.json", &json(&archive.index)?)?;
        put_file(&mut tar, "manifest.json", &json(&archive.items)?)?;
        put_file(&mut tar, "oci-layout", oci::LAYOUT.as_bytes())?;
        if !archive.repositories.is_empty() {
            put_file(&mut tar, "repositories", &json(&archive.repositories)?)?;
        }
        tar.into_inner().and_then(|to| to.flush()).map_err(StoreError::io("write the image"))
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(StoreError::io("write JSON"))
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn put_file(tar: &mut tar::Builder<&mut dyn Write>, path: &str, bytes: &[u8]) -> Result<()> {
    put(tar, path, EntryType::Regular, bytes.len() as u64, &mut &*bytes)
}

fn put(
    tar: &mut tar::Builder<&mut dyn Write>,
    path: &str,
    kind: EntryType,
    size: u64,
    content: &mut dyn Read,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    tar.append_data(&mut header, path, content).map_err(StoreError::io("write the image"))
}
