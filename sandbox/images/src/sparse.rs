//! Files with holes as GNU tar writes them: of the old format (headers of the kind `S`), and of 0.0, 0.1 and 1.0, which are pax
//! records. What Go's `archive/tar`, and so Docker, reads; documented in GNU tar's manual, "Storing Sparse Files". Only read:
//! nobody has to write them.

use crate::{Error, Result, error::refused};
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// Most pieces of one file, as in Go.
const MAX_PIECES: usize = 1 << 20;
/// A tar's block.
const BLOCK: usize = 512;

/// Where a file's data belong in it; elsewhere it has zeros.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    /// Beginnings and lengths, in order.
    pieces: Vec<(u64, u64)>,
    /// The size of the file.
    pub(crate) size: u64,
}

/// What pax records say of an entry's holes.
#[derive(Debug, Default)]
pub(crate) struct Records {
    major: Option<String>,
    minor: Option<String>,
    /// The file's real name: the entry has one that warns who does not know the format.
    pub(crate) name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Beginnings and lengths in turn.
    numbers: Vec<u64>,
    blocks: Option<u64>,
}

fn damaged() -> Error {
    Error::Refused("a header of a file with holes is damaged".into())
}

fn decimal(text: &[u8]) -> Result<u64> {
    // Go's numbers have signs: what is larger than theirs is an error there, too.
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    number.and_then(|number| u64::try_from(number).ok()).ok_or_else(damaged)
}

