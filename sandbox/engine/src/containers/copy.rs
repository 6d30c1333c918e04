//! Files in and out of a container: `docker cp`, `docker export`, filling volumes. A container's files are hostile: every path is
//! opened by `openat2` with the container's root as root, so that no link leads out of it, whatever changes meanwhile.

use super::{Container, record::Record};
use crate::{
    engine::Engine,
    error::{Context, Error, Result, go_words},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = HANDLE.union(OFlags::DIRECTORY);

/// A container's files, as long as this is kept.
#[derive(Debug)]
pub struct View {
    engine: Arc<Engine>,
    id: String,
    mounted: bool,
    /// The root of what the path is in: of the container, or of a volume of a container that does not run.
    root: OwnedFd,
    /// The path below it.
    path: String,
    read_only: bool,
}

impl Drop for View {
    fn drop(&mut self) {
        if self.mounted {
            self.engine.roots.unmount(&self.id);
        }
    }
}

/// What a client is told about a path, in a header.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    name: String,
    size: i64,
    /// As Go's `os.FileMode`.
    mode: u32,
    mtime: crate::clock::Timestamp,
    link_target: String,
}

impl PathStat {
    /// The header's value.
    pub fn header(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

impl View {
    /// Of a path in a container: through the container's own mounts if it runs, else with its root mounted for the moment.
    pub fn open(engine: &Arc<Engine>, container: &Container, path: &str) -> Result<Self> {
        let mut view = Self::whole(engine, container)?;
        view.path = path.to_string();
        let record = container.record();
        let clean = super::mounts::clean(path);
        view.read_only = record.host.readonly_rootfs;
        if let Some((source, rest, rw)) = volume_of(&record, &clean) {
            view.read_only = !rw;
            if container.live().is_none() {
                view.root = open_dir(Path::new(&source)).doing(|| format!("open {source}"))?;
                // What follows a slash at the end counts, so it is kept.
                let end = if path.ends_with("/.") {
                    "/."
                } else if path.ends_with('/') {
                    "/"
                } else {
                    ""
                };
                view.path = format!("/{}{end}", rest.trim_start_matches('/'));
            }
        }
        drop(record);
        Ok(view)
    }

    fn whole(engine: &Arc<Engine>, container: &Container) -> Result<Self> {
        let mut view = Self::root_only(engine, container)?;
        if let Some(live) = container.live()
            && let Ok(root) = open_dir(Path::new(&format!("/proc/{}/root", engine.way_in(container, &live))))
        {
            view.root = root;
        }
        Ok(view)
    }

    /// Of a container's root file system without what is mounted in it.
    pub fn root_only(engine: &Arc<Engine>, container: &Container) -> Result<Self> {
        let id = container.id.clone();
        let layers =
            engine.images.held(&id)?.ok_or_else(|| Error::internal("the container's layers are gone"))?;
        let merged = engine.roots.mount(&id, &layers)?;
        let root = open_dir(&merged).map_err(|e| {
            engine.roots.unmount(&id);
            Error::internal(format!("open {}: {}", merged.display(), go_words(&e)))
        })?;
        Ok(Self { engine: engine.clone(), id, mounted: true, root, path: "/".into(), read_only: false })
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_found(format!("Could not find the file {} in container {name}", self.path))
    }

    /// What is at the path. A link itself, unless the path ends with a slash.
    pub fn stat(&self, name: &str) -> Result<PathStat> {
        let (parent, base) = self.locate().map_err(|_| self.missing(name))?;
        let stat = stat_of(parent.as_fd(), &base).map_err(|_| self.missing(name))?;
        let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = readlinkat(&parent, base.as_str(), vec![]).map_err(|_| self.missing(name))?;
            let target = target.to_string_lossy().into_owned();
            let dir = Path::new(&self.path).parent().unwrap_or(Path::new("/"));
            super::mounts::clean(&dir.join(target).to_string_lossy())
        } else {
            String::new()
        };
        Ok(PathStat {
            name: self.name(),
            size: stat.st_size,
            mode: go_mode(stat.st_mode),
            mtime: crate::clock::Timestamp::from_unix(
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            link_target,
        })
    }

    /// The last part of the path, as Go's `filepath.Base`.
    fn name(&self) -> String {
        let trimmed = self.path.trim_end_matches('/');
        match trimmed.rsplit('/').next() {
            Some("") | None => "/".into(),
            Some(last) => last.into(),
        }
    }

    /// Directory and name of what the path names; links on the way are followed inside the root.
    fn locate(&self) -> io::Result<(OwnedFd, String)> {
        let follows = self.path.ends_with('/') || self.path.ends_with("/.");
        let clean = super::mounts::clean(&self.path);
        let relative = clean.trim_start_matches('/');
        if follows || relative.is_empty() {
            return Ok((
                in_root(self.root.as_fd(), if relative.is_empty() { "." } else { relative }, HANDLE)?,
                String::new(),
            ));
        }
        let (parent, base) = relative.rsplit_once('/').unwrap_or((".", relative));
        Ok((in_root(self.root.as_fd(), parent, DIRECTORY)?, base.to_string()))
    }

    /// Writes what is at the path as a tar.
    pub fn write_tar(&self, to: impl Write) -> io::Result<()> {
        let (parent, base) = self.locate()?;
        let stat = stat_of(parent.as_fd(), &base)?;
        let name = match self.name().as_str() {
            "/" => ".".to_string(),
            name => name.to_string(),
        };
        let mut tar = TarWriter::new(to, false);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let dir = if base.is_empty() { parent } else { in_root(parent.as_fd(), &base, DIRECTORY)? };
            tar.tree(dir.as_fd(), &name)?;
        } else if base.is_empty() {
            return Err(io::ErrorKind::NotADirectory.into());
        } else {
            tar.entry(parent.as_fd(), &base, &name, &stat)?;
        }
        tar.finish()
    }

    /// Writes all files of the root as a tar (`docker export`).
    pub fn write_root(&self, to: impl Write) -> io::Result<()> {
        let mut tar = TarWriter::new(to, false);
        tar.tree(self.root.as_fd(), "")?;
        tar.finish()
    }

    /// Unpacks a tar in the directory at the path.
    pub fn extract(&self, name: &str, tar: impl Read, no_overwrite: bool) -> Result<()> {
        let clean = super::mounts::clean(&self.path);
        let relative = clean.trim_start_matches('/');
        let dir = if relative.is_empty() { "." } else { relative };
        let found = in_root(self.root.as_fd(), dir, HANDLE).map_err(|_| self.missing(name))?;
        let stat = rustix::fs::fstat(&found).map_err(|_| self.missing(name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        if self.read_only {
            return Err(Error::invalid("container rootfs is marked read-only"));
        }
        unpack(self.root.as_fd(), relative, tar, no_overwrite).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Error::invalid(e.to_string())
            }
            _ => Error::internal(go_words(&e)),
        })
    }
}

