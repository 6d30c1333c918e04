//! Copies files from tree to tree, and hashes them for the cache. Each name is opened without following links, relative to its
//! directory's descriptor, so nothing that changes meanwhile leads elsewhere.

use super::MAX_DEPTH;
use super::mode::ModeChange;
use super::owner::Owner;
use super::tree::{self, Kind, Tree};
use crate::ignore::Patterns;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What happens where a directory is to be and something else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// It is replaced, as the classic builder does it.
    #[default]
    Replace,
    /// It is an error, as in BuildKit.
    Refuse,
}

/// How files are copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// `--chown`; none: as the source.
    pub owner: Option<Owner>,
    /// `--chmod`.
    pub mode: Option<ModeChange>,
    /// `--exclude`.
    pub exclude: Patterns,
    /// Directories in the place of other things.
    pub existing: Existing,
}

/// One COPY.
#[derive(Debug)]
pub struct Copier<'a> {
    options: &'a CopyOptions,
    /// Files with several names, by device and inode: where the first was written.
    linked: HashMap<(u64, u64), (OwnedFd, String)>,
}

/// Where something is copied from and to.
struct Place<'a> {
    from: BorrowedFd<'a>,
    name: &'a str,
    to: BorrowedFd<'a>,
    target: &'a str,
    /// Path from the source's root, for `--exclude`; empty for that root.
    relative: String,
    depth: usize,
}

impl<'a> Copier<'a> {
    /// Copies with these options.
    pub fn new(options: &'a CopyOptions) -> Self {
        Self { options, linked: HashMap::new() }
    }

    /// Owner of directories that are made on the way.
    pub fn parents_owner(&self) -> Owner {
        self.options.owner.unwrap_or((0, 0))
    }

    /// Copies a file (links to it followed) to `directory` as `name`.
    ///
    /// # Errors
    /// If it can't.
    pub fn file(
        &mut self,
        from: &Tree,
        path: &str,
        to: &Tree,
        directory: &str,
        name: &str,
    ) -> io::Result<()> {
        let source = from.at(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&source)?;
        let target = self.make(to, directory, Made::Parent)?;
        match Kind::of(&stat) {
            Kind::File => self.content(from.open_file(path)?, target.as_fd(), name, &stat),
            _ => self.special(&stat, target.as_fd(), name),
        }
    }

    /// Copies what is in a directory into `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// If it can't.
    pub fn directory_content(
        &mut self,
        from: &Tree,
        path: &str,
        to: &Tree,
        directory: &str,
    ) -> io::Result<()> {
        let source = from.directory(path)?;
        let target = self.make(to, directory, Made::Target)?;
        self.children(source.as_fd(), target.as_fd(), "", 0)
    }

    /// A directory to copy to, made if it is missing.
    fn make(&self, to: &Tree, path: &str, made: Made) -> io::Result<OwnedFd> {
        let (directory, _) = to.make(path, 0o755, self.parents_owner()).map_err(|error| {
            if self.options.existing == Existing::Replace || error.kind() != io::ErrorKind::NotADirectory {
                return error;
            }
            in_the_way(to, path, made).unwrap_or(error)
        })?;
        Ok(directory)
    }

    /// Takes away what is where something else than a directory will be.
    fn make_way(&self, directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        make_way(directory, name).map_err(|error| {
            if self.options.existing == Existing::Replace || error.kind() != io::ErrorKind::IsADirectory {
                return error;
            }
            let message = format!("cannot replace to directory {} with file", shown(directory, name));
            io::Error::new(io::ErrorKind::IsADirectory, message)
        })
    }

