//! The rules of a terminal, tried with plain calls.

use super::{ring::CAPACITY, *};
use drydock_protocol::{
    TerminalId,
    frame::{MAX_OUTPUT, ServerFrame, Size},
};
use proptest::prelude::*;
use std::time::Instant;

const ID: TerminalId = TerminalId(1);

fn size(cols: u16, rows: u16) -> Size {
    Size { cols, rows }
}

fn terminal() -> Terminal {
    Terminal::new(ID, Size::DEFAULT)
}

/// A page: takes what comes and checks that nothing lacks and nothing comes twice.
#[derive(Default)]
struct Page {
    next: Option<u64>,
    acked: u64,
    snapshots: u32,
    last_snapshot: Vec<u8>,
    sizes: Vec<Size>,
    answers: Option<bool>,
    exit: Option<i32>,
    output: Vec<u8>,
}

impl Page {
    fn take(&mut self, t: &mut Terminal, id: ViewerId, now: Instant, printed: &[u8]) -> bool {
        let mut out = Vec::new();
        match t.next(id, now, &mut out) {
            None => return false,
            Some(Item::Answers(yes)) => self.answers = Some(yes),
            Some(Item::Frame) => match ServerFrame::decode(&out).unwrap() {
                ServerFrame::Output { offset, bytes, .. } => {
                    assert_eq!(Some(offset), self.next, "a gap or a double");
                    assert!(bytes.len() <= MAX_OUTPUT && !bytes.is_empty());
                    let at = usize::try_from(offset).unwrap();
                    assert!(bytes == &printed[at..at + bytes.len()], "other bytes than were printed");
                    self.next = Some(offset + bytes.len() as u64);
                    self.output.extend_from_slice(bytes);
                    assert!(self.next.unwrap() - self.acked <= WINDOW, "more than the window is on the way");
                }
                ServerFrame::Snapshot { offset, size, bytes, .. } => {
                    assert!(bytes.starts_with(b"\x1bc"));
                    assert!(self.next.is_none_or(|next| next <= offset), "a snapshot of the past");
                    self.next = Some(offset);
                    self.acked = offset;
                    self.snapshots += 1;
                    self.last_snapshot = bytes.to_vec();
                    self.sizes.push(size);
                }
                ServerFrame::Size { size, .. } => self.sizes.push(size),
                ServerFrame::Exit { status, .. } => self.exit = Some(status),
            },
        }
        true
    }

    fn take_all(&mut self, t: &mut Terminal, id: ViewerId, now: Instant, printed: &[u8]) {
        while self.take(t, id, now, printed) {}
    }

    fn ack(&mut self, t: &mut Terminal, id: ViewerId, now: Instant) {
        self.acked = self.next.unwrap_or(0);
        t.ack(id, self.acked, now);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Print(usize),
    Take(usize, usize),
    Ack(usize),
    Reconnect(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..70_000).prop_map(Step::Print),
        6 => (0usize..3, 1usize..6).prop_map(|(v, n)| Step::Take(v, n)),
        4 => (0usize..3).prop_map(Step::Ack),
        1 => (0usize..3).prop_map(Step::Reconnect),
        2 => (0u64..400).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Two writers and a reader take, acknowledge and reconnect at random; the pty is read when it may be.
    #[test]
    fn every_byte_arrives_once_and_in_order(steps in proptest::collection::vec(step(), 1..200)) {
        let mut now = Instant::now();
        let mut t = terminal();
        let mut printed = Vec::new();
        let mut pages = [Page::default(), Page::default(), Page::default()];
        for id in 0..3 { t.attach(id, id < 2, None, now); }
        for step in steps {
            match step {
                Step::Print(len) => if t.may_read() {
                    let text: Vec<u8> = "line é漢 \x1b[31mx\r\n".bytes().cycle().skip(printed.len() % 7).take(len).collect();
                    t.output(&text, now);
                    printed.extend(text);
                },
                Step::Take(v, n) => for _ in 0..n { pages[v].take(&mut t, v as u64, now, &printed); },
                Step::Ack(v) => pages[v].ack(&mut t, v as u64, now),
                Step::Reconnect(v) => {
                    t.detach(v as u64, now);
                    pages[v].acked = pages[v].next.unwrap_or(0);
                    t.attach(v as u64, v < 2, pages[v].next, now);
                }
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    prop_assert!(t.tick(now).detached.is_empty());
                }
            }
        }
        // In the end all of them get all, and writers that were never away long got it without a second snapshot.
        for (v, page) in pages.iter_mut().enumerate() {
            for _ in 0..40 {
                now += Duration::from_millis(250);
                page.take_all(&mut t, v as u64, now, &printed);
                page.ack(&mut t, v as u64, now);
            }
            prop_assert_eq!(page.next, Some(printed.len() as u64));
        }
    }
}

