//! The way of a terminal's output through the session process, without kernel and sockets: how many MB/s.
//! The promise is 200 MB/s and more for the server side alone.

use divan::counter::BytesCount;
use drydock_protocol::{
    TerminalId,
    frame::{ServerFrame, Size},
};
use drydock_session::terminal::{Item, Terminal};
use std::time::Instant;

const TOTAL: usize = 32 * 1024 * 1024;

fn main() {
    divan::main();
}

fn text(kind: &str) -> Vec<u8> {
    let line: &[u8] = match kind {
        "yes" => b"y\r\n",
        "colours" => b"\x1b[38;5;120mword\x1b[0m \x1b[1;31mother\x1b[m\r\n",
        _ => "a long line of plain text with a few characters that are not ASCII: é€漢; and so on and on\r\n"
            .as_bytes(),
    };
    line.iter().copied().cycle().take(64 * 1024).collect()
}

/// Output comes in, a page takes all frames and acknowledges them at once.
#[divan::bench(args = ["yes", "colours", "lines"])]
fn to_one_writer(bencher: divan::Bencher<'_, '_>, kind: &str) {
    let piece = text(kind);
    bencher.counter(BytesCount::new(TOTAL)).bench_local(|| pump(&piece, true));
}

/// Nobody looks: the picture must be kept nevertheless.
#[divan::bench(args = ["yes", "colours", "lines"])]
fn to_nobody(bencher: divan::Bencher<'_, '_>, kind: &str) {
    let piece = text(kind);
    bencher.counter(BytesCount::new(TOTAL)).bench_local(|| pump(&piece, false));
}

fn pump(piece: &[u8], watched: bool) -> u64 {
    let now = Instant::now();
    let mut terminal = Terminal::new(TerminalId(1), Size::DEFAULT);
    if watched {
        terminal.attach(1, true, Some(0), now);
    }
    let mut out = Vec::new();
    while terminal.tail() < TOTAL as u64 {
        terminal.output(piece, now);
        loop {
            out.clear();
            match terminal.next(1, now, &mut out) {
                Some(Item::Frame) => {
                    if let Ok(ServerFrame::Output { offset, bytes, .. }) = ServerFrame::decode(&out) {
                        terminal.ack(1, offset + bytes.len() as u64, now);
                    }
                }
                Some(Item::Answers(_)) => {}
                None => break,
            }
        }
    }
    terminal.tail()
}
