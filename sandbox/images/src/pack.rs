//! Writes a directory as a layer's tar: sorted, with OCI's whiteouts for overlayfs' own, and only what a layer keeps (no access
//! times, no attributes but file capabilities and users' own). The same directory gives the same bytes. What
//! vanishes meanwhile is left out, so that a running container can be packed.

use crate::{
    local::open_file,
    split::Recorder,
    unpack::{OPAQUE, WHITEOUT},
};
use rustix::{
    fs::{lgetxattr, llistxattr, major, minor},
    io::Errno,
};
use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, Metadata},
    io::{self, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};
use tar::{EntryType, Header};

/// Deepest directory; more than any program makes, less than the stack.
const MAX_DEPTH: usize = 512;
/// Longest name that fits a header of its own.
const SHORT: usize = 100;

/// Writes the content of a directory (not the directory itself) as a tar. Inside a node, give overlay's upper directory or a
/// merged root; a path that other mounts cover shows what covers it.
pub fn write_tar(dir: &Path, to: &mut dyn Write) -> io::Result<()> {
    pack(dir, to, None)
}

/// The same, recording a split on the way.
pub(crate) fn pack(dir: &Path, to: &mut dyn Write, recorder: Option<&mut Recorder>) -> io::Result<()> {
    let mut packer = Packer { to, recorder, links: HashMap::new() };
    packer.directory(dir, &mut Vec::new(), 0)?;
    packer.bytes(&[0; 1024])
}

struct Packer<'a> {
    to: &'a mut dyn Write,
    recorder: Option<&'a mut Recorder>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// What a header says beside the metadata of a file.
