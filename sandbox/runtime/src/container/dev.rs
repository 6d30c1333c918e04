//! `/dev` of a container. Most of it is the same in all containers and needs nothing of any, so the engine has one made beforehand
//! ([`super::beforehand`]); what belongs to the container's own namespaces its child adds.

use crate::{Result, error::Context, mounts, session_root};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat},
    mount::MountAttrFlags,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// What a `/dev` is made of: a tmpfs that is attached nowhere, and what will be mounted in it.
pub(super) struct Dev {
    /// The tmpfs.
    pub tree: OwnedFd,
    /// Its devpts.
    pub devpts: OwnedFd,
    /// Nothing, once they are mounted.
    devices: Vec<(&'static str, OwnedFd)>,
}

impl Dev {
    /// Makes the file systems, while the node's devices are in sight.
    pub(super) fn make() -> Result<Self> {
        let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID;
        let terminals = [("mode", "0620"), ("gid", "5"), ("ptmxmode", "0666"), ("max", "256")];
        let device = |name| Ok((name, mounts::copy(CWD, &format!("/dev/{name}"), false)?));
        Ok(Self {
            tree: mounts::create(
                "tmpfs",
                &[("mode", "0755"), ("size", "65536k"), ("nr_inodes", "4096")],
                no_suid,
            )?,
            devpts: mounts::create("devpts", &terminals, no_suid | MountAttrFlags::MOUNT_ATTR_NOEXEC)?,
            devices: session_root::DEVICES.into_iter().map(device).collect::<Result<_>>()?,
        })
    }

    /// One that [`prepare`] has made.
    pub(super) fn prepared(tree: OwnedFd) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let devpts = openat(&tree, "pts", flags, Mode::empty()).step(|| "open /dev/pts")?;
        Ok(Self { tree, devpts, devices: vec![] })
    }

    /// Fills the tmpfs, which is attached by now; one that was prepared is full.
    pub(super) fn fill(&mut self) -> Result<()> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let dev = self.tree.as_fd();
        attach_new(dev, "pts", self.devpts.as_fd())?;
        for (name, device) in self.devices.drain(..) {
            // An empty file to mount on.
            mknodat(dev, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
                .step(|| format!("make /dev/{name}"))?;
            mounts::attach_named(device.as_fd(), dev, name)?;
        }
        session_root::link_devices(dev)
    }
}

/// Makes a directory in a file system that is fresh, so that only our own names are in it, and mounts something on it.
pub(super) fn attach_new(fresh: BorrowedFd<'_>, name: &str, tree: BorrowedFd<'_>) -> Result<()> {
    mkdirat(fresh, name, Mode::from_raw_mode(0o755)).step(|| format!("make directory {name}"))?;
    mounts::attach_named(tree, fresh, name)
}

/// Makes a `/dev` for a container to come. It is attached to the calling thread's `/dev`, which must be in a mount namespace of its own.
///
/// # Errors
/// The kernel refuses a step; without a prepared one the container's child makes its own.
pub(super) fn prepare() -> Result<OwnedFd> {
    let mut dev = Dev::make()?;
    mounts::attach_at(dev.tree.as_fd(), Path::new("/dev"))?;
    dev.fill()?;
    mounts::all_again(dev.tree.as_fd())
}
