//! Writes the files that a client sends into a directory, and nothing outside of it: paths are names joined by slashes, no directory
//! on the way may be a link (the kernel checks it), links are made and never followed, and everything is counted.

use super::receive::Limits;
use crate::proto::Stat;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Go's bits of a file's mode (io/fs.FileMode).
mod mode {
    pub const DIRECTORY: u32 = 1 << 31;
    pub const LINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const FIFO: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHARACTER: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const IRREGULAR: u32 = 1 << 19;
    pub const TYPES: u32 = DIRECTORY | LINK | DEVICE | FIFO | SOCKET | CHARACTER | IRREGULAR;
}

/// Directories within directories; the builder follows no more.
const MAX_DEPTH: usize = 200;
/// Bytes of a path.
const MAX_PATH: usize = 4095;

/// Go's mode from Unix's, types included.
pub(super) fn go_mode(unix: u32) -> u32 {
    let kind = match unix & 0o170_000 {
        0o040_000 => mode::DIRECTORY,
        0o120_000 => mode::LINK,
        0o060_000 => mode::DEVICE,
        0o020_000 => mode::DEVICE | mode::CHARACTER,
        0o010_000 => mode::FIFO,
        0o140_000 => mode::SOCKET,
        _ => 0,
    };
    let bits = [(0o4000, mode::SETUID), (0o2000, mode::SETGID), (0o1000, mode::STICKY)];
    let bits = bits.iter().filter(|(bit, _)| unix & bit != 0).fold(0, |all, (_, go)| all | go);
    kind | bits | (unix & 0o777)
}

