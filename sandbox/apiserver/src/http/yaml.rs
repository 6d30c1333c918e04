//! Trees as YAML, written as upstream writes them (the fork of go-yaml v2 that sigs.k8s.io/yaml has): which texts are in quotes, where
//! long ones are broken, in which order keys stand. Pure.

use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::iter::Peekable;

/// A text that goes on beyond this column is broken at its next space.
const WIDTH: usize = 80;
/// The longest key of a line.
const LONGEST_KEY: usize = 128;

/// A tree as a document.
pub fn written(tree: &Value) -> String {
    let mut out = Writer { text: String::new(), column: 0 };
    out.node(tree, 0);
    out.text
}

struct Writer {
    text: String,
    column: usize,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// A value where a line has only its indentation yet.
    fn node(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) if !map.is_empty() => self.map(map, indent),
            Value::Array(list) if !list.is_empty() => self.list(list, indent),
            simple => {
                self.simple(simple, indent + 2);
                self.text.push('\n');
            }
        }
    }

    fn map(&mut self, map: &Map<String, Value>, indent: usize) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_by(|a, b| natural(a, b));
        for (number, key) in keys.into_iter().enumerate() {
            if number > 0 {
                self.text.extend(std::iter::repeat_n(' ', indent));
            }
            self.column = indent;
            if key.len() > LONGEST_KEY || key.contains('\n') {
                self.put("? ");
                self.scalar(key, style(key, false), true, indent + 2);
                self.line(indent);
            } else {
                self.scalar(key, style(key, true), false, indent + 2);
            }
            self.put(":");
            self.below(&map[key], indent);
        }
    }

    /// The value of a key.
    fn below(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                self.line(indent + 2);
                self.map(map, indent + 2);
            }
            // Lists stand below their keys, not to the right of them.
            Value::Array(list) if !list.is_empty() => {
                self.line(indent);
                self.list(list, indent);
            }
            simple => {
                self.put(" ");
                self.simple(simple, indent + 2);
                self.text.push('\n');
            }
        }
    }

    fn list(&mut self, list: &[Value], indent: usize) {
        for (number, value) in list.iter().enumerate() {
            if number > 0 {
                self.text.extend(std::iter::repeat_n(' ', indent));
            }
            self.column = indent;
            self.put("- ");
            self.node(value, indent + 2);
        }
    }

    fn simple(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(text) => self.scalar(text, style(text, false), true, indent),
            Value::Object(_) => self.put("{}"),
            Value::Array(_) => self.put("[]"),
            other => self.put(&other.to_string()),
        }
    }

    /// A text; `breaks`: it may go on in the next line.
    fn scalar(&mut self, text: &str, style: Style, breaks: bool, indent: usize) {
        match style {
            Style::Plain => self.folded(text, breaks, indent, false),
            Style::Single => {
                self.put("'");
                self.folded(text, breaks, indent, true);
                self.put("'");
            }
            Style::Double => self.double(text, breaks, indent),
            Style::Literal => self.literal(text, indent),
        }
    }

    fn folded(&mut self, text: &str, breaks: bool, indent: usize, quoted: bool) {
        let mut after_space = false;
        let mut rest = text.chars().enumerate().peekable();
        while let Some((at, c)) = rest.next() {
            let next = rest.peek().map(|(_, c)| *c);
            let is_inside = !quoted || (at > 0 && next.is_some());
            if c == ' ' && breaks && !after_space && self.column > WIDTH && is_inside && next != Some(' ') {
                self.line(indent);
            } else if c == '\'' && quoted {
                self.put("''");
            } else {
                self.text.push(c);
                self.column += 1;
            }
            after_space = c == ' ';
        }
    }

    fn double(&mut self, text: &str, breaks: bool, indent: usize) {
        self.put("\"");
        let mut after_space = false;
        let mut rest = text.chars().enumerate().peekable();
        while let Some((at, c)) = rest.next() {
            let next = rest.peek().map(|(_, c)| *c);
            if c == ' ' && breaks && !after_space && self.column > WIDTH && at > 0 && next.is_some() {
                self.line(indent);
                if next == Some(' ') {
                    self.put("\\");
                }
            } else if is_printable(c) && !matches!(c, '"' | '\\' | '\u{feff}') {
                self.text.push(c);
                self.column += 1;
            } else {
                self.put(&escaped(c));
            }
            after_space = c == ' ';
        }
        self.put("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        if !text.ends_with('\n') {
            self.put("-");
        } else if text.ends_with("\n\n") || text == "\n" {
            self.put("+");
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.text.push('\n');
            if !line.is_empty() {
                self.text.extend(std::iter::repeat_n(' ', indent));
                self.text.push_str(line);
            }
        }
    }
}

