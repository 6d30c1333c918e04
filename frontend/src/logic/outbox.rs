//! Keys and pasted text on their way to the session. Each frame has a number that the session takes once, so what may
//! have been lost with a connection is simply sent again. Called by the store; it never touches the network.
//!
//! Bound: 64 KiB are kept for sending again, and as much is accepted while there is no connection.

use drydock_protocol::{TerminalId, frame::ClientFrame};
use std::collections::VecDeque;

/// Bytes kept, and bytes accepted while disconnected.
const KEPT: usize = 64 * 1024;
/// Largest piece: small enough that the server reads Ctrl-C between two pieces of a long paste.
const PIECE: usize = 16 * 1024;

/// There is no connection and the room for waiting input is used up.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Input that was sent, or waits for a connection.
#[derive(Debug, Default)]
pub struct Outbox {
    last_seq: u32,
    kept: VecDeque<(u32, TerminalId, Vec<u8>)>,
    size: usize,
    waiting: usize,
}

impl Outbox {
    /// Takes input for a terminal; answers the messages to send now (none while disconnected).
    pub fn push(
        &mut self,
        terminal: TerminalId,
        bytes: &[u8],
        connected: bool,
    ) -> Result<Vec<Vec<u8>>, Full> {
        if !connected {
            if self.waiting + bytes.len() > KEPT {
                return Err(Full);
            }
            self.waiting += bytes.len();
        }
        let mut messages = Vec::new();
        for piece in bytes.chunks(PIECE) {
            self.last_seq = self.last_seq.wrapping_add(1);
            self.size += piece.len();
            self.kept.push_back((self.last_seq, terminal, piece.to_vec()));
            if connected {
                messages.push(ClientFrame::Input { terminal, seq: self.last_seq, bytes: piece }.encode());
            }
        }
        // While disconnected everything that waits must stay; what was sent before is older and goes first.
        while self.size > KEPT.max(self.waiting) {
            let Some((_, _, old)) = self.kept.pop_front() else { break };
            self.size -= old.len();
        }
        Ok(messages)
    }

    /// A connection is up and the session has taken all up to `taken`: the messages to send again.
    pub fn resume(&mut self, taken: u32) -> Vec<Vec<u8>> {
        self.waiting = 0;
        // A session that counts further than this page would ignore what it types.
        self.last_seq = self.last_seq.max(taken);
        while let Some((seq, _, bytes)) = self.kept.front() {
            if *seq > taken {
                break;
            }
            self.size -= bytes.len();
            self.kept.pop_front();
        }
        self.kept
            .iter()
            .map(|(seq, terminal, bytes)| {
                ClientFrame::Input { terminal: *terminal, seq: *seq, bytes }.encode()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TerminalId = TerminalId(1);

    fn seqs(messages: &[Vec<u8>]) -> Vec<u32> {
        messages
            .iter()
            .map(|m| match ClientFrame::decode(m) {
                Ok(ClientFrame::Input { seq, .. }) => seq,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn numbers_start_at_one_and_each_key_goes_at_once() {
        let mut outbox = Outbox::default();
        assert_eq!(seqs(&outbox.push(T, b"a", true).unwrap()), [1]);
        assert_eq!(seqs(&outbox.push(T, b"b", true).unwrap()), [2]);
    }

    #[test]
    fn what_was_not_taken_is_sent_again_in_order() {
        let mut outbox = Outbox::default();
        for key in [b"a", b"b", b"c"] {
            outbox.push(T, key, true).unwrap();
        }
        assert!(outbox.push(T, b"d", false).unwrap().is_empty());
        assert_eq!(seqs(&outbox.resume(2)), [3, 4]);
        assert!(outbox.resume(4).is_empty());
    }

    #[test]
    fn a_long_paste_goes_in_pieces() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(T, &[b'x'; 40_000], true).unwrap().len(), 3);
    }

    #[test]
    fn room_is_bounded() {
        let mut outbox = Outbox::default();
        outbox.push(T, &[b'x'; 1_000_000], true).unwrap();
        assert!(outbox.size <= KEPT);
        outbox.push(T, &[b'y'; 60_000], false).unwrap();
        assert_eq!(outbox.push(T, &[b'z'; 6_000], false), Err(Full));
        let again: usize = outbox.resume(0).iter().map(|m| m.len() - 9).sum();
        assert!((60_000..=KEPT).contains(&again), "{again}");
        assert!(outbox.push(T, b"z", false).is_ok());
    }

    #[test]
    fn a_session_that_counts_further_wins() {
        let mut outbox = Outbox::default();
        outbox.resume(41);
        assert_eq!(seqs(&outbox.push(T, b"a", true).unwrap()), [42]);
    }
}
