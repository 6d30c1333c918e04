//! The file systems of a container: its root, `/proc`, `/sys`, `/dev`, and what the learner mounts. Called by the container's child in
//! its own mount namespace, which is a copy of the node's. All that is mounted is opened before the pivot, in the node's
//! tree, and attached after it, in the container's; a target is looked up inside the root only (openat2), whatever links an image has.

use super::{
    dev::{Dev, attach_new},
    groups::{self, Groups, Hierarchy, TMPFS},
    spec::{Below, ContainerSpec, Mount, MountSource, Namespace},
};
use crate::{Error, Result, error::Context, mounts, session_root};
use drydock_protocol::frame::Size;
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, open, openat, openat2},
    mount::{MountAttrFlags, MountPropagationFlags, mount_change},
};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// `PROC_SUPER_MAGIC` and `SYSFS_MAGIC` (linux/magic.h): nothing of the learner is mounted inside these.
const KERNEL_FILE_SYSTEMS: [u64; 2] = [0x9fa0, 0x6265_6572];
/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u64 = 0x1cd1;
/// Directories that a path may have.
const MAX_DEPTH: usize = 256;

/// A mount that waits for the pivot.
struct Prepared {
    /// What it shows, as a refusal tells it.
    source: String,
    target: String,
    tree: OwnedFd,
    directory: bool,
    propagation: Option<String>,
}

/// A container's root on its way.
pub struct Root {
    /// For each mount what was opened early, if it was.
    early: Vec<Option<Prepared>>,
    dev: Dev,
    own: Own,
}

impl Root {
    /// Makes what wants neither the container's control groups nor its files. `dev`, `proc`: see [`super::beforehand`].
    pub fn begin(spec: &ContainerSpec, dev: Option<OwnedFd>, proc: Option<OwnedFd>) -> Result<Self> {
        // What shall hear of the node's later mounts, or tell the node of its own, is opened while it is still one with the node's.
        let shared = |mount: &Mount| {
            mount.propagation.as_deref().is_some_and(|p| p.ends_with("shared") || p.ends_with("slave"))
        };
        let early = spec.mounts.iter().map(|m| shared(m).then(|| prepare(m)).transpose());
        let early = early.collect::<Result<_>>()?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .step(|| "make mounts private")?;
        Ok(Self { early, dev: dev.map_or_else(Dev::make, Dev::prepared)?, own: kernel_mounts(spec, proc)? })
    }

