//! The store: a directory with prepared images, shared by every session of the host (and by several servers, if
//! the operator points them at the same one).
//!
//! ```text
//! oci-layout, index.json     an OCI image layout; names are `org.opencontainers.image.ref.name` annotations
//! blobs/sha256/DIGEST        manifests, configs and compressed layers, for export
//! layers/DIFFID/             each layer unpacked once; what sessions see
//! tmp/                       work in progress; whatever a killed process leaves is deleted at the next use
//! ```
//!
//! Beside the directory, out of sight of the sessions that are shown it (whoever can read a file can lock it):
//!
//! ```text
//! .NAME.lock                 held exclusively by the one process that changes the store
//! .NAME.in-use               held shared by whoever has the store open; unused layers go when nobody has
//! ```
//!
//! A thing gets its final name only when it is complete and on disk, the index last. The directory is closed to all but
//! root: layers hold set-user-id programs and must not be reachable by users of the host.

use crate::{
    Digest, Error, Result,
    config::ImageConfig,
    deflate::Deflating,
    digest::{HashReader, HashWriter, Tee},
    inflate,
    local::content_size,
    oci::{self, Compression, Descriptor, Index, Manifest},
    unpack::{self, Rules},
};
use rustix::fs::FlockOperation;
use serde::Serialize;
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// How far long work is; `detail` may be empty.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What is being done, in a few words ("downloading packages").
    pub stage: &'a str,
    /// The thing that it is at ("vim-common 124 kB").
    pub detail: &'a str,
}

/// An image that is ready to be mounted.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Directories of its layers, **topmost first**, as overlayfs wants them in `lowerdir`. Never empty. The paths
    /// end in 64 hexadecimal digits, so they hold no `:` or `,` of their own beyond the store's path.
    pub layers: Vec<PathBuf>,
    /// Environment for processes, each `NAME=value`.
    pub env: Vec<String>,
}

/// One line of a list of images.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// Name of the image.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// When it was made, RFC 3339; empty if it does not say.
    pub created: String,
    /// Bytes of its compressed layers: about the size of an exported file.
    pub size: u64,
    /// Number of layers.
    pub layers: usize,
}

/// An open store. Keep it open as long as any of its layers is mounted: layers that no name needs any more are
/// deleted by the next build or import unless somebody has the store open.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    in_use: File,
}

impl Store {
    /// Opens the store in a directory and makes it if it is not there. Needs root.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let dir = std::path::absolute(dir.as_ref()).map_err(Error::path("use", dir.as_ref()))?;
        let private = |path: &Path| {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::path("make", path))?;
            let mode = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, mode).map_err(Error::path("set the mode of", path))
        };
        private(&dir)?;
        for sub in ["blobs/sha256", "layers", "tmp"] {
            private(&dir.join(sub))?;
        }
        let path = beside(&dir, "in-use");
        let in_use = lock_file(&path)?;
        // A pruning writer holds this for moments only.
        rustix::fs::flock(&in_use, FlockOperation::LockShared).map_err(Error::path("lock", path))?;
        let store = Self { dir, in_use };
        if !store.dir.join("oci-layout").exists() {
            fs::write(store.dir.join("oci-layout"), oci::LAYOUT).map_err(Error::path("write", &store.dir))?;
        }
        if let Some(lock) = store.try_lock()? {
            // What cannot be deleted now is no reason not to use the store; the next writer says what is wrong.
            let _ = store.clean_tmp(&lock);
        }
        Ok(store)
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Finds an image by name. Takes well under a millisecond.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let (descriptor, manifest, config) = self.read_image(name)?;
        let damaged = |what: String| Error::Damaged { name: name.into(), what };
        if config.rootfs.diff_ids.is_empty() || config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(damaged("its layers do not fit its configuration".into()));
        }
        let layers: Vec<_> = config.rootfs.diff_ids.iter().rev().map(|id| self.layer(id)).collect();
        if let Some(missing) = layers.iter().find(|l| !l.is_dir()) {
            return Err(damaged(format!("{} is missing", missing.display())));
        }
        Ok(Image {
            name: name.into(),
            digest: descriptor.digest,
            layers,
            env: config.config.env.unwrap_or_default(),
        })
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<Listing>> {
        let mut list = Vec::new();
        for entry in self.index()?.manifests {
            let Some(name) = entry.name().map(str::to_owned) else { continue };
            let (_, manifest, config) = self.read_image(&name)?;
            list.push(Listing {
                name,
                digest: entry.digest,
                created: config.created.unwrap_or_default(),
                size: manifest.layers.iter().map(|l| l.size).sum(),
                layers: manifest.layers.len(),
            });
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Manifest and configuration of an image.
    pub(crate) fn read_image(&self, name: &str) -> Result<(Descriptor, Manifest, ImageConfig)> {
        if !oci::is_name(name) {
            return Err(Error::Name(name.escape_debug().to_string()));
        }
        let descriptor = self.index()?.manifests.into_iter().find(|m| m.name() == Some(name));
        let descriptor = descriptor.ok_or_else(|| Error::NotFound(name.into()))?;
        let damaged = |e: Error| Error::Damaged { name: name.into(), what: e.to_string() };
        let manifest: Manifest = self.json(&descriptor.digest).map_err(damaged)?;
        let config = self.json(&manifest.config.digest).map_err(damaged)?;
        Ok((descriptor, manifest, config))
    }

    pub(crate) fn index(&self) -> Result<Index> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(Error::path("understand", path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(e) => Err(Error::path("read", path)(e)),
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        read_json(&self.blob(digest))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    fn try_lock(&self) -> Result<Option<File>> {
        let path = beside(&self.dir, "lock");
        let file = lock_file(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(Error::path("lock", path)(e)),
        }
    }

    /// Becomes the one writer of the store; waits for another one and says so.
    pub(crate) fn writer(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Writer<'_>> {
        let lock = match self.try_lock()? {
            Some(lock) => lock,
            None => {
                progress(Progress {
                    stage: "waiting",
                    detail: "another drydock is preparing an image in this store",
                });
                let path = beside(&self.dir, "lock");
                let file = lock_file(&path)?;
                rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(Error::path("lock", path))?;
                file
            }
        };
        self.clean_tmp(&lock)?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tmp = self.dir.join("tmp").join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&tmp).map_err(Error::path("make", &tmp))?;
        Ok(Writer { store: self, tmp, _lock: lock })
    }

    /// Deletes what writers that were killed have left; the lock proves that none is at work.
    fn clean_tmp(&self, _lock: &File) -> Result<()> {
        let tmp = self.dir.join("tmp");
        for entry in fs::read_dir(&tmp).map_err(Error::path("read", &tmp))? {
            let path = entry.map_err(Error::path("read", &tmp))?.path();
            // A build works outside of the store and has left a note where.
            if let Ok(outside) = fs::read_link(path.join("outside")) {
                refuse_mounts_below(&outside)?;
                remove_tree(&outside)?;
            }
            remove_tree(&path)?;
        }
        Ok(())
    }
}

/// The right to change the store; what it has not committed goes when it is dropped.
pub(crate) struct Writer<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tmp: PathBuf,
    _lock: File,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // If this fails, the next use of the store does it.
        let _ = remove_tree(&self.tmp);
    }
}

