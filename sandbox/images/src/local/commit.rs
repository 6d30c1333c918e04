//! Making a layer of a directory in overlayfs' form: a container's upper directory (`docker commit`), or that of a build step.

use super::{
    LocalStore,
    error::{Result, StoreError},
    layers::{LayerRef, SPLIT},
    stage::{Expected, Staged, content_size},
};
use crate::{digest::HashWriter, pack, split::Recorder};
use std::{
    fs,
    io::{self, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

/// Bytes on their way from the packer to the unpacker: so many chunks of so many bytes.
const CHUNKS: usize = 16;
const CHUNK: usize = 64 << 10;

impl LocalStore {
    /// Copies a directory into a new layer. The directory stays as it is and may change meanwhile (a running container); the
    /// layer is what was read.
    pub fn commit_layer(&self, upper: &Path, parent: Option<&LayerRef>) -> Result<LayerRef> {
        let (sender, receiver) = sync_channel(CHUNKS);
        let (packed, staged) = std::thread::scope(|scope| {
            let packer = scope.spawn(move || {
                let mut to = BufWriter::with_capacity(CHUNK, ToChannel(sender));
                pack::pack(upper, &mut to, None)?;
                to.flush()
            });
            let from = FromChannel { chunks: receiver, rest: Vec::new(), at: 0 };
            let staged = self.stage(from, Expected::default());
            (packer.join(), staged)
        });
        // If unpacking failed, packing failed because of that.
        let staged = staged?;
        match packed {
            Ok(packed) => packed.map_err(StoreError::path("read", upper))?,
            Err(_) => return Err(StoreError::Damaged("packing a layer failed".into())),
        }
        self.register(staged, parent)
    }

    /// Moves a directory into a new layer, which copies nothing. It must be on the store's file system, and nobody may write to it
    /// any more. It is gone afterwards, even if this fails.
    pub fn adopt_layer(&self, upper: &Path, parent: Option<&LayerRef>) -> Result<LayerRef> {
        let dir = self.disk().fresh_dir()?;
        let diff = dir.0.join("diff");
        fs::rename(upper, &diff).map_err(StoreError::path("rename", upper))?;
        // A layer's top is not part of its tar, so it must be as it is everywhere.
        let top = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&diff, top).map_err(StoreError::path("chmod", &diff))?;
        let split = dir.0.join(SPLIT);
        let recording = || StoreError::path::<io::Error>("write", &split);
        let mut recorder = Recorder::new(&split, dir.0.join("replaced")).map_err(recording())?;
        let mut to = HashWriter::new(io::sink());
        pack::pack(&diff, &mut to, Some(&mut recorder)).map_err(StoreError::path("read", &diff))?;
        let replaced = recorder.finish().map_err(recording())?;
        let (_, diff_id, tar_size) = to.finish();
        let size = content_size(&diff).map_err(StoreError::path("read", &diff))?;
        let staged = Staged { dir, diff_id, size, tar_size, replaced };
        self.register(staged, parent)
    }
}

struct ToChannel(SyncSender<Vec<u8>>);

impl Write for ToChannel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct FromChannel {
    chunks: Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for FromChannel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            // The sender is gone at the end.
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            (self.rest, self.at) = (chunk, 0);
        }
        let n = (&self.rest[self.at..]).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}
