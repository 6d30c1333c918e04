//! JSON as Go's `encoding/json` reads it, with its words for what it does not read.

use super::DecodeError;
pub(crate) use drydock_go::json::wrong_type;
use drydock_go::json::{END, words};
use serde_json::{Map, Value};

/// Reads what Go reads into a `map[string]interface {}`.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        // Go leaves the map as it was.
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(wrong_type(&other, "Go value of type map[string]interface {}")),
        Err(error) => Err(words(body, &error, END)),
    }
}

/// What is wrong with a body that is no JSON.
pub(super) fn syntax_error(body: &[u8], error: &serde_json::Error) -> DecodeError {
    let why = words(body, error, END);
    DecodeError::unreadable(format!("couldn't get version/kind; json parse error: {why}"))
}
