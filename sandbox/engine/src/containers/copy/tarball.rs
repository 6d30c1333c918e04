//! Trees of files as a tar, with what they have beside content and mode: owners, times to the second, several names of one file,
//! and the extended attributes that image layers keep as well (users' own and file capabilities). Walked without recursion, as a
//! container chooses the depth; nothing is opened through a link.

use super::{DIRECTORY, is_kernels, stat_of};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, flistxattr, openat, openat2, readlinkat},
    io::Errno,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Attributes of one file, names and values, that are carried.
const ATTRIBUTES_MAX: usize = 256 << 10;

/// Room for a name in a header.
const NAME_MAX: usize = 100;

/// Names in a directory, sorted.
pub(super) fn names_in(dir: BorrowedFd<'_>, path: &str) -> io::Result<Vec<String>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.is_empty() { "." } else { path };
    let fd = openat2(dir, path, flags, Mode::empty(), resolve)?;
    let mut names = Vec::new();
    if is_kernels(fd.as_fd())? {
        return Ok(names);
    }
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

    /// A directory with all below it, as `name`; an empty name leaves the directory itself out. `.` makes entries `./x` and `/` makes
    /// them `/x`, as go-archive has it: clients put another name in the place of the first one.
    pub fn tree(&mut self, dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        if !name.is_empty() {
            let stat = stat_of(dir, "")?;
            self.entry(dir, "", name, &stat)?;
        }
        // (path in the directory); a stack instead of recursion, as a container chooses the depth.
        let mut stack: Vec<String> = names_in(dir, "")?.into_iter().rev().collect();
        while let Some(path) = stack.pop() {
            let Ok(stat) = below(dir, &path) else { continue };
            let named = inside(name, &path);
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
    pub(super) fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        base: &str,
        name: &str,
        stat: &Stat,
    ) -> io::Result<()> {
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
                return self.put(&mut header, name, &first, io::empty());
            }
            self.links.insert(key, name.to_string());
        }
        match kind {
            FileType::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let path = if base.is_empty() { "." } else { base };
                self.attributes(openat(parent, path, flags, Mode::empty())?.as_fd())?;
                self.put(&mut header, &inside(name, ""), "", io::empty())?;
                if self.whiteouts && is_opaque(parent, base) {
                    return self.marker(&inside(name, ".wh..wh..opq"));
                }
                Ok(())
            }
            FileType::Symlink => {
                header.set_entry_type(tar::EntryType::Symlink);
                let target = readlinkat(parent, base, vec![])?;
                self.put(&mut header, name, &target.to_string_lossy(), io::empty())
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(openat(parent, base, flags, Mode::empty())?);
                self.attributes(file.as_fd())?;
                // A file that shrinks meanwhile is filled up, so that the tar stays one.
                let hidden = is_kernels(file.as_fd())?;
                let len = if hidden { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
                header.set_size(len);
                self.put(&mut header, name, "", file.chain(io::repeat(0)).take(len))
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
                self.put(&mut header, name, "", io::empty())
            }
            FileType::Fifo => {
                header.set_entry_type(tar::EntryType::Fifo);
                self.put(&mut header, name, "", io::empty())
            }
            // Sockets have no place in a tar.
            _ => Ok(()),
        }
    }

    /// An entry with its names as they are: the tar crate's own ways leave out a `./` and refuse a leading slash.
    fn put(&mut self, header: &mut tar::Header, name: &str, target: &str, data: impl Read) -> io::Result<()> {
        self.long(tar::EntryType::GNULongName, name)?;
        self.long(tar::EntryType::GNULongLink, target)?;
        let fields = header.as_old_mut();
        for (field, text) in [(&mut fields.name, name), (&mut fields.linkname, target)] {
            *field = [0; NAME_MAX];
            let fits = text.len().min(NAME_MAX);
            field[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        }
        header.set_cksum();
        self.tar.append(header, data)
    }

    /// GNU's entry before one whose name is longer than the header has room for.
    fn long(&mut self, kind: tar::EntryType, text: &str) -> io::Result<()> {
        if text.len() <= NAME_MAX {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
        header.set_mode(0o644);
        header.set_entry_type(kind);
        header.set_size(text.len() as u64 + 1);
        header.set_cksum();
        self.tar.append(&header, text.as_bytes().chain(&[0_u8][..]))
    }

    /// Extended attributes of the entry that comes next.
    fn attributes(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let kept = attributes(file)?;
        if kept.is_empty() {
            return Ok(());
        }
        let named: Vec<(String, Vec<u8>)> =
            kept.into_iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value)).collect();
        self.tar.append_pax_extensions(named.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
    }

    fn marker(&mut self, name: &str) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o600);
        self.put(&mut header, name, "", io::empty())
    }

    /// The end of the tar.
    pub fn finish(mut self) -> io::Result<()> {
        self.tar.finish()?;
        self.tar.get_mut().flush()
    }
}

/// The name of something in a directory.
fn inside(directory: &str, name: &str) -> String {
    if directory.is_empty() || directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
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
    let Ok(dir) = openat(parent, path, flags, Mode::empty()) else { return false };
    let mut value = [0u8; 4];
    ["user.overlay.opaque", "trusted.overlay.opaque"]
        .into_iter()
        .any(|name| fgetxattr(&dir, name, &mut value).is_ok_and(|n| value.get(..n) == Some(b"y")))
}

/// The attributes that are carried.
fn attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0u8; 64 << 10];
    let length = match flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(vec![]),
        Err(e) => return Err(e.into()),
    };
    let (mut kept, mut size) = (vec![], 0);
    for name in names[..length].split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if !is_carried(name) {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        match fgetxattr(file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // It went meanwhile.
            Err(Errno::NODATA) => continue,
            Err(e) => return Err(e.into()),
        }
        size += name.len() + value.len();
        if size > ATTRIBUTES_MAX {
            return Err(io::Error::other("a file has too many extended attributes"));
        }
        kept.push((name.to_string(), value));
    }
    kept.sort();
    Ok(kept)
}

/// Users' own but overlayfs', and file capabilities, as in image layers. A `=` would end the name in a tar.
pub(super) fn is_carried(name: &str) -> bool {
    let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
    (users || name == "security.capability") && !name.contains('=')
}