    fn children(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        relative: &str,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "directories are nested too deeply"));
        }
        for name in tree::names(from)? {
            let relative = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            self.entry(&Place { from, name: &name, to, target: &name, relative, depth })?;
        }
        Ok(())
    }

    fn entry(&mut self, place: &Place<'_>) -> io::Result<()> {
        let stat = rustix::fs::statat(place.from, place.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let excluded = self.options.exclude.matches(&place.relative);
        match Kind::of(&stat) {
            Kind::Directory if excluded && !self.options.exclude.has_exclusions() => Ok(()),
            Kind::Directory => self.directory(place, &stat, excluded),
            _ if excluded => Ok(()),
            Kind::Link => self.link(place, &stat),
            Kind::File => {
                let file = tree::open_regular(place.from, place.name)?;
                self.content(file, place.to, place.target, &stat)
            }
            Kind::Other => self.special(&stat, place.to, place.target),
        }
    }

    /// An excluded directory is only made when something in it is not excluded: its children make it.
    fn directory(&mut self, place: &Place<'_>, stat: &Stat, excluded: bool) -> io::Result<()> {
        let source = tree::open_directory(place.from, place.name)?;
        if excluded && !self.any_included(source.as_fd(), &place.relative, place.depth)? {
            return Ok(());
        }
        let target = self.target_directory(place)?;
        self.children(source.as_fd(), target.as_fd(), &place.relative, place.depth + 1)?;
        self.finish(target.as_fd(), stat)?;
        copy_attributes(source.as_fd(), target.as_fd());
        Ok(())
    }

    fn any_included(&self, directory: BorrowedFd<'_>, relative: &str, depth: usize) -> io::Result<bool> {
        for name in tree::names(directory)? {
            let relative = format!("{relative}/{name}");
            if !self.options.exclude.matches(&relative) {
                return Ok(true);
            }
            let stat = rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            if Kind::of(&stat) == Kind::Directory && depth < MAX_DEPTH {
                let below = tree::open_directory(directory, &name)?;
                if self.any_included(below.as_fd(), &relative, depth + 1)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn target_directory(&self, place: &Place<'_>) -> io::Result<OwnedFd> {
        let (to, name) = (place.to, place.target);
        match rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if Kind::of(&stat) == Kind::Directory => {}
            Ok(_) if self.options.existing == Existing::Refuse => {
                return Err(non_directory(&shown(to, name)));
            }
            Ok(_) => {
                rustix::fs::unlinkat(to, name, AtFlags::empty())?;
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            }
            Err(rustix::io::Errno::NOENT) => rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?,
            Err(e) => return Err(e.into()),
        }
        tree::open_directory(to, name)
    }

    fn content(&mut self, mut from: File, to: BorrowedFd<'_>, name: &str, stat: &Stat) -> io::Result<()> {
        self.make_way(to, name)?;
        let inode = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some((directory, first)) = self.linked.get(&inode) {
                rustix::fs::linkat(directory, first.as_str(), to, name, AtFlags::empty())?;
                return Ok(());
            }
            // Each first name holds a descriptor; a tree of nothing but links must not use them all up.
            if self.linked.len() < 128 {
                self.linked.insert(inode, (rustix::io::dup(to)?, name.to_owned()));
            }
        }
        let mut target = create(to, name)?;
        io::copy(&mut from, &mut target)?;
        copy_attributes_file(&from, &target);
        self.finish(target.as_fd(), stat)
    }

    fn link(&self, place: &Place<'_>, stat: &Stat) -> io::Result<()> {
        self.make_way(place.to, place.target)?;
        let target = rustix::fs::readlinkat(place.from, place.name, Vec::new())?;
        rustix::fs::symlinkat(&target, place.to, place.target)?;
        let (uid, gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(place.to, place.target, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::utimensat(place.to, place.target, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// FIFOs and devices (which a session can't make, as the kernel will say); sockets are left out.
    fn special(&self, stat: &Stat, to: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            return Ok(());
        }
        self.make_way(to, name)?;
        let mode = self.mode(stat, false);
        rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(mode), stat.st_rdev)?;
        let (uid, gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        tree::set_mode(to, name, mode)?;
        rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn mode(&self, stat: &Stat, directory: bool) -> u32 {
        let mode = stat.st_mode & 0o7777;
        self.options.mode.as_ref().map_or(mode, |change| change.apply(mode, directory))
    }

    /// Owner before mode: a change of owner takes set-user-id away.
    fn finish(&self, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        tree::set_owner(target, self.options.owner.unwrap_or((stat.st_uid, stat.st_gid)))?;
        let mode = self.mode(stat, Kind::of(stat) == Kind::Directory);
        rustix::fs::fchmod(target, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(target, &times(stat))?;
        Ok(())
    }

    /// Writes a new file with this content.
    ///
    /// # Errors
    /// If it can't.
    pub fn write(
        &self,
        to: &Tree,
        directory: &str,
        name: &str,
        content: &mut dyn Read,
        mode: u32,
        modified: i64,
    ) -> io::Result<()> {
        let directory = self.make(to, directory, Made::Parent)?;
        self.make_way(directory.as_fd(), name)?;
        let mut file = create(directory.as_fd(), name)?;
        io::copy(content, &mut file)?;
        tree::set_owner(file.as_fd(), self.parents_owner())?;
        let mode = self.options.mode.as_ref().map_or(mode, |change| change.apply(mode, false));
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        let time = Timespec { tv_sec: modified, tv_nsec: 0 };
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        Ok(())
    }
}

/// What a directory is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// For a file in it.
    Parent,
    /// For all that is in another one.
    Target,
}

/// What BuildKit says of a path on which something else than a directory lies (tonistiigi/fsutil, `copy`).
fn in_the_way(to: &Tree, path: &str, made: Made) -> Option<io::Error> {
    let path = path.trim_end_matches('/');
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
    let mut starts = ends.map(|end| &path[..end]);
    let other = starts.find(|start| matches!(to.kind(start), Ok(Some(kind)) if kind != Kind::Directory))?;
    let full = shown(to.directory("/").ok()?.as_fd(), other.trim_start_matches('/'));
    Some(match made {
        Made::Target if other == path => non_directory(&full),
        _ => io::Error::new(io::ErrorKind::NotADirectory, format!("mkdir {full}: not a directory")),
    })
}

fn non_directory(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotADirectory, format!("cannot copy to non-directory: {path}"))
}

/// The whole path of something in a directory, for messages.
fn shown(directory: BorrowedFd<'_>, name: &str) -> String {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let above = std::fs::read_link(link).unwrap_or_default();
    above.join(name).display().to_string()
}

fn times(stat: &Stat) -> Timestamps {
    // The types of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast, reason = "needed on some architectures")]
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

pub(super) fn create(directory: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?))
}

/// Takes away what is where something else than a directory will be.
pub(super) fn make_way(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(stat) if Kind::of(&stat) == Kind::Directory => {
            let message = format!("cannot overwrite directory \"{name}\" with non-directory");
            Err(io::Error::new(io::ErrorKind::IsADirectory, message))
        }
        Ok(_) => Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?),
    }
}

/// Attributes that go with a file: those of users, and capabilities. Overlayfs' own (`user.overlay.…`) must not: they would
/// make files of a rootless overlay opaque or redirected.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut list = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(from, list.as_mut_slice()) else { return };
    for name in list[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let wanted = name == "security.capability"
            || (name.starts_with("user.") && !name.starts_with("user.overlay."));
        let mut value = vec![0; 64 << 10];
        if let (true, Ok(length)) = (wanted, rustix::fs::fgetxattr(from, name, value.as_mut_slice())) {
            // Not every file system has attributes; the file is of use without.
            _ = rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty());
        }
    }
}

