//! Unpacks one layer (a tar from anywhere) as root into an empty directory: owners, modes, times, hard links and
//! `security.capability` are kept, device nodes are left out. Every path is resolved by `openat2` below the directory
//! without leaving it, so no name can reach anything outside. Called by build and import on the host and for every layer
//! that a node gets.

use crate::{
    Error, Result,
    entries::{self, Meta},
    error::refused,
    sparse,
    split::Recorder,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
        chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2, renameat,
        statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use std::{
    cell::RefCell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    rc::Rc,
};
use tar::EntryType;

/// Most entries of one layer.
const MAX_ENTRIES: u64 = 1_000_000;
/// Most bytes of one uncompressed layer.
pub(crate) const MAX_BYTES: u64 = 16 << 30;
/// Most directories in a path.
const MAX_DEPTH: usize = 128;
/// A session has this many ids; an owner beyond them could not be shown in it.
const IDS: u64 = 65_536;
/// Below the layer; links mean what they mean in a container.
const INSIDE: ResolveFlags =
    ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);
/// Below the layer, without symbolic links, procfs magic or mounts on the way.
const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
pub(crate) const WHITEOUT: &[u8] = b".wh.";
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// For whom a layer is unpacked.
#[derive(Clone, Copy)]
pub(crate) enum Rules<'a> {
    /// For the host's store: a layer is refused if any name in it is odd, and mounts with and without `userxattr` can use it.
    Host,
    /// For one node, inside its user namespace: as tolerant as Docker, whose images come from everywhere. Absolute names are
    /// meant from the layer's top, and links on the way are followed within the layer.
    Node(&'a RefCell<Recorder>),
}

/// Unpacks a tar into `into`, which must be empty and writable by root only.
pub(crate) fn unpack(tar: impl Read, into: &Path, rules: &Rules<'_>) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(into, flags, Mode::empty()).map_err(Error::path("open", into))?;
    let mut layer = Layer { root, rules: *rules, parent: None, directories: Vec::new() };
    // What the tar does not say about its top is as on any machine.
    fchmod(&layer.root, Mode::from_raw_mode(0o755)).map_err(Error::path("set the mode of", into))?;
    entries::for_each(tar, MAX_ENTRIES, |meta, content| layer.add(&meta, content))?;
    layer.set_directory_times()
}

/// A layer that is being unpacked.
struct Layer<'a> {
    root: OwnedFd,
    rules: Rules<'a>,
    /// The directory that the last entry was put in; most entries follow others of the same directory. Directories
    /// are never removed or replaced, so the descriptor stays right.
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Directories with their times, which are set when nothing changes in them any more.
    directories: Vec<(PathBuf, Timestamps)>,
}

