//! Which keys of a focused terminal belong to the page and which to the program in it. Called for every key by
//! `term::view`; the sheet that `?` opens (`ui::keyboard_sheet`) tells people the same.

/// A direction on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Left,
    Right,
    Up,
    Down,
}

/// What the page does instead of sending a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Copy the selection.
    Copy,
    /// Let the browser paste.
    Paste,
    /// Open the search box.
    Search,
    /// Put the focus out of the terminal, on its tab.
    Leave,
    /// Put the focus into the pane on that side.
    Move(Direction),
    /// Put the focus into the next area (back: the one before).
    NextArea { back: bool },
    /// A new terminal on the same node.
    NewTerminal,
    /// Split to the right, or downwards.
    Split { down: bool },
    /// Letters larger (1), smaller (-1) or as they were (0).
    FontSize(i8),
}

/// A key as the browser tells it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Key<'a> {
    /// `KeyboardEvent.key`.
    pub key: &'a str,
    /// `KeyboardEvent.code`: the place on the keyboard, for letters that Shift or a layout changes.
    pub code: &'a str,
    pub ctrl: bool,
    pub shift: bool,
    pub alt: bool,
    pub meta: bool,
}

/// What the terminal looks like when a key is pressed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Situation {
    /// Text is selected.
    pub selection: bool,
    /// A full-screen program (vim, htop) runs, which has a use for F6.
    pub full_screen: bool,
}

/// The page's own action for a key; `None`: it goes to the program.
pub fn action(key: Key<'_>, now: Situation) -> Option<Action> {
    use Action::*;
    let Key { ctrl, shift, alt, meta, .. } = key;
    if key.key == "F6" && !ctrl && !alt && !meta && !now.full_screen {
        return Some(NextArea { back: shift });
    }
    // A Mac's Command key never reaches a program.
    if meta && !ctrl && !alt {
        return match key.key {
            "c" | "C" if now.selection => Some(Copy),
            "v" | "V" => Some(Paste),
            _ => None,
        };
    }
    if key.key == "Insert" && !alt && ctrl != shift {
        return if ctrl { now.selection.then_some(Copy) } else { Some(Paste) };
    }
    if !ctrl || alt {
        return None;
    }
    if !shift {
        return (now.selection && key.key.eq_ignore_ascii_case("c")).then_some(Copy);
    }
    match (key.key, key.code) {
        ("Escape", _) => Some(Leave),
        ("ArrowLeft", _) => Some(Move(Direction::Left)),
        ("ArrowRight", _) => Some(Move(Direction::Right)),
        ("ArrowUp", _) => Some(Move(Direction::Up)),
        ("ArrowDown", _) => Some(Move(Direction::Down)),
        ("Enter", _) => Some(NewTerminal),
        ("C" | "c", _) => Some(Copy),
        ("V" | "v", _) => Some(Paste),
        ("F" | "f", _) => Some(Search),
        ("E" | "e", _) => Some(Split { down: false }),
        ("O" | "o", _) => Some(Split { down: true }),
        (_, "Equal" | "NumpadAdd") => Some(FontSize(1)),
        (_, "Minus" | "NumpadSubtract") => Some(FontSize(-1)),
        (_, "Digit0" | "Numpad0") => Some(FontSize(0)),
        _ => None,
    }
}

/// What a letter becomes while the Ctrl key of the key bar is held: `c` is 3, as on a keyboard.
pub fn with_ctrl(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [c @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')] => Some(c & 0x1f),
        [b' '] => Some(0),
        [b'?'] => Some(0x7f),
        _ => None,
    }
}

/// True for what a terminal tells a program of the mouse (xterm's control sequences, "Mouse Tracking").
pub fn is_mouse_report(text: &str) -> bool {
    text.starts_with("\x1b[<") || text.starts_with("\x1b[M")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctrl(key: &str) -> Key<'_> {
        Key { key, ctrl: true, ..Key::default() }
    }

    fn ctrl_shift(key: &str) -> Key<'_> {
        Key { shift: true, ..ctrl(key) }
    }

    #[test]
    fn ctrl_c_copies_only_what_is_selected() {
        assert_eq!(action(ctrl("c"), Situation::default()), None);
        assert_eq!(
            action(ctrl("c"), Situation { selection: true, ..Default::default() }),
            Some(Action::Copy)
        );
        assert_eq!(action(ctrl_shift("C"), Situation::default()), Some(Action::Copy));
    }

    #[test]
    fn there_is_a_way_out() {
        assert_eq!(action(ctrl_shift("Escape"), Situation::default()), Some(Action::Leave));
        let down = Some(Action::Move(Direction::Down));
        assert_eq!(action(ctrl_shift("ArrowDown"), Situation::default()), down);
        // Tab and plain Escape are the shell's.
        assert_eq!(action(Key { key: "Tab", ..Key::default() }, Situation::default()), None);
        assert_eq!(action(Key { key: "Escape", ..Key::default() }, Situation::default()), None);
    }

    #[test]
    fn f6_belongs_to_a_full_screen_program() {
        let f6 = Key { key: "F6", ..Key::default() };
        assert_eq!(action(f6, Situation::default()), Some(Action::NextArea { back: false }));
        assert_eq!(action(f6, Situation { full_screen: true, ..Default::default() }), None);
    }

    #[test]
    fn altgr_is_never_taken() {
        // AltGr is Ctrl+Alt on Windows; Polish AltGr+C is ć.
        let altgr = Key { alt: true, ..ctrl_shift("C") };
        assert_eq!(action(altgr, Situation { selection: true, ..Default::default() }), None);
    }

    #[test]
    fn insert_copies_and_pastes() {
        let selected = Situation { selection: true, ..Default::default() };
        assert_eq!(action(ctrl("Insert"), selected), Some(Action::Copy));
        let paste = Key { key: "Insert", shift: true, ..Key::default() };
        assert_eq!(action(paste, Situation::default()), Some(Action::Paste));
    }

    #[test]
    fn the_mouse_is_told_from_keys() {
        assert!(is_mouse_report("\x1b[<64;10;5M") && is_mouse_report("\x1b[M !!"));
        for key in ["\x1b[A", "\x1bOA", "\x1b[1;5D", "\x1b", "M"] {
            assert!(!is_mouse_report(key), "{key:?}");
        }
    }

    #[test]
    fn the_ctrl_key_of_the_key_bar() {
        assert_eq!(with_ctrl("c"), Some(3));
        assert_eq!(with_ctrl("["), Some(27));
        assert_eq!(with_ctrl("é"), None);
        assert_eq!(with_ctrl("ab"), None);
    }
}
