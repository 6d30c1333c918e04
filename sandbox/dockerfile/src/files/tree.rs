//! A directory as the root of all paths: links and `..` never lead out of it, whoever changes it meanwhile.

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Links that are followed on the way to one path, as in Linux.
const MAX_LINKS: usize = 40;

/// A directory that is the root of the paths in it. Paths may begin with `/` or not: it is the same.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// Something else: FIFO, socket, device.
    Other,
}

impl Kind {
    pub(crate) fn of(stat: &Stat) -> Self {
        match stat.st_mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Link,
            _ => Self::Other,
        }
    }
}

impl Tree {
    /// The tree at a path here (which is trusted).
    ///
    /// # Errors
    /// If it is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Opens a path with all links resolved within.
    pub(crate) fn at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..100 {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // Somebody renamed something while the kernel looked.
                Err(Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// A directory, to work in.
    pub(crate) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        self.at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// What is at a path, links followed; `None` if there is nothing.
    ///
    /// # Errors
    /// If it can't be looked at.
    pub fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        match self.at(path, OFlags::PATH) {
            Ok(file) => Ok(Some(rustix::fs::fstat(&file)?)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What kind of thing is at a path, links followed.
    ///
    /// # Errors
    /// If it can't be looked at.
    pub fn kind(&self, path: &str) -> io::Result<Option<Kind>> {
        Ok(self.stat(path)?.as_ref().map(Kind::of))
    }

    /// What kind of thing is at a path, a link itself if it is one.
    pub(crate) fn link_kind(&self, path: &str) -> io::Result<Option<Kind>> {
        match self.at(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => Ok(Some(Kind::of(&rustix::fs::fstat(&file)?))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens a regular file for reading, links followed.
    ///
    /// # Errors
    /// If there is none, or it is something else.
    pub fn open_file(&self, path: &str) -> io::Result<File> {
        regular(self.at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?)
    }

    /// The content of a regular file, links followed.
    ///
    /// # Errors
    /// If there is none, it is something else, or it is larger than `limit`.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let length = self.open_file(path)?.take(limit + 1).read_to_end(&mut content)?;
        if length as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "file too large"));
        }
        Ok(content)
    }

    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// If it is no directory.
    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        names(self.directory(path)?.as_fd())
    }

    /// The path here of a path in the tree, links followed: for mounts.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn real_path(&self, path: &str) -> io::Result<PathBuf> {
        use std::os::fd::AsRawFd;
        let file = self.at(path, OFlags::PATH)?;
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    /// Makes a directory and those above it as far as they are missing, with this mode and owner; follows links (also dangling
    /// ones) within the tree. True: it was made now.
    ///
    /// # Errors
    /// If something on the way is no directory.
    pub fn make_directories(&self, path: &str, mode: u32, owner: (u32, u32)) -> io::Result<bool> {
        self.make(path, mode, owner).map(|(_, made)| made)
    }

    pub(crate) fn make(&self, path: &str, mode: u32, owner: (u32, u32)) -> io::Result<(OwnedFd, bool)> {
        match self.directory(path) {
            Ok(directory) => return Ok((directory, false)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let mut left: VecDeque<String> = components(path).collect();
        // `done` has no links left in it, so its parent is known.
        let (mut done, mut links, mut made) = (Vec::<String>::new(), 0, false);
        while let Some(name) = left.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let parent = self.directory(&done.join("/"))?;
            match rustix::fs::statat(&parent, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => match Kind::of(&stat) {
                    Kind::Link => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP.into());
                        }
                        let target = rustix::fs::readlinkat(&parent, name.as_str(), Vec::new())?;
                        let target = target.to_string_lossy().into_owned();
                        if target.starts_with('/') {
                            done.clear();
                        }
                        components(&target).rev().for_each(|c| left.push_front(c));
                    }
                    Kind::Directory => done.push(name),
                    _ => return Err(Errno::NOTDIR.into()),
                },
                Err(Errno::NOENT) => {
                    make_directory(parent.as_fd(), &name, mode, owner)?;
                    made = true;
                    done.push(name);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok((self.directory(&done.join("/"))?, made))
    }

    /// Mode and owner of the root itself.
    pub(crate) fn set_root(&self, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let root = open_directory(self.root.as_fd(), ".")?;
        set_owner(root.as_fd(), owner)?;
        Ok(rustix::fs::fchmod(&root, Mode::from_raw_mode(mode))?)
    }

    /// Takes an empty file or directory away, if it is there and empty.
    pub(crate) fn remove_stub(&self, path: &str) {
        let (parent, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
        let Ok(parent) = self.directory(parent) else { return };
        let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        // If it is not empty (any more), it stays.
        _ = match Kind::of(&stat) {
            Kind::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
            Kind::File if stat.st_size == 0 => rustix::fs::unlinkat(&parent, name, AtFlags::empty()),
            _ => Ok(()),
        };
    }
}

/// Mode of something that can't be opened (a FIFO, a device). A link in its place is not followed.
pub(crate) fn set_mode(directory: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if Kind::of(&rustix::fs::fstat(&file)?) == Kind::Link {
        return Err(Errno::LOOP.into());
    }
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

/// Names without those that stand for nothing.
fn components(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/').filter(|c| !c.is_empty() && *c != ".").map(str::to_owned)
}

pub(crate) fn make_directory(
    parent: BorrowedFd<'_>,
    name: &str,
    mode: u32,
    owner: (u32, u32),
) -> io::Result<()> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
    let directory = open_directory(parent, name)?;
    set_owner(directory.as_fd(), owner)?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
    Ok(())
}

pub(crate) fn set_owner(file: BorrowedFd<'_>, (uid, gid): (u32, u32)) -> io::Result<()> {
    use rustix::fs::{Gid, Uid};
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(())
}

/// A directory that is no link.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// A file that is no link, FIFO or device: those block or act when they are opened or read.
pub(crate) fn open_regular(parent: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    regular(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn regular(file: OwnedFd) -> io::Result<File> {
    if Kind::of(&rustix::fs::fstat(&file)?) == Kind::File {
        Ok(File::from(file))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Names in a directory, sorted. Names that are not UTF-8 are an error: nothing could be said about them in a Dockerfile.
pub(crate) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory_for_reading(directory)?)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => names.push(name.to_owned()),
            Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "file name is not UTF-8")),
        }
    }
    names.sort();
    Ok(names)
}

fn directory_for_reading(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::openat(directory, ".", flags, Mode::empty())?)
}
