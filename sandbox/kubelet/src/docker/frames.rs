//! The engine's framing of output (Engine API, "Attach to a container"): eight bytes of head (stream, three zeros, length), then data.

use bytes::{Buf, Bytes, BytesMut};

/// Longest frame that is taken whole; the engine's are far shorter.
const MAX_FRAME: usize = 1 << 20;

/// Where a piece of output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output, or a terminal.
    Out,
    /// Standard error.
    Err,
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub struct Frames {
    begun: BytesMut,
    raw: bool,
}

impl Frames {
    /// With `raw` (a terminal) everything is standard output, without frames.
    pub fn new(raw: bool) -> Self {
        Self { begun: BytesMut::new(), raw }
    }

    /// Takes what has come and gives the frames that are whole now.
    pub fn push(&mut self, data: &[u8]) -> Vec<(Source, Bytes)> {
        if self.raw {
            return vec![(Source::Out, Bytes::copy_from_slice(data))];
        }
        self.begun.extend_from_slice(data);
        let mut whole = Vec::new();
        while self.begun.len() >= 8 {
            let length = u32::from_be_bytes([self.begun[4], self.begun[5], self.begun[6], self.begun[7]]);
            let length = (length as usize).min(MAX_FRAME);
            if self.begun.len() < 8 + length {
                break;
            }
            let source = if self.begun[0] == 2 { Source::Err } else { Source::Out };
            self.begun.advance(8);
            whole.push((source, self.begun.split_to(length).freeze()));
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let stream = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!";
        for cut in 1..stream.len() {
            let mut frames = Frames::new(false);
            let mut all = frames.push(&stream[..cut]);
            all.extend(frames.push(&stream[cut..]));
            assert_eq!(all, [(Source::Out, "hi".into()), (Source::Err, "!".into())], "cut at {cut}");
        }
        assert_eq!(Frames::new(true).push(b"\x01abc"), [(Source::Out, Bytes::from_static(b"\x01abc"))]);
    }
}