fn unix_permissions(go: u32) -> Mode {
    let bits = [(mode::SETUID, 0o4000), (mode::SETGID, 0o2000), (mode::STICKY, 0o1000)];
    let bits = bits.iter().filter(|(bit, _)| go & bit != 0).fold(0, |all, (_, unix)| all | unix);
    Mode::from_raw_mode(bits | (go & 0o777))
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A file whose content has not come yet.
struct Pending {
    path: String,
    mode: Mode,
    modified: i64,
    file: Option<File>,
    requested: bool,
}

/// Writes into one directory.
pub(super) struct Writer {
    root: OwnedFd,
    files: HashMap<u32, Pending>,
    /// Mode and time of directories, set at the end: what is written into them changes the one and needs the other.
    directories: Vec<(String, Mode, i64)>,
    entries: usize,
    bytes: u64,
    limits: Limits,
}

impl Writer {
    pub fn new(to: &Path, limits: Limits) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(to, flags, Mode::empty())?;
        let (files, directories) = (HashMap::new(), Vec::new());
        Ok(Self { root, files, directories, entries: 0, bytes: 0, limits })
    }

    /// Takes one entry of the list; true: its content is wanted.
    pub fn entry(&mut self, number: u32, stat: &Stat) -> io::Result<bool> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(invalid("too many files"));
        }
        check(&stat.path)?;
        let (parent, name) = self.parent(&stat.path)?;
        let regular = stat.mode & mode::TYPES == 0;
        match stat.mode & mode::TYPES {
            mode::DIRECTORY => {
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
                let permissions = unix_permissions(stat.mode);
                self.directories.push((stat.path.clone(), permissions, stat.mod_time));
            }
            mode::LINK => {
                if stat.linkname.is_empty() || stat.linkname.len() > MAX_PATH {
                    return Err(invalid("bad link"));
                }
                rustix::fs::symlinkat(stat.linkname.as_str(), &parent, name)?;
                let times = timestamps(stat.mod_time);
                rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // A hard link to a file that came before.
            0 if !stat.linkname.is_empty() => {
                check(&stat.linkname)?;
                let (from, old) = self.parent(&stat.linkname)?;
                rustix::fs::linkat(&from, old, &parent, name, AtFlags::empty())?;
            }
            0 => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
            }
            mode::FIFO => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(&parent, name, kind, unix_permissions(stat.mode), 0)?;
            }
            // Sockets are of no use to anybody, and devices are what a learner must not make.
            _ => return Ok(false),
        }
        // The client counts hard links among the files that have contents, but nobody asks for them.
        if !regular || !stat.linkname.is_empty() {
            return Ok(false);
        }
        let (path, permissions) = (stat.path.clone(), unix_permissions(stat.mode));
        let pending =
            Pending { path, mode: permissions, modified: stat.mod_time, file: None, requested: false };
        self.files.insert(number, pending);
        Ok(true)
    }

    /// The content of a file is asked for.
    pub fn request(&mut self, number: u32) {
        if let Some(file) = self.files.get_mut(&number) {
            file.requested = true;
        }
    }

    /// A piece of a file.
    pub fn data(&mut self, number: u32, data: &[u8]) -> io::Result<()> {
        self.open(number)?;
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if self.bytes > self.limits.bytes {
            return Err(invalid("too many bytes"));
        }
        self.open(number)?.write_all(data)
    }

    /// A file is complete.
    pub fn close(&mut self, number: u32) -> io::Result<()> {
        self.open(number)?;
        if let Some(Pending { mode, modified, file: Some(file), .. }) = self.files.remove(&number) {
            rustix::fs::fchmod(&file, mode)?;
            rustix::fs::futimens(&file, &timestamps(modified))?;
        }
        Ok(())
    }

    /// Everything is there.
    pub fn finish(&mut self) -> io::Result<()> {
        for (path, mode, modified) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self.at(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rustix::fs::fchmod(&directory, mode)?;
            rustix::fs::futimens(&directory, &timestamps(modified))?;
        }
        Ok(())
    }

    fn open(&mut self, number: u32) -> io::Result<&mut File> {
        let unasked = || invalid("invalid file request");
        let pending = self.files.get(&number).filter(|p| p.requested).ok_or_else(unasked)?;
        let opened = match &pending.file {
            Some(_) => None,
            None => Some(File::from(self.at(&pending.path, OFlags::WRONLY | OFlags::NONBLOCK)?)),
        };
        let pending = self.files.get_mut(&number).ok_or_else(unasked)?;
        if opened.is_some() {
            pending.file = opened;
        }
        pending.file.as_mut().ok_or_else(unasked)
    }

    /// Opens what was written before. No link is followed, not even on the way.
    fn at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    fn parent<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        Ok((self.at(parent, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }
}

/// A relative path of plain names.
fn check(path: &str) -> io::Result<()> {
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    if path.len() > MAX_PATH || !path.split('/').all(plain) || path.contains('\0') {
        return Err(invalid("bad path"));
    }
    if path.split('/').count() > MAX_DEPTH {
        return Err(invalid("path too deep"));
    }
    Ok(())
}

fn timestamps(nanoseconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn stat(path: &str, mode: u32) -> Stat {
        Stat { path: path.into(), mode, mod_time: 1_000_000_000_000_000_000, ..Stat::default() }
    }

    fn writer(limits: Limits) -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::new(dir.path(), limits).unwrap();
        (dir, writer)
    }

    #[test]
    fn files_directories_and_links_are_written() {
        let (dir, mut writer) = writer(Limits::default());
        assert!(!writer.entry(0, &stat("d", mode::DIRECTORY | mode::STICKY | 0o555)).unwrap());
        assert!(writer.entry(1, &stat("d/f", mode::SETUID | 0o755)).unwrap());
        let link = Stat { linkname: "/etc/passwd".into(), ..stat("d/l", mode::LINK | 0o777) };
        assert!(!writer.entry(2, &link).unwrap());
        let hard = Stat { linkname: "d/f".into(), ..stat("h", 0o755) };
        assert!(!writer.entry(3, &hard).unwrap());
        assert!(!writer.entry(4, &stat("s", mode::SOCKET | 0o755)).unwrap());
        writer.request(1);
        writer.data(1, b"he").unwrap();
        writer.data(1, b"llo").unwrap();
        writer.close(1).unwrap();
        writer.finish().unwrap();
        let file = dir.path().join("d/f").metadata().unwrap();
        assert_eq!((file.permissions().mode() & 0o7777, file.mtime()), (0o4755, 1_000_000_000));
        assert_eq!(std::fs::read(dir.path().join("h")).unwrap(), b"hello");
        assert_eq!(std::fs::read_link(dir.path().join("d/l")).unwrap(), Path::new("/etc/passwd"));
        let d = dir.path().join("d").metadata().unwrap();
        assert_eq!((d.permissions().mode() & 0o7777, d.mtime()), (0o1555, 1_000_000_000));
        assert!(!dir.path().join("s").exists());
    }

    #[test]
    fn nothing_is_written_outside() {
        let outside = tempfile::tempdir().unwrap();
        let (_dir, mut writer) = writer(Limits::default());
        let target = outside.path().to_str().unwrap().to_owned();
        writer.entry(0, &Stat { linkname: target, ..stat("l", mode::LINK | 0o777) }).unwrap();
        for path in ["l/x", "../x", "/x", "a/../../x", "", ".", "a//b", "a\0b", "missing/x"] {
            assert!(writer.entry(1, &stat(path, 0o644)).is_err(), "{path}");
            assert!(writer.entry(1, &stat(path, mode::DIRECTORY | 0o755)).is_err(), "{path}");
        }
        // The same name twice, and a hard link through a link.
        assert!(writer.entry(1, &stat("l", 0o644)).is_err());
        std::fs::write(outside.path().join("f"), "").unwrap();
        let through = Stat { linkname: "l/f".into(), ..stat("m", 0o644) };
        assert!(writer.entry(2, &through).is_err());
        assert_eq!(outside.path().read_dir().unwrap().count(), 1);
        assert!(writer.entry(3, &stat(&vec!["a"; 201].join("/"), 0o644)).is_err());
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let (_dir, mut writer) = writer(Limits { entries: 2, bytes: 4 });
        assert!(writer.entry(0, &stat("f", 0o644)).unwrap());
        assert!(writer.data(0, b"x").is_err());
        assert!(writer.close(0).is_err());
        assert!(writer.data(7, b"x").is_err());
        writer.request(0);
        writer.data(0, b"1234").unwrap();
        assert!(writer.data(0, b"5").is_err());
        assert!(writer.entry(1, &stat("g", 0o644)).unwrap());
        assert!(writer.entry(2, &stat("h", 0o644)).is_err());
    }

    #[test]
    fn modes_are_gos() {
        for unix in [0o040_755, 0o100_644, 0o104_755, 0o120_777, 0o010_600, 0o041_777] {
            assert_eq!(unix_permissions(go_mode(unix)).as_raw_mode(), unix & 0o7777, "{unix:o}");
        }
        assert_eq!(go_mode(0o040_755), mode::DIRECTORY | 0o755);
    }
}
