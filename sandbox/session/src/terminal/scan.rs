//! Finds where escape sequences begin and end in terminal output (ECMA-48, xterm's ctlseqs) at memory speed, without
//! interpreting them. Used to cut output where a parser is at rest, and to pick mode changes out of output
//! that nobody will ever parse whole.

use memchr::{memchr, memchr2};

/// Longer strings (OSC, DCS) are not waited for.
const MAX_STRING: usize = 64 * 1024;

/// Calls `keep` for every complete sequence that sets something which outlasts the screen's content: private modes,
/// scroll region, cursor style, keypad mode, full reset, title. Returns the length of the part that was looked at:
/// all, or all up to a sequence or character that is not complete yet.
pub fn scan(bytes: &[u8], mut keep: impl FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some(found) = memchr(0x1b, &bytes[at..]) {
        let start = at + found;
        let Some((len, lasting)) = sequence(&bytes[start..]) else {
            return if bytes.len() - start > MAX_STRING { bytes.len() } else { start };
        };
        if lasting {
            keep(&bytes[start..start + len]);
        }
        at = start + len;
    }
    bytes.len() - unfinished_char(bytes)
}

/// Length of the sequence that begins `bytes` (with ESC), and whether it sets something lasting; `None` if it
/// is not complete.
fn sequence(bytes: &[u8]) -> Option<(usize, bool)> {
    match *bytes.get(1)? {
        b'[' => csi(bytes),
        b']' => {
            let len = string(bytes)?;
            Some((len, bytes.starts_with(b"\x1b]0;") || bytes.starts_with(b"\x1b]2;")))
        }
        b'P' | b'X' | b'^' | b'_' => Some((string(bytes)?, false)),
        b'=' | b'>' | b'c' => Some((2, true)),
        // A new ESC ends the sequence.
        0x1b => Some((1, false)),
        0x20..=0x2f => {
            let end = bytes[1..].iter().position(|b| !(0x20..=0x2f).contains(b))?;
            Some((end + 2, false))
        }
        _ => Some((2, false)),
    }
}

fn csi(bytes: &[u8]) -> Option<(usize, bool)> {
    let end = 2 + bytes[2..].iter().position(|b| !(0x20..=0x3f).contains(b))?;
    let (first, last) = (bytes.get(2), bytes[end]);
    if last == 0x1b {
        return Some((end, false));
    }
    let lasting = match last {
        b'h' | b'l' => first == Some(&b'?'),
        b'r' => first != Some(&b'?'),
        b'q' => bytes[end - 1] == b' ',
        _ => false,
    };
    Some((end + 1, lasting))
}

/// Length of an OSC, DCS, SOS, PM or APC string with its end (BEL or ESC \; CAN, SUB and other ESC cut it short).
fn string(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let end = at + memchr2(0x07, 0x1b, &bytes[at..])?;
        if let Some(cut) = bytes[at..end].iter().position(|b| matches!(b, 0x18 | 0x1a)) {
            return Some(at + cut + 1);
        }
        match (bytes[end], bytes.get(end + 1)) {
            (0x07, _) if bytes[1] == b']' => return Some(end + 1),
            // BEL ends only OSC strings.
            (0x07, _) => at = end + 1,
            (_, Some(b'\\')) => return Some(end + 2),
            (_, Some(_)) => return Some(end),
            (_, None) => return None,
        }
    }
}

/// Number of bytes at the end that begin a UTF-8 character without finishing it: 0 to 3.
pub fn unfinished_char(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let need = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if need > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(bytes: &[u8]) -> (usize, Vec<String>) {
        let mut found = Vec::new();
        let len = scan(bytes, |s| found.push(String::from_utf8_lossy(s).into_owned()));
        (len, found)
    }

    #[test]
    fn lasting_sequences_are_found_and_others_passed() {
        let text = b"a\x1b[31mred\x1b[?2004h\x1b]0;title\x07x\x1b]2;t2\x1b\\\x1b=\x1b[2;5r\x1b[4 q\x1b(B\x1bPq\x07sixel\x1b\\z";
        let (len, found) = kept(text);
        assert_eq!(len, text.len());
        assert_eq!(
            found,
            ["\x1b[?2004h", "\x1b]0;title\x07", "\x1b]2;t2\x1b\\", "\x1b=", "\x1b[2;5r", "\x1b[4 q"]
        );
    }

    #[test]
    fn stops_before_what_is_not_complete() {
        for tail in ["\x1b", "\x1b[", "\x1b[?200", "\x1b]0;ti", "\x1b]0;ti\x1b", "\x1bP1;2", "\x1b("] {
            assert_eq!(scan(format!("abc{tail}").as_bytes(), |_| {}), 3, "{tail:?}");
        }
        assert_eq!(scan(&"ab€".as_bytes()[..4], |_| {}), 2);
        assert_eq!(scan("ab€".as_bytes(), |_| {}), 5);
        // A byte that can't begin a character is no reason to wait.
        assert_eq!(scan(b"ab\xff", |_| {}), 3);
        // A string without end is given up some time.
        let mut endless = b"\x1b]0;".to_vec();
        endless.resize(MAX_STRING + 100, b'x');
        assert_eq!(scan(&endless, |_| {}), endless.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned_without_panic(bytes in proptest::collection::vec(
            prop_oneof![Just(0x1bu8), Just(b'['), Just(b']'), Just(b'?'), Just(b'h'), Just(0x07), any::<u8>()], 0..300)) {
            let (len, found) = kept(&bytes);
            prop_assert!(len <= bytes.len());
            prop_assert!(found.iter().all(|s| s.starts_with('\x1b')));
        }
    }
}