    /// Builds it and pivots into it. Returns the container's devpts. `groups`: see [`super::beforehand`]. `mounted` waits for the root file
    /// system, which is a detached mount, and for the files that are mounted in it.
    pub fn enter(
        self,
        spec: &ContainerSpec,
        hierarchies: &[Hierarchy<'_>],
        groups: Option<OwnedFd>,
        mounted: impl FnOnce() -> Result<OwnedFd>,
    ) -> Result<OwnedFd> {
        let Self { mut early, mut dev, own } = self;
        let groups = Groups::make(spec, hierarchies, groups, locked(spec.writes_cgroups()))?;
        mounts::attach_at(mounted()?.as_fd(), Path::new(&spec.root))?;
        let root =
            open(spec.root.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .step(|| format!("open {}", spec.root))?;
        let wanted = spec.mounts.iter().zip(&mut early);
        let wanted = wanted.map(|(m, early)| early.take().map_or_else(|| prepare(m), Ok));
        let wanted = wanted.collect::<Result<Vec<_>>>()?;
        mounts::pivot(root.as_fd())?;
        let root =
            open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step(|| "open /")?;
        attach_fd(root.as_fd(), own.proc.as_fd(), "/proc")?;
        attach_fd(root.as_fd(), dev.tree.as_fd(), "/dev")?;
        attach_fd(root.as_fd(), own.sys.as_fd(), "/sys")?;
        if let Some(top) = groups.top() {
            attach_fd(root.as_fd(), top, groups::DIR)?;
            groups.fill(spec.writes_cgroups())?;
        }
        dev.fill()?;
        attach_new(dev.tree.as_fd(), "mqueue", own.mqueue.as_fd())?;
        if let Some(shm) = &own.shm {
            attach_new(dev.tree.as_fd(), "shm", shm.as_fd())?;
        }
        for mount in &wanted {
            attach(root.as_fd(), mount, false)?;
        }
        Ok(dev.devpts)
    }
}

/// What is left to do when nothing more must be written to the kernel's file systems: hides and locks paths, and the root.
pub fn lock(spec: &ContainerSpec) -> Result<()> {
    for path in &spec.read_only_paths {
        match mounts::copy(CWD, path, true) {
            Ok(tree) => {
                mounts::set_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, true)?;
                mounts::attach_at(tree.as_fd(), Path::new(path))?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let mut cover = None;
    for path in &spec.masked {
        mask(path, &mut cover)?;
    }
    if spec.read_only {
        let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| "open /")?;
        mounts::set_attributes(root.as_fd(), libc::MOUNT_ATTR_RDONLY, false)?;
    }
    Ok(())
}

/// A pty in the container's devpts: (master, slave). With `console`, it also becomes `/dev/console`, as runc has it.
pub fn open_pty(devpts: BorrowedFd<'_>, size: Size, console: bool) -> Result<(OwnedFd, OwnedFd)> {
    let (master, slave) = crate::pty::open(devpts, size.clamped()).step(|| "make a terminal")?;
    if console {
        let name = rustix::termios::ttyname(&slave, Vec::new()).step(|| "name the terminal")?;
        let name = name.to_string_lossy().into_owned();
        if let Some(number) = name.rsplit('/').next() {
            let tree = mounts::copy(devpts, number, false)?;
            let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| "open /")?;
            let (source, target) = (format!("/dev/pts/{number}"), "/dev/console".into());
            let mount = Prepared { source, target, tree, directory: false, propagation: None };
            attach(root.as_fd(), &mount, true)?;
        }
    }
    Ok((master, slave))
}

/// The devpts of the container whose root directory this process has; refused if something else lies there.
pub fn find_devpts() -> Result<OwnedFd> {
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| "open /")?;
    let devpts = mounts::open_below(root.as_fd(), "dev/pts", OFlags::PATH | OFlags::DIRECTORY)
        .step(|| "open /dev/pts")?;
    if fstatfs(&devpts).step(|| "look at /dev/pts")?.f_type.cast_unsigned() != DEVPTS {
        return Err(Error::new("/dev/pts is no devpts", io::Error::from(io::ErrorKind::Unsupported)));
    }
    Ok(devpts)
}

/// What a container gets of the kernel's own file systems, not yet attached.
struct Own {
    proc: OwnedFd,
    sys: OwnedFd,
    mqueue: OwnedFd,
    /// Unless the learner mounts something else there.
    shm: Option<OwnedFd>,
}

/// Made while the node's own are in sight (the kernel asks for that).
fn kernel_mounts(spec: &ContainerSpec, made: Option<OwnedFd>) -> Result<Own> {
    let (safe, locked) = (session_root::safe(), locked(spec.privileged));
    let sys = match spec.namespaces.net {
        Namespace::New => mounts::create("sysfs", &[], locked)?,
        // That of another network namespace: the node's view of it is all that may be had.
        Namespace::Host | Namespace::Of(_) => {
            let tree = mounts::copy(CWD, "/sys", false)?;
            mounts::set_attributes(tree.as_fd(), locked.bits(), false)?;
            tree
        }
    };
    let mqueue = match spec.namespaces.ipc {
        Namespace::New => mounts::create("mqueue", &[], safe)?,
        Namespace::Host | Namespace::Of(_) => mounts::copy(CWD, "/dev/mqueue", false)?,
    };
    let shm = match spec.namespaces.ipc {
        _ if spec.shm_size == 0 || spec.mounts.iter().any(|m| m.target == "/dev/shm") => None,
        Namespace::Host => Some(mounts::copy(CWD, "/dev/shm", false)?),
        Namespace::Of(pid) => shm_of(pid)?,
        Namespace::New => {
            let size = spec.shm_size.to_string();
            Some(mounts::create("tmpfs", &[("source", "shm"), ("mode", "1777"), ("size", &size)], safe)?)
        }
    };
    Ok(Own { proc: made.map_or_else(proc, Ok)?, sys, mqueue, shm })
}

/// A `/proc` of the calling process's pid namespace.
pub fn proc() -> Result<OwnedFd> {
    mounts::create("proc", &[], session_root::safe())
}

/// Of what most containers may not write to.
fn locked(writable: bool) -> MountAttrFlags {
    let safe = session_root::safe();
    if writable { safe } else { safe | MountAttrFlags::MOUNT_ATTR_RDONLY }
}

/// The `/dev/shm` of the container whose first process this is, if it has one. Only who is in a mount namespace may copy a mount of it.
fn shm_of(pid: i32) -> Result<Option<OwnedFd>> {
    let own = File::open("/proc/self/ns/mnt").step(|| "open the mount namespace")?;
    let path = format!("/proc/{pid}/ns/mnt");
    let theirs = File::open(&path).step(|| format!("open {path}"))?;
    setns(theirs, CloneFlags::CLONE_NEWNS).step(|| format!("join {path}"))?;
    let copied = copy_shm();
    setns(own, CloneFlags::CLONE_NEWNS).step(|| "go back to the mount namespace")?;
    copied
}

/// No link is followed, and what a learner has put there in its place is not taken.
fn copy_shm() -> Result<Option<OwnedFd>> {
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(|| "open /")?;
    let found = mounts::open_below(root.as_fd(), "dev/shm", OFlags::PATH | OFlags::DIRECTORY);
    let Ok(shm) = found else { return Ok(None) };
    let file_system = fstatfs(&shm).step(|| "look at /dev/shm")?.f_type.cast_unsigned();
    if file_system != TMPFS { Ok(None) } else { mounts::again(shm.as_fd()).map(Some) }
}

/// Opens what a mount shall show, in the node's tree.
fn prepare(mount: &Mount) -> Result<Prepared> {
    let (source, tree, directory) = match &mount.source {
        MountSource::Bind(path) => {
            let tree = mounts::copy(CWD, path, mount.below != Below::Left)?;
            let kind = fstat(&tree).step(|| format!("look at {path}"))?.st_mode;
            if mount.read_only {
                mounts::set_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, mount.below == Below::Same)?;
            }
            (path.clone(), tree, FileType::from_raw_mode(kind).is_dir())
        }
        MountSource::Tmpfs(options) => {
            let made = tmpfs(options, mount.read_only);
            let tree = made.map_err(|error| tmpfs_refused(&mount.target, options, &error))?;
            ("tmpfs".into(), tree, true)
        }
    };
    let (target, propagation) = (mount.target.clone(), mount.propagation.clone());
    Ok(Prepared { source, target, tree, directory, propagation })
}

