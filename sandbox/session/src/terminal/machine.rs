//! The state machine of one terminal; its rules stand at the top of [`super`].

use super::{
    FLOOD_QUIET, PARSE_QUIET, RESIZE_DEBOUNCE, SILENCE, SNAPSHOT_GAP, WINDOW,
    ring::{CAPACITY, Ring},
    scan::unfinished_char,
    screen::Screen,
};
use drydock_protocol::{
    TerminalId,
    frame::{MAX_OUTPUT, ServerFrame, Size},
};
use std::time::{Duration, Instant};

/// Number of a viewer's connection.
pub type ViewerId = u64;

/// Output that is parsed or passed over at a time.
const PIECE: usize = 64 * 1024;
/// Of a long unparsed backlog only this much is parsed for a snapshot: more than a screen and its scroll-back.
const SNAPSHOT_PARSES: u64 = 192 * 1024;
/// Output that keeps coming without a pause is parsed after this long, unless more than [`PIECE`] came.
const PARSE_LATEST: Duration = Duration::from_millis(100);
/// A viewer that has so much to parse still is not sent less than [`BATCH`]: its acknowledgement is on the way, and each frame costs.
const BUSY: u64 = 128 * 1024;
const BATCH: usize = 64 * 1024;
/// A viewer that does not acknowledge its snapshot gets the next one after this long.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);
/// A deadline missed by more than this means that the whole session was frozen meanwhile.
const FROZEN: Duration = Duration::from_secs(5);

/// One terminal.
pub struct Terminal {
    id: TerminalId,
    ring: Ring,
    screen: Screen,
    size: Size,
    resize_due: Option<Instant>,
    /// When the oldest unparsed output came, if it is to be parsed.
    unparsed_since: Option<Instant>,
    last_output: Option<Instant>,
    /// When the beginning of a character is sent although its rest has not come.
    half_due: Option<Instant>,
    /// In the order in which they came.
    viewers: Vec<Viewer>,
    answerer: Option<ViewerId>,
    exited: Option<Exited>,
}

struct Exited {
    status: i32,
    /// All output before this comes before the news.
    offset: u64,
}

struct Viewer {
    id: ViewerId,
    writer: bool,
    /// Offset of the next byte to send.
    sent: u64,
    /// All before this is parsed by the page.
    acked: u64,
    needs_snapshot: bool,
    last_snapshot: Option<LastSnapshot>,
    /// What the page has room for; `None`: hidden, or not told yet.
    room: Option<Size>,
    /// Since when it has owed acknowledgements without giving one.
    owes_since: Option<Instant>,
    /// Its connection is not read just now (its input waits), so its acknowledgements can't be seen.
    stalled: bool,
    told_size: Option<Size>,
    told_answers: Option<bool>,
    told_exit: bool,
}

struct LastSnapshot {
    at: Instant,
    offset: u64,
    acked: bool,
}

/// What [`Terminal::next`] gives a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// One binary message was appended.
    Frame,
    /// [`drydock_protocol::control::ToPage::Answers`].
    Answers(bool),
}

/// What [`Terminal::tick`] asks its driver to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Give the pty this size.
    pub resize: Option<Size>,
    /// These writers were detached because they were silent.
    pub detached: Vec<ViewerId>,
}

impl Terminal {
    /// A terminal that has printed nothing.
    pub fn new(id: TerminalId, size: Size) -> Self {
        Self {
            id,
            ring: Ring::default(),
            screen: Screen::new(size),
            size,
            resize_due: None,
            unparsed_since: None,
            last_output: None,
            half_due: None,
            viewers: Vec::new(),
            answerer: None,
            exited: None,
        }
    }

    /// The size that everybody shows.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The window title.
    pub fn title(&self) -> &str {
        self.screen.title()
    }

    /// True once after each change of the title.
    pub fn take_title_changed(&mut self) -> bool {
        self.screen.take_title_changed()
    }

    /// The exit status, once the process has ended.
    pub fn exit_status(&self) -> Option<i32> {
        self.exited.as_ref().map(|e| e.status)
    }

