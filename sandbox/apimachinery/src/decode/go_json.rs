//! Syntax errors of JSON in the words of Go's `encoding/json`, which clients show.

use super::DecodeError;
use serde_json::error::Category;
use serde_json::{Map, Value};

/// Reads what Go reads into a `map[string]interface {}`.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        // Go leaves the map as it was.
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(wrong_type(&other, "Go value of type map[string]interface {}")),
        Err(error) => Err(words(body, &error)),
    }
}

/// `UnmarshalTypeError`; `into` is what was to be made of the value.
pub(crate) fn wrong_type(value: &Value, into: &str) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into {into}")
}

/// What is wrong with a body that is no JSON.
pub(super) fn syntax_error(body: &[u8], error: &serde_json::Error) -> DecodeError {
    DecodeError::unreadable(format!("couldn't get version/kind; json parse error: {}", words(body, error)))
}

/// The error as Go words it.
pub(crate) fn words(body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Eof => return "unexpected end of JSON input".into(),
        Category::Syntax => {}
        Category::Io | Category::Data => return text,
    }
    if text.starts_with("recursion limit") {
        return "exceeded max depth".into();
    }
    let place = if text.starts_with("expected value") || text.starts_with("invalid number") {
        "looking for beginning of value"
    } else if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("key must be a string") || text.starts_with("trailing comma") {
        "looking for beginning of object key string"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("trailing characters") {
        "after top-level value"
    } else if text.starts_with("control character") {
        "in string literal"
    } else if text.starts_with("invalid escape") {
        "in string escape code"
    } else {
        return text;
    };
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let rest = String::from_utf8_lossy(line.get(error.column().saturating_sub(1)..).unwrap_or_default());
    match rest.chars().next() {
        Some('\'') => format!(r"invalid character '\'' {place}"),
        Some(c) => format!(
            "invalid character '{}' {place}",
            if c == '"' { "\"".into() } else { c.escape_debug().to_string() }
        ),
        None => "unexpected end of JSON input".into(),
    }
}