/// The volume or bind that a path is in: its source, the path below it, whether it may be written.
fn volume_of(record: &Record, path: &str) -> Option<(String, String, bool)> {
    let inside = |m: &&super::record::Mounted| {
        let target = &m.point.destination;
        !m.point.source.is_empty() && (path == target || path.starts_with(&format!("{target}/")))
    };
    let best = record.mount_points.iter().filter(inside).max_by_key(|m| m.point.destination.len())?;
    Some((best.point.source.clone(), path[best.point.destination.len()..].to_string(), best.point.rw))
}

/// Opens a path as if `root` were the root of all files.
fn in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: something was renamed meanwhile, so the kernel can't be sure (openat2(2)).
    for _ in 0..50 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn stat_of(dir: BorrowedFd<'_>, name: &str) -> io::Result<Stat> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    Ok(statat(dir, name, flags)?)
}

/// Go's file mode: permissions in the low bits, kinds in the high ones.
fn go_mode(mode: u32) -> u32 {
    let mut go = mode & 0o777;
    go |= match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    for (bit, flag) in [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)] {
        if mode & bit != 0 {
            go |= flag;
        }
    }
    go
}

/// Names in a directory, sorted.
fn names_in(dir: BorrowedFd<'_>, path: &str) -> io::Result<Vec<String>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.is_empty() { "." } else { path };
    let fd = openat2(dir, path, flags, Mode::empty(), resolve)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        // Names that are not UTF-8 can't be in such a path; they are left out rather than mistaken.
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Writes trees of files as a tar.
pub struct TarWriter<W: Write> {
    tar: tar::Builder<W>,
    /// Files with several names, and the first of these.
    links: HashMap<(u64, u64), String>,
    /// Overlayfs whiteouts become those of image layers (`.wh.name`).
    whiteouts: bool,
}

impl<W: Write> TarWriter<W> {
    /// An empty one.
    pub fn new(to: W, whiteouts: bool) -> Self {
        let mut tar = tar::Builder::new(to);
        tar.mode(tar::HeaderMode::Complete);
        Self { tar, links: HashMap::new(), whiteouts }
    }

    /// A directory with all below it, as `name`; an empty name leaves the directory itself out.
    pub fn tree(&mut self, dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        if !name.is_empty() {
            let stat = stat_of(dir, "")?;
            self.entry(dir, "", name, &stat)?;
        }
        // (path in the directory); a stack instead of recursion, as a container chooses the depth.
        let mut stack: Vec<String> = names_in(dir, "")?.into_iter().rev().collect();
        while let Some(path) = stack.pop() {
            let Ok(stat) = below(dir, &path) else { continue };
            let named = if name.is_empty() { path.clone() } else { format!("{name}/{path}") };
            let (parent, base) = path.rsplit_once('/').unwrap_or(("", &path));
            let parent_fd = if parent.is_empty() { None } else { Some(open_below(dir, parent, DIRECTORY)?) };
            self.entry(parent_fd.as_ref().map_or(dir, AsFd::as_fd), base, &named, &stat)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let names = names_in(dir, &path).unwrap_or_default();
                stack.extend(names.into_iter().rev().map(|n| format!("{path}/{n}")));
            }
        }
        Ok(())
    }

    /// One entry.
    fn entry(&mut self, parent: BorrowedFd<'_>, base: &str, name: &str, stat: &Stat) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && kind != FileType::Directory {
            if let Some(first) = self.links.get(&key) {
                header.set_entry_type(tar::EntryType::Link);
                let first = first.clone();
                return self.tar.append_link(&mut header, name, first);
            }
            self.links.insert(key, name.to_string());
        }
        match kind {
            FileType::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                self.tar.append_data(&mut header, format!("{name}/"), io::empty())?;
                if self.whiteouts && is_opaque(parent, base) {
                    return self.marker(&format!("{name}/.wh..wh..opq"));
                }
                Ok(())
            }
            FileType::Symlink => {
                header.set_entry_type(tar::EntryType::Symlink);
                let target = readlinkat(parent, base, vec![])?;
                self.tar.append_link(&mut header, name, target.to_string_lossy().as_ref())
            }
            FileType::RegularFile => {
                header.set_size(u64::try_from(stat.st_size).unwrap_or(0));
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(parent, base, flags, Mode::empty())?);
                // A file that shrinks meanwhile is filled up, so that the tar stays one.
                let len = u64::try_from(stat.st_size).unwrap_or(0);
                self.tar.append_data(&mut header, name, file.chain(io::repeat(0)).take(len))
            }
            FileType::CharacterDevice if self.whiteouts && stat.st_rdev == 0 => {
                let (dir, base) = name.rsplit_once('/').map_or(("", name), |(d, b)| (d, b));
                let marker = if dir.is_empty() { format!(".wh.{base}") } else { format!("{dir}/.wh.{base}") };
                self.marker(&marker)
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let kind =
                    if kind == FileType::BlockDevice { tar::EntryType::Block } else { tar::EntryType::Char };
                header.set_entry_type(kind);
                header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
                self.tar.append_data(&mut header, name, io::empty())
            }
            FileType::Fifo => {
                header.set_entry_type(tar::EntryType::Fifo);
                self.tar.append_data(&mut header, name, io::empty())
            }
            // Sockets have no place in a tar.
            _ => Ok(()),
        }
    }

    fn marker(&mut self, name: &str) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, name, io::empty())
    }

    /// The end of the tar.
    pub fn finish(mut self) -> io::Result<()> {
        self.tar.finish()?;
        self.tar.get_mut().flush()
    }
}

