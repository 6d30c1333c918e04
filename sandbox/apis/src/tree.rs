//! Reading and changing JSON trees in the way that Go code works on structs: what is absent or of another type is empty. All of the
//! crate's defaults, checks and printers stand on these few functions; none of them can panic, whatever the tree looks like.

use drydock_apimachinery::object;
use serde_json::{Map, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

static NOTHING: Value = Value::Null;

/// A field; null if it is not there.
pub fn get<'a>(value: &'a Value, field: &str) -> &'a Value {
    object::field(value, field).unwrap_or(&NOTHING)
}

/// A field below fields; null if it is not there.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, field| get(value, field))
}

/// A string field; empty if it is not there.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    get(value, field).as_str().unwrap_or_default()
}

/// A number field; 0 if it is not there.
pub fn int(value: &Value, field: &str) -> i64 {
    get(value, field).as_i64().unwrap_or_default()
}

/// A boolean field; false if it is not there.
pub fn flag(value: &Value, field: &str) -> bool {
    get(value, field).as_bool().unwrap_or_default()
}

/// A list field; empty if it is not there.
pub fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    get(value, field).as_array().map_or(&[], Vec::as_slice)
}

/// The strings of a list field.
pub fn texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    list(value, field).iter().filter_map(Value::as_str).collect()
}

/// The entries of an object field, in order of their keys; none if it is not there.
pub fn entries<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    get(value, field).as_object().into_iter().flatten()
}

/// True if a field is there and not null.
pub fn has(value: &Value, field: &str) -> bool {
    !get(value, field).is_null()
}

/// True if a value is what Go calls zero: absent, empty string, 0, false, an empty list or object.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Sets a field that is not there (Go: a nil pointer).
pub fn default(map: &mut Object, field: &str, value: impl Into<Value>) {
    if object::find(map, field).is_none_or(Value::is_null) {
        map.insert(field.into(), value.into());
    }
}

/// Sets a field that is not there, empty or 0 (Go: the zero value).
pub fn default_zero(map: &mut Object, field: &str, value: impl Into<Value>) {
    if object::find(map, field).is_none_or(is_zero) {
        map.insert(field.into(), value.into());
    }
}

/// An object field, if it is there.
pub fn child<'a>(map: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

/// An object field, made if it is not there; absent only if something else stands there.
pub fn made<'a>(map: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    default(map, field, Object::new());
    child(map, field)
}

/// Does something to every object of a list field.
pub fn each(map: &mut Object, field: &str, mut change: impl FnMut(&mut Object)) {
    if let Some(Value::Array(list)) = map.get_mut(field) {
        list.iter_mut().filter_map(Value::as_object_mut).for_each(&mut change);
    }
}

/// Does something to `spec`, made if it is not there.
pub fn with_spec(object: &mut Value, change: impl FnOnce(&mut Object)) {
    if let Some(spec) = object.as_object_mut().and_then(|map| made(map, "spec")) {
        change(spec);
    }
}

/// Does something to a field below the object, if it is there.
pub fn within(object: &mut Value, path: &[&str], change: impl FnOnce(&mut Object)) {
    let found = path.iter().try_fold(object, |value, field| value.get_mut(*field));
    if let Some(map) = found.and_then(Value::as_object_mut) {
        change(map);
    }
}
