//! File systems that are made before a container asks for them, because they are the same in all containers of a node.

use super::{dev, groups, spec::SHM_SIZE};
use crate::{Result, error::Context, mounts, session_root};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Detached mounts. A container's child makes for itself what is not there.
#[derive(Debug, Default)]
pub struct Beforehand {
    /// Its `/dev`.
    pub dev: Option<OwnedFd>,
    /// Its `/sys/fs/cgroup`.
    pub groups: Option<OwnedFd>,
    /// What a child has made that waited for its container.
    pub(crate) early: Option<Early>,
}

/// File systems of a child's own namespaces, which it makes while it waits for its container.
#[derive(Debug)]
pub(crate) struct Early {
    /// Its `/proc`.
    pub proc: OwnedFd,
    /// Its message queues.
    pub mqueue: OwnedFd,
    /// Its `/dev/shm`, of the usual size.
    pub shm: OwnedFd,
}

impl Early {
    /// Makes them.
    pub fn make() -> Result<Self> {
        Ok(Self { proc: proc()?, mqueue: mqueue()?, shm: shm(SHM_SIZE)? })
    }
}

/// A `/proc` of the calling process's pid namespace.
pub(super) fn proc() -> Result<OwnedFd> {
    mounts::create("proc", &[], session_root::safe())
}

/// The message queues of its ipc namespace.
pub(super) fn mqueue() -> Result<OwnedFd> {
    mounts::create("mqueue", &[], session_root::safe())
}

/// A `/dev/shm` of this size, in bytes.
pub(super) fn shm(size: u64) -> Result<OwnedFd> {
    let options = [("source", "shm"), ("mode", "1777"), ("size", &size.to_string())];
    mounts::create("tmpfs", &options, session_root::safe())
}

impl Beforehand {
    /// Makes them. Puts the calling thread into a mount namespace of its own, since older kernels mount nothing in what is not attached: the
    /// thread is good for nothing else afterwards.
    ///
    /// # Errors
    /// The kernel refuses a step.
    pub fn make() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).step(|| "make a mount namespace")?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .step(|| "make mounts private")?;
        Ok(Self { groups: groups::prepare()?, dev: Some(dev::prepare()?), early: None })
    }

    /// What is there; what is given to a child in the order in which [`Self::take`] expects it.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let early = self.early.iter().flat_map(|early| [&early.proc, &early.mqueue, &early.shm]);
        [&self.dev, &self.groups].into_iter().flatten().chain(early).map(AsFd::as_fd)
    }

    /// Takes them from the end of a message's descriptors; `dev` and `groups` tell what has come.
    pub(crate) fn take(fds: &mut Vec<OwnedFd>, dev: bool, groups: bool) -> Self {
        let groups = groups.then(|| fds.pop()).flatten();
        Self { dev: dev.then(|| fds.pop()).flatten(), groups, early: None }
    }

    /// Another handle to the same.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let again = |fd: &OwnedFd| fd.try_clone().step(|| "duplicate a descriptor");
        let early = self.early.as_ref().map(|Early { proc, mqueue, shm }| {
            Ok(Early { proc: again(proc)?, mqueue: again(mqueue)?, shm: again(shm)? })
        });
        Ok(Self {
            dev: self.dev.as_ref().map(again).transpose()?,
            groups: self.groups.as_ref().map(again).transpose()?,
            early: early.transpose()?,
        })
    }
}