    /// Number of bytes printed so far.
    pub fn tail(&self) -> u64 {
        self.ring.tail()
    }

    /// Whether the screen shows anything that can be read, such as a prompt.
    pub fn shows_text(&mut self, now: Instant) -> bool {
        while self.parse_piece(now) {}
        self.screen.shows_text()
    }

    /// Whether more output may be taken from the pty.
    pub fn may_read(&self) -> bool {
        let holding = self.viewers.iter().filter(|v| v.writer && !v.stalled && !v.needs_snapshot);
        holding.map(|v| v.acked).min().is_none_or(|acked| self.ring.tail() - acked < WINDOW)
    }

    /// Takes output from the pty.
    pub fn output(&mut self, bytes: &[u8], now: Instant) {
        for piece in bytes.chunks(PIECE) {
            self.make_room(piece.len());
            self.ring.push(piece);
        }
        self.last_output = Some(now);
        self.unparsed_since.get_or_insert(now);
    }

    /// The process has ended, and all that it printed has been put in.
    pub fn exit(&mut self, status: i32) {
        self.exited = Some(Exited { status, offset: self.ring.tail() });
    }

    /// Shows the terminal to a viewer: from offset `from` on if the ring still has it, else by a snapshot.
    pub fn attach(&mut self, id: ViewerId, writer: bool, from: Option<u64>, now: Instant) {
        let from = from.filter(|from| (self.ring.start()..=self.ring.tail()).contains(from));
        let start = from.unwrap_or(self.ring.tail());
        let fresh = Viewer {
            id,
            writer,
            sent: start,
            acked: start,
            needs_snapshot: from.is_none(),
            last_snapshot: None,
            room: None,
            owes_since: None,
            stalled: false,
            told_size: None,
            told_answers: None,
            told_exit: false,
        };
        match self.viewers.iter_mut().find(|v| v.id == id) {
            Some(old) => *old = Viewer { room: old.room, stalled: old.stalled, ..fresh },
            None => self.viewers.push(fresh),
        }
        self.viewers_changed(now);
    }

    /// Shows it to the viewer no more.
    pub fn detach(&mut self, id: ViewerId, now: Instant) {
        self.viewers.retain(|v| v.id != id);
        self.viewers_changed(now);
    }

    /// The viewer has parsed everything before `offset`.
    pub fn ack(&mut self, id: ViewerId, offset: u64, now: Instant) {
        let Some(v) = self.viewers.iter_mut().find(|v| v.id == id) else { return };
        if let Some(last) = &mut v.last_snapshot {
            last.acked |= offset >= last.offset;
        }
        // What was not sent can't be acknowledged.
        if offset > v.acked && offset <= v.sent {
            v.acked = offset;
            v.owes_since = (v.acked < v.sent).then_some(now);
        }
    }

    /// The viewer has room for this many cells; `None`: it does not show the terminal.
    pub fn room(&mut self, id: ViewerId, room: Option<Size>, now: Instant) {
        let was_hidden = self.smallest_room().is_none();
        let Some(v) = self.viewers.iter_mut().find(|v| v.id == id) else { return };
        v.room = room;
        self.viewers_changed(now);
        if was_hidden && self.resize_due.is_some() {
            // Somebody has just begun to look: there is nothing to gather.
            self.resize_due = Some(now);
        }
    }

    /// Says whether the viewer's connection is not being read just now.
    pub fn set_stalled(&mut self, id: ViewerId, stalled: bool, now: Instant) {
        if let Some(v) = self.viewers.iter_mut().find(|v| v.id == id) {
            v.stalled = stalled;
            v.owes_since = v.owes_since.map(|_| now);
        }
    }

