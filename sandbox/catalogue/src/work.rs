//! The directory in which an image is made. Whatever ends this process, nothing stays: mounts are in a mount namespace of their own,
//! and a directory whose owner is gone is deleted by whoever works next.

use crate::{Error, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use rustix::fs::FlockOperation;
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Beginning of the names of work directories.
const NAME: &str = "drydock-catalogue-";

/// The mounts that this thread sees: a namespace belongs to a thread.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// A work directory; goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Work {
    dir: PathBuf,
    /// Held as long as somebody works in it.
    _lock: File,
}

impl Work {
    /// Makes one on disk (`TMPDIR`, else `/var/tmp`), and deletes those of processes that were killed.
    pub(crate) fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let above = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let above = std::path::absolute(&above).map_err(Error::path("use", &above))?;
        sweep(&above);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = above.join(format!("{NAME}{}-{number}", std::process::id()));
        // Closed to all others at first: nobody else may take the lock.
        DirBuilder::new().mode(0o700).create(&dir).map_err(Error::path("make", &dir))?;
        let lock = lock(&dir)?
            .ok_or_else(|| Error::path("lock", &dir)(io::Error::from(io::ErrorKind::WouldBlock)))?;
        let work = Self { dir, _lock: lock };
        // mmdebstrap's apt downloads without root's rights and must get through.
        fs::set_permissions(&work.dir, fs::Permissions::from_mode(0o711))
            .map_err(Error::path("set the mode of", &work.dir))?;
        Ok(work)
    }

    /// A new directory in it with this mode.
    pub(crate) fn sub(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir(&path).map_err(Error::path("make", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(Error::path("set the mode of", &path))?;
        Ok(path)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Mounts of ours are below it; the last one first.
        let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
        for at in mounts_below(&mounts, &self.dir).into_iter().rev() {
            let _gone_with_the_process = umount2(at, MntFlags::MNT_DETACH);
        }
        // If this fails, the next one's sweep does it.
        let _left_over = remove(&self.dir);
    }
}

/// Gives this thread (and those that it starts) a mount namespace of its own, so that no mount outlives the process.
pub(crate) fn own_mounts() -> Result<()> {
    let failed = "cannot make a mount namespace";
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::io(failed))?;
    // Nothing from here gets out; what the host mounts meanwhile still gets in.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .map_err(Error::io(failed))
}

fn lock(dir: &Path) -> Result<Option<File>> {
    let file = File::open(dir).map_err(Error::path("open", dir))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(Error::path("lock", dir)(e)),
    }
}

/// Deletes directories that nobody works in. Others than root can put names here, so only root's own directories count.
fn sweep(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(NAME);
        let owned = || entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == 0);
        if ours
            && owned()
            && let Ok(Some(_lock)) = lock(&entry.path())
        {
            let _left_over = remove(&entry.path());
        }
    }
}

/// Deletes a tree, but never through a mount.
fn remove(dir: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string(MOUNTS)?;
    if !mounts_below(&mounts, dir).is_empty() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    fs::remove_dir_all(dir)
}

/// The mount points below a directory, in the order in which they were made. The directory's name has no character that mountinfo
/// would write in another way.
fn mounts_below<'a>(mountinfo: &'a str, dir: &Path) -> Vec<&'a str> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|at| Path::new(at).starts_with(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_living_stay_and_those_of_the_dead_go() {
        let above = tempfile::tempdir().unwrap();
        let [living, dead, other] =
            [format!("{NAME}1"), format!("{NAME}2"), "other".into()].map(|n| above.path().join(n));
        for dir in [&living, &dead, &other] {
            fs::create_dir(dir).unwrap();
        }
        let _held = lock(&living).unwrap().unwrap();
        sweep(above.path());
        assert!(living.exists() && other.exists());
        let root = nix::unistd::geteuid().is_root();
        assert_eq!(dead.exists(), !root);
    }
}