struct Entry<'a> {
    name: &'a [u8],
    kind: EntryType,
    link: &'a [u8],
    mode: u32,
    size: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Packer<'_> {
    /// Writes what is in a directory; `name` is its path in the tar, empty or with a slash at its end.
    fn directory(&mut self, dir: &Path, name: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{} is too deep", dir.display())));
        }
        let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let length = name.len();
            name.extend_from_slice(entry.file_name().as_bytes());
            let packed = match entry.metadata() {
                Ok(found) => self.entry(&entry.path(), &found, name, depth),
                Err(e) => Err(e),
            };
            name.truncate(length);
            match packed {
                // It went meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, found: &Metadata, name: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let kind = found.file_type();
        if kind.is_dir() {
            return self.whole_directory(path, found, name, depth);
        }
        if kind.is_char_device() && found.rdev() == 0 {
            return self.whiteout(found, name);
        }
        let mode = found.mode() & 0o7777;
        let plain = |kind| Entry { name, kind, link: b"", mode, size: 0, xattrs: Vec::new() };
        if found.nlink() > 1 && !kind.is_socket() {
            if let Some(first) = self.links.get(&(found.dev(), found.ino())) {
                let link = first.clone();
                return self.header(&Entry { link: &link, ..plain(EntryType::Link) }, found);
            }
            self.links.insert((found.dev(), found.ino()), name.clone());
        }
        if kind.is_file() {
            return self.file(path, name);
        }
        if kind.is_symlink() {
            let target = fs::read_link(path)?.into_os_string().into_vec();
            return self.header(&Entry { link: &target, ..plain(EntryType::Symlink) }, found);
        }
        if kind.is_fifo() {
            return self.header(&plain(EntryType::Fifo), found);
        }
        if kind.is_char_device() {
            return self.header(&plain(EntryType::Char), found);
        }
        if kind.is_block_device() {
            return self.header(&plain(EntryType::Block), found);
        }
        // A socket is of use only to the process that made it.
        Ok(())
    }

    fn whole_directory(
        &mut self,
        path: &Path,
        found: &Metadata,
        name: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        name.push(b'/');
        let xattrs = xattrs(path)?;
        let mode = found.mode() & 0o7777;
        self.header(&Entry { name, kind: EntryType::Directory, link: b"", mode, size: 0, xattrs }, found)?;
        if is_opaque(path) {
            let mark = [name, OPAQUE].concat();
            let entry = Entry {
                name: &mark,
                kind: EntryType::Regular,
                link: b"",
                mode: 0o600,
                size: 0,
                xattrs: Vec::new(),
            };
            self.header(&entry, found)?;
        }
        match self.directory(path, name, depth + 1) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn whiteout(&mut self, found: &Metadata, name: &[u8]) -> io::Result<()> {
        let at = name.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let hidden = [&name[..at], WHITEOUT, &name[at..]].concat();
        let (kind, xattrs) = (EntryType::Regular, Vec::new());
        self.header(&Entry { name: &hidden, kind, link: b"", mode: 0o600, size: 0, xattrs }, found)
    }

    fn file(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        let file = open_file(path)?;
        // What is open is what is described, whatever has become of the name.
        let found = file.metadata()?;
        let size = found.size();
        let (kind, mode) = (EntryType::Regular, found.mode() & 0o7777);
        self.header(&Entry { name, kind, link: b"", mode, size, xattrs: xattrs(path)? }, &found)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.content(Path::new(&OsString::from_vec(name.to_vec())), size)?;
        }
        // A file that shrinks while it is read is filled up with zeros, one that grows is cut.
        let padding = size.next_multiple_of(512) - size;
        let mut from = file.take(size).chain(io::repeat(0)).take(size + padding);
        let mut buffer = [0; 64 << 10];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                n => self.bytes(&buffer[..n])?,
            }
        }
    }

    /// Writes a header, and one before it for what does not fit.
    fn header(&mut self, entry: &Entry<'_>, found: &Metadata) -> io::Result<()> {
        let mut pax = Vec::new();
        let plain = |text: &[u8]| text.len() <= SHORT && text.is_ascii();
        if !plain(entry.name) {
            record(&mut pax, b"path", entry.name);
        }
        if !plain(entry.link) {
            record(&mut pax, b"linkpath", entry.link);
        }
        for (number, key) in [(found.uid(), &b"uid"[..]), (found.gid(), b"gid")] {
            if number > 0o7_777_777 {
                record(&mut pax, key, number.to_string().as_bytes());
            }
        }
        for (name, value) in &entry.xattrs {
            record(&mut pax, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if !pax.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            set(&mut header.as_old_mut().name, b"PaxHeaders.0/entry");
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(pax.len() as u64);
            header.set_cksum();
            self.bytes(header.as_bytes())?;
            pax.resize(pax.len().next_multiple_of(512), 0);
            self.bytes(&pax)?;
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(entry.kind);
        set(&mut header.as_old_mut().name, entry.name);
        set(&mut header.as_old_mut().linkname, entry.link);
        header.set_mode(entry.mode);
        header.set_uid(found.uid().min(0o7_777_777).into());
        header.set_gid(found.gid().min(0o7_777_777).into());
        // Times before 1970 do not fit, and Docker keeps whole seconds only.
        header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
        header.set_size(entry.size);
        if matches!(entry.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(major(found.rdev()))?;
            header.set_device_minor(minor(found.rdev()))?;
        }
        header.set_cksum();
        self.bytes(header.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.pass(bytes)?;
        }
        self.to.write_all(bytes)
    }
}

/// Puts as much of a text into a field as fits.
fn set(field: &mut [u8], text: &[u8]) {
    let length = field.len().min(text.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// A pax record: its own length in decimal, then `key=value`.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
        pax.extend_from_slice(part);
    }
}

/// Whether overlayfs shows nothing of lower layers in a directory.
pub(crate) fn is_opaque(path: &Path) -> bool {
    let is = |name| {
        let mut value = [0; 2];
        lgetxattr(path, name, &mut value[..]).is_ok_and(|n| &value[..n] == b"y")
    };
    is("user.overlay.opaque") || is("trusted.overlay.opaque")
}

/// The attributes that a layer keeps, sorted.
fn xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut kept = Vec::new();
    for name in names[..length].split(|b| *b == 0) {
        let users = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !(users || name == b"security.capability") || name.contains(&b'=') {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        match lgetxattr(path, name, &mut value[..]) {
            Ok(length) => kept.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    kept.sort();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for length in [1, 88, 89, 90, 91, 92, 985, 986, 987, 988] {
            let mut pax = Vec::new();
            record(&mut pax, b"path", &vec![b'x'; length]);
            let said = String::from_utf8(pax.clone()).unwrap();
            assert_eq!(said.split(' ').next().unwrap().parse::<usize>().unwrap(), pax.len());
        }
    }
}
