//! What is no JSON, in the words of `encoding/json` (`decode.go`, `scanner.go`).

use serde_json::{Value, error::Category};

/// What is said of a text that ends too soon, by what reads a whole one (`json.Unmarshal`). A decoder of streams says `unexpected EOF`.
pub const END: &str = "unexpected end of JSON input";

/// What Go calls a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `UnmarshalTypeError`; `into` is what was to be made of the value: `Go value of type []string`.
pub fn wrong_type(value: &Value, into: &str) -> String {
    format!("json: cannot unmarshal {} into {into}", kind(value))
}

/// How errors of serde_json begin, and where Go was when it met the same.
const PLACES: [(&str, &str); 10] = [
    ("expected value", "looking for beginning of value"),
    ("invalid number", "looking for beginning of value"),
    ("expected `,` or `}`", "after object key:value pair"),
    ("expected `,` or `]`", "after array element"),
    ("key must be a string", "looking for beginning of object key string"),
    ("trailing comma", "looking for beginning of object key string"),
    ("expected `:`", "after object key"),
    ("trailing characters", "after top-level value"),
    ("control character", "in string literal"),
    ("invalid escape", "in string escape code"),
];

/// Why a text can't be read; `end`: what is said if it ends too soon, which depends on who reads it in Go ([`END`]).
pub fn words(text: &[u8], error: &serde_json::Error, end: &str) -> String {
    let said = error.to_string();
    match error.classify() {
        Category::Eof => return end.into(),
        Category::Syntax => {}
        Category::Io | Category::Data => return said,
    }
    if said.starts_with("recursion limit") {
        return "exceeded max depth".into();
    }
    let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let (before, rest) = line.split_at_checked(error.column().saturating_sub(1)).unwrap_or_default();
    let rest = String::from_utf8_lossy(rest);
    let place = if said.starts_with("expected ident") {
        in_literal(before)
    } else {
        match PLACES.iter().find(|(begins, _)| said.starts_with(begins)) {
            Some((_, place)) => (*place).into(),
            None => return said,
        }
    };
    match rest.chars().next() {
        Some('\'') => format!(r"invalid character '\'' {place}"),
        Some('"') => format!("invalid character '\"' {place}"),
        Some(c) => format!("invalid character '{}' {place}", c.escape_debug()),
        None => end.into(),
    }
}

/// Where a word ends that began as one of JSON's.
fn in_literal(before: &[u8]) -> String {
    for literal in ["null", "true", "false"] {
        let begun = (1..literal.len()).rev().find(|count| before.ends_with(&literal.as_bytes()[..*count]));
        if let Some(expected) = begun.and_then(|count| literal.chars().nth(count)) {
            return format!("in literal {literal} (expecting '{expected}')");
        }
    }
    "looking for beginning of value".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        words(text.as_bytes(), &serde_json::from_str::<Value>(text).unwrap_err(), END)
    }

    #[test]
    fn what_is_wrong_is_said_as_go_does() {
        assert_eq!(said("{invalid json"), "invalid character 'i' looking for beginning of object key string");
        assert_eq!(said("[1 2]"), "invalid character '2' after array element");
        assert_eq!(said("{\"a\" 1}"), "invalid character '1' after object key");
        assert_eq!(said("{\n \"a\": x}"), "invalid character 'x' looking for beginning of value");
        assert_eq!(said("[\"\"\"\"]"), "invalid character '\"' after array element");
        assert_eq!(said("{\"a\": nope}"), "invalid character 'o' in literal null (expecting 'u')");
        assert_eq!(said("{\"a\": tru}"), "invalid character '}' in literal true (expecting 'e')");
        assert_eq!(said("{\"a\": "), END);
        assert_eq!(said(&"[".repeat(200)), "exceeded max depth");
    }
}
