//! Mounts by descriptor (fsopen(2), open_tree(2), move_mount(2)): a file system is made first and attached last, so no
//! path that a learner can change is looked up in between.

use crate::{Error, Result, error::Context};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, mkdirat, openat2, statx},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
        unmount,
    },
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Options of a new file system: `(key, value)`, or a flag where the value is empty.
pub type Options<'a> = &'a [(&'a str, &'a str)];

/// A new file system of this type, not attached anywhere. Without another source it is called after its type, as `mount` and `df` show it.
pub fn create(fs: &str, options: Options<'_>, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC).step(|| format!("fsopen {fs}"))?;
    let source = [("source", fs)];
    let source = source.iter().filter(|_| !options.iter().any(|(key, _)| *key == "source"));
    for (key, value) in source.chain(options) {
        let set = if value.is_empty() {
            fsconfig_set_flag(&context, *key)
        } else {
            fsconfig_set_string(&context, *key, *value)
        };
        set.step(|| format!("{fs}: set {key}={value}"))?;
    }
    fsconfig_create(&context).step(|| format!("create {fs}{}", kernel_says(&context)))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).step(|| format!("fsmount {fs}"))
}

/// The kernel's own words about a failed fsconfig, if it left any in the context.
fn kernel_says(context: &OwnedFd) -> String {
    let mut text = [0; 512];
    match rustix::io::read(context, &mut text) {
        Ok(n) => format!(" ({})", String::from_utf8_lossy(&text[..n]).trim()),
        Err(_) => String::new(),
    }
}

/// A detached copy of the mount at `path` (below `at`): a directory with all mounts under it if `recursive`, or a file.
pub fn copy(at: BorrowedFd<'_>, path: &str, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(at, path, flags).step(|| format!("copy the mount of {path}"))
}

/// A detached copy of the mount that `mount` is the root of.
pub fn again(mount: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(mount, "", flags | OpenTreeFlags::AT_EMPTY_PATH).step(|| "copy a mount")
}

/// The same with all mounts below it.
pub fn all_again(mount: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(mount, "", flags | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE)
        .step(|| "copy mounts")
}

/// A detached, read-only copy of a directory's mount in which the host's ids 0 … 65,535 appear as the ids that `userns`
/// maps 0 … 65,535 to: an idmapped mount (mount_setattr(2)). Needs root and Linux 5.19 (for overlayfs on top).
pub fn idmapped(directory: &Path, userns: BorrowedFd<'_>) -> Result<OwnedFd> {
    mapped(directory, userns, libc::MOUNT_ATTR_NODEV)
}

/// The same of a directory with device files, which can be used. Linux 6.3 for a tmpfs.
pub fn idmapped_devices(directory: &Path, userns: BorrowedFd<'_>) -> Result<OwnedFd> {
    mapped(directory, userns, 0)
}

fn mapped(directory: &Path, userns: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree =
        open_tree(CWD, directory, flags).step(|| format!("copy the mount of {}", directory.display()))?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY | attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(userns.as_raw_fd().cast_unsigned()),
    };
    // SAFETY: the path is an empty C string, and the kernel reads exactly the given size of `attributes`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if done == 0 {
        return Ok(tree);
    }
    Err(Error::new(format!("map the ids of {}", directory.display()), io::Error::last_os_error()))
}

/// Sets attributes (`MOUNT_ATTR_…`) of a detached mount, or of the one that `mount` is the root of; with `recursive` of all
/// below it too (mount_setattr(2), Linux 5.12).
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: impl Into<u64>, recursive: bool) -> Result<()> {
    let attributes =
        libc::mount_attr { attr_set: attributes.into(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the kernel reads exactly the given size of `attributes`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::new("set mount attributes", io::Error::last_os_error())) }
}

/// Attaches a detached mount to a directory or file that is open.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).step(|| "attach a mount")
}

/// Attaches a detached mount to a name in a directory that nobody else can change. A link is not followed.
pub fn attach_named(mount: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
    move_mount(mount, "", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| format!("mount on {name}"))
}

/// Attaches a detached mount to `path` below `root`, making the directory if it is missing. No symbolic link is
/// followed: a node whose `/proc` is a link gets an error, not a mount somewhere else.
pub fn attach_below(mount: BorrowedFd<'_>, root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let target = match open_below(root, path, OFlags::PATH) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_dirs_below(root, path)?;
            open_below(root, path, OFlags::PATH)
        }
        other => other,
    };
    attach(mount, target.step(|| format!("open /{path} to mount on"))?.as_fd()).map_err(|e| {
        Error::new(format!("mount on /{path}"), io::Error::from_raw_os_error(e.errno().unwrap_or(libc::EIO)))
    })
}

/// Opens `path` below `root` without following any symbolic link.
pub fn open_below(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve)?)
}

/// Makes a directory with its parents below `root`, following no symbolic link.
pub fn make_dirs_below(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let mut at = root.try_clone_to_owned().step(|| "duplicate a descriptor")?;
    for part in path.split('/').filter(|p| !p.is_empty()) {
        match mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(Error::new(format!("make directory {part} of /{path}"), e)),
        }
        at = open_below(at.as_fd(), part, OFlags::PATH | OFlags::DIRECTORY)
            .step(|| format!("open /{path}"))?;
    }
    Ok(())
}

/// Makes `new_root` (a mount point) the root of this mount namespace and lets go of all that was mounted before.
pub fn pivot(new_root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(new_root).step(|| "enter the new root")?;
    // pivot_root(2), NOTES: with "." twice the old root comes to lie over the new one, and is then taken off.
    rustix::process::pivot_root(".", ".").step(|| "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).step(|| "detach the old root")?;
    rustix::process::chdir("/").step(|| "chdir /")
}

/// Takes the mount at `path` off, now or when it is no longer used.
pub fn detach(path: &Path) -> Result<()> {
    unmount(path, UnmountFlags::DETACH).step(|| format!("unmount {}", path.display()))
}

/// Attaches a detached mount to a path of ours (not one that a learner can change).
pub fn attach_at(mount: BorrowedFd<'_>, path: &Path) -> Result<()> {
    move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| format!("mount on {}", path.display()))
}

/// True if something is mounted exactly at `path`.
pub fn is_mount_point(path: &Path) -> bool {
    let id = |p: &Path| statx(CWD, p, AtFlags::empty(), StatxFlags::MNT_ID).ok().map(|s| s.stx_mnt_id);
    path.parent().is_some_and(|parent| id(path).is_some() && id(path) != id(parent))
}
