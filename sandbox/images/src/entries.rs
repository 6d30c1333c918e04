//! The entries of a tar, one at a time, with bounded memory: the only place where headers of foreign tars are read.
//! Knows ustar, pax (path, linkpath, ids, mtime, extended attributes), GNU long names and files with holes; used by unpack and import.

use crate::{
    Error, Result,
    error::refused,
    sparse::{self, Filled, Map},
    unpack::MAX_BYTES,
};
use std::{
    cell::RefCell,
    io::{self, Read},
};
use tar::{Entry, EntryType, Header};

/// Longest path or link target, as on Linux (PATH_MAX).
pub(crate) const MAX_PATH: usize = 4096;
/// Largest pax header, as in Go: names, extended attributes of at most 64 KiB as on Linux, and where a file has holes.
const MAX_PAX: u64 = 1 << 20;

/// What a header and its extensions say about an entry.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, i64),
    pub(crate) size: u64,
    /// The tar does not have all bytes of the content: the others are zeros.
    pub(crate) has_holes: bool,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

/// Extensions seen since the last real entry.
#[derive(Default)]
struct Pending {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

/// Calls `each` for every entry with its content; refuses more than `limit` entries.
pub(crate) fn for_each<R: Read>(
    tar: R,
    limit: u64,
    mut each: impl FnMut(Meta, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let tar = RefCell::new(tar);
    let mut archive = tar::Archive::new(Shared(&tar));
    let mut pending = Pending::default();
    let (mut count, mut filled) = (0, 0_u64);
    // Raw: the crate would read extensions of any size into memory.
    for entry in archive.entries().map_err(|e| damaged(&e))?.raw(true) {
        let mut entry = entry.map_err(|e| damaged(&e))?;
        count += 1;
        if count > limit {
            return refused(format!("it has more than {limit} files"));
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => pending.long_path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => pending.long_link = Some(long_name(&mut entry)?),
            EntryType::XHeader => pending.pax = Some(bounded(&mut entry, MAX_PAX)?),
            // Defaults for all later entries; nobody needs one that is of interest here (git writes a comment).
            EntryType::XGlobalHeader => drop(bounded(&mut entry, MAX_PAX)?),
            _ => {
                let (mut meta, holes) = meta(entry.header(), std::mem::take(&mut pending))?;
                let header = entry.header().clone();
                // The crate does not know of blocks between a header and its data, so they are read behind its back.
                let mut more = || {
                    let mut block = [0; 512];
                    tar.borrow_mut().read_exact(&mut block).map(|()| block)
                };
                let Some(map) = Map::of(&header, &holes, &mut entry, &mut more, &mut meta.size)? else {
                    each(meta, &mut entry)?;
                    continue;
                };
                filled = filled.saturating_add(map.size);
                if filled > MAX_BYTES {
                    return refused(format!("its files with holes are larger than {MAX_BYTES} bytes"));
                }
                (meta.kind, meta.size, meta.has_holes) = (EntryType::Regular, map.size, true);
                meta.path = holes.name.unwrap_or(meta.path);
                check_paths(&meta)?;
                each(meta, &mut Filled::new(map, &mut entry))?;
            }
        }
    }
    Ok(())
}

/// A tar from which two read in turn.
struct Shared<'a, R>(&'a RefCell<R>);

impl<R: Read> Read for Shared<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

/// The tar crate quotes what it read after a colon, and that may be anything: show little of it, and none that can't be read.
fn damaged(error: &std::io::Error) -> Error {
    let mut text: String = error.to_string().chars().take(100).collect();
    if text.contains(|c: char| !c.is_ascii_graphic() && c != ' ') {
        text.truncate(text.find(':').unwrap_or(0));
    }
    // The texts of the tar crate for a header or a content that is not whole, which have no kind of their own.
    let cut = error.kind() == std::io::ErrorKind::UnexpectedEof
        || text == "failed to read entire block"
        || text.starts_with("unexpected EOF");
    Error::Tar { what: text, cut }
}

fn bounded<R: Read>(entry: &mut Entry<'_, R>, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(limit + 1).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
    if bytes.len() as u64 > limit {
        return refused(format!("a tar header is larger than {limit} bytes"));
    }
    Ok(bytes)
}

fn long_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>> {
    let mut name = bounded(entry, MAX_PATH as u64 + 1)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn meta(header: &Header, pending: Pending) -> Result<(Meta, sparse::Records)> {
    let raw = header.as_old();
    // A field that nobody has filled in is 0, as Go reads it.
    let number = |what: &str, field: &[u8], value: std::io::Result<u64>| match value {
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
        value => value.or_else(|_| refused(format!("a tar header has an unreadable {what}"))),
    };
    let mode = number("mode", &raw.mode, header.mode().map(u64::from))?;
    let mut meta = Meta {
        path: pending.long_path.unwrap_or_else(|| header.path_bytes().into_owned()),
        link: pending
            .long_link
            .unwrap_or_else(|| header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default()),
        kind: header.entry_type(),
        mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
        uid: number("owner", &raw.uid, header.uid())?,
        gid: number("group", &raw.gid, header.gid())?,
        mtime: (i64::try_from(number("time", &raw.mtime, header.mtime())?).unwrap_or(i64::MAX), 0),
        size: number("size", &raw.size, header.entry_size())?,
        has_holes: false,
        xattrs: Vec::new(),
    };
    let mut holes = sparse::Records::default();
    if let Some(pax) = pending.pax {
        apply_pax(&mut meta, &mut holes, &pax)?;
    }
    check_paths(&meta)?;
    Ok((meta, holes))
}

fn check_paths(meta: &Meta) -> Result<()> {
    if meta.path.len() > MAX_PATH || meta.link.len() > MAX_PATH {
        return refused(format!("a path is longer than {MAX_PATH} bytes"));
    }
    Ok(())
}

/// Records of a pax header: `LENGTH KEY=VALUE` and a line end, the length being that of the whole record. Values are bytes, line ends
/// among them (a file's capabilities); the tar crate takes each line for a record.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.0.iter().take(21).position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&self.0[..space]).ok()?.parse().ok()?;
        let record = self.0.get(space + 1..length)?;
        let (end, pair) = record.split_last()?;
        let equals = pair.iter().position(|byte| *byte == b'=').filter(|_| *end == b'\n')?;
        self.0 = &self.0[length..];
        Some((&pair[..equals], &pair[equals + 1..]))
    }
}

