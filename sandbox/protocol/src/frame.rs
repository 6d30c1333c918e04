//! Binary WebSocket messages: terminal traffic.
//!
//! One message is one frame: `u8 kind, u32 terminal, body`, all integers big-endian. Offsets are absolute per
//! terminal (the first byte a terminal ever printed is byte 0), so acknowledgements are cumulative and a
//! replay after a reconnect needs no special case. Decoding is total: any bytes give a frame or [`Malformed`].

use crate::TerminalId;

/// Largest piece of terminal output in one frame, in bytes.
pub const MAX_OUTPUT: usize = 128 * 1024;
/// Largest piece of input in one frame, in bytes.
pub const MAX_INPUT: usize = 64 * 1024;
/// Output that may be sent and not yet acknowledged, in bytes, for each viewer of a terminal.
pub const WINDOW: u64 = 384 * 1024;
/// A page acknowledges at the latest after this many parsed bytes (and at once when it has caught up).
pub const ACK_EVERY: u64 = 128 * 1024;
/// Largest WebSocket message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// A message that is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed terminal frame: {0}")]
pub struct Malformed(&'static str);

/// Size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

impl Size {
    /// The size of a terminal that nobody has looked at yet.
    pub const DEFAULT: Size = Size { cols: 80, rows: 24 };

    /// The nearest size that a terminal may have (20 to 500 columns, 5 to 300 rows).
    pub fn clamped(self) -> Self {
        Self { cols: self.cols.clamp(20, 500), rows: self.rows.clamp(5, 300) }
    }
}

/// What a session sends to a page about one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's text names its fields")]
pub enum ServerFrame<'a> {
    /// Bytes that the terminal printed; `offset` is that of the first one.
    Output { terminal: TerminalId, offset: u64, bytes: &'a [u8] },
    /// The screen as it is at `offset`: bytes that begin with a reset (`ESC c`) and redraw scroll-back,
    /// screen, cursor and modes. Replaces all that the page has of this terminal.
    Snapshot { terminal: TerminalId, offset: u64, size: Size, bytes: &'a [u8] },
    /// The one size that everybody shows.
    Size { terminal: TerminalId, size: Size },
    /// The terminal's process ended with this status (128 + n for signal n).
    Exit { terminal: TerminalId, status: i32 },
}

/// What a page sends to a session about one terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's text names its fields")]
pub enum ClientFrame<'a> {
    /// Keys or pasted text. `seq` counts a page's input frames from 1 over all its terminals and
    /// reconnects: the session takes each number once, so a page resends after a reconnect without doubling.
    Input { terminal: TerminalId, seq: u32, bytes: &'a [u8] },
    /// The page has room for this many cells; `None`: the terminal is hidden.
    Resize { terminal: TerminalId, room: Option<Size> },
    /// Everything before `offset` is parsed.
    Ack { terminal: TerminalId, offset: u64 },
}

impl<'a> ServerFrame<'a> {
    /// The frame as one WebSocket message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the frame to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Output { terminal, offset, bytes } => {
                out.reserve(13 + bytes.len());
                head(out, 0, terminal);
                out.extend(offset.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Snapshot { terminal, offset, size, bytes } => {
                out.reserve(17 + bytes.len());
                head(out, 1, terminal);
                out.extend(offset.to_be_bytes());
                put_size(out, size);
                out.extend_from_slice(bytes);
            }
            Self::Size { terminal, size } => {
                head(out, 2, terminal);
                put_size(out, size);
            }
            Self::Exit { terminal, status } => {
                head(out, 3, terminal);
                out.extend(status.to_be_bytes());
            }
        }
    }

    /// Reads one WebSocket message.
    pub fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader(message);
        let kind = r.u8()?;
        let terminal = TerminalId(r.u32()?);
        Ok(match kind {
            0 => Self::Output { terminal, offset: r.u64()?, bytes: r.rest() },
            1 => Self::Snapshot { terminal, offset: r.u64()?, size: r.size()?, bytes: r.rest() },
            2 => Self::Size { terminal, size: r.last(Reader::size)? },
            3 => Self::Exit { terminal, status: r.last(Reader::u32)? as i32 },
            _ => return Err(Malformed("unknown kind of server frame")),
        })
    }
}

impl<'a> ClientFrame<'a> {
    /// The frame as one WebSocket message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match *self {
            Self::Input { terminal, seq, bytes } => {
                head(&mut out, 0, terminal);
                out.extend(seq.to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Resize { terminal, room } => {
                head(&mut out, 1, terminal);
                put_size(&mut out, room.unwrap_or(Size { cols: 0, rows: 0 }));
            }
            Self::Ack { terminal, offset } => {
                head(&mut out, 2, terminal);
                out.extend(offset.to_be_bytes());
            }
        }
        out
    }

    /// Reads one WebSocket message.
    pub fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader(message);
        let kind = r.u8()?;
        let terminal = TerminalId(r.u32()?);
        Ok(match kind {
            0 => {
                let seq = r.u32()?;
                let bytes = r.rest();
                if bytes.len() > MAX_INPUT {
                    return Err(Malformed("more than 64 KiB of input in one frame"));
                }
                Self::Input { terminal, seq, bytes }
            }
            1 => {
                let size = r.last(Reader::size)?;
                let hidden = size.cols == 0 || size.rows == 0;
                Self::Resize { terminal, room: (!hidden).then_some(size) }
            }
            2 => Self::Ack { terminal, offset: r.last(Reader::u64)? },
            _ => return Err(Malformed("unknown kind of client frame")),
        })
    }
}

fn head(out: &mut Vec<u8>, kind: u8, terminal: TerminalId) {
    out.push(kind);
    out.extend(terminal.0.to_be_bytes());
}

fn put_size(out: &mut Vec<u8>, size: Size) {
    out.extend(size.cols.to_be_bytes());
    out.extend(size.rows.to_be_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("too short"))?;
        self.0 = rest;
        Ok(*head)
    }
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|b| b[0])
    }
    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }
    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }
    fn size(&mut self) -> Result<Size, Malformed> {
        Ok(Size { cols: u16::from_be_bytes(self.take()?), rows: u16::from_be_bytes(self.take()?) })
    }
    /// The last field of a frame: nothing may follow it.
    fn last<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<T, Malformed> {
        let value = read(self)?;
        if self.0.is_empty() { Ok(value) } else { Err(Malformed("bytes after the end")) }
    }
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            // A frame that decodes encodes to the bytes that it came from (a hidden terminal has one spelling more).
            if let Ok(frame) = ServerFrame::decode(&bytes) { prop_assert_eq!(frame.encode(), bytes.clone()); }
            if let Ok(frame) = ClientFrame::decode(&bytes)
                && !matches!(frame, ClientFrame::Resize { room: None, .. }) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }

    #[test]
    fn frames_survive_the_way() {
        let t = TerminalId(7);
        let frame = ServerFrame::Output { terminal: t, offset: 1 << 40, bytes: b"hi" };
        assert_eq!(ServerFrame::decode(&frame.encode()), Ok(frame));
        let frame = ClientFrame::Resize { terminal: t, room: None };
        assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
        assert!(ClientFrame::decode(&[2, 0, 0, 0, 1, 0]).is_err());
    }
}
