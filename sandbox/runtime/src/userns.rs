//! User namespaces (user_namespaces(7)): a session's root is host user `base`, and nothing outside the range is mapped.

use crate::{Error, Result, caps, error::Context, process};
use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{Gid, Uid, pipe2, read, setgroups, setresgid, setresuid, write},
};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Ids in a session: 0 … 65,535.
pub const RANGE: u32 = 65_536;

/// Makes a user namespace; see [`Pending::begin`].
pub fn create(base: u32) -> Result<OwnedFd> {
    Pending::begin(base)?.finish()
}

/// A user namespace in the making, by a process that works beside its caller.
#[derive(Debug)]
pub struct Pending {
    pid: i32,
    base: u32,
    ready: OwnedFd,
    done: OwnedFd,
}

impl Pending {
    /// Begins to make a user namespace that maps ids 0 … 65,535 to the host's `base` …. It is made by user `base`, so that
    /// what the kernel counts per creator (inotify, namespaces, keys) is counted for each session by itself. Needs root.
    pub fn begin(base: u32) -> Result<Self> {
        let (ready, tell) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).step(|| "pipe")?;
        let (wait, done) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).step(|| "pipe")?;
        let pid = process::fork(|| {
            process::close_all_but(&[tell.as_fd(), wait.as_fd()]);
            let made = become_user(base).and_then(|()| unshare(CloneFlags::CLONE_NEWUSER).step(|| "unshare"));
            let code = made.err().map_or(0, |e| e.errno().unwrap_or(libc::EIO) as u8);
            let _told = write(&tell, &[code]);
            // Stay until the parent has opened the namespace.
            let _end = read(&wait, &mut [0]);
            0
        })?;
        Ok(Self { pid, base, ready, done })
    }

    /// The namespace, with its ids mapped.
    pub fn finish(self) -> Result<OwnedFd> {
        let made = open_of_child(self.pid, &self.ready, self.base);
        drop(self.done);
        process::wait(self.pid)?;
        made
    }
}

fn open_of_child(pid: i32, ready: &OwnedFd, base: u32) -> Result<OwnedFd> {
    let mut code = [0];
    let got = read(ready, &mut code).step(|| "wait for the user namespace")?;
    if got == 0 || code[0] != 0 {
        let errno = std::io::Error::from_raw_os_error(if got == 0 { libc::EIO } else { code[0].into() });
        return Err(Error::new("make a user namespace (`drydock doctor` tells what may forbid it)", errno));
    }
    let map = format!("0 {base} {RANGE}");
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, &map).step(|| format!("write {path}"))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    Ok(fs::File::open(&path).step(|| format!("open {path}"))?.into())
}

/// Becomes host user and group `base`, keeping the one capability that `unshare` needs where the host
/// forbids user namespaces to unprivileged programs (Ubuntu's AppArmor rule).
fn become_user(base: u32) -> Result<()> {
    rustix::thread::set_keep_capabilities(true).step(|| "keep capabilities")?;
    setgroups(&[]).step(|| "setgroups")?;
    let (uid, gid) = (Uid::from_raw(base), Gid::from_raw(base));
    setresgid(gid, gid, gid).step(|| "setresgid")?;
    setresuid(uid, uid, uid).step(|| "setresuid")?;
    caps::keep_only_sys_admin()
}

/// Enters a session's user namespace as its root. Needs root; afterwards nothing of the host's root is left.
pub fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWUSER).step(|| "enter the user namespace")?;
    let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).step(|| "setgroups")?;
    setresgid(wheel, wheel, wheel).step(|| "setresgid")?;
    setresuid(root, root, root).step(|| "setresuid")
}