impl Writer<'_> {
    /// Takes an uncompressed layer as it comes: unpacks, hashes and compresses it in one pass. Whether it came whole
    /// only its sender knows; [`Writer::keep_tar`] puts it in its place.
    pub(crate) fn take_tar(&self, tar: impl Read, kind: Compression) -> Result<Taken> {
        let blob = self.tmp.join("layer.tar");
        let file = File::create_new(&blob).map_err(Error::path("make", &blob))?;
        let compress = Error::path::<io::Error>("compress", &blob);
        let mut encoder = match Deflating::new(kind, HashWriter::new(file)) {
            Ok(encoder) => encoder,
            Err(e) => return Err(compress(e)),
        };
        let unpacked = self.tmp.join("layer");
        fs::create_dir(&unpacked).map_err(Error::path("make", &unpacked))?;
        let mut plain = HashReader::new(Tee { from: tar, copy: &mut encoder }, unpack::MAX_BYTES);
        unpack::unpack(&mut plain, &unpacked, &Rules::Host)?;
        let (diff_id, tar_size) = plain.finish().map_err(Error::io("cannot read the layer"))?;
        let media_type = encoder.media_type();
        let (file, digest, size) = encoder.finish().map_err(compress)?.finish();
        file.sync_all().map_err(Error::path("write", &blob))?;
        let descriptor = Descriptor::new(media_type, digest, size);
        Ok(Taken { blob, unpacked, descriptor, diff_id, tar_size })
    }

    /// Puts a layer and its blob where they belong.
    pub(crate) fn keep_tar(&self, taken: &Taken) -> Result<()> {
        self.keep_layer(&taken.unpacked, &taken.diff_id)?;
        rename(&taken.blob, &self.store.blob(&taken.descriptor.digest))
    }

    /// Unpacks a compressed layer, unless that was done before, and checks that it is what the configuration says.
    pub(crate) fn unpack_blob(&self, blob: &Path, compression: Compression, diff_id: &Digest) -> Result<()> {
        if self.store.layer(diff_id).is_dir() {
            return Ok(());
        }
        let file = BufReader::new(File::open(blob).map_err(Error::path("open", blob))?);
        let unpacked = self.tmp.join("layer");
        fs::create_dir(&unpacked).map_err(Error::path("make", &unpacked))?;
        let plain = inflate::open(compression, file).map_err(Error::path("read", blob))?;
        let mut plain = HashReader::new(plain, unpack::MAX_BYTES);
        unpack::unpack(&mut plain, &unpacked, &Rules::Host)?;
        let (found, _) = plain.finish().map_err(Error::io("cannot read the layer"))?;
        if found != *diff_id {
            return Err(Error::Digest { expected: format!("layer {diff_id}"), found: found.to_string() });
        }
        self.keep_layer(&unpacked, diff_id)
    }

    fn keep_layer(&self, unpacked: &Path, diff_id: &Digest) -> Result<()> {
        let to = self.store.layer(diff_id);
        if to.is_dir() {
            return remove_tree(unpacked);
        }
        let dir = File::open(unpacked).map_err(Error::path("open", unpacked))?;
        // A crash of the machine must not leave a layer with its final name and empty files.
        rustix::fs::syncfs(&dir).map_err(Error::path("write", unpacked))?;
        rename(unpacked, &to)
    }

    /// Stores a JSON document as a blob.
    pub(crate) fn add_json(&self, media_type: &str, document: &impl Serialize) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(document).map_err(Error::io("cannot write JSON"))?;
        let digest = Digest::of(&bytes);
        self.write_file(&self.store.blob(&digest), &bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// Moves a checked file into the blobs.
    pub(crate) fn keep_blob(&self, file: &Path, digest: &Digest) -> Result<()> {
        rename(file, &self.store.blob(digest))
    }

    /// Gives names to manifests whose blobs and layers are all in place, then deletes what no name needs any more.
    pub(crate) fn commit(self, named: Vec<Descriptor>) -> Result<()> {
        let mut index = self.store.index()?;
        index.manifests.retain(|old| !named.iter().any(|new| new.name() == old.name()));
        index.manifests.extend(named);
        let bytes = serde_json::to_vec_pretty(&index).map_err(Error::io("cannot write JSON"))?;
        self.write_file(&self.store.dir.join("index.json"), &bytes)?;
        self.prune(&index)
    }

    fn write_file(&self, to: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = self.tmp.join("file");
        let mut file = File::create(&temporary).map_err(Error::path("make", &temporary))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::path("write", &temporary))?;
        rename(&temporary, to)
    }

    fn prune(&self, index: &Index) -> Result<()> {
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        for entry in &index.manifests {
            let manifest: Manifest = self.store.json(&entry.digest)?;
            let config: ImageConfig = self.store.json(&manifest.config.digest)?;
            blobs.insert(entry.digest.hex().to_owned());
            blobs.insert(manifest.config.digest.hex().to_owned());
            blobs.extend(manifest.layers.iter().map(|l| l.digest.hex().to_owned()));
            layers.extend(config.rootfs.diff_ids.iter().map(|d| d.hex().to_owned()));
        }
        remove_others(&self.store.dir.join("blobs/sha256"), &blobs)?;
        // Layers may be mounted by sessions of whoever else has the store open.
        let alone = rustix::fs::flock(&self.store.in_use, FlockOperation::NonBlockingLockExclusive).is_ok();
        let pruned = if alone { remove_others(&self.store.dir.join("layers"), &layers) } else { Ok(()) };
        rustix::fs::flock(&self.store.in_use, FlockOperation::LockShared)
            .map_err(Error::path("lock", &self.store.dir))?;
        pruned
    }
}

