//! The root file system of a container: overlayfs with the layers of its image below and a directory of its own above, all
//! below `/var/lib/docker/overlay2` as Docker has it. Mounted while somebody needs it: the container that runs, a copy, an export.

use crate::error::{Context, Error, Result, is_full};
use drydock_go::io_text;
use drydock_images::local::LayerStack;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Options that are longer are not taken by mount(2).
const PAGE: usize = 4096;
/// The lowest layer of every container: what Docker puts into each (mount points for its own files), so that making them does
/// not count as a change of the container. Below the image's layers, where it hides nothing.
const BASE: &str = "drydock-base";

/// Root file systems of the node.
#[derive(Debug)]
pub struct Roots {
    /// `/var/lib/docker/overlay2`.
    dir: PathBuf,
    users: Mutex<HashMap<String, u32>>,
    /// The disk was too full for what [`Roots::prepare`] does.
    unready: AtomicBool,
}

/// Where the parts of a container's root are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// What the container has changed.
    pub upper: PathBuf,
    /// Scratch space of overlayfs.
    pub work: PathBuf,
    /// The whole, while it is mounted.
    pub merged: PathBuf,
}

/// What lies below all layers of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// What every container needs, and the mark that it is one.
    Container,
    /// The same without the mark, which BuildKit's steps have not.
    Step,
    /// Nothing: files of an image are looked at or taken out.
    Nothing,
}

impl Floor {
    /// Its directory beside those of the containers.
    fn name(self) -> &'static str {
        match self {
            Self::Container => BASE,
            Self::Step => "drydock-step",
            Self::Nothing => "drydock-empty",
        }
    }
}

impl Roots {
    /// Below `/var/lib/docker`.
    pub fn new(root: &Path) -> Self {
        Self { dir: root.join("overlay2"), users: Mutex::default(), unready: AtomicBool::new(false) }
    }

    /// Makes the directories that all containers need, and makes short paths work. What a full disk has no room for is made before
    /// the next container.
    pub fn prepare(&self) -> io::Result<()> {
        match self.make_ready() {
            Err(error) if is_full(&error) => {
                self.unready.store(true, Ordering::Release);
                Ok(())
            }
            made => made,
        }
    }

    fn make_ready(&self) -> io::Result<()> {
        self.make_floors()?;
        // Mount options with relative paths are short enough for an image of 127 layers.
        std::env::set_current_dir(&self.dir)
    }

    fn make_floors(&self) -> io::Result<()> {
        fs::create_dir_all(self.dir.join(Floor::Nothing.name()).join("diff"))?;
        for floor in [Floor::Container, Floor::Step] {
            let base = self.dir.join(floor.name()).join("diff");
            for dir in ["dev/pts", "dev/shm", "etc", "proc", "sys"] {
                fs::create_dir_all(base.join(dir))?;
            }
            let mark = (floor == Floor::Container).then_some(".dockerenv");
            let files = ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
            for path in files.into_iter().chain(mark).map(|file| base.join(file)) {
                if fs::symlink_metadata(&path).is_err() {
                    fs::File::create(path)?;
                }
            }
            let mtab = base.join("etc/mtab");
            if fs::symlink_metadata(&mtab).is_err() {
                symlink("/proc/mounts", mtab)?;
            }
        }
        Ok(())
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a container's parts are.
    pub fn parts(&self, id: &str) -> Parts {
        let dir = self.dir.join(id);
        Parts { upper: dir.join("diff"), work: dir.join("work"), merged: dir.join("merged") }
    }

    /// The layers below, topmost first, as inspection shows them.
    pub fn lower(&self, layers: &LayerStack) -> Vec<PathBuf> {
        layers.dirs.iter().cloned().chain([self.dir.join(BASE).join("diff")]).collect()
    }

    /// Makes the directories of a new container.
    pub fn create(&self, id: &str) -> Result<()> {
        if self.unready.load(Ordering::Acquire) {
            self.make_ready().doing(|| format!("mkdir {}", self.dir.display()))?;
            self.unready.store(false, Ordering::Release);
        }
        let parts = self.parts(id);
        let make = |path: &Path, mode: u32| fs::DirBuilder::new().mode(mode).create(path);
        let dir = self.dir.join(id);
        make(&dir, 0o710)
            .and_then(|()| make(&parts.upper, 0o755))
            .and_then(|()| make(&parts.work, 0o700))
            .and_then(|()| make(&parts.merged, 0o700))
            .doing(|| format!("mkdir {}", dir.display()))
    }

    /// Mounts a container's root, or counts one more user of it. Answers where.
    pub fn mount(&self, id: &str, layers: &LayerStack) -> Result<PathBuf> {
        self.mount_on(Floor::Container, id, layers)
    }

    /// The same on another floor, which counts for the first user only.
    pub fn mount_on(&self, floor: Floor, id: &str, layers: &LayerStack) -> Result<PathBuf> {
        let mut users = self.users();
        let parts = self.parts(id);
        let count = users.entry(id.into()).or_default();
        if *count == 0 {
            self.mount_overlay(floor, id, layers, &parts)?;
        }
        *count += 1;
        Ok(parts.merged)
    }

    fn mount_overlay(&self, floor: Floor, id: &str, layers: &LayerStack, parts: &Parts) -> Result<()> {
        let whole = |dir: &Path| {
            let mut options = String::from("lowerdir=");
            let lower = layers.links.iter().map(|l| dir.join(l)).chain([dir.join(floor.name()).join("diff")]);
            for (n, path) in lower.enumerate() {
                options.push_str(if n > 0 { ":" } else { "" });
                options.push_str(&path.to_string_lossy());
            }
            let own = dir.join(id);
            // Volatile: without it the end of every container syncs the whole disk of the session. A node does not survive a
            // power cut in any case.
            options + &format!(",upperdir={0}/diff,workdir={0}/work,userxattr,volatile", own.display())
        };
        unmark(&parts.work);
        let mut options = whole(&self.dir);
        if options.len() >= PAGE {
            options = whole(Path::new(""));
        }
        mount(Some("overlay"), &parts.merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|e| {
                Error::internal(format!(
                    "error creating overlay mount to {}: {}",
                    parts.merged.display(),
                    io_text(&e.into())
                ))
            })
    }

    /// Counts a user of a root that an earlier engine has mounted.
    pub fn adopt(&self, id: &str) {
        *self.users().entry(id.into()).or_default() += 1;
    }

    /// One user less; the last one unmounts. What is still open in it stays usable until it is closed.
    pub fn unmount(&self, id: &str) {
        let mut users = self.users();
        match users.get_mut(id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                users.remove(id);
                self.detach(id);
            }
        }
    }

