//! Tries the mechanisms of a session for real, as root, with the sandbox's own code: a disk (btrfs in a file), a node's
//! root (overlayfs over an idmapped layer) and a node's network. Each try is made in a thread with mount and network
//! name spaces of its own, which the kernel empties when the thread ends.

use super::Check;
use drydock_runtime::{
    btrfs, loopdev, mounts,
    netlink::{Batch, In, Peer},
    overlay, userns,
};
use nix::{
    mount::MsFlags,
    sched::{CloneFlags, unshare},
};
use rustix::mount::MountAttrFlags;
use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Ids that no server claims (they end below 3,300,000,000).
const BASE: u32 = 4_000_000_000;
/// Size of the disk that is tried; mkfs.btrfs wants about half of it.
const DISK: u64 = 256 << 20;

type Tried<T> = Result<T, String>;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// A disk and a node's root, made below the directory where the server would make them.
pub(super) fn sandbox(state_dir: &Path) -> Vec<Check> {
    let Some(scratch) = Scratch::below(state_dir) else {
        let found = format!("cannot make a directory near {}", state_dir.display());
        return vec![Check::fail(
            "node root",
            found,
            "sessions cannot start",
            "choose a --state-dir that can be written",
        )];
    };
    let dir = scratch.0.clone();
    let tried = std::thread::spawn(move || {
        own_mounts()?;
        let disk = disk(&dir);
        let root = root(&dir, disk.is_ok());
        Ok((disk, root))
    });
    let (disk, root) = match tried.join() {
        Ok(Ok(results)) => results,
        Ok(Err(e)) => (Err(String::clone(&e)), Err(e)),
        Err(_) => (Err("the try itself failed".into()), Err("the try itself failed".into())),
    };
    vec![
        match root {
            Ok(()) => Check::ok("node root", "mounted overlayfs over an idmapped layer"),
            Err(e) => Check::fail(
                "node root",
                e,
                "sessions cannot start",
                "needs overlayfs (modprobe overlay) and a state directory on a local file system with idmapped mounts (ext4, XFS, btrfs)",
            ),
        },
        match disk {
            Ok(()) => Check::ok("session disk", "made a btrfs subvolume with a quota on a loop device"),
            Err(e) => Check::warn(
                "session disk",
                e,
                "disks of nodes are kept in memory (tmpfs) and count as the session's memory",
                "apt-get install btrfs-progs; modprobe btrfs; modprobe loop; in a container, pass /dev/loop-control and loop devices in",
            ),
        },
    ]
}

/// A directory on the file system of the state directory, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn below(state_dir: &Path) -> Option<Self> {
        let near = state_dir.ancestors().find(|a| a.is_dir())?;
        let dir =
            near.join(format!(".drydock-doctor-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir(&dir).ok()?;
        Some(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn own_mounts() -> Tried<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("cannot make a mount namespace: {e}"))?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|e| format!("make mounts private: {e}"))
}

fn disk(dir: &Path) -> Tried<()> {
    let (file, at) = (dir.join("disk.btrfs"), dir.join("disk"));
    fs::create_dir(&at).map_err(text)?;
    File::create(&file).and_then(|f| f.set_len(DISK)).map_err(text)?;
    let mkfs = Command::new("mkfs.btrfs").arg("--quiet").arg(&file).stdin(Stdio::null()).output();
    let mkfs = mkfs.map_err(|e| format!("mkfs.btrfs: {e}"))?;
    if !mkfs.status.success() {
        let said: String = String::from_utf8_lossy(&mkfs.stderr).trim().chars().take(200).collect();
        return Err(format!("mkfs.btrfs: {said}"));
    }
    let (device, handle) = loopdev::attach(&file).map_err(text)?;
    let source = device.display().to_string();
    let mount = mounts::create("btrfs", &[("source", &source)], MountAttrFlags::empty()).map_err(text)?;
    // The device goes when its last user is gone: from here on that is the mount.
    drop(handle);
    mounts::attach_at(mount.as_fd(), &at).map_err(text)?;
    btrfs::enable_quota(&at).map_err(text)?;
    btrfs::create(&at, "session", 16 << 20).map_err(text)
}

fn root(dir: &Path, on_btrfs: bool) -> Tried<()> {
    let disk = if on_btrfs {
        dir.join("disk/session")
    } else {
        let at = dir.join("memory");
        fs::create_dir(&at).map_err(text)?;
        let tmpfs = mounts::create("tmpfs", &[("size", "1m")], MountAttrFlags::empty()).map_err(text)?;
        mounts::attach_at(tmpfs.as_fd(), &at).map_err(text)?;
        at
    };
    let layer = dir.join("layer");
    fs::create_dir(&layer).and_then(|()| fs::write(layer.join("file"), b"")).map_err(text)?;
    let namespace = userns::create(BASE).map_err(text)?;
    let mount: OwnedFd = overlay::create(&[layer], namespace.as_fd(), &disk, "node1", BASE).map_err(text)?;
    let file = mounts::open_below(mount.as_fd(), "file", rustix::fs::OFlags::PATH).map_err(text)?;
    let owner = File::from(file).metadata().map_err(text)?.uid();
    if owner == BASE { Ok(()) } else { Err(format!("ids are not mapped: root's file belongs to {owner}")) }
}

/// A bridge with a pair of interfaces, as each node has one.
pub(super) fn network() -> Check {
    let tried = std::thread::spawn(|| -> Tried<()> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("cannot make a network namespace: {e}"))?;
        let here = nix::unistd::gettid().as_raw();
        let peer = Peer { name: "peer", index: 4, mac: [2, 0, 0, 0, 0, 4] };
        let mut batch = Batch::new();
        batch.bridge("bridge", 2, [2, 0, 0, 0, 0, 2]).veth("port", 3, Some(2), &peer, In::Process(here));
        batch.send().map_err(text)
    });
    match tried.join() {
        Ok(Ok(())) => Check::ok("node network", "made a bridge and a pair of interfaces"),
        Ok(Err(e)) => {
            Check::fail("node network", e, "sessions cannot start", "modprobe bridge; modprobe veth")
        }
        Err(_) => Check::fail(
            "node network",
            "the try itself failed",
            "sessions cannot start",
            "please report this",
        ),
    }
}
