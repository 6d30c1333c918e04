//! JSON values as CEL sees them through their schema: numbers are doubles where the schema says so, texts with a format are times,
//! durations or bytes, and fields are named so that an expression can name them (`__namespace__`, `a__dot__b`).

use crate::crd::Structural;
use crate::expressions::{escape, is_reserved};
use base64::Engine;
use cel::Value;
use cel::objects::{Key, Map, OptionalValue};
use std::collections::HashMap;
use std::sync::Arc;

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
                        let value = of(one, below, false);
                        if is_reserved(name) {
                            out.insert(key(name), value.clone());
                        }
                        out.insert(key(&escaped), value);
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
        "duration" => crate::duration::parse(text).map(Value::Duration),
        "byte" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            Some(Value::Bytes(Arc::new(bytes)))
        }
        _ => None,
    }
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

/// `oldSelf` of a rule with `optionalOldSelf`.
pub(super) fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}