    /// Unmounts whatever an earlier engine has left.
    pub fn detach(&self, id: &str) {
        let merged = self.parts(id).merged;
        while umount2(&merged, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    }

    /// Where all of a container's parts are.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// What such a directory is called while it is deleted.
    pub fn doomed(&self, dir: &Path) -> PathBuf {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push("-removing");
        dir.with_file_name(name)
    }

    /// Takes a container's directory out of the way at once and tells where it can be deleted from, which takes longer. A full disk
    /// has no room for that: then it is deleted at once.
    pub fn discard(&self, id: &str) -> io::Result<PathBuf> {
        self.detach(id);
        let dir = self.dir(id);
        let doomed = self.doomed(&dir);
        match fs::rename(&dir, &doomed) {
            Err(e) if is_full(&e) => drydock_runtime::clear::tree(&dir).map(|()| doomed),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(doomed),
        }
    }

    /// Bytes of what a container has changed. Each file counts once.
    pub fn changed_bytes(&self, id: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let mut seen = std::collections::HashSet::new();
        let mut dirs = vec![self.parts(id).upper];
        let mut bytes = 0;
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                // Of the entry itself, never of what a link points to.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    dirs.push(entry.path());
                } else if metadata.nlink() < 2 || seen.insert(metadata.ino()) {
                    bytes += metadata.len();
                }
            }
        }
        bytes
    }
}

/// Removes the mark of an earlier volatile mount, with which the kernel refuses another (overlayfs.rst, "Volatile mount").
fn unmark(work: &Path) {
    let incompatible = work.join("work/incompat");
    // Nothing is there before the first mount; what else is there the mount itself will complain about.
    let _file = fs::remove_file(incompatible.join("volatile/dirty"));
    let _directories =
        fs::remove_dir(incompatible.join("volatile")).and_then(|()| fs::remove_dir(&incompatible));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_containers_floor_has_the_mark_of_one() {
        let temp = tempfile::tempdir().unwrap();
        let roots = Roots::new(temp.path());
        roots.make_floors().unwrap();
        let has = |floor: Floor, file: &str| {
            temp.path().join("overlay2").join(floor.name()).join("diff").join(file).exists()
        };
        assert!(has(Floor::Container, ".dockerenv") && has(Floor::Container, "etc/hosts"));
        assert!(!has(Floor::Step, ".dockerenv") && has(Floor::Step, "etc/hosts"));
        assert!(has(Floor::Nothing, "") && !has(Floor::Nothing, "etc"));
    }

    #[test]
    fn sizes_count_each_file_once() {
        let temp = tempfile::tempdir().unwrap();
        let roots = Roots::new(temp.path());
        fs::create_dir_all(temp.path().join("overlay2")).unwrap();
        roots.create("x").unwrap();
        let upper = roots.parts("x").upper;
        fs::create_dir(upper.join("d")).unwrap();
        fs::write(upper.join("d/a"), "12345").unwrap();
        fs::hard_link(upper.join("d/a"), upper.join("b")).unwrap();
        assert_eq!(roots.changed_bytes("x"), 5);
        let doomed = roots.discard("x").unwrap();
        assert!(doomed.exists() && !roots.parts("x").upper.exists());
    }
}