/// A character as it stands between double quotes.
fn escaped(c: char) -> String {
    match c {
        '\0' => "\\0".into(),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\u{b}' => "\\v".into(),
        '\u{c}' => "\\f".into(),
        '\r' => "\\r".into(),
        '\u{1b}' => "\\e".into(),
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\u{85}' => "\\N".into(),
        '\u{a0}' => "\\_".into(),
        '\u{2028}' => "\\L".into(),
        '\u{2029}' => "\\P".into(),
        c if (c as u32) <= 0xff => format!("\\x{:02X}", c as u32),
        c if (c as u32) <= 0xffff => format!("\\u{:04X}", c as u32),
        c => format!("\\U{:08X}", c as u32),
    }
}

/// `is_printable` of go-yaml, which knows no planes above the first.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// `stringv` of the encoder, then `yaml_emitter_select_scalar_style`.
fn style(text: &str, is_key: bool) -> Style {
    let found = Analysis::of(text);
    let wanted = if text.contains('\n') {
        Style::Literal
    } else if means_text(text) {
        Style::Plain
    } else {
        Style::Double
    };
    match wanted {
        Style::Literal if !found.block || is_key => Style::Double,
        Style::Plain if found.plain => Style::Plain,
        Style::Plain if found.single => Style::Single,
        Style::Plain => Style::Double,
        other => other,
    }
}

/// Which styles a text can be written in (`yaml_emitter_analyze_scalar`).
struct Analysis {
    plain: bool,
    single: bool,
    block: bool,
}

impl Analysis {
    fn of(text: &str) -> Self {
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut space_break, mut break_space) = (false, false, false);
        let (mut before, mut rest) = (None, text.chars().peekable());
        while let Some(c) = rest.next() {
            indicators |= indicates(before, c, &mut rest);
            special |= !is_printable(c);
            space_break |= before == Some(' ') && c == '\n';
            break_space |= before == Some('\n') && c == ' ';
            before = Some(c);
        }
        let edges = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
        let single = !break_space && !space_break && !special;
        Self {
            plain: single && !edges && !indicators && !text.contains('\n'),
            single,
            block: !space_break && !special && !text.ends_with(' '),
        }
    }
}

