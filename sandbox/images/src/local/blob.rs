//! A layer as a tar again, and as the compressed blob that a registry gets.

use super::{
    ChainId, LocalStore,
    disk::{self, Scratch},
    error::{Result, StoreError},
    layers::{LayerRef, Place, SPLIT},
};
use crate::{
    Digest,
    digest::{HashReader, HashWriter},
    inflate,
    oci::{self, Compression},
    split::Rejoin,
    unpack::MAX_BYTES,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::PathBuf,
};

/// File of the data base with what is known of a layer's blob.
const BLOB: &str = "blob.json";

/// Reads a layer's uncompressed tar, bit for bit as it came. Reading its end fails if the layer was changed meanwhile.
pub struct LayerTar {
    layer: LayerRef,
    from: Option<HashReader<Box<dyn Read + Send>>>,
}

impl std::fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerTar").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(from) = &mut self.from else { return Ok(0) };
        let n = from.read(buffer)?;
        if n == 0
            && !buffer.is_empty()
            && let Some(from) = self.from.take()
            && from.finish()?.0 != *self.layer.diff_id()
        {
            return Err(io::Error::other(format!(
                "layer {} was changed on disk since it came",
                self.layer.diff_id()
            )));
        }
        Ok(n)
    }
}

/// What is written of a layer's blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// A layer's compressed blob, as a file that goes when this is dropped.
#[derive(Debug)]
pub struct LayerBlob {
    /// `application/vnd.oci.image.layer.v1.tar+gzip`; a layer of the catalogue has what that gave it.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    path: PathBuf,
    _layer: LayerRef,
    _file: Option<Scratch>,
}

impl LayerBlob {
    /// Opens it from its beginning.
    pub fn open(&self) -> Result<File> {
        disk::open_file(&self.path).map_err(StoreError::path("open", &self.path))
    }
}

impl LocalStore {
    /// A layer's uncompressed tar.
    pub fn layer_tar(&self, chain: &ChainId) -> Result<LayerTar> {
        let layer = self.layer(chain);
        self.tar_of(layer.ok_or_else(|| StoreError::Damaged(format!("layer does not exist: {chain}")))?)
    }

    pub(crate) fn tar_of(&self, layer: LayerRef) -> Result<LayerTar> {
        let from: Box<dyn Read + Send> = match &layer.record.place {
            Place::Catalogue { blob, media_type } => {
                let path = self.catalogue_blob_path(blob);
                let file = disk::open_file(&path).map_err(StoreError::path("open", &path))?;
                let kind = Compression::of(media_type)?;
                Box::new(inflate::open(kind, BufReader::new(file)).map_err(StoreError::path("read", &path))?)
            }
            Place::Own { id, replaced } => {
                let dir = self.disk().overlay().join(id);
                let split = self.disk().layer(layer.chain().digest()).join(SPLIT);
                let file = disk::open_file(&split).map_err(StoreError::path("open", &split))?;
                let rejoin = Rejoin::new(file, &dir.join("diff"), dir.join("replaced"), replaced.clone());
                Box::new(rejoin.map_err(StoreError::path("read", &dir))?)
            }
        };
        Ok(LayerTar { layer, from: Some(HashReader::new(from, MAX_BYTES)) })
    }

    /// Bytes of a layer's uncompressed tar. Layers of old catalogues do not say it and are counted.
    pub(crate) fn tar_size_of(&self, layer: &LayerRef) -> Result<u64> {
        match layer.tar_size() {
            0 => io::copy(&mut self.tar_of(layer.clone())?, &mut io::sink())
                .map_err(StoreError::io("read a layer")),
            size => Ok(size),
        }
    }

    /// Media type, digest and size of a layer's blob if they are known already: whoever pushes asks the registry first whether
    /// it has the blob.
    pub fn known_blob(&self, chain: &ChainId) -> Option<(String, Digest, u64)> {
        let layer = self.layer(chain)?;
        if let Place::Catalogue { blob, media_type } = &layer.record.place {
            let size = std::fs::metadata(self.catalogue_blob_path(blob)).ok()?.len();
            return Some((media_type.clone(), blob.clone(), size));
        }
        let bytes = disk::read(&self.disk().layer(chain.digest()).join(BLOB)).ok()?;
        let known: Known = serde_json::from_slice(&bytes).ok()?;
        Some((known.media_type, known.digest, known.size))
    }

    /// A layer's compressed blob: the catalogue's own, else gzip, made now (the same bytes each time).
    pub fn layer_blob(&self, chain: &ChainId) -> Result<LayerBlob> {
        let layer = self.layer(chain);
        let layer = layer.ok_or_else(|| StoreError::Damaged(format!("layer does not exist: {chain}")))?;
        if let Place::Catalogue { blob, .. } = &layer.record.place
            && let Some((media_type, digest, size)) = self.known_blob(chain)
        {
            let path = self.catalogue_blob_path(blob);
            return Ok(LayerBlob { media_type, digest, size, path, _layer: layer, _file: None });
        }
        let scratch = Scratch(self.disk().fresh()?);
        let writing = || StoreError::path::<io::Error>("write", &scratch.0);
        let file = File::create_new(&scratch.0).map_err(writing())?;
        let mut gzip = flate2::write::GzEncoder::new(HashWriter::new(file), flate2::Compression::default());
        io::copy(&mut self.tar_of(layer.clone())?, &mut gzip).map_err(writing())?;
        let (mut file, digest, size) = gzip.finish().map_err(writing())?.finish();
        file.flush().map_err(writing())?;
        let known = Known { media_type: oci::LAYER_GZIP.into(), digest, size };
        let json = serde_json::to_vec(&known).map_err(StoreError::io("write a blob's record"))?;
        self.disk().write(&self.disk().layer(chain.digest()).join(BLOB), &json)?;
        let Known { media_type, digest, size } = known;
        Ok(LayerBlob {
            media_type,
            digest,
            size,
            path: scratch.0.clone(),
            _layer: layer,
            _file: Some(scratch),
        })
    }

    /// The bytes of a manifest that was pulled or pushed, by its digest.
    pub fn manifest(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = disk::read(&self.disk().manifest(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }
}
