//! `/sys/fs/cgroup` of a container. On v1 it is a tmpfs with a directory for each hierarchy; that, and the hierarchies in which a container
//! seldom has a group of its own, the engine has made beforehand ([`prepare`]).

use super::{
    dev::attach_new,
    spec::{ContainerSpec, Namespace},
};
use crate::{Result, cgroup, error::Context, mounts, session_root};
use rustix::{
    fs::{CWD, Mode, fstatfs, mkdirat, open},
    mount::MountAttrFlags,
};
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Where the hierarchies are.
pub const DIR: &str = "/sys/fs/cgroup";
/// `TMPFS_MAGIC` (linux/magic.h).
pub(super) const TMPFS: u64 = 0x0102_1994;

/// A hierarchy of the node, for a container.
#[derive(Debug, Clone, Copy)]
pub struct Hierarchy<'a> {
    /// As [`cgroup::NodesDir::layout`] tells them.
    pub controllers: Option<&'a [String]>,
    /// Whether the container has a group of its own in it.
    pub own: bool,
}

/// The file systems, not yet attached.
#[derive(Default)]
pub(super) struct Groups {
    /// The v2 hierarchy, or a directory for those of v1.
    top: Option<OwnedFd>,
    /// It is what [`prepare`] has made.
    prepared: bool,
    /// The hierarchies of v1 by name.
    hierarchies: Vec<(String, OwnedFd)>,
}

impl Groups {
    /// Makes them, while those of the node are in sight. `prepared` is what [`prepare`] has made, if it has: it can't be written, and shows
    /// the node's group in those hierarchies in which containers seldom have one of their own.
    pub(super) fn make(
        spec: &ContainerSpec,
        hierarchies: &[Hierarchy<'_>],
        prepared: Option<OwnedFd>,
        attributes: MountAttrFlags,
    ) -> Result<Self> {
        let usual = !spec.writes_cgroups()
            && spec.namespaces.cgroup == Namespace::New
            && hierarchies.iter().all(|h| h.own != h.controllers.is_some_and(cgroup::shared));
        let top = prepared.filter(|_| usual);
        let mut all = Self { prepared: top.is_some(), top, hierarchies: vec![] };
        for hierarchy in hierarchies {
            let Some(names) = hierarchy.controllers else {
                all.top = Some(mount(spec, "cgroup2", &[], "", attributes)?);
                continue;
            };
            if all.prepared && !hierarchy.own {
                continue;
            }
            if all.top.is_none() {
                all.top = Some(directory()?);
            }
            let options: Vec<(&str, &str)> = names.iter().map(|c| (c.as_str(), "")).collect();
            let name = names.join(",");
            let tree = mount(spec, "cgroup", &options, &name, attributes)?;
            all.hierarchies.push((name, tree));
        }
        Ok(all)
    }

    /// What is to be attached at [`DIR`].
    pub(super) fn top(&self) -> Option<BorrowedFd<'_>> {
        self.top.as_ref().map(AsFd::as_fd)
    }

    /// Attaches the hierarchies below it.
    pub(super) fn fill(&self, writable: bool) -> Result<()> {
        let Some(top) = &self.top else { return Ok(()) };
        for (name, tree) in &self.hierarchies {
            if self.prepared {
                mounts::attach_named(tree.as_fd(), top.as_fd(), name)?;
            } else {
                attach_new(top.as_fd(), name, tree.as_fd())?;
            }
        }
        if !writable && !self.prepared && !self.hierarchies.is_empty() {
            mounts::set_attributes(top.as_fd(), libc::MOUNT_ATTR_RDONLY, false)?;
        }
        Ok(())
    }
}

/// A hierarchy as the container sees it: its own group as root with a cgroup namespace of its own, else the node's.
fn mount(
    spec: &ContainerSpec,
    kind: &str,
    options: mounts::Options<'_>,
    name: &str,
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    if spec.namespaces.cgroup == Namespace::New {
        return mounts::create(kind, options, attributes);
    }
    node(name, attributes)
}

/// A hierarchy as the node sees it.
fn node(name: &str, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let tree = mounts::copy(CWD, Path::new(DIR).join(name).to_string_lossy().as_ref(), false)?;
    mounts::set_attributes(tree.as_fd(), attributes.bits(), false)?;
    Ok(tree)
}

fn directory() -> Result<OwnedFd> {
    mounts::create("tmpfs", &[("mode", "0755"), ("size", "64k")], session_root::safe())
}

/// Makes the directory for a container to come, of a node whose hierarchies are v1's: what is the same in all containers. It is attached to
/// the calling thread's [`DIR`], which must be in a mount namespace of its own. Nothing on v2.
///
/// # Errors
/// The kernel refuses a step; without a prepared one the container's child makes its own.
pub(super) fn prepare() -> Result<Option<OwnedFd>> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = open(DIR, flags, Mode::empty()).step(|| format!("open {DIR}"))?;
    if fstatfs(&dir).step(|| format!("look at {DIR}"))?.f_type.cast_unsigned() != TMPFS {
        return Ok(None);
    }
    let locked = session_root::safe() | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let entries = fs::read_dir(DIR).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut hierarchies = vec![];
    for entry in entries.step(|| format!("read {DIR}"))? {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let controllers: Vec<String> = name.split(',').map(str::to_owned).collect();
        let tree = if cgroup::shared(&controllers) { Some(node(&name, locked)?) } else { None };
        hierarchies.push((name, tree));
    }
    let top = directory()?;
    mounts::attach_at(top.as_fd(), Path::new(DIR))?;
    for (name, tree) in &hierarchies {
        match tree {
            Some(tree) => attach_new(top.as_fd(), name, tree.as_fd())?,
            None => mkdirat(&top, name.as_str(), Mode::from_raw_mode(0o755))
                .step(|| format!("make directory {name}"))?,
        }
    }
    mounts::set_attributes(top.as_fd(), libc::MOUNT_ATTR_RDONLY, false)?;
    mounts::all_again(top.as_fd()).map(Some)
}
