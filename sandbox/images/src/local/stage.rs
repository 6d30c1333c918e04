//! Taking a layer in: a tar from anywhere, unpacked into a temporary directory, hashed and split on the way. Which layers it
//! comes on top of is decided afterwards, so several can be taken in at once.

use super::{
    LocalStore,
    disk::Scratch,
    error::{Result, StoreError, invalid},
    layers::{LayerRef, SPLIT},
};
use crate::{
    Digest,
    digest::HashReader,
    inflate,
    split::Recorder,
    unpack::{self, Rules},
};
use std::{
    cell::RefCell,
    collections::HashSet,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// An unpacked layer without a place. Goes away unless it is registered.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) dir: Scratch,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) tar_size: u64,
    pub(crate) replaced: Vec<u32>,
}

/// What a layer must turn out to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected<'a> {
    pub(crate) diff_id: Option<&'a Digest>,
    pub(crate) blob: Option<&'a Digest>,
}

impl LocalStore {
    /// Takes a layer from a tar (plain, gzip or zstd) and puts it on top of another one. Nothing is left of one that fails.
    pub fn add_layer(&self, tar: impl Read, parent: Option<&LayerRef>) -> Result<LayerRef> {
        self.register(self.stage(tar, Expected::default())?, parent)
    }

    /// The same for a layer that is known by the digest of its uncompressed tar.
    pub fn add_known_layer(
        &self,
        tar: impl Read,
        parent: Option<&LayerRef>,
        diff_id: &Digest,
    ) -> Result<LayerRef> {
        let expected = Expected { diff_id: Some(diff_id), blob: None };
        self.register(self.stage(tar, expected)?, parent)
    }

    pub(crate) fn stage(&self, tar: impl Read, expected: Expected<'_>) -> Result<Staged> {
        let Some(digest) = expected.blob else { return self.stage_plain(tar, expected.diff_id) };
        let mut blob = HashReader::new(tar, unpack::MAX_BYTES);
        let staged = self.stage_plain(&mut blob, expected.diff_id);
        if staged.as_ref().is_err_and(StoreError::is_full) {
            return staged;
        }
        // A blob that is not what was asked for explains why it can't be unpacked.
        let (found, _) = blob.finish().map_err(StoreError::io("read the layer"))?;
        if found != *digest {
            return invalid(format!("filesystem layer verification failed for digest {digest}"));
        }
        staged
    }

    fn stage_plain(&self, tar: impl Read, expected: Option<&Digest>) -> Result<Staged> {
        let dir = self.disk().fresh_dir()?;
        let diff = dir.0.join("diff");
        fs::create_dir(&diff).map_err(StoreError::path("mkdir", &diff))?;
        let split = dir.0.join(SPLIT);
        let recorder = Recorder::new(&split, dir.0.join("replaced"));
        let recorder = RefCell::new(recorder.map_err(StoreError::path("create", &split))?);
        let reading = || StoreError::io("read the layer");

        let plain = inflate::inflate(tar).map_err(reading())?;
        let mut plain = Watched { from: HashReader::new(plain, unpack::MAX_BYTES), recorder: &recorder };
        unpack::unpack(&mut plain, &diff, &Rules::Node(&recorder))?;
        io::copy(&mut plain, &mut io::sink()).map_err(reading())?;
        let (diff_id, tar_size) = plain.from.finish().map_err(reading())?;
        if let Some(expected) = expected.filter(|expected| **expected != diff_id) {
            return invalid(format!("invalid diffID for layer: expected \"{expected}\", got \"{diff_id}\""));
        }

        let replaced = recorder.into_inner().finish().map_err(StoreError::path("write", &split))?;
        let size = content_size(&diff).map_err(StoreError::path("read", &diff))?;
        Ok(Staged { dir, diff_id, size, tar_size, replaced })
    }
}

/// Lets the recorder see what passes.
struct Watched<'a, R> {
    from: R,
    recorder: &'a RefCell<Recorder>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.recorder.borrow_mut().pass(&buffer[..n])?;
        Ok(n)
    }
}

/// The size of a layer as Docker counts it: of everything but directories, each file once.
pub(crate) fn content_size(dir: &Path) -> io::Result<u64> {
    let (mut size, mut seen) = (0, HashSet::new());
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                pending.push(entry.path());
            } else if found.nlink() == 1 || seen.insert(found.ino()) {
                size += found.size();
            }
        }
    }
    Ok(size)
}