    /// The next thing to tell a viewer, if there is one now. A frame is appended to `out`.
    pub fn next(&mut self, id: ViewerId, now: Instant, out: &mut Vec<u8>) -> Option<Item> {
        let index = self.viewers.iter().position(|v| v.id == id)?;
        let v = &mut self.viewers[index];
        v.needs_snapshot |= v.sent < self.ring.start();
        if v.needs_snapshot {
            if v.snapshot_not_before().is_some_and(|at| now < at) {
                return None;
            }
            self.snapshot(index, now, out);
            return Some(Item::Frame);
        }
        if v.told_size != Some(self.size) {
            v.told_size = Some(self.size);
            ServerFrame::Size { terminal: self.id, size: self.size }.encode_into(out);
            return Some(Item::Frame);
        }
        let answers = self.answerer == Some(id);
        if v.told_answers != Some(answers) {
            v.told_answers = Some(answers);
            return Some(Item::Answers(answers));
        }
        self.next_output(index, now, out)
    }

    /// When [`Self::tick`] must be called next.
    pub fn due(&self) -> Option<Instant> {
        let viewers = self.viewers.iter().filter_map(|v| {
            let silent = v.owes_since.filter(|_| v.writer && !v.stalled).map(|since| since + SILENCE);
            let snapshot = if v.needs_snapshot { v.snapshot_not_before() } else { None };
            [silent, snapshot].into_iter().flatten().min()
        });
        viewers.chain(self.resize_due).chain(self.half_due).chain(self.parse_due()).min()
    }

    /// Does what time demands. The driver wakes all viewers afterwards.
    pub fn tick(&mut self, now: Instant) -> Tick {
        let mut tick = Tick::default();
        for v in self.viewers.iter_mut().filter(|v| v.writer && !v.stalled) {
            let Some(late) = v.owes_since.and_then(|since| now.checked_duration_since(since + SILENCE))
            else {
                continue;
            };
            if late > FROZEN {
                v.owes_since = Some(now);
            } else {
                tick.detached.push(v.id);
            }
        }
        if !tick.detached.is_empty() {
            self.viewers.retain(|v| !tick.detached.contains(&v.id));
            self.viewers_changed(now);
        }
        if self.half_due.is_some_and(|due| due <= now) {
            self.half_due = None;
        }
        if self.parse_due().is_some_and(|due| due <= now) {
            self.parse_piece(now);
        }
        if self.resize_due.is_some_and(|due| due <= now) {
            self.resize_due = None;
            tick.resize = self.smallest_room().filter(|size| *size != self.size);
        }
        if let Some(size) = tick.resize {
            // What was printed for the old size is best drawn at the old size.
            while self.unparsed() <= SNAPSHOT_PARSES && self.parse_piece(now) {}
            self.size = size;
            self.screen.resize(size);
        }
        tick
    }

    // === output ===

    fn unparsed(&self) -> u64 {
        self.ring.tail() - self.screen.parsed()
    }

    /// Passes over output that is about to be overwritten and was never parsed.
    fn make_room(&mut self, len: usize) {
        let must = (self.ring.tail() + len as u64).saturating_sub(CAPACITY as u64);
        if self.screen.parsed() >= must {
            return;
        }
        // In larger pieces than needed, so that this happens seldom.
        self.skip_to((self.screen.parsed() + PIECE as u64).clamp(must, self.ring.tail()), false);
        if self.screen.parsed() < must {
            self.skip_to(must, true);
        }
    }

    fn skip_to(&mut self, end: u64, all: bool) {
        let len = end.saturating_sub(self.screen.parsed());
        let bytes = self.ring.copy(self.screen.parsed(), usize::try_from(len).unwrap_or(0));
        self.screen.skip(&bytes, all);
    }

    fn parse_due(&self) -> Option<Instant> {
        let (since, last) = (self.unparsed_since?, self.last_output?);
        let flood = self.unparsed() > PIECE as u64;
        Some(if flood { last + FLOOD_QUIET } else { (last + PARSE_QUIET).min(since + PARSE_LATEST) })
    }

    /// Parses a piece of the backlog. True if it got on and there is more.
    fn parse_piece(&mut self, now: Instant) -> bool {
        let bytes = self.ring.copy(self.screen.parsed(), PIECE);
        let got_on = self.screen.feed(&bytes) > 0;
        let more = got_on && self.unparsed() > 0;
        // What is left after no progress is an unfinished sequence: it waits for more output.
        self.unparsed_since = more.then_some(now);
        if !got_on && bytes.len() == PIECE {
            self.skip_to(self.ring.tail(), true);
        }
        more
    }