fn apply_pax(meta: &mut Meta, holes: &mut sparse::Records, pax: &[u8]) -> Result<()> {
    for extension in Records(pax) {
        let (key, value) = extension.ok_or_else(|| Error::Refused("a pax header is malformed".into()))?;
        let key = std::str::from_utf8(key).or_else(|_| refused("a pax header has a key that is not text"))?;
        let number = || {
            let text = std::str::from_utf8(value).ok().and_then(|v| v.parse::<u64>().ok());
            text.ok_or_else(|| Error::Refused(format!("the pax header `{key}` is not a number")))
        };
        match key {
            "path" => meta.path = value.to_vec(),
            "linkpath" => meta.link = value.to_vec(),
            "uid" => meta.uid = number()?,
            "gid" => meta.gid = number()?,
            "mtime" => meta.mtime = time(value)?,
            // Written for files of 8 GiB and more only, which is beyond what a layer may have.
            "size" if number()? != meta.size => return refused("a file is larger than 8 GiB"),
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    meta.xattrs.push((name.to_owned(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix("GNU.sparse.") {
                    holes.take(key, value)?;
                }
            }
        }
    }
    Ok(())
}

/// `1700000000.25`, as pax writes times.
fn time(value: &[u8]) -> Result<(i64, i64)> {
    let parse = || {
        let text = std::str::from_utf8(value).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let mut nanos = 0;
        for (digit, scale) in fraction.bytes().zip((0..9).rev()) {
            nanos += i64::from(char::from(digit).to_digit(10)?) * 10_i64.pow(scale);
        }
        Some((whole.parse().ok()?, nanos))
    };
    parse().ok_or_else(|| Error::Refused("a pax header has an unreadable time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times() {
        assert_eq!(time(b"12").unwrap(), (12, 0));
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"12.1234567899").unwrap(), (12, 123_456_789));
        for bad in [&b""[..], b"x", b"1.x", b"\xff"] {
            assert!(time(bad).is_err());
        }
    }

    #[test]
    fn a_huge_pax_header_is_refused_before_it_is_in_memory() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_path("x").unwrap();
        header.set_size(1 << 33);
        header.set_cksum();
        let tar = header.as_bytes().chain(std::io::repeat(b'a'));
        let error = for_each(tar, 10, |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("header is larger"), "{error}");
    }

    #[test]
    fn what_a_file_is_that_is_no_tar_is_told_in_words() {
        let junk = (0..2000u32).map(|n| ((n * n) >> 3) as u8 | 0x80).collect::<Vec<_>>();
        let error = for_each(&junk[..], 10, |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.ends_with("no tar at all (numeric field did not have utf-8 text)"), "{error}");
    }

    #[test]
    fn values_of_pax_records_are_bytes() {
        let header = b"30 SCHILY.xattr.user.a=1\n\0=2\n\n11 path=ab\n";
        let found: Vec<_> = Records(header).map(Option::unwrap).collect();
        assert_eq!(found, [(&b"SCHILY.xattr.user.a"[..], &b"1\n\0=2\n"[..]), (b"path", b"ab")]);
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"3 \n",
            b"0 a=b\n",
            b"18446744073709551616 a=b\n",
            b"6 ab\n\n",
        ] {
            assert!(Records(bad).any(|record| record.is_none()), "{bad:?}");
        }
    }
}
