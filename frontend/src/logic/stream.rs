//! Where a page stands in one terminal's output: what has arrived, what the terminal emulator has parsed and what was
//! acknowledged. Offsets are absolute, so a reconnect continues where `received` is and nothing is shown twice.
//! Called by `term::view` for every frame; it holds no bytes.

use drydock_protocol::frame::ACK_EVERY;

/// What to do with a piece of output.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    /// Write it without its first `skip` bytes; the write ends at offset `end`.
    Write { skip: usize, end: u64 },
    /// It is all known.
    Nothing,
    /// Bytes before it are missing: attach anew from [`Stream::from`].
    Gap,
    /// Bytes before it are missing, and the page has already asked for them.
    Wait,
}

/// The page's place in one terminal's output.
#[derive(Debug, Default)]
pub struct Stream {
    received: Option<u64>,
    parsed: u64,
    acked: u64,
    asked: bool,
}

impl Stream {
    /// The first byte that the page lacks; `None` if it has nothing.
    pub fn from(&self) -> Option<u64> {
        self.received
    }

    /// True if all that arrived is parsed.
    pub fn is_idle(&self) -> bool {
        self.received.is_none_or(|received| received == self.parsed)
    }

    /// Output arrived.
    pub fn output(&mut self, offset: u64, len: usize) -> Take {
        let received = *self.received.get_or_insert(offset);
        let end = offset.saturating_add(len as u64);
        if offset > received {
            return if std::mem::replace(&mut self.asked, true) { Take::Wait } else { Take::Gap };
        }
        self.asked = false;
        if end <= received {
            return Take::Nothing;
        }
        self.received = Some(end);
        Take::Write { skip: (received - offset) as usize, end }
    }

    /// A snapshot arrived, which replaces everything before `offset`.
    pub fn snapshot(&mut self, offset: u64) {
        self.received = Some(offset);
        self.asked = false;
    }

    /// The connection is new: what was asked on the old one will not come.
    pub fn reconnected(&mut self) {
        self.asked = false;
    }

    /// The emulator has parsed everything before `end`. Tells what to acknowledge, if anything now.
    pub fn parsed(&mut self, end: u64) -> Option<u64> {
        self.parsed = end;
        let due = self.is_idle() || end.saturating_sub(self.acked) >= ACK_EVERY;
        (due && end != self.acked).then(|| {
            self.acked = end;
            end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_follows_output() {
        let mut s = Stream::default();
        assert_eq!(s.from(), None);
        assert_eq!(s.output(0, 10), Take::Write { skip: 0, end: 10 });
        assert_eq!(s.output(10, 5), Take::Write { skip: 0, end: 15 });
        assert_eq!(s.from(), Some(15));
    }

    #[test]
    fn what_is_known_is_not_written_again() {
        let mut s = Stream::default();
        s.output(0, 10);
        assert_eq!(s.output(0, 10), Take::Nothing);
        assert_eq!(s.output(5, 10), Take::Write { skip: 5, end: 15 });
    }

    #[test]
    fn a_gap_is_asked_for_once() {
        let mut s = Stream::default();
        s.output(0, 10);
        assert_eq!(s.output(20, 5), Take::Gap);
        assert_eq!(s.output(25, 5), Take::Wait);
        assert_eq!(s.output(10, 20), Take::Write { skip: 0, end: 30 });
        assert_eq!(s.output(40, 1), Take::Gap);
        s.reconnected();
        assert_eq!(s.output(41, 1), Take::Gap);
    }

    #[test]
    fn acknowledges_at_once_when_idle_and_now_and_then_in_a_flood() {
        let mut s = Stream::default();
        s.output(0, 1);
        assert_eq!(s.parsed(1), Some(1));
        s.output(1, 2 * ACK_EVERY as usize);
        assert_eq!(s.parsed(ACK_EVERY), None);
        assert_eq!(s.parsed(ACK_EVERY + 1), Some(ACK_EVERY + 1));
        assert_eq!(s.parsed(ACK_EVERY + 2), None);
        assert_eq!(s.parsed(2 * ACK_EVERY + 1), Some(2 * ACK_EVERY + 1));
        assert_eq!(s.parsed(2 * ACK_EVERY + 1), None);
    }

    #[test]
    fn a_snapshot_starts_anew_even_from_an_older_place() {
        let mut s = Stream::default();
        s.output(0, 100);
        s.snapshot(5000);
        assert_eq!(s.from(), Some(5000));
        assert_eq!(s.output(5000, 1), Take::Write { skip: 0, end: 5001 });
    }

    #[test]
    fn offsets_near_the_end_do_not_overflow() {
        let mut s = Stream::default();
        assert!(matches!(s.output(u64::MAX, 10), Take::Nothing));
    }
}
