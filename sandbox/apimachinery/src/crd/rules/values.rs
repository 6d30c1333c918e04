//! JSON values as CEL sees them through their schema: numbers are doubles where the schema says so, texts with a format are times,
//! durations or bytes, and fields are named so that an expression can name them (`__namespace__`, `a__dot__b`).

use crate::crd::Structural;
use base64::Engine;
use cel::objects::{Key, Map, OptionalValue};
use cel::{ExecutionError, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Words that CEL keeps for itself.
const KEYWORDS: [&str; 22] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "__proto__",
];

/// Names of types that expressions may use as values, and namespaces of functions.
pub(super) fn is_type_name(name: &str) -> bool {
    let types = [
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "optional",
        "optional_type",
        "math",
        "strings",
        "base64",
        "cel",
        "lists",
        "format",
        "sets",
    ];
    types.contains(&name) || name.starts_with("google.")
}

/// A value through its schema.
pub(super) fn of(value: &serde_json::Value, schema: &Structural, root: bool) -> Value {
    match value {
        serde_json::Value::Object(map) => {
            let mut out = HashMap::with_capacity(map.len());
            for (name, one) in map {
                if root || schema.embedded_resource {
                    match name.as_str() {
                        "apiVersion" | "kind" => {
                            out.insert(key(name), free(one));
                            continue;
                        }
                        "metadata" => {
                            out.insert(key(name), metadata(one));
                            continue;
                        }
                        _ => {}
                    }
                }
                if let Some(below) = schema.properties.get(name) {
                    if let Some(escaped) = escape(name) {
                        out.insert(key(&escaped), of(one, below, false));
                    }
                } else if let Some(below) = &schema.additional {
                    out.insert(key(name), of(one, below, false));
                } else if schema.preserve_unknown || schema.additional_any {
                    out.insert(key(name), free(one));
                }
            }
            Value::Map(Map { map: Arc::new(out) })
        }
        serde_json::Value::Array(all) => {
            let one = |one| schema.items.as_ref().map_or_else(|| free(one), |items| of(one, items, false));
            Value::List(Arc::new(all.iter().map(one).collect()))
        }
        serde_json::Value::Number(number) if schema.type_.as_deref() == Some("number") => {
            Value::Float(number.as_f64().unwrap_or_default())
        }
        serde_json::Value::String(text) => {
            let format = schema.checks.as_ref().and_then(|checks| checks.format.as_deref());
            formatted(text, format).unwrap_or_else(|| free(value))
        }
        other => free(other),
    }
}

fn formatted(text: &str, format: Option<&str>) -> Option<Value> {
    match format? {
        "date-time" | "datetime" => chrono::DateTime::parse_from_rfc3339(text).ok().map(Value::Timestamp),
        "date" => {
            chrono::DateTime::parse_from_rfc3339(&format!("{text}T00:00:00Z")).ok().map(Value::Timestamp)
        }
        "duration" => duration(text).map(Value::Duration),
        "byte" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            Some(Value::Bytes(Arc::new(bytes)))
        }
        _ => None,
    }
}

/// A duration as Go writes it.
fn duration(text: &str) -> Option<chrono::Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(chrono::Duration::zero());
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, after) =
            [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)]
                .iter()
                .find_map(|(unit, nanos)| Some((*nanos, rest[end..].strip_prefix(unit)?)))?;
        nanos += number * unit;
        rest = after;
    }
    Some(chrono::Duration::nanoseconds((if negative { -nanos } else { nanos }) as i64))
}

/// A value without a schema.
pub(super) fn free(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(on) => Value::Bool(*on),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(all) => Value::List(Arc::new(all.iter().map(free).collect())),
        serde_json::Value::Object(map) => {
            let map = map.iter().map(|(name, one)| (key(name), free(one))).collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

/// Of metadata, rules see the names only.
fn metadata(value: &serde_json::Value) -> Value {
    let names =
        ["name", "generateName"].into_iter().filter_map(|name| Some((key(name), free(value.get(name)?))));
    Value::Map(Map { map: Arc::new(names.collect()) })
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.into()))
}

/// A field's name as expressions write it; nothing if they cannot.
fn escape(name: &str) -> Option<String> {
    if KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let escaped = name
        .replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__");
    let fine = escaped.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !escaped.starts_with(|c: char| c.is_ascii_digit());
    fine.then_some(escaped)
}

/// `oldSelf` of a rule with `optionalOldSelf`.
pub(super) fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// An error of a run as cel-go words it, where that differs.
pub(super) fn error_text(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        other => other.to_string(),
    }
}