impl Layer<'_> {
    fn add(&mut self, meta: &Meta, content: &mut dyn Read) -> Result<()> {
        let path = self.clean(&meta.path)?;
        let Some(name) = path.file_name() else {
            // The top directory itself: `./`.
            return if meta.kind.is_dir() {
                self.directories.push((PathBuf::new(), times(meta)));
                dress(self.root.as_fd(), meta, &path)
            } else {
                refused("it has an entry without a name")
            };
        };
        if matches!(meta.kind, EntryType::Char | EntryType::Block) {
            return Ok(());
        }
        let parent = self.parent_of(&path)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(&parent, name, &path);
        }
        match meta.kind {
            EntryType::Directory => self.directory(&parent, name, meta, &path),
            EntryType::Regular | EntryType::Continuous => self.file(&parent, name, meta, content, &path),
            EntryType::Symlink => self.symlink(&parent, name, meta, &path),
            EntryType::Link => self.hard_link(&parent, name, meta, &path),
            EntryType::Fifo => self.fifo(&parent, name, meta, &path),
            other => refused(format!("`{}` is of the unknown kind {other:?}", path.display())),
        }
    }

    /// Opens the directory that an entry goes into, and makes what is missing of it.
    fn parent_of(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let directory = path.parent().unwrap_or(Path::new(""));
        if let Some((last, fd)) = &self.parent
            && last == directory
        {
            return Ok(fd.clone());
        }
        let fd = match self.open_directory(directory) {
            Err(Errno::NOENT) => {
                let mut so_far = PathBuf::new();
                for part in directory.components() {
                    so_far.push(part);
                    // A symbolic link on the way is refused by this open, before anything is made behind it.
                    let above = self.open_directory(so_far.parent().unwrap_or(Path::new("")));
                    let above = above.map_err(|e| through_link(e, path))?;
                    match mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(failed("make the directory of", path)(e)),
                    }
                }
                self.open_directory(directory)
            }
            other => other,
        };
        let fd = Rc::new(fd.map_err(|e| through_link(e, path))?);
        self.parent = Some((directory.to_owned(), fd.clone()));
        Ok(fd)
    }

    fn open_directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = match self.rules {
            Rules::Host => BELOW,
            Rules::Node(_) => INSIDE,
        };
        openat2(
            &self.root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    }

    fn directory(&mut self, parent: &OwnedFd, name: &OsStr, meta: &Meta, path: &Path) -> Result<()> {
        match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) if is_directory(parent, name) => {}
            Err(Errno::EXIST) => {
                self.make_room(parent, name, path)?;
                mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(failed("make", path))?;
            }
            Err(e) => return Err(failed("make", path)(e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty()).map_err(failed("open", path))?;
        self.directories.push((path.to_owned(), times(meta)));
        dress(fd.as_fd(), meta, path)
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &OsStr, meta: &Meta, path: &Path) -> Result<()> {
        let target = self.clean(&meta.link)?;
        let Some(target_name) = target.file_name() else {
            return refused(format!("`{}` is a hard link to a directory", path.display()));
        };
        let from = self.open_directory(target.parent().unwrap_or(Path::new("")));
        let from = from.map_err(|e| match e {
            Errno::NOENT => missing_target(path, &target),
            e => through_link(e, &target),
        })?;
        if is_directory(&from, target_name) {
            return refused(format!("`{}` is a hard link to a directory", path.display()));
        }
        if target == path {
            return refused(format!("`{}` is a hard link to itself", path.display()));
        }
        self.make_room(parent, name, path)?;
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link links the link, not what it points to.
        linkat(&from, target_name, parent, name, AtFlags::empty()).map_err(|e| match e {
            Errno::NOENT => missing_target(path, &target),
            e => failed("link", path)(e),
        })
    }

    fn set_directory_times(&mut self) -> Result<()> {
        for (path, times) in std::mem::take(&mut self.directories) {
            let fd = self.open_directory(&path).map_err(failed("open", &path))?;
            futimens(&fd, &times).map_err(failed("set the time of", &path))?;
        }
        Ok(())
    }

    fn file(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        meta: &Meta,
        content: &mut dyn Read,
        path: &Path,
    ) -> Result<()> {
        self.make_room(parent, name, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(
            openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(failed("make", path))?,
        );
        let written = if meta.has_holes {
            // What the tar has of it stands at other places in the file: the tar's bytes are kept as they are.
            sparse::copy(content, &mut file)
        } else {
            if let Rules::Node(recorder) = self.rules {
                recorder.borrow_mut().content(path, meta.size).map_err(Error::path("split", path))?;
            }
            io::copy(content, &mut file)
        };
        let written = written.map_err(Error::path("unpack", path))?;
        if written != meta.size {
            return refused(format!("`{}` is cut short", path.display()));
        }
        dress(file.as_fd(), meta, path)?;
        futimens(&file, &times(meta)).map_err(failed("set the time of", path))
    }

    fn symlink(&self, parent: &OwnedFd, name: &OsStr, meta: &Meta, path: &Path) -> Result<()> {
        if meta.link.is_empty() || meta.link.contains(&0) {
            return refused(format!("`{}` is a symbolic link to nothing", path.display()));
        }
        self.make_room(parent, name, path)?;
        symlinkat(OsStr::from_bytes(&meta.link), parent, name).map_err(failed("make", path))?;
        own_and_time(parent, name, meta, path)
    }

    fn fifo(&self, parent: &OwnedFd, name: &OsStr, meta: &Meta, path: &Path) -> Result<()> {
        self.make_room(parent, name, path)?;
        let mode = Mode::from_raw_mode(meta.mode & 0o777);
        mknodat(parent, name, FileType::Fifo, mode, 0).map_err(failed("make", path))?;
        own_and_time(parent, name, meta, path)
    }

    /// Translates OCI's whiteouts (image-spec, layer.md) into those of overlayfs; they speak of the layers below only, so
    /// what this layer itself has under the name stays.
    fn whiteout(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        if name.as_bytes() == OPAQUE {
            let mark =
                |name| fsetxattr(parent, name, b"y", XattrFlags::empty()).map_err(failed("mark", path));
            if matches!(self.rules, Rules::Host) {
                mark("trusted.overlay.opaque")?;
            }
            return mark("user.overlay.opaque");
        }
        let hidden = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return refused(format!("`{}` hides nothing", path.display()));
        }
        match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(failed("make", path)(e)),
        }
    }

    /// A later entry replaces an earlier one of the same name; but a directory stays, since files may be in it.
    fn make_room(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        if let Rules::Node(recorder) = self.rules
            && let Some(aside) = recorder.borrow_mut().replaces(path).map_err(Error::path("split", path))?
        {
            return renameat(parent, name, CWD, &aside).map_err(failed("replace", path));
        }
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                refused(format!("`{}` is first a directory and then something else", path.display()))
            }
            Err(e) => Err(failed("replace", path)(e)),
        }
    }

    /// The path of an entry relative to the layer's top; empty for the top itself.
    fn clean(&self, raw: &[u8]) -> Result<PathBuf> {
        let shown =
            || String::from_utf8_lossy(raw).chars().take(200).collect::<String>().escape_debug().to_string();
        if raw.is_empty() {
            return refused("it has an entry without a name");
        }
        if raw[0] == b'/' && matches!(self.rules, Rules::Host) {
            return refused(format!("`{}` is an absolute path", shown()));
        }
        let mut path = PathBuf::new();
        for part in raw.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return refused(format!("`{}` goes up with `..`", shown())),
                _ if part.contains(&0) || part.len() > 255 => {
                    return refused(format!("`{}` is not a file name", shown()));
                }
                _ => path.push(OsString::from_vec(part.to_vec())),
            }
        }
        if path.components().count() > MAX_DEPTH {
            return refused(format!("`{}` is deeper than {MAX_DEPTH} directories", shown()));
        }
        Ok(path)
    }
}

