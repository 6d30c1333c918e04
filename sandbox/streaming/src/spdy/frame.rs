//! Frames of SPDY/3.1 (section 2.2 of the draft; moby/spdystream `spdy/{read,write,types}.go`). Called by the connection; lengths are
//! checked before anything is read.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(crate) const FLAG_FIN: u8 = 0x01;
pub(crate) const FLAG_UNIDIRECTIONAL: u8 = 0x02;
const VERSION: u16 = 3;
/// Headers of Kubernetes' clients are some hundred bytes; nothing else in a control frame is long.
const MAX_CONTROL: usize = 32 * 1024;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Why a connection cannot go on: after any of these its bytes have no meaning.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("a control frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("version {0} is not SPDY/3")]
    Version(u16),
    #[error("a control frame of kind {0} is malformed")]
    Malformed(u16),
    #[error("a header block is malformed")]
    Headers,
    #[error("a header block has too many or too long headers")]
    HeadersTooLong,
}

/// The first eight bytes of a frame.
pub(crate) enum Head {
    Data { stream: u32, flags: u8, length: usize },
    Control { kind: u16, flags: u8, length: usize },
}

/// None: the connection ended between frames.
pub(crate) async fn read_head(source: &mut (impl AsyncRead + Unpin)) -> Result<Option<Head>, FrameError> {
    let mut head = [0; 8];
    if source.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    source.read_exact(&mut head[1..]).await?;
    let mut bytes = &head[..];
    let (first, second) = (bytes.get_u32(), bytes.get_u32());
    let flags = (second >> 24) as u8;
    let length = (second & 0x00ff_ffff) as usize;
    if first & 0x8000_0000 == 0 {
        return Ok(Some(Head::Data { stream: first, flags, length }));
    }
    let version = (first >> 16) as u16 & 0x7fff;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if length > MAX_CONTROL {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some(Head::Control { kind: first as u16, flags, length }))
}

pub(crate) async fn read_payload(
    source: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut payload = vec![0; length];
    source.read_exact(&mut payload).await?;
    Ok(payload)
}

/// What a client may say apart from data.
#[derive(Debug)]
pub(crate) enum Control<'a> {
    SynStream {
        stream: u32,
        flags: u8,
        block: &'a [u8],
    },
    SynReply {
        block: &'a [u8],
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    Headers {
        stream: u32,
        flags: u8,
        block: &'a [u8],
    },
    /// SETTINGS, GOAWAY, WINDOW_UPDATE: nothing follows from them here.
    Ignored,
}

pub(crate) fn parse(kind: u16, flags: u8, payload: &[u8]) -> Result<Control<'_>, FrameError> {
    let malformed = || FrameError::Malformed(kind);
    let stream =
        || payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff).ok_or_else(malformed);
    let block = |from: usize| payload.get(from..).ok_or_else(malformed);
    Ok(match kind {
        // Stream, associated stream, priority, slot.
        SYN_STREAM => Control::SynStream { stream: stream()?, flags, block: block(10)? },
        SYN_REPLY => Control::SynReply { block: block(4)? },
        RST_STREAM if payload.len() == 8 => Control::RstStream { stream: stream()? },
        PING if payload.len() == 4 => {
            Control::Ping { id: payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) }
        }
        HEADERS => Control::Headers { stream: stream()?, flags, block: block(4)? },
        RST_STREAM | PING => return Err(malformed()),
        _ => Control::Ignored,
    })
}

pub(crate) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + bytes.len());
    frame.put_u32(stream);
    frame.put_u32(u32::from(flags) << 24 | (bytes.len() as u32 & 0x00ff_ffff));
    frame.put_slice(bytes);
    frame.freeze()
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + payload.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(u32::from(flags) << 24 | (payload.len() as u32 & 0x00ff_ffff));
    frame.put_slice(payload);
    frame.freeze()
}

pub(crate) fn syn_reply(stream: u32, block: &[u8]) -> Bytes {
    control(SYN_REPLY, 0, &[&stream.to_be_bytes(), block].concat())
}

pub(crate) fn rst_stream(stream: u32, status: u32) -> Bytes {
    control(RST_STREAM, 0, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

pub(crate) fn ping(id: u32) -> Bytes {
    control(PING, 0, &id.to_be_bytes())
}

/// Last good stream: none of ours; status: OK.
pub(crate) fn go_away() -> Bytes {
    control(GO_AWAY, 0, &[0; 8])
}

#[cfg(test)]
pub(crate) mod client {
    //! What a client sends, for tests.

    use super::{Bytes, SYN_STREAM, control};

    pub(crate) fn syn_stream(stream: u32, flags: u8, block: &[u8]) -> Bytes {
        control(SYN_STREAM, flags, &[&stream.to_be_bytes()[..], &[0; 6], block].concat())
    }
}