#[test]
fn a_page_resumes_without_gap_or_double() {
    let (mut t, now) = (terminal(), Instant::now());
    let mut printed = b"one ".to_vec();
    t.output(&printed, now);
    t.attach(1, true, Some(0), now);
    let mut page = Page { next: Some(0), ..Page::default() };
    page.take_all(&mut t, 1, now, &printed);
    assert_eq!(page.output, b"one ");
    t.detach(1, now);
    t.output(b"two ", now);
    printed.extend(b"two ");
    t.attach(2, true, page.next, now);
    page.take_all(&mut t, 2, now, &printed);
    assert_eq!(page.output, b"one two ");
    assert_eq!(page.snapshots, 0);
}

#[test]
fn a_late_viewer_gets_a_snapshot_and_goes_on_from_there() {
    let (mut t, now) = (terminal(), Instant::now());
    let mut printed = "$ \x1b[?2004h".repeat(3).into_bytes();
    t.output(&printed, now);
    for (id, from) in [(1, None), (2, Some(99_999))] {
        let mut page = Page::default();
        t.attach(id, true, from, now);
        page.take_all(&mut t, id, now, &printed);
        assert_eq!((page.snapshots, page.next), (1, Some(printed.len() as u64)));
        assert!(String::from_utf8_lossy(&page.last_snapshot).contains("\x1b[?2004h"));
    }
    let mut page = Page::default();
    t.attach(3, true, Some(0), now);
    // Long gone from the ring.
    t.detach(1, now);
    t.detach(2, now);
    t.set_stalled(3, true, now);
    let flood = vec![b'x'; 2 * CAPACITY];
    t.output(&flood, now);
    printed.extend(&flood);
    page.take_all(&mut t, 3, now, &printed);
    assert_eq!((page.snapshots, page.next), (1, Some(printed.len() as u64)));
}

#[test]
fn a_slow_writer_holds_the_pty_and_a_slow_reader_does_not() {
    let (mut t, mut now) = (terminal(), Instant::now());
    let (mut writer, mut reader) = (Page::default(), Page::default());
    let mut printed = Vec::new();
    t.attach(1, true, None, now);
    t.attach(2, false, None, now);
    writer.take_all(&mut t, 1, now, &printed);
    reader.take_all(&mut t, 2, now, &printed);
    while t.may_read() {
        t.output(&[b'a'; 10_000], now);
        printed.extend([b'a'; 10_000]);
    }
    assert!((WINDOW..WINDOW + 10_000).contains(&t.tail()));
    writer.take_all(&mut t, 1, now, &printed);
    assert!(!t.may_read(), "only an acknowledgement lets the pty go on");
    // The writer goes on; the reader, which never acknowledges, gets no more than its window, then a snapshot.
    reader.take_all(&mut t, 2, now, &printed);
    assert_eq!(reader.next, Some(WINDOW));
    for _ in 0..100 {
        writer.ack(&mut t, 1, now);
        assert!(t.may_read());
        t.output(&[b'b'; 10_000], now);
        printed.extend([b'b'; 10_000]);
        writer.take_all(&mut t, 1, now, &printed);
    }
    now += Duration::from_secs(3);
    writer.ack(&mut t, 1, now);
    reader.take_all(&mut t, 2, now, &printed);
    assert_eq!((reader.snapshots, reader.next), (2, Some(printed.len() as u64)));
    // Nobody looks: the pty runs free.
    t.detach(1, now);
    t.detach(2, now);
    t.output(&vec![b'c'; 3 * CAPACITY], now);
    assert!(t.may_read());
}

#[test]
fn snapshots_for_one_that_cannot_follow_keep_their_distance() {
    let (mut t, mut now) = (terminal(), Instant::now());
    let mut page = Page::default();
    let mut printed = Vec::new();
    t.attach(2, false, None, now);
    page.take_all(&mut t, 2, now, &printed);
    let start = now;
    while now < start + Duration::from_secs(1) {
        now += Duration::from_millis(10);
        t.output(&vec![b'x'; CAPACITY + 1], now);
        printed.resize(printed.len() + CAPACITY + 1, b'x');
        page.take_all(&mut t, 2, now, &printed);
        page.ack(&mut t, 2, now);
        assert!(
            page.next == Some(t.tail()) || t.due().is_some(),
            "somebody must wake it for its next snapshot"
        );
    }
    assert!((4..=6).contains(&page.snapshots), "{} in a second", page.snapshots);
}