/// A layer that is unpacked and compressed, but not yet in its place.
pub(crate) struct Taken {
    blob: PathBuf,
    unpacked: PathBuf,
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
    pub(crate) tar_size: u64,
}

impl Taken {
    /// Notes in the manifest what a node would have to count otherwise: the sizes of the layer's files and of its tar.
    pub(crate) fn note_sizes(&mut self) -> Result<()> {
        let size = content_size(&self.unpacked).map_err(Error::path("read", &self.unpacked))?;
        self.descriptor.annotations.insert(oci::CONTENT_SIZE.into(), size.to_string());
        self.descriptor.annotations.insert(oci::TAR_SIZE.into(), self.tar_size.to_string());
        Ok(())
    }
}

/// Reads a JSON document of bounded size.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let file = File::open(path).map_err(Error::path("open", path))?;
    let mut bytes = Vec::new();
    file.take(oci::MAX_JSON).read_to_end(&mut bytes).map_err(Error::path("read", path))?;
    serde_json::from_slice(&bytes).map_err(Error::path("understand", path))
}

/// The path of a store's lock, in the directory that the store is in.
fn beside(dir: &Path, what: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}"))
}

fn lock_file(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::path("open", path))
}

/// Renames and makes the name durable.
fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::path("make", to))?;
    match to.parent() {
        Some(dir) => File::open(dir).and_then(|d| d.sync_all()).map_err(Error::path("write", dir)),
        None => Ok(()),
    }
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            fs::remove_file(path).map_err(Error::path("remove", path))
        }
        other => other.map_err(Error::path("remove", path)),
    }
}

/// A build's mounts are in its own mount namespace; should one have got out, deleting would go through it into the
/// host's file systems.
fn refuse_mounts_below(dir: &Path) -> Result<()> {
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path).map_err(Error::path("read", path))?;
    match mounts.lines().filter_map(|l| l.split(' ').nth(4)).find(|at| Path::new(at).starts_with(dir)) {
        Some(at) => Err(Error::Io {
            what: format!("cannot delete {}: {at} is mounted there, unmount it", dir.display()),
            source: io::ErrorKind::ResourceBusy.into(),
        }),
        None => Ok(()),
    }
}

fn remove_others(dir: &Path, keep: &HashSet<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::path("read", dir))? {
        let entry = entry.map_err(Error::path("read", dir))?;
        if !entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