fn copy_attributes_file(from: &File, to: &File) {
    copy_attributes(from.as_fd(), to.as_fd());
}

/// What a source is in the cache: `file:<hash>` or `dir:<hash>`, over names, kinds, modes, owners, links and content, as far as
/// `--exclude` leaves them.
///
/// # Errors
/// If it can't be read.
pub(crate) fn hash(from: &Tree, path: &str, exclude: &Patterns) -> io::Result<String> {
    let stat = rustix::fs::fstat(&from.at(path, OFlags::PATH)?)?;
    let mut hasher = Sha256::new();
    if Kind::of(&stat) == Kind::Directory {
        hash_directory(from.directory(path)?.as_fd(), "", exclude, &mut hasher, 0)?;
        return Ok(format!("dir:{}", hex(&hasher.finalize())));
    }
    hash_header(&mut hasher, path.rsplit('/').next().unwrap_or(path), &stat, "");
    if Kind::of(&stat) == Kind::File {
        hash_content(from.open_file(path)?, &mut hasher)?;
    }
    Ok(format!("file:{}", hex(&hasher.finalize())))
}

fn hash_directory(
    directory: BorrowedFd<'_>,
    relative: &str,
    exclude: &Patterns,
    hasher: &mut Sha256,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "directories are nested too deeply"));
    }
    for name in tree::names(directory)? {
        let path = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
        let stat = rustix::fs::statat(directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let (kind, excluded) = (Kind::of(&stat), exclude.matches(&path));
        if excluded && (kind != Kind::Directory || !exclude.has_exclusions()) {
            continue;
        }
        let target = match kind {
            Kind::Link => {
                rustix::fs::readlinkat(directory, name.as_str(), Vec::new())?.to_string_lossy().into_owned()
            }
            _ => String::new(),
        };
        hash_header(hasher, &path, &stat, &target);
        match kind {
            Kind::Directory => {
                let below = tree::open_directory(directory, &name)?;
                hash_directory(below.as_fd(), &path, exclude, hasher, depth + 1)?;
            }
            Kind::File => hash_content(tree::open_regular(directory, &name)?, hasher)?,
            _ => {}
        }
    }
    Ok(())
}

fn hash_header(hasher: &mut Sha256, name: &str, stat: &Stat, target: &str) {
    // Modification times are left out, as in Docker: a fresh checkout must not miss the cache.
    let size = if Kind::of(stat) == Kind::File { stat.st_size } else { 0 };
    let (mode, uid, gid, device) = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    hasher.update(format!("{}\0{name}\0{mode:o}\0{uid}\0{gid}\0{size}\0{device}\0{target}\0", name.len()));
}

fn hash_content(mut file: File, hasher: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
