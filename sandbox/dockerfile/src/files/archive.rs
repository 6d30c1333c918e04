//! Archives: contexts that come as tar, and `ADD x.tar.gz`. What an archive names is made below a [`Tree`], whatever it names.

use super::copy::{create, make_way};
use super::owner::Owner;
use super::tree::{self, Kind, Tree};
use crate::language::go::clean;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use tar::EntryType;

/// Entries of one archive.
const MAX_ENTRIES: usize = 2_000_000;
/// What unpacking xz may take, in KiB: more than `xz -9` needs (65 MiB).
const XZ_MEMORY: u32 = 256 << 10;
/// Size of a header.
const BLOCK: usize = 512;

/// Decompresses what begins as gzip, bzip2, xz or zstd does; passes everything else on.
fn decompressed<'a>(from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let mut magic = Vec::new();
    from.by_ref().take(6).read_to_end(&mut magic)?;
    let from = io::Cursor::new(magic.clone()).chain(from);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(from)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::read::MultiBzDecoder::new(from)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(from, true, XZ_MEMORY))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::new(from)?),
        _ => Box::new(from),
    })
}

/// Whether a file is a tar archive, compressed or not: whether a first header can be read.
pub fn is_archive(file: impl Read) -> bool {
    let Ok(from) = decompressed(file) else { return false };
    let mut block = Vec::with_capacity(BLOCK);
    if from.take(BLOCK as u64).read_to_end(&mut block).is_err() || block.len() < BLOCK {
        return false;
    }
    let header = tar::Header::from_byte_slice(&block);
    let sum = block
        .iter()
        .enumerate()
        .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
        .sum::<u32>();
    header.cksum().is_ok_and(|expected| expected == sum) && block[0] != 0
}

/// Unpacks a tar archive (plain, gzip, bzip2, xz, zstd) into a directory, which is made if it is missing. Owners are those of
/// the archive, or `owner`.
///
/// # Errors
/// If the archive is broken or the files can't be made.
pub fn unpack(archive: impl Read, to: &Tree, directory: &str, owner: Option<Owner>) -> io::Result<()> {
    to.make_directories(directory, 0o755, owner.unwrap_or((0, 0)))?;
    let cut = Cell::new(false);
    let mut archive = tar::Archive::new(WholeBlocks { from: decompressed(archive)?, read: 0, cut: &cut });
    // Directories get their times last: what is written into them changes those.
    let mut times = Vec::new();
    for (count, entry) in archive.entries()?.enumerate() {
        if count > MAX_ENTRIES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many entries in archive"));
        }
        // Nothing reads beyond the content of an entry before the next one is asked for.
        let ended = cut.get();
        // A header of which the archive has only the beginning is none to the library, either.
        let entry = entry.map_err(|error| if ended { unexpected_eof() } else { go_error(error) })?;
        unpack_entry(entry, to, directory, owner, &mut times)?;
        if cut.get() && !ended {
            return Err(unexpected_eof());
        }
    }
    for (path, modified) in times.into_iter().rev() {
        // It may have been replaced by a later entry.
        if let Ok(directory) = to.directory(&path).and_then(|d| tree::open_directory(d.as_fd(), ".")) {
            _ = rustix::fs::futimens(&directory, &modified_at(modified));
        }
    }
    Ok(())
}

/// What the library says of an archive, as Go's `archive/tar` tells it; other errors stay as they are.
pub fn go_error(error: io::Error) -> io::Error {
    let text = error.to_string();
    if text.starts_with("unexpected EOF") || text == "failed to read entire block" {
        return unexpected_eof();
    }
    if error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none() {
        return io::Error::new(io::ErrorKind::InvalidData, "archive/tar: invalid tar header");
    }
    error
}

fn unexpected_eof() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
}

/// An archive that may end without its trailer and without what fills its last block: Go's reader takes such a one, and Docker's client
/// sends it when the Dockerfile is not in the context.
struct WholeBlocks<'a, R> {
    from: R,
    read: u64,
    /// The archive has ended within a block.
    cut: &'a Cell<bool>,
}

impl<R: Read> Read for WholeBlocks<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.read += read as u64;
        let part = (self.read % BLOCK as u64) as usize;
        if read > 0 || to.is_empty() || part == 0 {
            return Ok(read);
        }
        self.cut.set(true);
        let missing = to.len().min(BLOCK - part);
        to[..missing].fill(0);
        self.read += missing as u64;
        Ok(missing)
    }
}

