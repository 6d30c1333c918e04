//! Values as Go's `%v` prints them, since some of Kubernetes' errors show them so.

use serde_json::{Map, Value};

/// `map[a:1 b:[x y]]`, keys in order.
pub(super) fn map(map: &Map<String, Value>) -> String {
    let entries: Vec<_> = map.iter().map(|(key, one)| format!("{key}:{}", value(one))).collect();
    format!("map[{}]", entries.join(" "))
}

/// Any value.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all: Vec<_> = all.iter().map(self::value).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(all) => map(all),
    }
}
