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
        let dir = self.disk().fresh_dir()?;
        let diff = dir.0.join("diff");
        fs::create_dir(&diff).map_err(StoreError::path("mkdir", &diff))?;
        let recorder = Recorder::new(&dir.0.join(SPLIT), dir.0.join("replaced"));
        let recorder = RefCell::new(recorder.map_err(StoreError::path("create", dir.0.join(SPLIT)))?);
        let reading = || StoreError::io("read the layer");

        let mut blob = HashReader::new(tar, unpack::MAX_BYTES);
        let (diff_id, tar_size) = {
            let plain = inflate::inflate(&mut blob).map_err(reading())?;
            let mut plain = Watched { from: HashReader::new(plain, unpack::MAX_BYTES), recorder: &recorder };
            unpack::unpack(&mut plain, &diff, &Rules::Node(&recorder))?;
            io::copy(&mut plain, &mut io::sink()).map_err(reading())?;
            plain.from.finish().map_err(reading())?
        };
        let (blob, _) = blob.finish().map_err(reading())?;
        check_blob(expected.blob, &blob)?;
        check_diff_id(expected.diff_id, &diff_id)?;

        let replaced =
            recorder.into_inner().finish().map_err(StoreError::path("write", dir.0.join(SPLIT)))?;
        let size = content_size(&diff).map_err(StoreError::path("read", &diff))?;
        Ok(Staged { dir, diff_id, size, tar_size, replaced })
    }
}

/// In Docker's words for a blob that is not what the manifest says.
fn check_blob(expected: Option<&Digest>, found: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            invalid(format!("filesystem layer verification failed for digest {expected}"))
        }
        _ => Ok(()),
    }
}

fn check_diff_id(expected: Option<&Digest>, found: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            invalid(format!("invalid diffID for layer: expected \"{expected}\", got \"{found}\""))
        }
        _ => Ok(()),
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