/// Whether a character would mean something outside of quotes.
fn indicates(before: Option<char>, c: char, rest: &mut Peekable<std::str::Chars<'_>>) -> bool {
    let mut ends = || rest.peek().is_none_or(|next| matches!(next, ' ' | '\t' | '\n' | '\r'));
    match (before, c) {
        (
            None,
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`',
        ) => true,
        (None, '?' | ':' | '-') | (Some(_), ':') => ends(),
        (Some(before), '#') => matches!(before, ' ' | '\t' | '\n'),
        _ => false,
    }
}

/// Whether a text without quotes is read as that text (`resolve`).
fn means_text(text: &str) -> bool {
    const OTHERS: [&str; 34] = [
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On",
        "ON", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", ".nan", ".NaN",
        ".NAN", ".inf", ".Inf", ".INF", "<<",
    ];
    let signed = text.strip_prefix(['+', '-']).unwrap_or(text);
    if OTHERS.contains(&text) || matches!(signed, ".inf" | ".Inf" | ".INF") {
        return false;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return true;
    }
    !(is_whole(&signed.replace('_', ""))
        || is_float(&signed.replace('_', ""))
        || is_sexagesimal(signed)
        || is_time(text))
}

/// As Go's `strconv.ParseInt` reads one of any base.
fn is_whole(digits: &str) -> bool {
    let of = |digits: &str, radix: u32| {
        digits.chars().all(|c| c.is_digit(radix)) && u64::from_str_radix(digits, radix).is_ok()
    };
    let lower = digits.to_ascii_lowercase();
    match lower.as_bytes() {
        [b'0', b'x', ..] => of(&lower[2..], 16),
        [b'0', b'b', ..] => of(&lower[2..], 2),
        [b'0', b'o', ..] => of(&lower[2..], 8),
        [b'0', _, ..] => of(&lower[1..], 8),
        _ => of(&lower, 10),
    }
}

fn is_float(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) =
        lower.split_once('e').map_or((&*lower, None), |(one, other)| (one, Some(other)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && digits(fraction),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => !mantissa.is_empty() && digits(mantissa),
    };
    let is_exponent = |text: &str| {
        let number = text.strip_prefix(['+', '-']).unwrap_or(text);
        !number.is_empty() && digits(number)
    };
    is_mantissa && exponent.is_none_or(is_exponent)
}

/// `1:30`, a number to the base 60 for older readers.
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let first = parts.next().unwrap_or_default();
    let starts = first.starts_with(|c: char| c.is_ascii_digit()) && digits(&first.replace('_', ""));
    let rest: Vec<&str> = parts.collect();
    let Some((last, between)) = rest.split_last() else { return false };
    let is_part =
        |part: &str| digits(part) && (part.len() == 1 || part.len() == 2 && part.as_bytes()[0] < b'6');
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    starts
        && between.iter().all(|part| is_part(part))
        && is_part(last)
        && fraction.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// A day, or a time of one, as go-yaml takes them.
fn is_time(text: &str) -> bool {
    let (day, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let number = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts: Vec<&str> = day.split('-').collect();
    let is_day = matches!(&parts[..], [year, month, day]
        if year.len() == 4 && number(year, 4) && number(month, 2) && number(day, 2));
    let is_clock = |clock: &str| {
        let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
        let parts: Vec<&str> = clock.split(':').collect();
        parts.len() == 3 && parts.iter().all(|part| number(part, 2))
    };
    is_day
        && time.is_none_or(|time| {
            let zone =
                time.strip_suffix('Z').or_else(|| time.rsplit_once(['+', '-']).map(|(clock, _)| clock));
            is_clock(zone.unwrap_or(time))
        })
}

/// The order of keys: numbers in them by their value, letters after all else (`keyList.Less`).
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for at in 0..a.len().min(b.len()) {
        if a[at] == b[at] {
            continue;
        }
        return match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
            (true, true) => a[at].cmp(&b[at]),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let before = a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
                let zero = a[at] == '0' || b[at] == '0';
                let first = u64::from(zero && before);
                let number = |text: &[char]| {
                    let digits = text[at..].iter().take_while(|c| c.is_ascii_digit());
                    digits.fold((first, 0_usize), |(sum, count), c| {
                        (sum.wrapping_mul(10).wrapping_add(u64::from(*c) - u64::from('0')), count + 1)
                    })
                };
                number(&a).cmp(&number(&b)).then(a[at].cmp(&b[at]))
            }
        };
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_in_quotes_only_where_they_must() {
        for (text, written) in [
            ("f:data", "f:data"),
            (".", "."),
            ("k:{\"name\":\"c\"}", "k:{\"name\":\"c\"}"),
            ("100m", "100m"),
            ("1Gi", "1Gi"),
            ("10.96.0.1", "10.96.0.1"),
            ("1", "\"1\""),
            ("1.5", "\"1.5\""),
            ("0x1f", "\"0x1f\""),
            ("1e3", "\"1e3\""),
            ("", "\"\""),
            ("true", "\"true\""),
            ("y", "\"y\""),
            ("null", "\"null\""),
            ("10:30", "\"10:30\""),
            ("2026-01-01T00:00:00Z", "\"2026-01-01T00:00:00Z\""),
            ("2026-01-01T00:00:00.123456Z", "\"2026-01-01T00:00:00.123456Z\""),
            ("a: b", "'a: b'"),
            ("it's: b", "'it''s: b'"),
            ("*", "'*'"),
            ("{}", "'{}'"),
            ("-", "'-'"),
            ("-a", "-a"),
            ("a #b", "'a #b'"),
            (" a", "' a'"),
            ("a:", "'a:'"),
            ("a\tb", "\"a\\tb\""),
            ("é", "é"),
            ("😀", "\"\\U0001F600\""),
        ] {
            assert_eq!(super::written(&json!(text)), format!("{written}\n"), "{text:?}");
        }
    }

    #[test]
    fn trees_look_as_go_writes_them() {
        let tree = json!({
            "apiVersion": "v1", "empty": {}, "none": [], "nothing": null, "on": true, "count": 3,
            "items": [{"name": "a", "args": ["x", "y"]}, ["b", ["c"]], {}],
            "text": "one\ntwo\n", "open": "one\n\ntwo", "a10": 1, "a9": 2, "f:metadata": {".": {}, "f:labels": {}},
        });
        let expected = "a9: 2
a10: 1
apiVersion: v1
count: 3
empty: {}
f:metadata:
  .: {}
  f:labels: {}
items:
- args:
  - x
  - \"y\"
  name: a
- - b
  - - c
- {}
none: []
nothing: null
\"on\": true
open: |-
  one

  two
text: |
  one
  two
";
        assert_eq!(written(&tree), expected);
    }

    #[test]
    fn long_texts_go_on_in_the_next_line() {
        let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available";
        assert_eq!(
            written(&json!({"status": {"message": message}})),
            "status:
  message: '0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate,
    preemption: 0/1 nodes are available'
"
        );
    }
}