impl Records {
    /// Takes a record whose key begins with `GNU.sparse.`; the rest of the key is told.
    pub(crate) fn take(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let text = || String::from_utf8(value.to_vec()).map_err(|_| damaged());
        match key {
            "major" => self.major = Some(text()?),
            "minor" => self.minor = Some(text()?),
            "name" => self.name = Some(value.to_vec()),
            // 0.x says `size`, 1.0 says `realsize`.
            "size" => self.size = Some(decimal(value)?),
            "realsize" => self.size = Some(self.size.unwrap_or(decimal(value)?)),
            "numblocks" => self.blocks = Some(decimal(value)?),
            "map" if value.is_empty() => self.numbers.clear(),
            "map" => self.numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Result<_>>()?,
            // 0.0 says them one by one.
            "offset" | "numbytes" => {
                if self.numbers.len().is_multiple_of(2) != (key == "offset") {
                    return Err(damaged());
                }
                self.numbers.push(decimal(value)?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Map {
    /// The map of an entry, of whose `data` the beginning may belong to it; `size` bytes are left of them afterwards. `more` reads
    /// a block that follows the entry's header. `None`: an ordinary file.
    pub(crate) fn of(
        header: &Header,
        records: &Records,
        data: &mut dyn Read,
        more: &mut dyn FnMut() -> io::Result<[u8; BLOCK]>,
        size: &mut u64,
    ) -> Result<Option<Self>> {
        let map = match (header.entry_type(), records.major.as_deref(), records.minor.as_deref()) {
            (EntryType::GNUSparse, _, _) => Self::old(header, more)?,
            (EntryType::Regular | EntryType::Continuous, Some("1"), Some("0")) => {
                let pieces = pieces_before_data(data, size)?;
                Self { pieces, size: records.size.unwrap_or(*size) }
            }
            (EntryType::Regular | EntryType::Continuous, major, minor) => {
                let known = matches!((major, minor), (None, None) | (Some("0"), Some("0" | "1")));
                if !known || (major.is_none() && records.numbers.is_empty()) {
                    return Ok(None);
                }
                let numbers = &records.numbers;
                if records.blocks.is_some_and(|blocks| numbers.len() as u64 / 2 != blocks) {
                    return Err(damaged());
                }
                Self { pieces: pairs(numbers)?, size: records.size.unwrap_or(*size) }
            }
            _ => return Ok(None),
        };
        map.check(*size)?;
        Ok(Some(map))
    }

    fn old(header: &Header, more: &mut dyn FnMut() -> io::Result<[u8; BLOCK]>) -> Result<Self> {
        let gnu = header.as_gnu().ok_or_else(damaged)?;
        let size = gnu.real_size().map_err(|_| damaged())?;
        let mut pieces = Vec::new();
        let mut goes_on = add(&mut pieces, &gnu.sparse)? && gnu.is_extended();
        while goes_on {
            let mut block = GnuExtSparseHeader::new();
            let bytes = more().map_err(Error::io("cannot read the rest of a tar's header"))?;
            block.as_mut_bytes().copy_from_slice(&bytes);
            goes_on = add(&mut pieces, block.sparse())? && block.is_extended();
            if pieces.len() > MAX_PIECES {
                return too_many();
            }
        }
        Ok(Self { pieces, size })
    }

    /// Pieces are in order, within the file, and together what there is.
    fn check(&self, data: u64) -> Result<()> {
        let (mut end, mut sum) = (0, 0_u64);
        for (start, length) in &self.pieces {
            if *start < end {
                return Err(damaged());
            }
            end = start.checked_add(*length).filter(|end| *end <= self.size).ok_or_else(damaged)?;
            sum += length;
        }
        if sum == data { Ok(()) } else { Err(damaged()) }
    }
}

/// Adds the pieces of a header; false after the last that is filled in.
fn add(pieces: &mut Vec<(u64, u64)>, headers: &[GnuSparseHeader]) -> Result<bool> {
    for header in headers {
        if header.offset[0] == 0 {
            return Ok(false);
        }
        let (start, length) = (header.offset(), header.length());
        pieces.push((start.map_err(|_| damaged())?, length.map_err(|_| damaged())?));
    }
    Ok(true)
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return Err(damaged()) };
    Ok(pairs.iter().map(|[start, length]| (*start, *length)).collect())
}

fn too_many<T>() -> Result<T> {
    refused(format!("a file with holes has more than {MAX_PIECES} pieces"))
}

/// 1.0: a number of pieces and then two numbers for each, a line each, filled up to a whole block.
fn pieces_before_data(data: &mut dyn Read, size: &mut u64) -> Result<Vec<(u64, u64)>> {
    let (mut numbers, mut line, mut wanted) = (Vec::new(), Vec::new(), None);
    loop {
        let mut block = [0; BLOCK];
        data.read_exact(&mut block).map_err(|_| damaged())?;
        *size = size.checked_sub(BLOCK as u64).ok_or_else(damaged)?;
        for byte in block {
            if wanted == Some(numbers.len()) {
                return pairs(&numbers);
            }
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(damaged());
                }
                continue;
            }
            let number = decimal(&std::mem::take(&mut line))?;
            if wanted.is_some() {
                numbers.push(number);
                continue;
            }
            let pieces = usize::try_from(number).unwrap_or(usize::MAX);
            if pieces > MAX_PIECES {
                return too_many();
            }
            wanted = Some(pieces * 2);
        }
        if wanted == Some(numbers.len()) {
            return pairs(&numbers);
        }
    }
}

/// The whole file, zeros and all.
pub(crate) struct Filled<'a> {
    data: &'a mut dyn Read,
    pieces: std::vec::IntoIter<(u64, u64)>,
    /// The piece that is being read, or comes next.
    piece: (u64, u64),
    at: u64,
    size: u64,
}

impl<'a> Filled<'a> {
    /// From what the map says, and the data.
    pub(crate) fn new(map: Map, data: &'a mut dyn Read) -> Self {
        let end = (map.size, 0);
        let mut pieces = map.pieces.into_iter();
        Self { data, piece: pieces.next().unwrap_or(end), pieces, at: 0, size: map.size }
    }
}

impl Read for Filled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at < self.size && self.at >= self.piece.0 + self.piece.1 {
            self.piece = self.pieces.next().unwrap_or((self.size, 0));
        }
        let most = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
        let n = if self.at < self.piece.0 {
            let n = most(self.piece.0 - self.at);
            buffer[..n].fill(0);
            n
        } else {
            let n = most(self.piece.0 + self.piece.1 - self.at);
            let read = self.data.read(&mut buffer[..n])?;
            if read == 0 && n > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read
        };
        self.at += n as u64;
        Ok(n)
    }
}

