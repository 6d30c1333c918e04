//! `fieldsV1` as text. Most writes leave most entries as they were, and entries are half of what an object is long: so who writes reads an
//! object [`with_texts`], in whose own `managedFields` (nowhere else) a string is the JSON of an entry's fields. [`crate::ordered`] writes it as it is;
//! whatever else looks at an object's entries, or shows them to somebody, is given it [`without_texts`].

use super::set::Set;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// Reads an object of a built-in kind as it is stored. An error if it is not as we write it: it may be an object all the same.
pub fn with_texts(json: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let object = Level::Object.deserialize(&mut reader)?;
    reader.end()?;
    Ok(object)
}

/// Makes trees of texts.
pub fn without_texts(object: &mut Value) {
    let entries = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields"));
    for entry in entries.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(fields) = entry.get_mut("fieldsV1") {
            *fields = tree(fields.take());
        }
    }
}

/// Whether there are any.
pub fn has_texts(object: &Value) -> bool {
    let entries = super::listed(object).and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| entry.get("fieldsV1").is_some_and(Value::is_string))
}

/// The fields of an entry as a tree.
pub(super) fn tree(fields: Value) -> Value {
    match fields {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        tree => tree,
    }
}

/// Whether any member of a set is a member of the fields.
pub(super) fn touched(text: &str, set: &Set) -> bool {
    let mut reader = serde_json::Deserializer::from_str(text);
    Touch(set).deserialize(&mut reader).is_ok_and(|found| found.any)
}

/// How far down the way to `fieldsV1` a value is.
#[derive(Debug, Clone, Copy)]
enum Level {
    Object,
    Metadata,
    Entries,
    Entry,
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        match self {
            Self::Entries => reader.deserialize_seq(self),
            _ => reader.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element_seed(Self::Entry)? {
            all.push(one);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match (self, key.as_str()) {
                (Self::Object, "metadata") => map.next_value_seed(Self::Metadata)?,
                (Self::Metadata, "managedFields") => map.next_value_seed(Self::Entries)?,
                (Self::Entry, "fieldsV1") => match map.next_value::<&RawValue>()?.get() {
                    text if text.starts_with('{') => text.into(),
                    _ => return Err(A::Error::custom("fieldsV1 must be an object")),
                },
                _ => map.next_value()?,
            };
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

/// Looks for members of a set.
struct Touch<'s>(&'s Set);

/// What was found of a set's members in an element, and whether the element is a member itself.
struct Found {
    any: bool,
    member: bool,
}

impl<'de> DeserializeSeed<'de> for Touch<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Found, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Touch<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let (mut any, mut is_empty, mut member) = (false, true, false);
        while let Some(key) = map.next_key_seed(Element(self.0))? {
            is_empty = false;
            match key {
                Key::Itself => {
                    member = true;
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Of(is_member, below) => {
                    let found = map.next_value_seed(Touch(below))?;
                    any |= found.any || (is_member && found.member);
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Found { any, member: member || is_empty })
    }
}

/// Tells what an element is for a set.
struct Element<'s>(&'s Set);

enum Key<'s> {
    Itself,
    /// It is in the set: as a member or not, and what is below it.
    Of(bool, &'s Set),
    Other,
}

impl<'de, 's> DeserializeSeed<'de> for Element<'s> {
    type Value = Key<'s>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Key<'s>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'s> Visitor<'_> for Element<'s> {
    type Value = Key<'s>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element")
    }

    fn visit_str<E: Error>(self, element: &str) -> Result<Key<'s>, E> {
        Ok(match self.0.found(element) {
            _ if element == "." => Key::Itself,
            Some((member, below)) => Key::Of(member, below),
            None => Key::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_read_and_made_trees_again() {
        let object = json!({"kind": "Pod", "metadata": {"name": "p", "managedFields": [
                {"manager": "m", "fieldsV1": {"f:a": {".": {}, "k:{\"b\":1}": {}}}}, {"manager": "n"}]},
            "spec": {"template": {"metadata": {"managedFields": [{"fieldsV1": {"f:x": {}}}]}}}});
        let mut read = with_texts(object.to_string().as_bytes()).unwrap();
        let entry = &read["metadata"]["managedFields"][0];
        assert_eq!(entry["fieldsV1"], r#"{"f:a":{".":{},"k:{\"b\":1}":{}}}"#);
        assert_eq!(read["spec"], object["spec"], "only the object's own");
        assert!(has_texts(&read) && !has_texts(&object));
        without_texts(&mut read);
        assert_eq!(read, object);
        for odd in [
            json!(1),
            json!({"metadata": null}),
            json!({"metadata": {"managedFields": {}}}),
            json!({"metadata": {"managedFields": [{"fieldsV1": "f"}]}}),
        ] {
            assert!(with_texts(odd.to_string().as_bytes()).is_err(), "{odd}");
        }
        assert!(with_texts(b"{\"metadata\":{}} {}").is_err());
    }

    #[test]
    fn what_touches_a_tree_touches_its_text() {
        let all = [
            json!({}),
            json!({"f:a": {}}),
            json!({"f:a": {".": {}, "f:b": {}}}),
            json!({"f:a": {"f:b": {}}}),
            json!({"f:c": {"k:{\"d\":\"\\\"\"}": {".": {}, "f:e": {}}}}),
            json!({"f:c": {"k:{\"d\":\"\\\"\"}": {"f:e": {}}}}),
            json!({"f:c": {"k:{\"d\":\"\\\"\"}": {}, "v:1": {}}}),
        ];
        for one in &all {
            let set = Set::from_json(one).unwrap();
            for other in &all {
                assert_eq!(touched(&other.to_string(), &set), set.touches(other), "{one} {other}");
            }
        }
    }
}
