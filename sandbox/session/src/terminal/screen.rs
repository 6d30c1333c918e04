//! What a terminal shows: a vt100 emulator that is fed behind the output, and the snapshots made from it. Used by the
//! terminal core only. The bytes come from the learner's programs, so a panic of the emulator is caught and costs
//! the picture, never the session.

use super::scan::scan;
use drydock_protocol::frame::Size;
use std::{
    fmt::Write,
    num::NonZeroU16,
    panic::{AssertUnwindSafe, catch_unwind},
};
use vt100::capture::{BasicFormattedCaptureRange, BasicFormattedCaptureState};

/// Lines of scroll-back in a snapshot.
const SCROLLBACK: usize = 500;
/// Largest snapshot, in bytes; a richer one is made plainer. Less than a message may have.
const MAX_SNAPSHOT: usize = 900 * 1024;
/// Longest window title, in characters.
const MAX_TITLE: usize = 200;
/// Private modes that the emulator does not know and a page must: auto-wrap, focus reports, alternate scroll, pixel
/// mouse reports. With the value after a reset.
const EXTRA_MODES: [(u16, bool); 4] = [(7, true), (1004, false), (1007, false), (1016, false)];

/// The emulator and how far it has come.
pub struct Screen {
    parser: vt100::Parser<Extras>,
    size: Size,
    parsed: u64,
}

/// What the emulator tells but does not keep.
struct Extras {
    title: String,
    title_changed: bool,
    modes: [bool; EXTRA_MODES.len()],
}

impl Screen {
    /// An empty screen at offset 0.
    pub fn new(size: Size) -> Self {
        Self { parser: parser(size, Extras::new()), size, parsed: 0 }
    }

    /// Offset up to which the output is in the picture.
    pub fn parsed(&self) -> u64 {
        self.parsed
    }

    /// Takes in the next bytes, except an unfinished sequence at their end. Returns how many were taken.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let ready = scan(bytes, |_| {});
        self.process(&bytes[..ready]);
        self.parsed += ready as u64;
        ready
    }

    /// Passes over bytes that will never be parsed whole: takes only what outlasts them. Like [`Self::feed`] it
    /// stops before an unfinished sequence, unless `all`.
    pub fn skip(&mut self, bytes: &[u8], all: bool) {
        let mut lasting = Vec::new();
        let ready = scan(bytes, |sequence| lasting.extend_from_slice(sequence));
        // Colours were changed in what is passed over; what comes next sets its own.
        lasting.extend_from_slice(b"\x1b[m");
        self.process(&lasting);
        self.parsed += if all { bytes.len() } else { ready } as u64;
    }

    /// Gives the screen another size. Lines are wrapped anew, as the pages' own emulator does; the emulator by itself would cut them.
    pub fn resize(&mut self, size: Size) {
        let (rows, cols) = cells(size);
        self.size = size;
        let screen = self.parser.screen();
        let rewrapped = catch_unwind(AssertUnwindSafe(|| rewrap(screen, cols.get())));
        let Ok(Some(text)) = rewrapped else { return self.guard(|parser| parser.set_size(rows, cols)) };
        let extras = std::mem::replace(self.parser.callbacks_mut(), Extras::new());
        self.parser = parser(size, extras);
        self.process(text.as_bytes());
    }

    /// Whether anything on it can be read.
    pub fn shows_text(&self) -> bool {
        !self.parser.screen().contents().trim().is_empty()
    }

    /// The window title.
    pub fn title(&self) -> &str {
        &self.parser.callbacks().title
    }

    /// True once after each change of the title.
    pub fn take_title_changed(&mut self) -> bool {
        std::mem::take(&mut self.parser.callbacks_mut().title_changed)
    }

    /// Bytes that begin with a reset and redraw scroll-back, screen, cursor and modes, at most 900 KiB.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let size = self.size;
        let screen = self.parser.screen();
        let drawn = catch_unwind(AssertUnwindSafe(|| draw(screen, size)));
        let mut out = drawn.unwrap_or_else(|_| {
            self.start_over();
            "\x1bc".into()
        });
        for ((mode, reset), now) in EXTRA_MODES.into_iter().zip(self.parser.callbacks().modes) {
            if now != reset {
                let _never_fails = write!(out, "\x1b[?{mode}{}", if now { 'h' } else { 'l' });
            }
        }
        out.into_bytes()
    }

    fn process(&mut self, bytes: &[u8]) {
        self.guard(|parser| parser.process(bytes));
    }

    fn guard(&mut self, work: impl FnOnce(&mut vt100::Parser<Extras>)) {
        if catch_unwind(AssertUnwindSafe(|| work(&mut self.parser))).is_err() {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        tracing::warn!("the terminal emulator failed on a program's output; its picture starts empty again");
        let old = self.parser.callbacks_mut();
        let extras = Extras {
            title: std::mem::take(&mut old.title),
            title_changed: old.title_changed,
            modes: old.modes,
        };
        self.parser = parser(self.size, extras);
    }
}

