//! The root file system of the spawner and the session process: a small read-only tmpfs with nothing of the host but
//! the few device files that nodes get, and the nodes' roots. See [`build`] for what is in it.

use crate::{Result, error::Context, mounts};
use drydock_protocol::NodeName;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::{
    fs::{CWD, OFlags, open, symlinkat},
    mount::{MountAttrFlags, MountPropagationFlags, mount_change},
};
use std::{
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

/// Device files that a node gets from the host; the kernel makes no others in a user namespace.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// What is a link in every `/dev`: target and name.
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];
/// Their numbers (Linux' `Documentation/admin-guide/devices.txt`).
const NUMBERS: [(u64, u64); 6] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];

/// The directory beside the device files on which the images are mounted while a session is made.
pub(crate) const IMAGES: &str = "images";

/// Makes device files of our own in `place`, an empty directory, in the mount namespace of the caller: what the host makes anew in
/// its `/dev` is gone for running sessions, in which no container would start any more. Needs root.
pub fn own_devices(place: &Path) -> Result<()> {
    let tree = mounts::create(
        "tmpfs",
        &[("size", "64k"), ("mode", "0755"), ("nr_inodes", "16")],
        safe_but_devices(),
    )?;
    mounts::attach_at(tree.as_fd(), place)?;
    for (name, (major, minor)) in DEVICES.into_iter().zip(NUMBERS) {
        let (path, mode) = (place.join(name), Mode::from_bits_truncate(0o666));
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))
            .step(|| format!("make {}", path.display()))?;
        // The umask does not count.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
            .step(|| format!("set the mode of {}", path.display()))?;
    }
    let images = place.join(IMAGES);
    fs::create_dir(&images).step(|| format!("make {}", images.display()))
}

/// Those device files for a session: a detached, read-only mount in which they belong to the session's root, as on a machine. Linux
/// before 6.3 maps no ids of a tmpfs: there they belong to nobody.
pub fn session_devices(place: &Path, userns: BorrowedFd<'_>) -> Result<OwnedFd> {
    mounts::idmapped_devices(place, userns).or_else(|error| {
        tracing::debug!(%error, "device files belong to nobody");
        let tree = mounts::copy(CWD, &place.to_string_lossy(), false)?;
        mounts::set_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, false)?;
        Ok(tree)
    })
}

/// Where the roots of the nodes lie.
const NODES: &str = "/nodes";

/// The place of the container images that all nodes share.
pub fn catalogue() -> &'static Path {
    Path::new("/catalogue")
}

/// The place of a node's root.
pub fn node_path(node: NodeName) -> PathBuf {
    Path::new(NODES).join(node.to_string())
}

/// Builds `/proc`, `/sys`, `/dev/{null,…}`, `/catalogue`, `/nodes` on a tmpfs and makes it the root. Called by the spawner first of all, in
/// its new mount and pid namespaces; afterwards no path of the host can be reached. `shared`: where the device files and the images hang
/// ([`crate::launch::Shared`]); copies of these mounts have the flags that the kernel locked.
pub fn build(shared: Option<&Path>) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| "make mounts private")?;
    let devices: Vec<(&str, OwnedFd)> = DEVICES
        .into_iter()
        .map(|name| {
            let path = shared.unwrap_or(Path::new("/dev")).join(name);
            Ok((name, mounts::copy(CWD, &path.to_string_lossy(), false)?))
        })
        .collect::<Result<_>>()?;
    let images = shared.map(|place| mounts::copy(CWD, &place.join(IMAGES).to_string_lossy(), false));
    let images = images.transpose()?;
    // The kernel lets a new procfs or sysfs in only while an unmasked one of the host is still in sight.
    let proc = mounts::create("proc", &[], safe())?;
    let sys = mounts::create("sysfs", &[], safe() | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let root = mounts::create(
        "tmpfs",
        &[("size", "1m"), ("mode", "0755"), ("nr_inodes", "500")],
        safe_but_devices(),
    )?;
    // Any directory will do to hang the new root on; every machine has this one.
    mounts::attach_at(root.as_fd(), Path::new("/tmp"))?;
    let root = open("/tmp", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .step(|| "open the new root")?;
    mounts::pivot(root.as_fd())?;
    for dir in ["/proc", "/sys", "/dev", "/catalogue", NODES] {
        fs::create_dir(dir).step(|| format!("make {dir}"))?;
    }
    mounts::attach_at(proc.as_fd(), Path::new("/proc"))?;
    mounts::attach_at(sys.as_fd(), Path::new("/sys"))?;
    for (name, device) in &devices {
        let path = Path::new("/dev").join(name);
        fs::write(&path, "").step(|| format!("make {}", path.display()))?;
        mounts::attach_at(device.as_fd(), &path)?;
    }
    if let Some(images) = images {
        mounts::attach_at(images.as_fd(), catalogue())?;
    }
    Ok(())
}

/// Mount attributes of everything that holds neither programs nor devices.
pub(crate) fn safe() -> MountAttrFlags {
    safe_but_devices() | MountAttrFlags::MOUNT_ATTR_NODEV
}

fn safe_but_devices() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// Makes the links of a fresh `/dev`.
pub fn link_devices(dev: BorrowedFd<'_>) -> Result<()> {
    for (target, name) in DEVICE_LINKS {
        symlinkat(target, dev, name).step(|| format!("make /dev/{name}"))?;
    }
    Ok(())
}
