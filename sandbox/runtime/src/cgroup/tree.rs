//! Walks through control groups that a node made: as many, and as deep, as it liked. So a walk goes from descriptor to descriptor, with
//! no path that would become too long, holds two of them at a time, and does a bounded part of the work.

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};
use std::{
    ffi::CString,
    fs,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

const GROUP: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a group and all groups below it, deepest first, `most` of them. `ResourceBusy` while a process is left in one of
/// them, `WouldBlock` if more are left to remove.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &str, most: usize) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // What the kernel says of a group with groups below it as well as of one with processes.
        Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
        Err(e) => return Err(e.into()),
    }
    let mut at = openat(parent, name, GROUP, Mode::empty())?;
    let mut above: Vec<CString> = Vec::new();
    let mut left = most;
    loop {
        if let Some(deeper) = remove_below(at.as_fd(), &mut left)? {
            at = openat(&at, deeper.as_c_str(), GROUP, Mode::empty())?;
            above.push(deeper);
            continue;
        }
        let Some(last) = above.pop() else { break };
        // Going down is no progress, so it does not count.
        left = left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        // A group stays below the one that it was made in.
        at = openat(&at, "..", GROUP, Mode::empty())?;
        remove_empty(at.as_fd(), last.as_c_str())?;
    }
    remove_empty(parent, name)
}

/// Removes a group that has none below it any more.
fn remove_empty<P: ?Sized + nix::NixPath>(parent: BorrowedFd<'_>, name: &P) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EBUSY | Errno::ENOTEMPTY) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(e) => Err(e.into()),
    }
}

/// Removes the groups in a group until one can't be removed, and gives its name.
fn remove_below(group: BorrowedFd<'_>, left: &mut usize) -> io::Result<Option<CString>> {
    for name in names(group)? {
        match unlinkat(group, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => *left = left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?,
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => return Ok(Some(name)),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(None)
}

/// Names of the groups in a group.
fn names(group: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut found = Vec::new();
    for entry in nix::dir::Dir::openat(group, ".", GROUP, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(nix::dir::Type::Directory) && name != c"." && name != c".." {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// Thaws a group and the groups below it (v1), outer ones first, of which it looks at `most`.
pub(crate) fn thaw(parent: BorrowedFd<'_>, name: &str, most: usize) {
    // Per level: the group, and the names in it that are still to come.
    let Ok(top) = openat(parent, name, GROUP, Mode::empty()) else { return };
    let mut at = top;
    let mut todo = vec![enter(at.as_fd())];
    for _ in 0..most {
        let Some(level) = todo.last_mut() else { return };
        let next = match level.pop() {
            Some(name) => openat(&at, name.as_c_str(), GROUP, Mode::empty()),
            None => {
                todo.pop();
                if todo.is_empty() {
                    return;
                }
                let Ok(up) = openat(&at, "..", GROUP, Mode::empty()) else { return };
                at = up;
                continue;
            }
        };
        // What went meanwhile need not be thawed.
        let Ok(next) = next else { continue };
        todo.push(enter(next.as_fd()));
        at = next;
    }
}

/// Thaws a group and gives the names of those in it.
fn enter(group: BorrowedFd<'_>) -> Vec<CString> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let state: nix::Result<OwnedFd> = openat(group, "freezer.state", flags, Mode::empty());
    if let Ok(state) = state {
        let _gone_meanwhile = fs::File::from(state).write_all(b"THAWED");
    }
    names(group).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, path::Path};

    /// Directories stand for groups: both are removed by rmdir(2), and say that they are not empty.
    fn deep(dir: &Path, levels: usize) {
        let mut at: OwnedFd = File::open(dir).unwrap().into();
        for _ in 0..levels {
            nix::sys::stat::mkdirat(&at, "deep", Mode::S_IRWXU).unwrap();
            at = openat(&at, "deep", GROUP, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn what_is_deeper_than_a_path_can_say_is_removed_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node1");
        fs::create_dir_all(node.join("beside/inner")).unwrap();
        deep(&node, 3000);
        let parent = File::open(dir.path()).unwrap();
        // With nothing frozen, thawing just looks.
        thaw(parent.as_fd(), "node1", usize::MAX);
        let mut parts = 1;
        while let Err(e) = remove(parent.as_fd(), "node1", 1000) {
            assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
            parts += 1;
            assert!(parts < 10_000, "it comes to no end");
        }
        assert!(parts > 1);
        assert!(!node.exists());
        remove(parent.as_fd(), "node1", 1).unwrap();
    }

    #[test]
    fn a_group_that_is_busy_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("node1/a/b")).unwrap();
        // As a process would.
        fs::write(dir.path().join("node1/a/b/file"), "").unwrap();
        let parent = File::open(dir.path()).unwrap();
        let e = remove(parent.as_fd(), "node1", 100).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ResourceBusy);
        assert!(dir.path().join("node1/a/b").exists());
    }
}
