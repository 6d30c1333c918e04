//! Files in and out of a container: `docker cp`, `docker export`, filling volumes; [`tarball`] writes them, [`untar`] takes them in.
//! A container's files are hostile: every path is opened by `openat2` with the container's root as root, so that no link leads out of it, whatever changes meanwhile.

use super::{Container, files, record::Record};
use crate::{
    engine::Engine,
    error::{Context, Error, Result},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use drydock_go::io_text;
use drydock_runtime::container::users;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, readlinkat, statat};
use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use tarball::{TarWriter, names_in};
use untar::unpack;

mod tarball;
mod untar;

pub use tarball::is_opaque;
pub use untar::Options;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_USERS: u64 = 1 << 20;
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
    /// The path in the container.
    asked: String,
    /// Why nothing may be written there.
    locked: Option<&'static str>,
}

const LOCKED_ROOT: &str = "container rootfs is marked read-only";
/// (moby `daemon/archive_unix.go`, `checkIfPathIsInAVolume`)
const LOCKED_VOLUME: &str = "mounted volume is marked read-only";

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
        view.asked = path.to_string();
        let record = container.record();
        let clean = super::mounts::clean(path);
        view.locked = record.host.readonly_rootfs.then_some(LOCKED_ROOT);
        let volume = volume_of(&record, &clean).map(|found| (found, LOCKED_VOLUME));
        let found = volume.or_else(|| own_file(engine, &record, &clean).map(|found| (found, LOCKED_ROOT)));
        if let Some(((source, rest, rw), why)) = found {
            view.locked = (!rw).then_some(why);
            if container.live().is_none() {
                let (directory, rest) =
                    place(Path::new(&source), &rest).doing(|| format!("open {source}"))?;
                view.root = directory;
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
            Error::internal(format!("open {}: {}", merged.display(), io_text(&e)))
        })?;
        let path = || "/".to_string();
        Ok(Self {
            engine: engine.clone(),
            id,
            mounted: true,
            root,
            path: path(),
            asked: path(),
            locked: None,
        })
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_found(format!("Could not find the file {} in container {name}", self.asked))
    }

    /// Why nothing can be had at the path: dockerd tells a missing file by the container, the rest in Go's words.
    fn refused(&self, name: &str, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotADirectory => {
                Error::internal(format!("lstat {}: {}", self.asked, io_text(error)))
            }
            _ => self.missing(name),
        }
    }

    /// What is at the path. A link itself, unless the path ends with a slash.
    pub fn stat(&self, name: &str) -> Result<PathStat> {
        let (parent, base) = self.locate().map_err(|error| self.refused(name, &error))?;
        let stat = stat_of(parent.as_fd(), &base).map_err(|_| self.missing(name))?;
        let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = readlinkat(&parent, base.as_str(), vec![]).map_err(|_| self.missing(name))?;
            let target = target.to_string_lossy().into_owned();
            let dir = Path::new(&self.asked).parent().unwrap_or(Path::new("/"));
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
        let trimmed = self.asked.trim_end_matches('/');
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
            // What ends with a slash is a directory, or nothing.
            let directory = if relative.is_empty() { "." } else { relative };
            return Ok((in_root(self.root.as_fd(), directory, DIRECTORY)?, String::new()));
        }
        let (parent, base) = relative.rsplit_once('/').unwrap_or((".", relative));
        let parent = in_root(self.root.as_fd(), parent, DIRECTORY)?;
        match openat(&parent, base, HANDLE | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(found) => refuse_kernels(found.as_fd())?,
            // That nothing is there is told where it is looked for.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((parent, base.to_string()))
    }

    /// Writes what is at the path as a tar.
    pub fn write_tar(&self, to: impl Write) -> io::Result<()> {
        let (parent, base) = self.locate()?;
        let stat = stat_of(parent.as_fd(), &base)?;
        let name = self.name();
        let mut tar = TarWriter::new(to, false);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let dir = if base.is_empty() { parent } else { in_root(parent.as_fd(), &base, DIRECTORY)? };
            tar.tree(dir.as_fd(), &name)?;
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
    pub fn extract(&self, name: &str, tar: impl Read, options: Options) -> Result<()> {
        let clean = super::mounts::clean(&self.path);
        let relative = clean.trim_start_matches('/');
        let dir = if relative.is_empty() { "." } else { relative };
        let found = in_root(self.root.as_fd(), dir, HANDLE).map_err(|_| self.missing(name))?;
        let stat = rustix::fs::fstat(&found).map_err(|_| self.missing(name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if self.path.ends_with('/') || self.path.ends_with("/.") {
                return Err(self.refused(name, &io::Error::from_raw_os_error(nix::libc::ENOTDIR)));
            }
            return Err(Error::invalid("extraction point is not a directory"));
        }
        if let Some(why) = self.locked {
            return Err(Error::invalid(why));
        }
        unpack(self.root.as_fd(), relative, tar, options).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Error::invalid(e.to_string())
            }
            _ => Error::internal(io_text(&e)),
        })
    }
}