fn parser(size: Size, extras: Extras) -> vt100::Parser<Extras> {
    let (rows, cols) = cells(size);
    vt100::Parser::new_with_callbacks(rows, cols, SCROLLBACK, extras)
}

fn cells(size: Size) -> (NonZeroU16, NonZeroU16) {
    let size = size.clamped();
    (
        NonZeroU16::new(size.rows).unwrap_or(NonZeroU16::MIN),
        NonZeroU16::new(size.cols).unwrap_or(NonZeroU16::MIN),
    )
}

/// What draws a primary screen with its scroll-back and cursor on one of another size. Nothing if a program has its own picture there: an
/// alternate screen, or text below the cursor; it draws anew when it is told the size.
fn rewrap(screen: &vt100::Screen, new_cols: u16) -> Option<String> {
    let (rows, cols) = screen.size();
    let (rows, cols) = (rows.get(), cols.get());
    let (row, col) = screen.cursor_position();
    let is_blank = |text: String| text.trim().is_empty();
    // The cursor's line may go on some rows below it, and have begun some rows above.
    let last = (row..rows).find(|row| !screen.row_wrapped(*row))?;
    if screen.alternate_screen() || !screen.rows(0, cols).skip(usize::from(last) + 1).all(is_blank) {
        return None;
    }
    let mut out = Bounded(String::new());
    let mut state = BasicFormattedCaptureState::new();
    let all = BasicFormattedCaptureRange::Full(&mut state);
    screen.write_contents_formatted_basic(&mut LineEnds(&mut out), all).ok()?;
    let mut text = out.0.as_str();
    for _below in last + 1..rows {
        text = text.strip_suffix("\r\n")?;
    }
    // Where the cursor is in its line, and where that line ends.
    let above = (0..row).rev().take_while(|above| screen.row_wrapped(*above)).count();
    let written = (0..cols).rev().find(|at| screen.cell(last, *at).is_some_and(|cell| cell.has_contents()));
    let at = above * usize::from(cols) + usize::from(col);
    let end =
        (above + usize::from(last - row)) * usize::from(cols) + written.map_or(0, |at| usize::from(at) + 1);
    let new_cols = usize::from(new_cols);
    let (last_row, wanted_row) = (end.saturating_sub(1) / new_cols, at / new_cols);
    let mut text = format!("{text}\x1b[m\r");
    let mut go = |count: usize, to: char| {
        if count > 0 {
            let _never_fails = write!(text, "\x1b[{count}{to}");
        }
    };
    go(last_row.saturating_sub(wanted_row), 'A');
    go(wanted_row.saturating_sub(last_row), 'B');
    go(at % new_cols, 'C');
    text.push_str(&screen.attributes_formatted());
    text.push_str(&screen.input_mode_formatted());
    text.push_str(if screen.hide_cursor() { "\x1b[?25l" } else { "" });
    Some(text)
}

/// The picture as rich as fits: with scroll-back, else the screen alone, else its text, else nothing.
fn draw(screen: &vt100::Screen, size: Size) -> String {
    let mut out = Bounded(String::from("\x1bc"));
    if out.scrollback_and_primary(screen, size).is_err() {
        out = Bounded(String::from("\x1bc"));
    }
    if screen.alternate_screen() {
        out.0.push_str("\x1b[?1049h");
    }
    let state = screen.state_formatted();
    let plain = || screen.contents().replace('\n', "\r\n") + &screen.input_mode_formatted();
    if out.write_str(&state).is_err() {
        out = Bounded(String::from("\x1bc"));
        if screen.alternate_screen() {
            out.0.push_str("\x1b[?1049h");
        }
        if out.write_str(&state).is_err() && out.write_str(&plain()).is_err() {
            out.0.push_str(&screen.input_mode_formatted());
        }
    }
    out.0
}

/// Text that refuses to grow beyond the largest snapshot.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_SNAPSHOT {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

