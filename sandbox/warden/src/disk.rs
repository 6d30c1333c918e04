//! Disks of sessions: a btrfs subvolume each, with a quota that the kernel enforces, in one sparse file that is mounted in the
//! warden's own mount namespace. Where btrfs or loop devices are missing, a size-limited tmpfs for each node stands in
//! (its content counts as the session's memory).

use crate::error::{Error, at};
use drydock_protocol::{NodeName, SessionId};
use drydock_runtime::{btrfs, clear, limits::Limits, loopdev, mounts, process};
use rustix::mount::MountAttrFlags;
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read},
    os::{
        fd::AsFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Directory of a session's disk in which is what is being deleted.
const DOOMED: &str = "doomed";
/// What a disk may hold beyond its limit while something is deleted from it, in bytes.
const ROOM: u64 = 256 << 20;
/// So many files are deleted at once, which takes some hundredths of a second.
const SMALL: usize = 2000;

/// Where disks come from.
#[derive(Debug)]
pub enum Disk {
    /// Subvolumes below this directory.
    Btrfs(PathBuf),
    /// A tmpfs per node below this directory.
    Tmpfs(PathBuf),
}

impl Disk {
    /// Mounts the disk file, made anew unless sessions of an earlier warden still use it.
    pub fn mount(state: &Path, bytes: u64, in_use: bool) -> Result<Self, Error> {
        let (file, dir) = (state.join("disk.btrfs"), state.join("disk"));
        let opened = if in_use { reopen(&file) } else { make(&file, bytes) };
        let device = match opened {
            Ok(device) => device,
            Err(e) if in_use => return Err(e),
            Err(e) => {
                tracing::warn!("sessions get their disk from memory: {e}");
                return Ok(Self::Tmpfs(dir));
            }
        };
        let source = device.0.display().to_string();
        let options = [("source", source.as_str()), ("discard", "async")];
        let mount = mounts::create("btrfs", &options, MountAttrFlags::MOUNT_ATTR_NOATIME)?;
        mounts::attach_at(mount.as_fd(), &dir)?;
        if !in_use {
            btrfs::enable_quota(&dir)?;
        }
        Ok(Self::Btrfs(dir))
    }

    /// Makes a session's disk; the directory in which its nodes' directories go.
    pub fn create(&self, id: &SessionId, limits: &Limits) -> Result<PathBuf, Error> {
        match self {
            Self::Btrfs(dir) => btrfs::create(dir, id.as_str(), limits.disk)?,
            Self::Tmpfs(dir) => fs::create_dir(dir.join(id.as_str())).map_err(at(dir))?,
        }
        Ok(self.path(id))
    }

    /// A session's disk.
    pub fn path(&self, id: &SessionId) -> PathBuf {
        match self {
            Self::Btrfs(dir) | Self::Tmpfs(dir) => dir.join(id.as_str()),
        }
    }

    /// Makes the directory of a node ready.
    pub fn prepare_node(&self, id: &SessionId, node: NodeName, limits: &Limits) -> Result<(), Error> {
        let dir = self.path(id).join(node.to_string());
        fs::create_dir(&dir).map_err(at(&dir))?;
        if let Self::Tmpfs(_) = self {
            let size = limits.disk.to_string();
            let tmpfs =
                mounts::create("tmpfs", &[("size", &size), ("mode", "0755")], MountAttrFlags::empty())?;
            mounts::attach_at(tmpfs.as_fd(), &dir)?;
        }
        Ok(())
    }

    /// Deletes the directory of a node that no mount uses any more. The name is free at once; of a large tree most goes in the
    /// background, by a process of its own: it may have millions of files, and everybody waits for the warden.
    pub fn delete_node(&self, id: &SessionId, node: NodeName, limits: &Limits) -> Result<(), Error> {
        let dir = self.path(id).join(node.to_string());
        if let Self::Tmpfs(_) = self
            && mounts::is_mount_point(&dir)
        {
            mounts::detach(&dir)?;
        }
        if !dir.exists() {
            return Ok(());
        }
        let doomed = self.path(id).join(DOOMED);
        // On a full disk not even a name can be changed.
        if let Self::Btrfs(_) = self {
            btrfs::set_limit(&self.path(id), limits.disk + ROOM)?;
        }
        let put_away = || {
            match fs::create_dir(&doomed) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            fs::rename(&dir, clear::free_name(&doomed))
        };
        match put_away() {
            // Files that were just made count for more than they take until they are on the disk.
            Err(e) if e.kind() == ErrorKind::QuotaExceeded => {
                let disk = fs::File::open(self.path(id)).map_err(at(&dir))?;
                rustix::fs::syncfs(&disk).map_err(|e| Error::File(dir.clone(), e.into()))?;
                put_away().map_err(at(&dir))?;
            }
            other => other.map_err(at(&dir))?,
        }
        let (path, limit) = (matches!(self, Self::Btrfs(_)).then(|| self.path(id)), limits.disk);
        let narrow = move || path.map_or(Ok(()), |path| btrfs::set_limit(&path, limit));
        if clear::directory(&doomed, SMALL).map_err(at(&doomed))? {
            return Ok(narrow()?);
        }
        process::detached(move || {
            let cleared = clear::directory(&doomed, usize::MAX);
            // The session may be gone by now, and its disk with it.
            i32::from(cleared.is_err() | narrow().is_err())
        })?;
        Ok(())
    }

    /// Deletes a session's disk, if there is one.
    pub fn delete(&self, id: &SessionId) -> Result<(), Error> {
        let path = self.path(id);
        if !path.exists() {
            return Ok(());
        }
        match self {
            Self::Btrfs(dir) => Ok(btrfs::delete(dir, id.as_str())?),
            Self::Tmpfs(_) => {
                for entry in fs::read_dir(&path).map_err(at(&path))?.flatten() {
                    if mounts::is_mount_point(&entry.path()) {
                        mounts::detach(&entry.path())?;
                    }
                }
                fs::remove_dir_all(&path).map_err(at(&path))
            }
        }
    }
}

/// Device and an open handle to it, which keeps it attached until it is mounted.
type Device = (PathBuf, Option<fs::File>);

fn reopen(file: &Path) -> Result<Device, Error> {
    // Earlier versions let everybody read it.
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(at(file))?;
    loopdev::find(file).map(|path| (path, None)).ok_or_else(|| {
        Error::Host(format!("sessions run, but {} is attached to no loop device", file.display()))
    })
}

/// The file for the disks, empty. What all learners have written is in it: it is root's alone.
fn make_file(file: &Path, bytes: u64) -> Result<(), Error> {
    let _none_yet = fs::remove_file(file);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(at(file))?;
    made.set_len(bytes).map_err(at(file))
}

fn make(file: &Path, bytes: u64) -> Result<Device, Error> {
    make_file(file, bytes)?;
    let mut child = Command::new("mkfs.btrfs")
        .args(["--quiet", "--nodiscard", "--metadata", "single"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::Host(format!("mkfs.btrfs (package btrfs-progs): {e}")))?;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(4096).read_to_string(&mut said).map_err(at("mkfs.btrfs"))?;
    }
    let status = child.wait().map_err(at("mkfs.btrfs"))?;
    if !status.success() {
        return Err(Error::Host(format!("mkfs.btrfs {}: {status}: {}", file.display(), said.trim())));
    }
    let (path, handle) = loopdev::attach(file)?;
    Ok((path, Some(handle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reads_the_disks() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("disk.btrfs");
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        make_file(&file, 4096).unwrap();
        assert_eq!(mode(), 0o600);
        // Also of a file that an earlier version has left, whether it can be used or not.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reopen(&file).is_err());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        make_file(&file, 8192).unwrap();
        assert_eq!(mode(), 0o600);
    }
}