fn unpack_entry<R: Read>(
    mut entry: tar::Entry<'_, R>,
    to: &Tree,
    root: &str,
    owner: Option<Owner>,
    times: &mut Vec<(String, i64)>,
) -> io::Result<()> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| bad("file name is not UTF-8"));
    // `..` at the front leads nowhere, as in a root.
    let path = clean(&format!("/{}", text(&entry.path_bytes())?));
    let kind = entry.header().entry_type();
    if path == "/" || matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| bad("name"))?;
    let attributes = attributes(&mut entry)?;
    let header = entry.header();
    // Nothing in a numeric field is 0, as Go has it.
    let old = header.as_old();
    let number = |field: &[u8], value: io::Result<u64>| match value {
        Err(_) if field.iter().all(|b| matches!(b, 0 | b' ')) => Ok(0),
        value => value,
    };
    let id = |field: &[u8], value| u32::try_from(number(field, value)?).map_err(|_| bad("owner"));
    let owner = match owner {
        Some(owner) => owner,
        None => (id(&old.uid, header.uid())?, id(&old.gid, header.gid())?),
    };
    let mode = id(&old.mode, header.mode().map(u64::from))? & 0o7777;
    let modified = i64::try_from(number(&old.mtime, header.mtime())?).unwrap_or(0);
    let (directory, _) = to.make(&format!("{root}/{parent}"), 0o755, (0, 0))?;
    let directory = directory.as_fd();
    match kind {
        EntryType::Directory => {
            unpack_directory(directory, name, mode, owner)?;
            times.push((format!("{root}/{path}"), modified));
        }
        EntryType::Link => {
            let target = clean(&format!("/{}", text(&entry.link_name_bytes().ok_or_else(|| bad("link"))?)?));
            let (above, target) = target.rsplit_once('/').ok_or_else(|| bad("link"))?;
            let above = to.directory(&format!("{root}/{above}"))?;
            make_way(directory, name)?;
            // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is just that.
            rustix::fs::linkat(above, target, directory, name, AtFlags::empty())?;
        }
        EntryType::Symlink | EntryType::Fifo | EntryType::Char | EntryType::Block => {
            make_way(directory, name)?;
            unpack_special(&entry, directory, name, mode)?;
            let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
            rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::utimensat(directory, name, &modified_at(modified), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {
            make_way(directory, name)?;
            let mut file = create(directory, name)?;
            io::copy(&mut entry, &mut file)?;
            tree::set_owner(file.as_fd(), owner)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            for (name, value) in attributes {
                // Not every file system has attributes; the file is of use without.
                _ = rustix::fs::fsetxattr(&file, name.as_str(), &value, XattrFlags::empty());
            }
            rustix::fs::futimens(&file, &modified_at(modified))?;
        }
    }
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("invalid archive: {what}"))
}

/// A symbolic link, FIFO or device (which a session can't make, as the kernel will say).
fn unpack_special<R: Read>(
    entry: &tar::Entry<'_, R>,
    to: BorrowedFd<'_>,
    name: &str,
    mode: u32,
) -> io::Result<()> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or_else(|| bad("link"))?;
            return Ok(rustix::fs::symlinkat(target.as_ref(), to, name)?);
        }
        EntryType::Fifo => FileType::Fifo,
        EntryType::Char => FileType::CharacterDevice,
        _ => FileType::BlockDevice,
    };
    let (major, minor) = match kind {
        FileType::Fifo => (0, 0),
        _ => (header.device_major()?.unwrap_or_default(), header.device_minor()?.unwrap_or_default()),
    };
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(mode), device)?;
    // The process' mask took something away.
    tree::set_mode(to, name, mode)
}

fn unpack_directory(parent: BorrowedFd<'_>, name: &str, mode: u32, owner: Owner) -> io::Result<()> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if Kind::of(&stat) == Kind::Directory => {}
        Ok(_) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            return tree::make_directory(parent, name, mode, owner);
        }
        Err(_) => return tree::make_directory(parent, name, mode, owner),
    }
    let directory = tree::open_directory(parent, name)?;
    tree::set_owner(directory.as_fd(), owner)?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// Extended attributes of an entry that may be taken over (see [`super::copy`]).
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else { return Ok(found) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) else {
            continue;
        };
        if name == "security.capability" || (name.starts_with("user.") && !name.starts_with("user.overlay."))
        {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn modified_at(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