/// Whom files belong to that a client wants to be the container's user's; nobody in particular if it runs as root.
pub fn owner(engine: &Arc<Engine>, container: &Container) -> Result<Option<(u32, u32)>> {
    let user = container.record().config.user.clone();
    if user.is_empty() {
        return Ok(None);
    }
    let view = View::whole(engine, container)?;
    let text = |path: &str| {
        let mut bytes = vec![];
        let regular = |file: &OwnedFd| {
            rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
        };
        if let Ok(file) = in_root(view.root.as_fd(), path, OFlags::RDONLY | OFlags::NONBLOCK)
            && regular(&file)
        {
            let _what_there_is = std::fs::File::from(file).take(MAX_USERS).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let found = users::resolve(&user, &[], &text("etc/passwd"), &text("etc/group"));
    found.map(|user| Some((user.uid, user.gid))).map_err(Error::internal)
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

/// One of the files that the engine gives to a container that has run: they are mounted, too.
fn own_file(engine: &Engine, record: &Record, path: &str) -> Option<(String, String, bool)> {
    let name = path.strip_prefix("/etc/").filter(|name| files::NAMES.contains(name))?;
    let source = super::spec::files_of(engine, record)?.join(name);
    source.exists().then(|| (source.to_string_lossy().into_owned(), String::new(), true))
}

/// Opens what is mounted, or the directory of it if it is a file. Returns the path below that, too.
fn place(source: &Path, rest: &str) -> io::Result<(OwnedFd, String)> {
    let source = source.canonicalize()?;
    match (source.is_dir(), source.parent(), source.file_name()) {
        (false, Some(parent), Some(name)) => {
            Ok((open_dir(parent)?, format!("{}{rest}", name.to_string_lossy())))
        }
        _ => Ok((open_dir(&source)?, rest.to_owned())),
    }
}

/// Opens a path as if `root` were the root of all files.
fn in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: something was renamed meanwhile, so the kernel can't be sure (openat2(2)).
    for _ in 0..50 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            other => {
                let found = other?;
                refuse_kernels(found.as_fd())?;
                return Ok(found);
            }
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// A node's `/proc` that a container has mounted would show us: `self` is the engine there. No copy needs its files, nor those of the
/// container's own, which dockerd does not see either.
fn refuse_kernels(found: BorrowedFd<'_>) -> io::Result<()> {
    if is_kernels(found)? { Err(rustix::io::Errno::NOENT.into()) } else { Ok(()) }
}

/// Whether a file is the kernel's: of `/proc`, `/sys` or of control groups.
fn is_kernels(found: BorrowedFd<'_>) -> io::Result<bool> {
    use nix::sys::statfs;
    let kind = statfs::fstatfs(found)?.filesystem_type();
    let kernels = [
        statfs::PROC_SUPER_MAGIC,
        statfs::SYSFS_MAGIC,
        statfs::CGROUP_SUPER_MAGIC,
        statfs::CGROUP2_SUPER_MAGIC,
    ];
    Ok(kernels.contains(&kind))
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

/// Makes a directory in a container's root, with those above it.
pub fn make_dirs(root: &Path, inside: &str) -> io::Result<()> {
    untar::make_parents(open_dir(root)?.as_fd(), Path::new(inside.trim_start_matches('/'))).map(drop)
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
        let unpacked =
            unpack(to.as_fd(), "", io::BufReader::with_capacity(64 << 10, reader), Options::default());
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("the copy has failed")));
        unpacked.and(written)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

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
    fn directories_are_made_inside_the_root() {
        let temp = tempfile::tempdir().unwrap();
        symlink("/real", temp.path().join("link")).unwrap();
        fs::create_dir(temp.path().join("real")).unwrap();
        make_dirs(temp.path(), "/link/a/b").unwrap();
        assert!(temp.path().join("real/a/b").is_dir());
        make_dirs(temp.path(), "/link/a/b").unwrap();
    }

    #[test]
    fn extended_attributes_come_along() {
        let temp = tempfile::tempdir_in("/var/tmp").unwrap();
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::create_dir_all(from.join("data/d")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("data/f"), "text").unwrap();
        let set = |path: &str, name: &str, value: &[u8]| {
            rustix::fs::setxattr(from.join(path), name, value, rustix::fs::XattrFlags::empty())
        };
        if set("data/f", "user.origin", b"a\0b=c").is_err() {
            return; // This file system has none.
        }
        set("data/d", "user.dir", b"1").unwrap();
        set("data/f", "user.overlay.opaque", b"y").unwrap();
        fill_volume(&from, "/data", &to).unwrap();
        let get = |path: &str, name: &str| {
            let mut value = [0u8; 64];
            rustix::fs::getxattr(to.join(path), name, &mut value[..]).map(|n| value[..n].to_vec())
        };
        assert_eq!(get("f", "user.origin").unwrap(), b"a\0b=c");
        assert_eq!(get("d", "user.dir").unwrap(), b"1");
        assert!(get("f", "user.overlay.opaque").is_err(), "that is overlayfs' own");
        assert_eq!(fs::read_to_string(to.join("f")).unwrap(), "text");
    }

    /// What ends with a slash is replaced as a whole by clients, so the names' beginning must be go-archive's.
    #[test]
    fn names_begin_as_go_archive_writes_them() {
        let temp = tempfile::tempdir().unwrap();
        let long = "n".repeat(120);
        fs::create_dir(temp.path().join("d")).unwrap();
        fs::write(temp.path().join("d").join(&long), "long").unwrap();
        symlink(format!("/{long}"), temp.path().join("l")).unwrap();
        let dir = open_dir(temp.path()).unwrap();
        let names = |name: &str| {
            let mut bytes = vec![];
            let mut tar = TarWriter::new(&mut bytes, false);
            tar.tree(dir.as_fd(), name).unwrap();
            tar.finish().unwrap();
            let mut tar = tar::Archive::new(&bytes[..]);
            let mut found = vec![];
            for entry in tar.entries().unwrap() {
                let mut entry = entry.unwrap();
                found.push(String::from_utf8(entry.path_bytes().into_owned()).unwrap());
                if let Some(target) = entry.link_name().unwrap() {
                    assert_eq!(target.to_str().unwrap(), format!("/{long}"));
                }
                if entry.size() > 0 {
                    let mut text = String::new();
                    entry.read_to_string(&mut text).unwrap();
                    assert_eq!(text, "long");
                }
            }
            found
        };
        assert_eq!(names("."), ["./", "./d/", &format!("./d/{long}"), "./l"]);
        assert_eq!(names("/"), ["/", "/d/", &format!("/d/{long}"), "/l"]);
        assert_eq!(names("x"), ["x/", "x/d/", &format!("x/d/{long}"), "x/l"]);
        assert_eq!(names(""), ["d/", &format!("d/{long}"), "l"]);
    }

    #[test]
    fn no_file_of_proc_is_read() {
        let root = open_dir(Path::new("/")).unwrap();
        for path in ["proc", "proc/self", "proc/self/map_files", "proc/sys/kernel"] {
            let error = in_root(root.as_fd(), path, DIRECTORY).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
        }
        assert!(in_root(root.as_fd(), "etc", DIRECTORY).is_ok());
        let proc = open_dir(Path::new("/proc")).unwrap();
        assert_eq!(names_in(proc.as_fd(), "").unwrap(), Vec::<String>::new());
        let mut stat = stat_of(proc.as_fd(), "version").unwrap();
        stat.st_size = 10;
        let mut bytes = vec![];
        let mut tar = TarWriter::new(&mut bytes, false);
        tar.entry(proc.as_fd(), "version", "version", &stat).unwrap();
        tar.finish().unwrap();
        assert_eq!(tar::Archive::new(&bytes[..]).entries().unwrap().next().unwrap().unwrap().size(), 0);
    }

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), (1 << 31) | 0o755);
        assert_eq!(go_mode(0o104_755), (1 << 23) | 0o755);
        assert_eq!(go_mode(0o120_777), (1 << 27) | 0o777);
    }
}
