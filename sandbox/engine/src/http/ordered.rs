//! JSON whose objects keep the order of their fields. dockerd prints fields as they stand in its Go structs, and people read
//! `docker inspect` from the top; `serde_json::Value` sorts them, and must, as the Kubernetes API server shares the crate.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Number;
use std::fmt;

/// A JSON value. [`ordered!`] writes objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Json {
    /// Nothing.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// Values in order.
    Array(Vec<Json>),
    /// Fields in order.
    Object(Vec<(String, Json)>),
}

/// An object with these fields in this order: `ordered! { "Id": id, "SizeRw"?: size, }`. One with `?` is left out if it is `None`.
macro_rules! ordered {
    (@fields $object:ident) => {};
    (@fields $object:ident $key:literal ? : $value:expr, $($rest:tt)*) => {
        if let Some(value) = $value {
            $object.set($key, &value);
        }
        $crate::http::ordered!(@fields $object $($rest)*);
    };
    (@fields $object:ident $key:literal : $value:expr, $($rest:tt)*) => {
        $object.set($key, &$value);
        $crate::http::ordered!(@fields $object $($rest)*);
    };
    ($($fields:tt)*) => {{
        let mut object = $crate::http::Json::Object(vec![]);
        $crate::http::ordered!(@fields object $($fields)*);
        object
    }};
}
pub(crate) use ordered;

impl Json {
    /// Whatever serde can write, in the order of its fields.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Self {
        // Only maps without text keys can't be written, and there are none in answers.
        let text = serde_json::to_string(value);
        text.and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
    }

    /// Sets a field of an object: where it stands, or at the end.
    pub fn set(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        let Self::Object(fields) = self else { return };
        let value = Self::of(value);
        match fields.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => fields.push((key.to_owned(), value)),
        }
    }

    /// An object's fields in this order; those that are not named follow.
    pub fn arranged(self, order: &[&str]) -> Self {
        let Self::Object(mut fields) = self else { return self };
        let place = |name: &str| order.iter().position(|key| *key == name).unwrap_or(order.len());
        fields.sort_by_key(|(name, _)| place(name));
        Self::Object(fields)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Number(value) => value.serialize(to),
            Self::Text(value) => to.serialize_str(value),
            Self::Array(values) => to.collect_seq(values),
            Self::Object(fields) => to.collect_map(fields.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reads)
    }
}

struct Reads;

impl<'de> Visitor<'de> for Reads {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut values = vec![];
        while let Some(value) = from.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut fields = vec![];
        while let Some(field) = from.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order() {
        #[derive(Serialize)]
        struct Inner {
            z: u8,
            a: Option<i64>,
        }
        let mut object = ordered! {
            "Id": "x",
            "Absent"?: None::<u8>,
            "Config": Inner { z: 1, a: Some(-1) },
            "B"?: Some(0.5),
            "A": [true, false],
        };
        let text = |json: &Json| serde_json::to_string(json).unwrap();
        assert_eq!(text(&object), r#"{"Id":"x","Config":{"z":1,"a":-1},"B":0.5,"A":[true,false]}"#);
        object.set("Id", &());
        object.set("C", &Json::of(&2));
        assert_eq!(
            text(&object.arranged(&["A", "B"])),
            r#"{"A":[true,false],"B":0.5,"Id":null,"Config":{"z":1,"a":-1},"C":2}"#
        );
    }
}
