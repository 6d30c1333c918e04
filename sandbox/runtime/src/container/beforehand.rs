//! File systems that are made before a container asks for them, because they are the same in all containers of a node.

use super::{dev, groups};
use crate::{Result, error::Context};
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
    /// Its `/proc`, which belongs to its pid namespace: of a child that waited for its container.
    pub proc: Option<OwnedFd>,
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
        Ok(Self { groups: groups::prepare()?, dev: Some(dev::prepare()?), proc: None })
    }

    /// What is there; what is given to a child in the order in which [`Self::take`] expects it.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.dev, &self.groups, &self.proc].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Takes them from the end of a message's descriptors; `dev` and `groups` tell what has come.
    pub(crate) fn take(fds: &mut Vec<OwnedFd>, dev: bool, groups: bool) -> Self {
        let groups = groups.then(|| fds.pop()).flatten();
        Self { dev: dev.then(|| fds.pop()).flatten(), groups, proc: None }
    }

    /// Another handle to the same.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let again = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        let again = |fd| again(fd).step(|| "duplicate a descriptor");
        Ok(Self { dev: again(&self.dev)?, groups: again(&self.groups)?, proc: again(&self.proc)? })
    }
}