/// What runc says of options that the kernel refuses.
fn tmpfs_refused(target: &str, options: &[String], error: &Error) -> Error {
    let data: Vec<&str> = options.iter().map(String::as_str).filter(|option| option.contains('=')).collect();
    let why =
        error.errno().map_or("invalid argument".into(), |code| Errno::from_raw(code).desc().to_lowercase());
    let step = format!(
        "error mounting \"tmpfs\" to rootfs at {target:?}: mount src=tmpfs, dst={target}, data={}",
        data.join(",")
    );
    Error::new(step, io::Error::new(error.kind(), why))
}

/// A tmpfs with options as mount(8) takes them; Docker's defaults are noexec, nosuid and nodev.
fn tmpfs(options: &[String], read_only: bool) -> Result<OwnedFd> {
    let mut attributes = session_root::safe();
    let mut own: Vec<(&str, &str)> = Vec::new();
    for option in options {
        match option.as_str() {
            "exec" => attributes -= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "suid" => attributes -= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "dev" => attributes -= MountAttrFlags::MOUNT_ATTR_NODEV,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            "rw" | "relatime" | "strictatime" | "sync" | "async" => {}
            other => own.extend(other.split_once('=')),
        }
    }
    if read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    mounts::create("tmpfs", &own, attributes)
}

fn attach(root: BorrowedFd<'_>, mount: &Prepared, own: bool) -> Result<()> {
    let target = make_target(root, &mount.target, mount.directory).map_err(|error| {
        let why = format!("create mountpoint for {0} mount: make mountpoint {0:?}", mount.target);
        mount_refused(mount, &why, error)
    })?;
    let file_system = fstatfs(&target).step(|| format!("look at {}", mount.target))?.f_type.cast_unsigned();
    if !own && KERNEL_FILE_SYSTEMS.contains(&file_system) && !allowed_in_proc(&mount.target) {
        return Err(Error::new(
            format!("{:?} cannot be mounted because it is inside /proc", mount.target),
            io::Error::from(io::ErrorKind::PermissionDenied),
        ));
    }
    let kind = FileType::from_raw_mode(fstat(&target).step(|| format!("look at {}", mount.target))?.st_mode);
    // mount(2), which runc calls, has another word for it than move_mount(2).
    let attached = match kind.is_dir() == mount.directory {
        true => mounts::attach(mount.tree.as_fd(), target.as_fd()).map_err(|e| e.errno()),
        false => Err(Some(libc::ENOTDIR)),
    };
    attached.map_err(|errno| {
        let (source, fd) = (&mount.source, target.as_raw_fd());
        let (how, what) = if source == "tmpfs" { ("data=", "") } else { ("flags=", "MS_BIND|MS_REC") };
        let why =
            format!("mount src={source}, dst={}, dstFd=/proc/thread-self/fd/{fd}, {how}{what}", mount.target);
        mount_refused(mount, &why, io::Error::from_raw_os_error(errno.unwrap_or(libc::EINVAL)))
    })?;
    let below = MountPropagationFlags::REC;
    match mount.propagation.as_deref() {
        Some("shared") => change(&mount.target, MountPropagationFlags::SHARED),
        Some("rshared") => change(&mount.target, MountPropagationFlags::SHARED | below),
        Some("slave") => change(&mount.target, MountPropagationFlags::DOWNSTREAM),
        Some("rslave") => change(&mount.target, MountPropagationFlags::DOWNSTREAM | below),
        _ => Ok(()),
    }
}

