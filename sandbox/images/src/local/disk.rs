//! Where everything lies below `/var/lib/docker`, and reading and writing it. The learner is root on the node and may have
//! put anything there: reads are bounded, never wait for a FIFO and never follow a link; writes are a temporary file and
//! a rename, so that a killed engine leaves the old or the new content.

use super::error::{Result, StoreError};
use crate::Digest;
use rustix::fs::{Mode, OFlags};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Largest file of the data base that is read.
const MAX_FILE: u64 = 16 << 20;

/// The directories of a store.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) root: PathBuf,
    number: AtomicU64,
    /// All directories are there. On a full disk they are made when there is room.
    complete: AtomicBool,
}

impl Disk {
    /// Makes the directories that are missing and clears the temporary one. A full disk can be read, and things on it removed: then
    /// what can't be made is made before the first write.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let disk =
            Self { root: root.to_owned(), number: AtomicU64::new(0), complete: AtomicBool::new(false) };
        // Emptied, not made anew, for which a full disk has no room.
        empty(&disk.temporary())?;
        match disk.complete() {
            Err(error) if !error.is_full() => Err(error),
            _ => Ok(disk),
        }
    }

    fn complete(&self) -> Result<()> {
        if self.complete.load(Ordering::Acquire) {
            return Ok(());
        }
        let directories = [
            self.temporary(),
            self.root.join("overlay2/l"),
            self.database("imagedb/content/sha256"),
            self.database("imagedb/metadata/sha256"),
            self.database("layerdb/sha256"),
            self.database("layerdb/mounts"),
            self.database("manifests/sha256"),
        ];
        for directory in directories {
            self.make_directories(&directory)?;
        }
        self.complete.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes a directory and those above it; something else in their places makes room.
    fn make_directories(&self, directory: &Path) -> Result<()> {
        let below = directory.strip_prefix(&self.root).unwrap_or(directory);
        let mut so_far = self.root.clone();
        for part in below.components() {
            so_far.push(part);
            if fs::symlink_metadata(&so_far).is_ok_and(|found| !found.is_dir()) {
                remove(&so_far)?;
            }
        }
        fs::create_dir_all(directory).map_err(StoreError::path("mkdir", directory))
    }

    /// Work in progress: emptied when the store is opened. On the file system of all the rest.
    fn temporary(&self) -> PathBuf {
        self.root.join("image/overlay2/tmp")
    }

    fn database(&self, path: &str) -> PathBuf {
        self.root.join("image/overlay2").join(path)
    }

    pub(crate) fn repositories(&self) -> PathBuf {
        self.database("repositories.json")
    }

    pub(crate) fn image_contents(&self) -> PathBuf {
        self.database("imagedb/content/sha256")
    }

    pub(crate) fn image_content(&self, id: &Digest) -> PathBuf {
        self.image_contents().join(id.hex())
    }

    pub(crate) fn image_metadata(&self, id: &Digest) -> PathBuf {
        self.database("imagedb/metadata/sha256").join(id.hex())
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.database("manifests/sha256")
    }

    pub(crate) fn manifest(&self, digest: &Digest) -> PathBuf {
        self.manifests().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.database("layerdb/sha256")
    }

    pub(crate) fn layer(&self, chain: &Digest) -> PathBuf {
        self.layers().join(chain.hex())
    }

    pub(crate) fn holds(&self) -> PathBuf {
        self.database("layerdb/mounts")
    }

    pub(crate) fn overlay(&self) -> PathBuf {
        self.root.join("overlay2")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("overlay2/l")
    }

    pub(crate) fn catalogue(&self) -> PathBuf {
        self.root.join("catalogue")
    }

    /// A path for something new; nothing is there yet.
    pub(crate) fn fresh(&self) -> Result<PathBuf> {
        self.complete()?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Ok(self.temporary().join(format!("{}-{number}", std::process::id())))
    }

    /// A new temporary directory, which goes with its guard unless it was moved away.
    pub(crate) fn fresh_dir(&self) -> Result<Scratch> {
        let path = self.fresh()?;
        fs::create_dir(&path).map_err(StoreError::path("mkdir", &path))?;
        Ok(Scratch(path))
    }

    /// Replaces a file in one step.
    pub(crate) fn write(&self, to: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = self.fresh()?;
        let written = fs::write(&temporary, bytes)
            .map_err(StoreError::path("write", to))
            .and_then(|()| replace(&temporary, to));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Takes something out of the tree at once; deleting what it holds may take longer. A full disk has no room for a rename: there
    /// it is deleted where it is.
    pub(crate) fn take_away(&self, path: &Path) -> Option<Scratch> {
        let moved = self.fresh().and_then(|to| {
            fs::rename(path, &to).map_err(StoreError::path("rename", path))?;
            Ok(Scratch(to))
        });
        match moved {
            Ok(scratch) => Some(scratch),
            Err(error) => {
                if error.is_full() {
                    // If this fails, the next opening of the store does it.
                    let _ = remove(path);
                }
                None
            }
        }
    }
}

/// Renames; something else of the name (a directory where a file belongs) makes room.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(e) if matches!(e.raw_os_error(), Some(20 | 21 | 39)) => {
            remove(to)?;
            fs::rename(from, to).map_err(StoreError::path("rename", to))
        }
        other => other.map_err(StoreError::path("rename", to)),
    }
}

/// A temporary file or tree.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the next opening of the store does it.
        let _ = remove(&self.0);
    }
}

/// Removes whatever there is, or nothing.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::path("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes what is in a directory. What is no directory holds nothing.
fn empty(dir: &Path) -> Result<()> {
    if !fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(StoreError::path("open", dir))? {
        remove(&entry.map_err(StoreError::path("read", dir))?.path())?;
    }
    Ok(())
}

/// Opens a regular file without waiting for anything and without following a link.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Reads a whole file of bounded size.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Reads what may be damaged: then it is nothing. An error if only this moment is bad, so that nobody removes what is whole.
pub(crate) fn read_if_whole(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_of_this_moment(&error) => Err(StoreError::path("read", path)(error)),
        Err(_) => Ok(None),
    }
}

/// The machine is short of something.
fn is_of_this_moment(error: &io::Error) -> bool {
    let number = rustix::io::Errno::from_io_error(error);
    number.is_some_and(|number| {
        use rustix::io::Errno;
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR].contains(&number)
    })
}

/// Names in a directory that are digests.
pub(crate) fn digests_in(dir: &Path) -> Result<Vec<Digest>> {
    Ok(names_in(dir)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
}

/// Names in a directory that are text; what is no directory is empty.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let failed = StoreError::path("read", dir);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_of_this_moment(&error) => return Err(failed(error)),
        Err(_) => return Ok(Vec::new()),
    };
    let entries = entries.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Random characters of an alphabet.
pub(crate) fn random(alphabet: &[u8], length: usize) -> Result<String> {
    let mut bytes = vec![0; length];
    let source = Path::new("/dev/urandom");
    File::open(source)
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(StoreError::path("read", source))?;
    Ok(bytes.iter().map(|b| char::from(alphabet[usize::from(*b) % alphabet.len()])).collect())
}

/// Writes a file in a directory that nobody else sees yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create_new(path).and_then(|mut f| f.write_all(bytes)).map_err(StoreError::path("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can't be read just now is not taken for damaged, which would have it deleted.
    #[test]
    fn a_machine_that_is_short_of_descriptors_damages_nothing() {
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(is_of_this_moment(&errno.into()), "{errno}");
        }
        let missing = Path::new("/nowhere/at/all");
        assert_eq!((read_if_whole(missing).unwrap(), names_in(missing).unwrap().len()), (None, 0));
    }
}
