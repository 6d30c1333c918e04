//! Reading and writing what every object has (`metadata`), on the JSON tree that it is.

use serde_json::{Map, Value, json};

/// Most fields that are looked at in turn: more than most objects have.
const FEW: usize = 24;

/// A field of a map. Of few fields all are looked at: most names differ by their lengths or their ends, which costs less to see than their
/// order.
pub fn find<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if map.len() > FEW {
        return map.get(name);
    }
    let (wanted, last) = (name.as_bytes(), name.as_bytes().last());
    let is = |key: &[u8]| key.len() == wanted.len() && key.last() == last && key == wanted;
    map.iter().find(|(key, _)| is(key.as_bytes())).map(|(_, value)| value)
}

/// A field of an object, if it is one and has it.
pub fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    find(object.as_object()?, name)
}

/// `a.b.c` of an object, if all of it is there.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| field(value, name))
}

/// A string at a path; empty if it is not there.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// A whole number at a path.
pub fn int(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// The elements of a list at a path; none if it is not there.
pub fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A map at a path.
pub fn map<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Map<String, Value>> {
    at(object, path).and_then(Value::as_object)
}

/// The map at a path, made if it is not there (or no map).
pub fn map_mut<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut value = object;
    for name in path {
        if !value.is_object() {
            *value = json!({});
        }
        value = &mut value[*name];
    }
    if !value.is_object() {
        *value = json!({});
    }
    let Value::Object(map) = value else { unreachable!("it was made a map above") };
    map
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// `metadata.namespace`; empty: none.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// `metadata.labels[key]`.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, &["metadata", "labels", key]).and_then(Value::as_str)
}

/// True if it is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some_and(|time| !time.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_small_and_large_maps() {
        for size in 0..3 * FEW {
            let map: Map<String, Value> =
                (0..size).map(|number| (number.to_string(), number.into())).collect();
            for number in 0..size {
                assert_eq!(find(&map, &number.to_string()), Some(&json!(number)));
            }
            assert_eq!(find(&map, &size.to_string()), None);
        }
        assert_eq!(field(&json!([1]), "0"), None);
    }
}
