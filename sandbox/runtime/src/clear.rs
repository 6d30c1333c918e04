//! Deletes trees that a learner made: as many files, and as deep, as there was room for. A directory in a directory is moved up to the one
//! that is cleared instead of descended into, so there is no recursion, no long path, and never more than three open files.

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat},
    io::Errno,
};
use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// So many names of a directory are read at a time.
const BATCH: usize = 1024;

/// So deep it goes on a full disk.
const DEPTH: usize = 500;

/// A name in a directory that is to be cleared, for something that is put there to be deleted.
pub fn free_name(directory: &Path) -> PathBuf {
    directory.join(number())
}

/// Different ones each time, also from those of processes before.
fn number() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Deletes a file, or a directory with all that is in it. Nothing there is no error.
pub fn tree(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => directory(path, usize::MAX).map(drop)?,
        Ok(_) => return std::fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    std::fs::remove_dir(path)
}

/// Deletes what is in a directory, of which nothing is mounted anywhere. Stops after about `most` steps; true if nothing is left.
pub fn directory(path: &Path, most: usize) -> io::Result<bool> {
    let top = openat(rustix::fs::CWD, path, DIRECTORY, Mode::empty())?;
    let mut left = most;
    loop {
        let names = names(top.as_fd())?;
        if names.is_empty() {
            return Ok(true);
        }
        for name in names {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            if let Some(inner) = remove(top.as_fd(), &name)? {
                lift(top.as_fd(), inner.as_fd(), &mut left, 0)?;
            }
        }
    }
}

/// Removes an entry, or opens it if it is a directory with something in it.
fn remove(parent: BorrowedFd<'_>, name: &CString) -> io::Result<Option<OwnedFd>> {
    match unlinkat(parent, name.as_c_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    match unlinkat(parent, name.as_c_str(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            match openat(parent, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Ok(inner) => Ok(Some(inner)),
                // Somebody else is at the same tree.
                Err(Errno::NOENT) => Ok(None),
                Err(e) => Err(e.into()),
            }
        }
        Err(e) => Err(e.into()),
    }
}

/// Empties a directory: what of it has something in it comes to the top.
fn lift(top: BorrowedFd<'_>, inner: BorrowedFd<'_>, left: &mut usize, depth: usize) -> io::Result<()> {
    loop {
        let names = names(inner)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if *left == 0 {
                return Ok(());
            }
            *left -= 1;
            while let Some(deeper) = remove(inner, &name)? {
                match renameat_with(inner, name.as_c_str(), top, number(), RenameFlags::NOREPLACE) {
                    Ok(()) | Err(Errno::NOENT) => break,
                    Err(Errno::EXIST) => {}
                    Err(Errno::DQUOT | Errno::NOSPC) if depth < DEPTH => {
                        lift(top, deeper.as_fd(), left, depth + 1)?;
                        if *left == 0 {
                            return Ok(());
                        }
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    /// A directory in a directory in a directory …
    fn deep(at: &Path, levels: usize) {
        let mut at: OwnedFd = fs::File::open(at).unwrap().into();
        for _ in 0..levels {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
            rustix::fs::symlinkat("/", &at, "link").unwrap();
        }
    }

    #[test]
    fn deep_and_wide_trees_go_and_what_links_point_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (doomed, kept) = (dir.path().join("doomed"), dir.path().join("kept"));
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("file"), "stays").unwrap();
        fs::create_dir_all(doomed.join("node/wide")).unwrap();
        symlink(&kept, doomed.join("node/link")).unwrap();
        symlink(&kept, doomed.join("link")).unwrap();
        for n in 0..3000 {
            fs::write(doomed.join(format!("node/wide/{n}")), "x").unwrap();
        }
        // Names that are ours already.
        for n in 0..50 {
            fs::create_dir_all(doomed.join(format!("{}-{n}/x", std::process::id()))).unwrap();
        }
        // The depth that std's recursion opens a file for each level of.
        deep(&doomed.join("node"), 20_000);
        assert!(!directory(&doomed, 100).unwrap());
        assert!(directory(&doomed, usize::MAX).unwrap());
        assert_eq!(fs::read_dir(&doomed).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "stays");
        symlink(&kept, doomed.join("link")).unwrap();
        tree(&doomed.join("link")).unwrap();
        tree(&doomed).unwrap();
        tree(&doomed).unwrap();
        assert!(!doomed.exists() && kept.exists());
    }
}