#[test]
fn a_silent_writer_is_detached_and_the_pty_goes_on() {
    let (mut t, mut now) = (terminal(), Instant::now());
    let mut page = Page::default();
    t.attach(1, true, None, now);
    page.take_all(&mut t, 1, now, b"");
    let printed = vec![b'x'; WINDOW as usize + 10_000];
    t.output(&printed, now);
    page.take_all(&mut t, 1, now, &printed);
    now += Duration::from_secs(20);
    t.ack(1, 1000, now);
    now += Duration::from_secs(29);
    assert!(t.tick(now).detached.is_empty());
    assert!(!t.may_read());
    now += Duration::from_secs(1);
    assert!(t.due().is_some_and(|due| due <= now));
    assert_eq!(t.tick(now).detached, [1]);
    assert!(t.may_read());
}

#[test]
fn a_frozen_session_does_not_blame_its_writers() {
    let (mut t, now) = (terminal(), Instant::now());
    let mut page = Page::default();
    t.attach(1, true, None, now);
    page.take_all(&mut t, 1, now, b"");
    t.output(b"hello", now);
    page.take_all(&mut t, 1, now, b"hello");
    assert!(t.tick(now + Duration::from_secs(3600)).detached.is_empty());
    assert_eq!(t.tick(now + Duration::from_secs(3630)).detached, [1]);
}

#[test]
fn acknowledgements_of_what_was_never_sent_count_nothing() {
    let (mut t, now) = (terminal(), Instant::now());
    t.attach(1, true, Some(0), now);
    t.output(&vec![b'x'; WINDOW as usize + 10_000], now);
    t.ack(1, u64::MAX, now);
    t.ack(7, 5, now);
    assert!(!t.may_read());
}

#[test]
fn the_smallest_visible_writer_gives_the_size() {
    let (mut t, mut now) = (terminal(), Instant::now());
    t.attach(1, true, None, now);
    t.attach(2, true, None, now);
    t.attach(3, false, None, now);
    t.room(3, Some(size(30, 10)), now);
    assert_eq!(t.tick(now).resize, None, "readers do not count");
    t.room(1, Some(size(120, 30)), now);
    assert_eq!(t.tick(now).resize, Some(size(120, 30)), "the first size counts at once");
    t.room(2, Some(size(100, 50)), now);
    assert_eq!(t.tick(now).resize, None, "later ones are gathered");
    now += RESIZE_DEBOUNCE;
    assert_eq!(t.due(), Some(now));
    assert_eq!(t.tick(now).resize, Some(size(100, 30)));
    t.room(2, None, now);
    now += RESIZE_DEBOUNCE;
    assert_eq!(t.tick(now).resize, Some(size(120, 30)), "hidden ones do not count");
    t.detach(1, now);
    now += RESIZE_DEBOUNCE;
    assert_eq!(t.tick(now).resize, None, "nobody looks: it keeps its size");
    t.room(2, Some(size(1, 60_000)), now);
    assert_eq!(t.tick(now).resize, Some(size(20, 300)));
    let mut page = Page::default();
    page.take_all(&mut t, 3, now, b"");
    assert_eq!(page.sizes, [size(20, 300)]);
}

#[test]
fn exactly_one_writer_answers() {
    let (mut t, now) = (terminal(), Instant::now());
    let mut pages = [Page::default(), Page::default(), Page::default()];
    let answers = |t: &mut Terminal, pages: &mut [Page; 3]| {
        for (id, page) in pages.iter_mut().enumerate() {
            page.take_all(t, id as u64, now, b"");
        }
        [pages[0].answers, pages[1].answers, pages[2].answers]
    };
    t.attach(0, false, None, now);
    t.attach(1, true, None, now);
    t.attach(2, true, None, now);
    assert_eq!(answers(&mut t, &mut pages), [Some(false), Some(true), Some(false)]);
    t.room(2, Some(size(80, 24)), now);
    assert_eq!(answers(&mut t, &mut pages), [Some(false), Some(false), Some(true)]);
    t.detach(2, now);
    pages[2].answers = None;
    assert_eq!(answers(&mut t, &mut pages), [Some(false), Some(true), None]);
}