/// Copies a file so that its zeros are holes, and tells its size.
pub(crate) fn copy(from: &mut dyn Read, to: &mut std::fs::File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom, Write};
    let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if buffer[..n].iter().any(|byte| *byte != 0) {
            to.write_all(&buffer[..n])?;
        } else {
            to.seek(SeekFrom::Current(n as i64))?;
        }
        size += n as u64;
    }
    to.set_len(size)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries;

    const SIZE: u64 = 100_000;

    /// `abc` at 10 and `de` at 50000.
    fn file() -> Vec<u8> {
        let mut file = vec![0; SIZE as usize];
        file[10..13].copy_from_slice(b"abc");
        file[50_000..50_002].copy_from_slice(b"de");
        file
    }

    fn entry(kind: EntryType, name: &str, data: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend(data);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
        tar
    }

    fn pax(records: &[(&str, &str)], name: &str, data: &[u8]) -> Vec<u8> {
        let line = |(key, value): &(&str, &str)| {
            let length = key.len() + value.len() + 3;
            let digits = (1..).find(|digits| (length + digits).to_string().len() == *digits).unwrap();
            format!("{} {key}={value}\n", length + digits)
        };
        let records: String = records.iter().map(line).collect();
        let mut tar = entry(EntryType::XHeader, "pax", records.as_bytes(), |_| {});
        tar.extend(entry(EntryType::Regular, name, data, |_| {}));
        tar
    }

    /// Writes the pieces into an old header from its first byte on.
    fn old_pieces(at: &mut [GnuSparseHeader], pieces: &[(u64, u64)]) {
        for (at, (start, length)) in at.iter_mut().zip(pieces) {
            at.offset.copy_from_slice(format!("{start:011o}\0").as_bytes());
            at.numbytes.copy_from_slice(format!("{length:011o}\0").as_bytes());
        }
    }

    fn old(size: &str, pieces: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
        let (first, rest) = pieces.split_at(pieces.len().min(4));
        let mut tar = entry(EntryType::GNUSparse, "file", data, |header| {
            let gnu = header.as_gnu_mut().unwrap();
            old_pieces(&mut gnu.sparse, first);
            gnu.realsize.copy_from_slice(size.as_bytes());
            gnu.set_is_extended(!rest.is_empty());
        });
        if !rest.is_empty() {
            let mut block = GnuExtSparseHeader::new();
            old_pieces(&mut block.sparse, rest);
            tar.splice(BLOCK..BLOCK, block.as_bytes().iter().copied());
        }
        tar
    }

    type Found = Vec<(String, Vec<u8>, bool)>;

    /// Names and contents, with an entry behind that must be found, too.
    fn read(mut tar: Vec<u8>) -> Result<Found> {
        tar.extend(entry(EntryType::Regular, "next", b"whole", |_| {}));
        let mut found = Vec::new();
        entries::for_each(tar.as_slice(), 10, |meta, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(Error::io("read"))?;
            assert_eq!(bytes.len() as u64, meta.size);
            found.push((String::from_utf8(meta.path).unwrap(), bytes, meta.has_holes));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn every_format_is_read() {
        let map = format!("3\n10\n3\n50000\n2\n{SIZE}\n0\n");
        let mut one = map.into_bytes();
        one.resize(BLOCK, 0);
        one.extend(b"abcde");
        let size = SIZE.to_string();
        let (size, name) = (("GNU.sparse.size", size.as_str()), ("GNU.sparse.name", "file"));
        let pieces = [(10, 1), (11, 1), (12, 1), (50_000, 1), (50_001, 1), (SIZE, 0)];
        for (format, tar) in [
            ("old", old(&format!("{SIZE:011o}\0"), &[(10, 3), (50_000, 2)], b"abcde")),
            ("old, goes on", old(&format!("{SIZE:011o}\0"), &pieces, b"abcde")),
            (
                "0.0",
                pax(
                    &[
                        size,
                        ("GNU.sparse.numblocks", "2"),
                        ("GNU.sparse.offset", "10"),
                        ("GNU.sparse.numbytes", "3"),
                        ("GNU.sparse.offset", "50000"),
                        ("GNU.sparse.numbytes", "2"),
                    ],
                    "file",
                    b"abcde",
                ),
            ),
            (
                "0.1",
                pax(
                    &[size, ("GNU.sparse.numblocks", "2"), name, ("GNU.sparse.map", "10,3,50000,2")],
                    "GNUSparseFile.1/file",
                    b"abcde",
                ),
            ),
            (
                "1.0",
                pax(
                    &[
                        ("GNU.sparse.major", "1"),
                        ("GNU.sparse.minor", "0"),
                        name,
                        ("GNU.sparse.realsize", size.1),
                    ],
                    "GNUSparseFile.1/file",
                    &one,
                ),
            ),
        ] {
            let found = read(tar).unwrap_or_else(|e| panic!("{format}: {e}"));
            let next = ("next".to_owned(), b"whole".to_vec(), false);
            assert!(found == [("file".to_owned(), file(), true), next], "{format}");
        }
        // Of another version nothing is known: it is an ordinary file.
        let found =
            read(pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), name], "odd", b"x")).unwrap();
        assert_eq!(found[0], ("odd".to_owned(), b"x".to_vec(), false));
    }

    #[test]
    fn hostile_maps_are_refused() {
        let refused = |tar: Vec<u8>| read(tar).unwrap_err().to_string();
        let map = |text: &str, size: &str| {
            pax(&[("GNU.sparse.size", size), ("GNU.sparse.name", "f"), ("GNU.sparse.map", text)], "f", b"abc")
        };
        for (text, size) in [
            ("0,3,0,3", "10"),                // one over the other
            ("5,1,0,2", "10"),                // out of order
            ("0,3", "2"),                     // beyond the end
            ("0,2", "10"),                    // data that belong nowhere
            ("0,4", "10"),                    // data that are not there
            ("0", "10"),                      // half a piece
            ("0,-3", "10"),                   // less than nothing
            ("9223372036854775807,3", "100"), // so far that it begins anew
            ("0,9223372036854775808", "100"), // a number that Go has not
            ("0,3", "99999999999999999999"),
        ] {
            assert!(refused(map(text, size)).contains("damaged"), "{text} {size}");
        }
        // Exabytes of nothing, in one file or in many.
        assert!(refused(map("0,3", "9223372036854775807")).contains("larger than"));
        let mut many = map("0,3", "9000000000");
        many.extend(map("0,3", "9000000000"));
        assert!(
            entries::for_each(many.as_slice(), 10, |_, _| Ok(())).unwrap_err().to_string().contains("larger")
        );
        let one = |map: &[u8]| {
            let records =
                [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")];
            let mut data = map.to_vec();
            data.resize(data.len().next_multiple_of(BLOCK), b'\n');
            pax(&records, "f", &data)
        };
        assert!(refused(one(b"99999999\n")).contains("pieces"));
        assert!(refused(one(b"x\n")).contains("damaged"));
        assert!(refused(one(&[b'1'; 600])).contains("damaged"));
        assert!(refused(one(b"2\n0\n1\n")).contains("damaged"));
    }

    #[test]
    fn zeros_become_holes() {
        use std::os::unix::fs::MetadataExt;
        let to = rustix::fs::memfd_create("holes", rustix::fs::MemfdFlags::empty()).unwrap();
        let mut to = std::fs::File::from(to);
        let mut from = io::repeat(0).take(1 << 20).chain(&b"x"[..]).chain(io::repeat(0).take(1 << 20));
        assert_eq!(copy(&mut from, &mut to).unwrap(), (2 << 20) + 1);
        let meta = to.metadata().unwrap();
        assert!(meta.len() == (2 << 20) + 1 && meta.blocks() * 512 < 1 << 20, "{}", meta.blocks());
    }
}