fn open_below(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat2(dir, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
}

fn below(dir: BorrowedFd<'_>, path: &str) -> io::Result<Stat> {
    let (parent, base) = path.rsplit_once('/').unwrap_or(("", path));
    if parent.is_empty() {
        return stat_of(dir, base);
    }
    stat_of(open_below(dir, parent, DIRECTORY)?.as_fd(), base)
}

/// Whether a directory hides what is below it in lower layers.
pub fn is_opaque(parent: BorrowedFd<'_>, base: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if base.is_empty() { "." } else { base };
    let Ok(dir) = rustix::fs::openat(parent, path, flags, Mode::empty()) else { return false };
    let mut value = [0u8; 4];
    ["user.overlay.opaque", "trusted.overlay.opaque"]
        .into_iter()
        .any(|name| rustix::fs::fgetxattr(&dir, name, &mut value).is_ok_and(|n| value.get(..n) == Some(b"y")))
}

/// Unpacks a tar below `dir` (a path in `root`). Names that lead out are refused.
fn unpack(root: BorrowedFd<'_>, dir: &str, from: impl Read, no_overwrite: bool) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut dirs: Vec<(PathBuf, i64)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let mut path = PathBuf::from(dir);
        for part in name.components() {
            match part {
                Component::Normal(part) => path.push(part),
                Component::CurDir | Component::RootDir => {}
                _ => {
                    let text = format!("invalid tar: {} leads out of the directory", name.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        if path == Path::new(dir) {
            continue;
        }
        let mtime = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
        if unpack_one(root, &path, dir, &mut entry, no_overwrite)? {
            dirs.push((path, mtime));
        }
    }
    // Last, as what is put into a directory changes its time.
    for (path, mtime) in dirs.into_iter().rev() {
        if let Ok(dir) = in_root(root, &path.to_string_lossy(), OFlags::RDONLY | OFlags::DIRECTORY) {
            let _cosmetic = rustix::fs::futimens(&dir, &times(mtime));
        }
    }
    Ok(())
}

fn times(mtime: i64) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec { tv_sec: mtime, tv_nsec: 0 };
    rustix::fs::Timestamps { last_access: time, last_modification: time }
}

/// Makes one entry; true for a directory.
fn unpack_one(
    root: BorrowedFd<'_>,
    path: &Path,
    dir: &str,
    entry: &mut tar::Entry<'_, impl Read>,
    no_overwrite: bool,
) -> io::Result<bool> {
    let (Some(parent), Some(base)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let parent = make_parents(root, parent)?;
    let number = |n: io::Result<u64>| u32::try_from(n.unwrap_or(0)).unwrap_or(0);
    let (uid, gid) = (number(entry.header().uid()), number(entry.header().gid()));
    let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o644) & 0o7777);
    let mtime = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
    let kind = entry.header().entry_type();
    let is_dir = kind == tar::EntryType::Directory;
    if let Ok(there) = stat_of(parent.as_fd(), base) {
        let there_dir = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        if there_dir != is_dir && no_overwrite {
            let (a, b) =
                if there_dir { ("directory", "non-directory") } else { ("non-directory", "directory") };
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("cannot overwrite {a} \"/{}\" with {b} \"{dir}\"", path.display()),
            ));
        }
        if !(there_dir && is_dir) {
            let flags = if there_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            rustix::fs::unlinkat(&parent, base, flags)?;
        }
    }
    let owner = |flags| {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(&parent, base, Some(uid), Some(gid), flags)
    };
    match kind {
        tar::EntryType::Directory => {
            match rustix::fs::mkdirat(&parent, base, mode) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let made = rustix::fs::openat(
                &parent,
                base,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::fchmod(&made, mode)?;
            return Ok(true);
        }
        tar::EntryType::Symlink => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            rustix::fs::symlinkat(target.as_ref(), &parent, base)?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
        }
        tar::EntryType::Link => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            let target = Path::new(dir).join(target.strip_prefix("/").unwrap_or(&target));
            let (Some(from), Some(name)) = (target.parent(), target.file_name()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let from = if from.as_os_str().is_empty() { Path::new(".") } else { from };
            let from = in_root(root, &from.to_string_lossy(), DIRECTORY)?;
            rustix::fs::linkat(&from, name, &parent, base, AtFlags::empty())?;
        }
        tar::EntryType::Fifo | tar::EntryType::Char | tar::EntryType::Block => {
            let (kind, device) = match kind {
                tar::EntryType::Fifo => (FileType::Fifo, 0),
                tar::EntryType::Char => (FileType::CharacterDevice, device(entry)?),
                _ => (FileType::BlockDevice, device(entry)?),
            };
            rustix::fs::mknodat(&parent, base, kind, mode, device)?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&parent, base, flags, Mode::from_raw_mode(0o600))?);
            io::copy(entry, &mut file)?;
            owner(AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::fchmod(&file, mode)?;
            let _cosmetic = rustix::fs::futimens(&file, &times(mtime));
        }
    }
    Ok(false)
}

