//! Compressed streams whose kind only their first bytes tell.

use crate::oci::Compression;
use std::io::{self, BufRead, BufReader, Read};

/// Reads what a stream holds: gzip and zstd are unpacked, anything else passes as it is.
pub(crate) fn inflate<'a>(from: impl Read + 'a) -> io::Result<Inflated<Box<dyn BufRead + 'a>>> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let kind = sniff(from.fill_buf()?);
    if kind == Compression::None && from.buffer().len() < 4 {
        // A pipe may bring its first bytes one by one.
        let mut head = Vec::new();
        from.by_ref().take(4).read_to_end(&mut head)?;
        let kind = sniff(&head);
        return open(kind, Box::new(BufReader::new(io::Cursor::new(head).chain(from))));
    }
    open(kind, Box::new(from))
}

/// Reads a stream of a known kind.
pub(crate) fn open<R: BufRead>(kind: Compression, from: R) -> io::Result<Inflated<R>> {
    Ok(match kind {
        Compression::None => Inflated::Plain(from),
        Compression::Gzip => Inflated::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
        Compression::Zstd => Inflated::Zstd(zstd::Decoder::with_buffer(from)?),
    })
}

/// A stream that is unpacked on the way.
pub(crate) enum Inflated<R: BufRead> {
    Plain(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(from) => from.read(buffer),
            Self::Gzip(from) => from.read(buffer),
            Self::Zstd(from) => from.read(buffer),
        }
    }
}

/// The kind by its first bytes.
pub(crate) fn sniff(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}
