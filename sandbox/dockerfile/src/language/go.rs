//! How Go writes and reads things: `%q`, `%v` of a list, durations. Docker's messages and history entries are made with them, and
//! learners compare ours with those in books.

use std::fmt::Write;

/// Go's `%q` of a string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => _ = write!(out, "\\x{:02x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `%q` of a list of strings: `["a" "b"]`.
pub fn quote_list<S: AsRef<str>>(list: &[S]) -> String {
    let items: Vec<String> = list.iter().map(|s| quote(s.as_ref())).collect();
    format!("[{}]", items.join(" "))
}

/// Go's `%v` of a list of strings: `[a b]`.
pub fn list<S: AsRef<str>>(list: &[S]) -> String {
    let items: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(" "))
}

/// `time.ParseDuration`, in nanoseconds.
///
/// # Errors
/// In Go's words: `time: invalid duration "x"`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            _ => return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text))),
        };
        total += number * scale;
        rest = next;
    }
    if total > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

/// `time.Duration.String`: `1m30s`, `1.5s`, `0s`.
pub fn format_duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".into();
    }
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let value = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match value {
        0..1_000 => format!("{value}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(value, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(value, 1_000_000)),
        _ => {
            let minutes = value / 60_000_000_000;
            let seconds = fraction(value % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `filepath.Clean` for slash-separated paths.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if !absolute => parts.push(".."),
                Some(_) => _ = parts.pop(),
                None => {}
            },
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanoseconds) in
            [("30s", 30_000_000_000), ("1m30s", 90_000_000_000), ("1.5s", 1_500_000_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Ok(nanoseconds));
        }
        assert_eq!(parse_duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert_eq!(parse_duration("x").unwrap_err(), "time: invalid duration \"x\"");
        assert_eq!(parse_duration("3y").unwrap_err(), "time: unknown unit \"y\" in duration \"3y\"");
        for (nanoseconds, text) in
            [(0, "0s"), (90_000_000_000, "1m30s"), (1_500_000, "1.5ms"), (3_600_000_000_000, "1h0m0s")]
        {
            assert_eq!(format_duration(nanoseconds), text);
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in
            [("", "."), ("a/../..", ".."), ("/../a//b/", "/a/b"), ("./x/.", "x"), ("../../x", "../../x")]
        {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn lists_look_as_in_docker_history() {
        assert_eq!(quote_list(&["cat", "o\"ut\n"]), r#"["cat" "o\"ut\n"]"#);
        assert_eq!(list(&["/a", "/b"]), "[/a /b]");
    }
}