fn device(entry: &tar::Entry<'_, impl Read>) -> io::Result<libc::dev_t> {
    let header = entry.header();
    let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    Ok(rustix::fs::makedev(major, minor))
}

/// The directory of an entry, made if it is missing.
fn make_parents(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let text = if path.as_os_str().is_empty() { ".".into() } else { path.to_string_lossy().into_owned() };
    match in_root(root, &text, DIRECTORY) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(base)) = (path.parent(), path.file_name()) else { return Err(e) };
            let parent = make_parents(root, parent)?;
            match rustix::fs::mkdirat(&parent, base, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => in_root(root, &text, DIRECTORY),
                Err(e) => Err(e.into()),
            }
        }
        other => other,
    }
}

/// Copies what an image has at `inside` into an empty volume, and gives the volume its owner and mode. Nothing there: nothing done.
pub fn fill_volume(root: &Path, inside: &str, volume: &Path) -> io::Result<()> {
    let root = open_dir(root)?;
    let Ok(from) = in_root(root.as_fd(), inside.trim_start_matches('/'), DIRECTORY) else { return Ok(()) };
    let to = open_dir(volume)?;
    let stat = rustix::fs::fstat(&from)?;
    let handle =
        rustix::fs::open(volume, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fchown(
        &handle,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    if names_in(from.as_fd(), "")?.is_empty() {
        return Ok(());
    }
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut tar = TarWriter::new(io::BufWriter::with_capacity(64 << 10, writer), false);
            tar.tree(from.as_fd(), "")?;
            tar.finish()
        });
        let unpacked = unpack(to.as_fd(), "", io::BufReader::with_capacity(64 << 10, reader), false);
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("the copy has failed")));
        unpacked.and(written)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            // Written as they are: the library would refuse what an attacker writes.
            let bytes = name.as_bytes();
            header.as_gnu_mut().unwrap().name[..bytes.len()].copy_from_slice(bytes);
            if *kind == tar::EntryType::Regular {
                header.set_size(content.len() as u64);
                header.set_cksum();
                tar.append(&header, content.as_bytes()).unwrap();
            } else {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_cksum();
                tar.append(&header, io::empty()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    fn put(root: &Path, dir: &str, entries: &[(&str, tar::EntryType, &str)]) -> io::Result<()> {
        let root = open_dir(root).unwrap();
        unpack(root.as_fd(), dir, &tar_of(entries)[..], false)
    }

    #[test]
    fn links_and_dots_do_not_lead_out_of_the_root() {
        use tar::EntryType::{Link, Regular, Symlink};
        let temp = tempfile::tempdir().unwrap();
        let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        assert_eq!(put(&root, "", &[("../x", Regular, "1")]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let target = outside.to_str().unwrap();
        // Through a link of the container's own: stays inside, where the target is missing.
        let _refused_or_inside = put(&root, "", &[("l", Symlink, target), ("l/x", Regular, "1")]);
        let _refused_or_inside = put(&root, "", &[("h", Link, "../outside/secret")]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert!(fs::read_to_string(root.join("h")).is_err());
        // An absolute link is one of the container.
        fs::create_dir(root.join("dir")).unwrap();
        symlink("/dir", root.join("abs")).unwrap();
        put(&root, "abs", &[("f", Regular, "content")]).unwrap();
        assert_eq!(fs::read_to_string(root.join("dir/f")).unwrap(), "content");
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::create_dir_all(from.join("data/d")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("data/d/f"), "text").unwrap();
        fs::hard_link(from.join("data/d/f"), from.join("data/g")).unwrap();
        symlink("d/f", from.join("data/l")).unwrap();
        fill_volume(&from, "/data", &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("l")).unwrap(), "text");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(to.join("g")).unwrap().ino(), fs::metadata(to.join("d/f")).unwrap().ino());
        fill_volume(&from, "/nothing", &to).unwrap();
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), (1 << 31) | 0o755);
        assert_eq!(go_mode(0o104_755), (1 << 23) | 0o755);
        assert_eq!(go_mode(0o120_777), (1 << 27) | 0o777);
    }
}
