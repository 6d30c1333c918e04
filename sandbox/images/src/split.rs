//! A layer's tar without the content of its files: the headers as they came, and where each file's content goes. With the unpacked
//! layer beside, the tar can be written again bit for bit, at a cost of a few bytes per file; Docker's tar-split has the same idea.
//!
//! The file is zstd over segments: `0 length:u32 bytes` (as they are), `1 serial:u32 size:u64 length:u16 path` (content of a file).
//! Numbers are little-endian.

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, ResolveFlags, openat2},
};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, BufReader, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Bytes that are gathered before a segment is written.
const CHUNK: usize = 64 << 10;

/// Writes a split while a tar passes by.
pub(crate) struct Recorder {
    out: zstd::Encoder<'static, File>,
    /// Bytes for the next segment.
    gathered: Vec<u8>,
    /// So many of the next bytes are content of a file.
    skip: u64,
    next: u32,
    /// Files of the layer that have content, by path.
    files: HashMap<PathBuf, u32>,
    /// Where files go that later entries replace.
    aside: PathBuf,
    replaced: Vec<u32>,
}

impl Recorder {
    /// Writes to a new file; `aside` is a directory for replaced files, made when there is one.
    pub(crate) fn new(to: &Path, aside: PathBuf) -> io::Result<Self> {
        let out = zstd::Encoder::new(File::create_new(to)?, 3)?;
        let (gathered, files, replaced) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(Self { out, gathered, skip: 0, next: 0, files, aside, replaced })
    }

    /// The next bytes of the tar.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let content = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= content as u64;
        bytes = &bytes[content..];
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// What comes next is the content of this file.
    pub(crate) fn content(&mut self, path: &Path, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        self.flush()?;
        let serial = self.next;
        self.next += 1;
        let name = path.as_os_str().as_bytes();
        let length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
        self.out.write_all(&[1])?;
        self.out.write_all(&serial.to_le_bytes())?;
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(name)?;
        self.skip = size;
        self.files.insert(path.to_owned(), serial);
        Ok(())
    }

    /// A later entry takes this path: where the file that is there should be moved, if its content is needed.
    pub(crate) fn replaces(&mut self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(serial) = self.files.remove(path) else { return Ok(None) };
        if self.replaced.is_empty() {
            std::fs::create_dir(&self.aside)?;
        }
        self.replaced.push(serial);
        Ok(Some(self.aside.join(serial.to_string())))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.out.write_all(&[0])?;
        let length = u32::try_from(self.gathered.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }

    /// Ends the file and tells which files were put aside.
    pub(crate) fn finish(mut self) -> io::Result<Vec<u32>> {
        self.flush()?;
        self.out.finish()?;
        Ok(self.replaced)
    }
}

/// Reads a tar that was split.
pub(crate) struct Rejoin {
    split: zstd::Decoder<'static, BufReader<File>>,
    root: OwnedFd,
    aside: PathBuf,
    replaced: Vec<u32>,
    /// The file that is being read, and how much of it is still wanted.
    file: Option<(File, u64)>,
    /// Bytes of a segment that are still to come.
    raw: u64,
}

impl Rejoin {
    /// From the split, the unpacked layer, and what was put aside.
    pub(crate) fn new(split: File, layer: &Path, aside: PathBuf, replaced: Vec<u32>) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(layer, flags, Mode::empty())?;
        Ok(Self { split: zstd::Decoder::new(split)?, root, aside, replaced, file: None, raw: 0 })
    }

    /// Goes to the next segment; `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        let mut kind = [0];
        if self.split.read(&mut kind)? == 0 {
            return Ok(false);
        }
        match kind[0] {
            0 => self.raw = u64::from(u32::from_le_bytes(self.array()?)),
            1 => {
                let serial = u32::from_le_bytes(self.array()?);
                let size = u64::from_le_bytes(self.array()?);
                let length = u16::from_le_bytes(self.array()?);
                let mut path = vec![0; usize::from(length)];
                self.split.read_exact(&mut path)?;
                let file = if self.replaced.contains(&serial) {
                    super::local::open_file(&self.aside.join(serial.to_string()))?
                } else {
                    self.open(OsStr::from_bytes(&path))?
                };
                self.file = Some((file, size));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(true)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.split.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn open(&self, path: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
    }
}

impl Read for Rejoin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some((file, wanted)) = &mut self.file {
                let n = file.take(*wanted).read(buffer)?;
                *wanted -= n as u64;
                if *wanted == 0 {
                    self.file = None;
                } else if n == 0 {
                    return Err(io::Error::other("a file of the layer is shorter than it was"));
                }
                if n > 0 {
                    return Ok(n);
                }
            } else if self.raw > 0 {
                let n = (&mut self.split).take(self.raw).read(buffer)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.raw -= n as u64;
                return Ok(n);
            } else if !self.next()? {
                return Ok(0);
            }
        }
    }
}