#[test]
fn characters_stay_whole() {
    let (mut t, mut now) = (terminal(), Instant::now());
    t.attach(1, true, Some(0), now);
    let mut page = Page { next: Some(0), ..Page::default() };
    let text = "漢é€😀".repeat(30_000);
    let mut at = 0;
    for len in [1, 2, 5, 40_001, 3, 8191].into_iter().cycle() {
        let end = (at + len).min(text.len());
        t.output(&text.as_bytes()[at..end], now);
        let before = page.output.len();
        page.take_all(&mut t, 1, now, text.as_bytes());
        assert!(std::str::from_utf8(&page.output[before..]).is_ok());
        page.ack(&mut t, 1, now);
        at = end;
        if at == text.len() {
            break;
        }
    }
    assert_eq!(page.output, text.as_bytes());
    // What is no UTF-8 at all comes through nevertheless, a little later.
    t.output(b"\xe2", now);
    let printed = [text.as_bytes(), b"\xe2"].concat();
    page.take_all(&mut t, 1, now, &printed);
    assert_eq!(page.output.len(), text.len());
    now += PARSE_QUIET;
    assert!(t.due().is_some_and(|due| due <= now));
    t.tick(now);
    page.take_all(&mut t, 1, now, &printed);
    assert_eq!(page.output, printed);
}

#[test]
fn a_snapshot_never_begins_inside_a_sequence() {
    let (mut t, now) = (terminal(), Instant::now());
    let printed = b"ab\x1b[31mcd\x1b[4".to_vec();
    t.output(&printed, now);
    let mut page = Page::default();
    t.attach(1, true, None, now);
    page.take_all(&mut t, 1, now, &printed);
    assert_eq!(page.output, b"\x1b[4");
}

#[test]
fn the_title_appears_soon_and_in_a_flood_too() {
    let (mut t, mut now) = (terminal(), Instant::now());
    t.output(b"\x1b]0;hello\x07", now);
    now += PARSE_QUIET;
    assert!(t.due().is_some_and(|due| due <= now));
    t.tick(now);
    assert!(t.take_title_changed());
    assert_eq!((t.title(), t.due()), ("hello", None));
    t.output(b"\x1b]2;flooded\x07", now);
    t.output(&vec![b'y'; 3 * CAPACITY], now);
    assert_eq!(t.title(), "flooded");
}

#[test]
fn control_sequences_are_no_prompt() {
    let (mut t, now) = (terminal(), Instant::now());
    assert!(!t.shows_text(now));
    t.output(b"\x1b]0;title\x07\x1b[?2004h\r\n", now);
    assert!(!t.shows_text(now));
    t.output(b"# ", now);
    assert!(t.shows_text(now));
}

#[test]
fn exit_comes_after_the_last_output_and_to_late_viewers_too() {
    let (mut t, now) = (terminal(), Instant::now());
    t.attach(1, true, Some(0), now);
    let mut page = Page { next: Some(0), ..Page::default() };
    t.output(b"bye\r\n", now);
    t.exit(3);
    page.take(&mut t, 1, now, b"bye\r\n");
    page.take(&mut t, 1, now, b"bye\r\n");
    assert_eq!(page.exit, None);
    page.take_all(&mut t, 1, now, b"bye\r\n");
    assert_eq!((page.output.as_slice(), page.exit), (b"bye\r\n".as_slice(), Some(3)));
    let mut late = Page::default();
    t.attach(2, false, None, now);
    late.take_all(&mut t, 2, now, b"bye\r\n");
    assert_eq!(late.exit, Some(3));
    assert!(String::from_utf8_lossy(&late.last_snapshot).contains("bye"));
}

#[test]
fn a_busy_page_gets_few_frames_and_all_when_it_has_parsed() {
    let (mut t, now) = (terminal(), Instant::now());
    t.attach(1, true, Some(0), now);
    let mut page = Page { next: Some(0), ..Page::default() };
    let (mut printed, mut frames) = (Vec::new(), 0);
    while t.may_read() {
        let piece = [b'x'; 4096];
        t.output(&piece, now);
        printed.extend(piece);
        while page.take(&mut t, 1, now, &printed) {
            frames += usize::from(page.next > Some(128 * 1024));
        }
    }
    assert_eq!(page.output.len() as u64, WINDOW);
    assert!(frames <= 4, "{frames} frames for the rest of the window");
    // The last bytes are no frame's worth: they come when the page has caught up.
    page.ack(&mut t, 1, now);
    for len in [128 * 1024, 100] {
        let piece = vec![b'y'; len];
        t.output(&piece, now);
        printed.extend(piece);
        page.take_all(&mut t, 1, now, &printed);
    }
    assert_eq!(page.output.len(), printed.len() - 100);
    page.ack(&mut t, 1, now);
    page.take_all(&mut t, 1, now, &printed);
    assert_eq!(page.output, printed);
}
