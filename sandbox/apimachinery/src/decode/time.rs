//! Times in bodies: RFC 3339 of any offset in, UTC out; errors in the words of Go's `time.Parse`.

use jiff::Timestamp;

const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

/// A `metav1.Time` as the API server writes it: seconds, UTC.
pub fn canonical_time(text: &str) -> Result<String, String> {
    let time = parse(text)?;
    Ok(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A `metav1.MicroTime` as the API server writes it: microseconds, UTC.
pub fn canonical_micro_time(text: &str) -> Result<String, String> {
    let time = parse(text)?;
    Ok(time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

fn parse(text: &str) -> Result<Timestamp, String> {
    shape(text)?;
    text.parse().map_err(|_| format!("parsing time {text:?}: day out of range"))
}

/// Checks the form piece by piece, as Go does, to name the piece that fails.
fn shape(text: &str) -> Result<(), String> {
    let pieces = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"];
    let mut rest = text;
    let fail = |rest: &str, piece: &str| {
        Err(format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {piece:?}"))
    };
    for piece in pieces {
        let digits = piece.as_bytes()[0].is_ascii_digit();
        let fits = match rest.as_bytes().get(..piece.len()) {
            Some(start) if digits => start.iter().all(u8::is_ascii_digit),
            Some(start) => start == piece.as_bytes(),
            None => false,
        };
        if !fits {
            return fail(rest, piece);
        }
        rest = &rest[piece.len()..];
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let offset = rest.as_bytes();
    let numeric = offset.len() == 6
        && matches!(offset[0], b'+' | b'-')
        && offset[3] == b':'
        && [1, 2, 4, 5].iter().all(|at| offset[*at].is_ascii_digit());
    if rest == "Z" || numeric { Ok(()) } else { fail(rest, "Z07:00") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_utc() {
        assert_eq!(canonical_time("2026-11-20T13:03:47Z").unwrap(), "2026-11-20T13:03:47Z");
        assert_eq!(canonical_time("2026-11-20T13:03:47.9+02:00").unwrap(), "2026-11-20T11:03:47Z");
        assert_eq!(canonical_micro_time("2026-11-20T13:03:47.5Z").unwrap(), "2026-11-20T13:03:47.500000Z");
    }

    #[test]
    fn errors_are_gos() {
        for (text, rest, piece) in [
            ("", "", "2006"),
            ("2026/11/20", "/11/20", "-"),
            ("2026-11-20", "", "T"),
            ("2026-11-20T10:00:00", "", "Z07:00"),
            ("2026-11-20 10:00:00Z", " 10:00:00Z", "T"),
        ] {
            let message = format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {piece:?}");
            assert_eq!(canonical_time(text).unwrap_err(), message);
        }
        assert!(canonical_time("2026-13-40T10:00:00Z").is_err());
    }
}
