//! Compresses a layer's tar into the blob of a store.

use crate::oci::{self, Compression};
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// What is written to it is compressed.
pub(crate) enum Deflating<W: Write> {
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
    Plain(W),
}

impl<W: Write> Deflating<W> {
    pub(crate) fn new(kind: Compression, to: W) -> io::Result<Self> {
        Ok(match kind {
            Compression::Gzip => Self::Gzip(GzEncoder::new(to, flate2::Compression::default())),
            // Level 6: a fifth smaller than the default at a speed that unpacking does not notice.
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(to, 6)?),
            Compression::None => Self::Plain(to),
        })
    }

    /// The media type of such a layer.
    pub(crate) fn media_type(&self) -> &'static str {
        match self {
            Self::Gzip(_) => oci::LAYER_GZIP,
            Self::Zstd(_) => oci::LAYER_ZSTD,
            Self::Plain(_) => oci::LAYER,
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(to) => to.finish(),
            Self::Zstd(to) => to.finish(),
            Self::Plain(to) => Ok(to),
        }
    }
}

impl<W: Write> Write for Deflating<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(to) => to.write(data),
            Self::Zstd(to) => to.write(data),
            Self::Plain(to) => to.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(to) => to.flush(),
            Self::Zstd(to) => to.flush(),
            Self::Plain(to) => to.flush(),
        }
    }
}
