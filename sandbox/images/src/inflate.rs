//! Compressed streams whose kind only their first bytes tell.

use crate::oci::Compression;
use std::io::{self, BufRead, BufReader, Read};

/// Reads what a stream holds: gzip and zstd are unpacked, anything else passes as it is.
pub(crate) fn inflate<'a>(
    from: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let mut kind = sniff(from.fill_buf()?);
    if kind == Compression::None && from.buffer().len() < 4 {
        // A pipe may bring its first bytes one by one.
        let mut head = Vec::new();
        from.by_ref().take(4).read_to_end(&mut head)?;
        kind = sniff(&head);
        let joined = BufReader::new(io::Cursor::new(head).chain(from));
        return Ok((kind, open(kind, joined)?));
    }
    Ok((kind, open(kind, from)?))
}

/// Reads a stream of a known kind.
pub(crate) fn open<'a>(
    kind: Compression,
    from: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match kind {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(from)?),
    })
}

/// The kind by its first bytes.
pub(crate) fn sniff(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}
