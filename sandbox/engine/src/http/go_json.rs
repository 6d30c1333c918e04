//! What is no JSON, in the words of Go's `encoding/json`.

use serde_json::{Value, error::Category};

/// What Go calls a value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Why a text can't be read; `end`: what is said if it ends too soon, which depends on who reads it in Go.
pub(crate) fn words(text: &[u8], error: &serde_json::Error, end: &str) -> String {
    let said = error.to_string();
    if error.classify() == Category::Eof {
        return end.into();
    }
    let places = [
        ("expected value", "looking for beginning of value"),
        ("expected ident", "looking for beginning of value"),
        ("invalid number", "looking for beginning of value"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("key must be a string", "looking for beginning of object key string"),
        ("trailing comma", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("trailing characters", "after top-level value"),
    ];
    let Some((_, place)) = places.iter().find(|(begins, _)| said.starts_with(begins)) else { return said };
    let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let rest = String::from_utf8_lossy(line.get(error.column().saturating_sub(1)..).unwrap_or_default());
    match rest.chars().next() {
        Some('\'') => format!(r"invalid character '\'' {place}"),
        Some('"') => format!("invalid character '\"' {place}"),
        Some(c) => format!("invalid character '{}' {place}", c.escape_debug()),
        None => end.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn said(text: &str) -> String {
        words(text.as_bytes(), &serde_json::from_str::<Value>(text).unwrap_err(), "unexpected EOF")
    }

    #[test]
    fn what_is_wrong_is_said_as_go_does() {
        assert_eq!(said("{invalid json"), "invalid character 'i' looking for beginning of object key string");
        assert_eq!(said("[1 2]"), "invalid character '2' after array element");
        assert_eq!(said("{\"a\" 1}"), "invalid character '1' after object key");
        assert_eq!(said("{\n \"a\": x}"), "invalid character 'x' looking for beginning of value");
        assert_eq!(said("{\"a\": "), "unexpected EOF");
    }
}
