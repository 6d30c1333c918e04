//! The file systems of a node: its root from the overlay, and `/proc`, `/sys`, `/dev` … as on a machine. Called by the node's
//! init in its new namespaces, before anything of the learner runs in this boot of the node; but the disk may be one that a
//! learner has used before, so nothing on it is trusted (no symbolic link is followed, see [`crate::mounts`]).

use crate::{Error, Result, cgroup::NodesDir, error::Context, mounts, session_root};
use drydock_protocol::NodeName;
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::MountAttrFlags,
};
use std::{
    io::Write,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// What the init keeps of it.
#[derive(Debug)]
pub struct NodeRoot {
    /// The node's root directory.
    pub root: OwnedFd,
    /// The node's devpts, for making ptys.
    pub devpts: OwnedFd,
}

/// Mounts that are made while the session's own `/proc` and `/sys` are in sight (the kernel asks for that), to be
/// attached after the pivot: where, what.
type Prepared = Vec<(String, OwnedFd)>;

/// Makes the node's root the root of this mount namespace and mounts the rest.
pub fn enter(node: NodeName, cgroup: &NodesDir) -> Result<NodeRoot> {
    let place = session_root::node_path(node);
    let root = open(&place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open the root of {node}"))?;
    let devpts = mounts::create(
        "devpts",
        &[("mode", "0620"), ("gid", "5"), ("ptmxmode", "0666"), ("max", "256")],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    let prepared = prepare(cgroup)?;
    let devices = prepare_devices()?;
    mounts::pivot(root.as_fd())?;
    let root =
        open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step(|| "open /")?;
    for (path, mount) in &prepared {
        mounts::attach_below(mount.as_fd(), root.as_fd(), path)?;
    }
    mounts::attach_below(devpts.as_fd(), root.as_fd(), "dev/pts")?;
    fill_dev(root.as_fd(), &devices)?;
    Ok(NodeRoot { root, devpts })
}

fn prepare(cgroup: &NodesDir) -> Result<Prepared> {
    let safe = session_root::safe();
    let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let tmpfs = |options: &[(&str, &str)], attributes| mounts::create("tmpfs", options, attributes);
    let mut list: Prepared = vec![
        ("proc".into(), mounts::create("proc", &[], safe)?),
        ("sys".into(), mounts::create("sysfs", &[], safe)?),
        ("dev".into(), tmpfs(&[("mode", "0755"), ("size", "1m"), ("nr_inodes", "1000")], no_suid)?),
        ("dev/shm".into(), tmpfs(&[("mode", "1777"), ("size", "64m")], safe)?),
        ("dev/mqueue".into(), mounts::create("mqueue", &[], safe)?),
        (
            "run".into(),
            tmpfs(&[("mode", "0755"), ("size", "64m")], no_suid | MountAttrFlags::MOUNT_ATTR_NODEV)?,
        ),
        // `ip netns exec` takes `/sys` away before it mounts that of the other network, which the kernel lets it do only while
        // one is still in sight.
        ("run/sysfs".into(), mounts::create("sysfs", &[], safe)?),
    ];
    list.extend(prepare_cgroups(cgroup)?);
    Ok(list)
}

/// `/sys/fs/cgroup` as the host has it: one v2 tree, or a tmpfs with one directory for each v1 hierarchy.
fn prepare_cgroups(cgroup: &NodesDir) -> Result<Prepared> {
    let safe = session_root::safe();
    let mut list: Prepared = Vec::new();
    for controllers in cgroup.layout() {
        match controllers {
            None => list.push(("sys/fs/cgroup".into(), mounts::create("cgroup2", &[], safe)?)),
            Some(controllers) => {
                if list.is_empty() {
                    let options = [("mode", "0755"), ("size", "64k")];
                    list.push(("sys/fs/cgroup".into(), mounts::create("tmpfs", &options, safe)?));
                }
                let options: Vec<(&str, &str)> = controllers.iter().map(|c| (c.as_str(), "")).collect();
                let path = format!("sys/fs/cgroup/{}", controllers.join(","));
                list.push((path, mounts::create("cgroup", &options, safe)?));
            }
        }
    }
    Ok(list)
}

fn prepare_devices() -> Result<Vec<(&'static str, OwnedFd)>> {
    let copy = |name: &'static str| Ok((name, mounts::copy(CWD, &format!("/dev/{name}"), false)?));
    session_root::DEVICES.into_iter().map(copy).collect()
}

/// `/dev` is a fresh tmpfs: only our own names are in it.
fn fill_dev(root: BorrowedFd<'_>, devices: &[(&str, OwnedFd)]) -> Result<()> {
    let dev = mounts::open_below(root, "dev", OFlags::PATH | OFlags::DIRECTORY).step(|| "open /dev")?;
    for (name, device) in devices {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        mounts::open_below(dev.as_fd(), name, flags).step(|| format!("make /dev/{name}"))?;
        mounts::attach_below(device.as_fd(), dev.as_fd(), name)?;
    }
    session_root::link_devices(dev.as_fd())
}

/// Writes a file of `/etc`, unless it already says the same. A learner may have made a link or a directory of it: then it
/// is theirs, and stays.
pub fn write_etc(root: BorrowedFd<'_>, name: &str, content: &str) -> Result<()> {
    let path = format!("etc/{name}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match mounts::open_below(root, &path, flags) {
        Ok(file) => std::fs::File::from(file).write_all(content.as_bytes()).step(|| format!("write /{path}")),
        Err(e)
            if matches!(e.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO | libc::ENOENT)) =>
        {
            tracing::debug!(path, "left as the learner made it");
            Ok(())
        }
        Err(e) => Err(Error::new(format!("open /{path}"), e)),
    }
}

/// True if `path` exists below `root` (links followed inside it).
pub fn exists(root: BorrowedFd<'_>, path: &str) -> bool {
    rustix::fs::openat2(
        root,
        Path::new(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        rustix::fs::ResolveFlags::IN_ROOT,
    )
    .is_ok()
}