/// What runc says of a mount that can't be made.
fn mount_refused(mount: &Prepared, why: &str, error: io::Error) -> Error {
    let code = error.raw_os_error();
    let words = code.map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_lowercase());
    let step = format!("error mounting {:?} to rootfs at {:?}: {why}", mount.source, mount.target);
    Error::new(step, io::Error::new(error.kind(), words))
}

/// What lxcfs and some monitoring put over single files, as runc allows it.
fn allowed_in_proc(target: &str) -> bool {
    [
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
    ]
    .contains(&target)
}

fn change(target: &str, flags: MountPropagationFlags) -> Result<()> {
    mount_change(target, flags).step(|| format!("set the propagation of {target}"))
}

fn attach_fd(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, target: &str) -> Result<()> {
    let target_fd = make_target(root, target, true).step(|| format!("make mountpoint {target:?}"))?;
    mounts::attach(tree, target_fd.as_fd())
}

/// Opens a path inside the root, links followed inside it, and makes what is missing.
fn make_target(root: BorrowedFd<'_>, path: &str, directory: bool) -> io::Result<OwnedFd> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.len() > MAX_DEPTH || parts.contains(&"..") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let inside = |path: &str, flags| {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    match inside(path, OFlags::PATH) {
        Ok(found) => return Ok(found),
        Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let mut at = inside("/", OFlags::PATH | OFlags::DIRECTORY)?;
    for (index, part) in parts.iter().enumerate() {
        let so_far = parts[..=index].join("/");
        let last = index + 1 == parts.len();
        at = match inside(&so_far, OFlags::PATH) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) if last && !directory => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(openat(&at, *part, flags, Mode::from_raw_mode(0o644))?);
                inside(&so_far, OFlags::PATH)?
            }
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&at, *part, Mode::from_raw_mode(0o755))?;
                inside(&so_far, OFlags::PATH)?
            }
            Err(e) => return Err(e.into()),
        };
    }
    Ok(at)
}

/// Hides a file under `/dev/null`, a directory under an empty one that can't be written: the same for all, once it is made.
fn mask(path: &str, empty: &mut Option<OwnedFd>) -> Result<()> {
    let target = match open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(target) => target,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::ACCESS) => return Ok(()),
        Err(e) => return Err(Error::new(format!("open {path}"), e)),
    };
    let directory =
        FileType::from_raw_mode(fstat(&target).step(|| format!("look at {path}"))?.st_mode).is_dir();
    if !directory {
        return mounts::attach(mounts::copy(CWD, "/dev/null", false)?.as_fd(), target.as_fd());
    }
    if let Some(empty) = empty {
        return mounts::attach(mounts::again(empty.as_fd())?.as_fd(), target.as_fd());
    }
    let attributes = session_root::safe() | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let made = mounts::create("tmpfs", &[("size", "4k"), ("nr_inodes", "1")], attributes)?;
    mounts::attach(made.as_fd(), target.as_fd())?;
    *empty = Some(made);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_the_kernel_refuses_are_told_as_runc_does() {
        let options = ["noexec".to_owned(), "size=abc".to_owned(), "mode=700".to_owned()];
        let error = Error::new("tmpfs: set size=abc", io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!(
            tmpfs_refused("/x", &options, &error).to_string(),
            "error mounting \"tmpfs\" to rootfs at \"/x\": mount src=tmpfs, dst=/x, data=size=abc,mode=700: invalid argument"
        );
    }
}