    fn snapshot(&mut self, index: usize, now: Instant, out: &mut Vec<u8>) {
        if self.unparsed() > SNAPSHOT_PARSES {
            self.skip_to(self.ring.tail() - SNAPSHOT_PARSES, false);
        }
        while self.parse_piece(now) {}
        let offset = self.screen.parsed();
        let (size, bytes) = (self.size, self.screen.snapshot());
        ServerFrame::Snapshot { terminal: self.id, offset, size, bytes: &bytes }.encode_into(out);
        let v = &mut self.viewers[index];
        (v.sent, v.acked, v.owes_since) = (offset, offset, None);
        v.needs_snapshot = false;
        v.last_snapshot = Some(LastSnapshot { at: now, offset, acked: false });
        v.told_size = Some(size);
    }

    fn next_output(&mut self, index: usize, now: Instant, out: &mut Vec<u8>) -> Option<Item> {
        let v = &mut self.viewers[index];
        let window = WINDOW.saturating_sub(v.sent - v.acked).min(MAX_OUTPUT as u64);
        let (mut first, mut second) = self.ring.get(v.sent, usize::try_from(window).unwrap_or(0));
        let len = first.len() + second.len();
        if len < BATCH && v.sent - v.acked >= BUSY {
            return None;
        }
        let keep_back = unfinished_end(first, second);
        if keep_back < len {
            let of_second = keep_back.min(second.len());
            second = &second[..second.len() - of_second];
            first = &first[..first.len() - (keep_back - of_second)];
        } else if keep_back > 0
            && v.sent + len as u64 == self.ring.tail()
            && let Some(due) = self.last_output.map(|last| last + PARSE_QUIET).filter(|due| now < *due)
        {
            // Only the beginning of a character: the rest is about to come.
            self.half_due = Some(due);
            return None;
        }
        if !first.is_empty() {
            ServerFrame::Output { terminal: self.id, offset: v.sent, bytes: first }.encode_into(out);
            out.extend_from_slice(second);
            v.sent += (first.len() + second.len()) as u64;
            v.owes_since.get_or_insert(now);
            return Some(Item::Frame);
        }
        let exited = self.exited.as_ref().filter(|e| !v.told_exit && v.sent >= e.offset)?;
        v.told_exit = true;
        ServerFrame::Exit { terminal: self.id, status: exited.status }.encode_into(out);
        Some(Item::Frame)
    }

    // === viewers ===

    fn smallest_room(&self) -> Option<Size> {
        let rooms = self.viewers.iter().filter(|v| v.writer).filter_map(|v| v.room);
        rooms.reduce(|a, b| Size { cols: a.cols.min(b.cols), rows: a.rows.min(b.rows) }).map(Size::clamped)
    }

    fn viewers_changed(&mut self, now: Instant) {
        let visible = |v: &&Viewer| v.writer && v.room.is_some();
        let present = self.viewers.iter().find(|v| v.writer && Some(v.id) == self.answerer);
        self.answerer = present
            .filter(visible)
            .or_else(|| self.viewers.iter().find(visible))
            .or(present)
            .or_else(|| self.viewers.iter().find(|v| v.writer))
            .map(|v| v.id);
        match self.smallest_room() {
            Some(size) if size != self.size => {
                self.resize_due.get_or_insert(now + RESIZE_DEBOUNCE);
            }
            _ => self.resize_due = None,
        }
    }
}

impl Viewer {
    fn snapshot_not_before(&self) -> Option<Instant> {
        let last = self.last_snapshot.as_ref()?;
        Some(last.at + if last.acked { SNAPSHOT_GAP } else { SNAPSHOT_PATIENCE })
    }
}

/// [`unfinished_char`] of two pieces that follow each other.
fn unfinished_end(first: &[u8], second: &[u8]) -> usize {
    let mut end = [0; 3];
    let mut at = end.len();
    for byte in first.iter().chain(second).rev().take(3) {
        at -= 1;
        end[at] = *byte;
    }
    unfinished_char(&end[at..])
}