impl Bounded {
    /// Lines above the screen and, under an alternate screen, the primary one.
    fn scrollback_and_primary(&mut self, screen: &vt100::Screen, size: Size) -> std::fmt::Result {
        if !screen.alternate_screen() {
            return self.lines(screen);
        }
        // The emulator shows only one of its two screens: switch a copy of it.
        let (rows, cols) = cells(size);
        let mut copy = vt100::Parser::new(rows, cols, 0);
        *copy.screen_mut() = screen.clone();
        copy.process(b"\x1b[?47l");
        self.lines(copy.screen())?;
        self.write_str(&copy.screen().contents_formatted())
    }

    /// All lines, as a stream that scrolls the older ones out of the screen. (The screen itself is then drawn over it.)
    fn lines(&mut self, screen: &vt100::Screen) -> std::fmt::Result {
        if screen.scrollback_len() == 0 {
            return Ok(());
        }
        let mut state = BasicFormattedCaptureState::new();
        screen.write_contents_formatted_basic(
            &mut LineEnds(&mut *self),
            BasicFormattedCaptureRange::Full(&mut state),
        )?;
        self.write_str("\x1b[m")
    }
}

/// A line feed alone would not go back to the first column.
struct LineEnds<'a>(&'a mut Bounded);

impl Write for LineEnds<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for (i, line) in text.split('\n').enumerate() {
            if i > 0 {
                self.0.write_str("\r\n")?;
            }
            self.0.write_str(line)?;
        }
        Ok(())
    }
}

// === impl Extras ===

impl Extras {
    fn new() -> Self {
        Self { title: String::new(), title_changed: false, modes: EXTRA_MODES.map(|(_, reset)| reset) }
    }
}