/// Owner, mode and attributes, in this order: a change of owner clears set-user-id bits and file capabilities.
fn dress(fd: BorrowedFd<'_>, meta: &Meta, path: &Path) -> Result<()> {
    let (uid, gid) = owner(meta, path)?;
    fchown(fd, Some(uid), Some(gid)).map_err(failed("set the owner of", path))?;
    fchmod(fd, Mode::from_raw_mode(meta.mode)).map_err(failed("set the mode of", path))?;
    for (name, value) in &meta.xattrs {
        if name.contains(".overlay.") {
            // These steer overlayfs itself, such as redirects to other places of the lower layers.
            return refused(format!("`{}` has the attribute {}", path.display(), name.escape_debug()));
        }
        // Other name spaces (ACLs, labels of the builder's SELinux) mean nothing in a node.
        if name == "security.capability" || name.starts_with("user.") {
            let what = || format!("cannot set the attribute {} of {}", name.escape_debug(), path.display());
            fsetxattr(fd, name.as_str(), value, XattrFlags::empty()).map_err(|e| Error::io(what())(e))?;
        }
    }
    Ok(())
}

fn owner(meta: &Meta, path: &Path) -> Result<(Uid, Gid)> {
    match (u32::try_from(meta.uid), u32::try_from(meta.gid)) {
        (Ok(uid), Ok(gid)) if u64::from(uid) < IDS && u64::from(gid) < IDS => {
            Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
        }
        _ => refused(format!(
            "`{}` belongs to {}:{}, but a session has the ids 0 to {} only",
            path.display(),
            meta.uid,
            meta.gid,
            IDS - 1
        )),
    }
}

fn own_and_time(parent: &OwnedFd, name: &OsStr, meta: &Meta, path: &Path) -> Result<()> {
    let (uid, gid) = owner(meta, path)?;
    let this = AtFlags::SYMLINK_NOFOLLOW;
    chownat(parent, name, Some(uid), Some(gid), this).map_err(failed("set the owner of", path))?;
    utimensat(parent, name, &times(meta), this).map_err(failed("set the time of", path))
}

fn is_directory(parent: &OwnedFd, name: &OsStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|s| FileType::from_raw_mode(s.st_mode).is_dir())
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.0, tv_nsec: meta.mtime.1 as _ };
    Timestamps { last_access: time, last_modification: time }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    Error::path(verb, path)
}

fn missing_target(path: &Path, target: &Path) -> Error {
    Error::Refused(format!(
        "`{}` is a hard link to `{}`, which is not there",
        path.display(),
        target.display()
    ))
}

fn through_link(error: Errno, path: &Path) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
            Error::Refused(format!("`{}` goes through something that is not a directory", path.display()))
        }
        e => failed("open the directory of", path)(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        let root = rustix::fs::open("/", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let layer = Layer { root, rules: Rules::Host, parent: None, directories: Vec::new() };
        assert_eq!(layer.clean(b"./usr//bin/./ls").unwrap(), Path::new("usr/bin/ls"));
        assert_eq!(layer.clean(b"./").unwrap(), Path::new(""));
        let (long, deep) = (vec![b'x'; 256], b"a/".repeat(200));
        for bad in [&b"/etc/passwd"[..], b"../x", b"a/../../x", b"a\0b", b"", &long, &deep] {
            assert!(matches!(layer.clean(bad), Err(Error::Refused(_))), "{}", String::from_utf8_lossy(bad));
        }
    }
}