impl vt100::Callbacks for Extras {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        let text = String::from_utf8_lossy(title);
        let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_TITLE).collect();
        self.title_changed |= text != self.title;
        self.title = text;
    }

    fn unhandled_csi(
        &mut self,
        _: &mut vt100::Screen,
        first: Option<u8>,
        _: Option<u8>,
        params: &[&[u16]],
        last: char,
    ) {
        if first != Some(b'?') || !matches!(last, 'h' | 'l') {
            return;
        }
        for param in params {
            if let Some(i) = EXTRA_MODES.iter().position(|(mode, _)| *param == [*mode]) {
                self.modes[i] = last == 'h';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: Size = Size { cols: 40, rows: 10 };

    fn screen(bytes: &[u8]) -> Screen {
        let mut screen = Screen::new(SIZE);
        screen.feed(bytes);
        screen
    }

    fn redrawn(snapshot: &[u8]) -> vt100::Parser {
        let (rows, cols) = cells(SIZE);
        let mut parser = vt100::Parser::new(rows, cols, 1000);
        parser.process(snapshot);
        parser
    }

    #[test]
    fn a_snapshot_redraws_screen_cursor_modes_and_scrollback() {
        let lines: String = (1..=700).map(|n| format!("\x1b[3{}mline {n}\r\n", n % 8)).collect();
        let mut s = screen(
            format!("{lines}\x1b[?2004h\x1b[?1h\x1b[?1006h\x1b[?1002h\x1b[?1004h\x1b[1m$ ").as_bytes(),
        );
        let snapshot = s.snapshot();
        assert!(snapshot.starts_with(b"\x1bc"));
        assert!(snapshot.ends_with(b"\x1b[?1004h"));
        let mut p = redrawn(&snapshot);
        assert_eq!(p.screen().contents_formatted(), s.parser.screen().contents_formatted());
        assert_eq!(p.screen().input_mode_formatted(), s.parser.screen().input_mode_formatted());
        assert_eq!(p.screen().scrollback_len(), SCROLLBACK);
        p.screen_mut().set_scrollback(SCROLLBACK);
        assert!(p.screen().contents().starts_with("line 192\n"), "{}", p.screen().contents());
    }

    #[test]
    fn both_screens_come_back() {
        let mut s = screen(b"shell$ vim\r\n\x1b[?1049h\x1b[2J\x1b[5;5Hediting\x1b[?25l");
        let mut p = redrawn(&s.snapshot());
        assert!(p.screen().alternate_screen() && p.screen().hide_cursor());
        assert!(p.screen().contents().contains("editing"));
        p.process(b"\x1b[?1049l");
        assert_eq!(p.screen().contents(), "shell$ vim");
        assert_eq!(p.screen().cursor_position(), (1, 0));
    }

    #[test]
    fn lines_survive_a_narrow_window() {
        let long = "0123456789".repeat(8);
        let lines: String = (1..=30).map(|n| format!("\x1b[31mline {n}\x1b[m {long}\r\n")).collect();
        let mut s = screen(format!("{lines}\x1b[?2004h\x1b]0;title\x07$ cat {long} \x1b[1m").as_bytes());
        // All lines, whole.
        let whole = |s: &mut Screen| {
            let (mut text, mut state) = (String::new(), BasicFormattedCaptureState::new());
            let all = BasicFormattedCaptureRange::Full(&mut state);
            s.parser.screen().write_contents_formatted_basic(&mut text, all).unwrap();
            let plain: String = vt100::capture::basic_formatted_to_plain(&text).collect();
            plain.trim_end().to_owned()
        };
        let before = (whole(&mut s), s.parser.screen().cursor_position());
        assert!(before.0.contains(&format!("line 7 {long}\n")), "{}", before.0);
        for size in
            [Size { cols: 17, rows: 5 }, Size { cols: 300, rows: 40 }, Size { cols: 1, rows: 3 }, SIZE]
        {
            s.resize(size);
            // What is typed goes on where it was.
            s.feed(b"x\x08 \x08");
        }
        assert_eq!((whole(&mut s), s.parser.screen().cursor_position()), before);
        assert!(s.parser.screen().bracketed_paste() && s.title() == "title" && s.parser.screen().bold());
        // A cursor within its line stays at its letter.
        let mut s = screen(format!("$ {long}\x1b[A").as_bytes());
        s.resize(Size { cols: 30, rows: 10 });
        s.feed(b"X");
        assert_eq!(whole(&mut s), format!("$ {}X{}", &long[..40], &long[41..]));
        // What a program has drawn below the cursor is its own affair.
        let mut s = screen(b"menu\r\none\r\ntwo\x1b[H");
        s.resize(Size { cols: 10, rows: 10 });
        assert_eq!((whole(&mut s).as_str(), s.parser.screen().cursor_position()), ("menu\none\ntwo", (0, 0)));
    }

    #[test]
    fn an_unfinished_sequence_or_character_waits() {
        let mut s = Screen::new(SIZE);
        assert_eq!(s.feed(b"ab\x1b[3"), 2);
        assert_eq!(s.feed(b"\x1b[31m\xe2\x82"), 5);
        assert_eq!(s.parsed(), 7);
    }

    #[test]
    fn skipping_keeps_title_and_modes() {
        let mut s = Screen::new(SIZE);
        let flood: String = (0..5000).map(|n| format!("\x1b[32m{n}\r\n")).collect();
        let bytes = format!("{flood}\x1b]0;busy\x07\x1b[?2004h{flood}");
        s.skip(bytes.as_bytes(), false);
        assert_eq!(s.parsed(), bytes.len() as u64);
        assert_eq!(s.title(), "busy");
        assert!(s.take_title_changed() && !s.take_title_changed());
        assert!(s.parser.screen().bracketed_paste());
    }

    #[test]
    fn the_richest_screen_fits_into_a_message() {
        let mut s = Screen::new(Size { cols: 500, rows: 300 });
        let cell = |n: usize| {
            format!("\x1b[1;3;4;38;2;{};{};7;48;2;9;9;{}mé\u{301}\u{302}", n % 256, n % 199, n % 97)
        };
        for n in 0..500 * 300 {
            s.feed(cell(n).as_bytes());
        }
        let snapshot = s.snapshot();
        assert!(snapshot.starts_with(b"\x1bc") && snapshot.len() <= MAX_SNAPSHOT + 100, "{}", snapshot.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn hostile_output_never_panics(
            pieces in proptest::collection::vec(prop_oneof![
                "\x1b\\[[?]?[0-9;]{0,9}[@-~]", "[ -~é漢\u{301}\r\n\t\u{8}]{0,60}", "\x1b[78cMD=>]",
                proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| String::from_utf8_lossy(&b).into_owned()),
            ], 0..60),
            sizes in proptest::collection::vec((0u16..600, 0u16..400), 0..4),
        ) {
            let mut s = Screen::new(SIZE);
            for (i, piece) in pieces.iter().enumerate() {
                s.feed(piece.as_bytes());
                if let Some((cols, rows)) = sizes.get(i / 10).filter(|_| i % 10 == 9) {
                    s.resize(Size { cols: *cols, rows: *rows });
                }
            }
            prop_assert!(s.snapshot().starts_with(b"\x1bc"));
        }
    }
}
