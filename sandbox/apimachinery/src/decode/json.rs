//! The walk of JSON (or a tree) along a schema, in one pass and without a tree between. Go's decoder (sigs.k8s.io/json) goes on
//! after a wrong type and tells the first one; so does this.

use super::go_json::syntax_error;
use super::{DecodeError, Decoded, MOST_STRICT, MOST_VALUES, says_nothing, time};
use crate::quantity::Quantity;
use crate::schema::{self, Field, Struct, Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::{Map, Number, Value};
use std::fmt::{self, Write};
use std::sync::OnceLock;

/// `JSONSchemaProps`, which three types name that are no structs.
pub(super) fn schema_props() -> Struct {
    static PROPS: OnceLock<Option<Struct>> = OnceLock::new();
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    // The table holds it: a test decodes with it.
    PROPS.get_or_init(|| schema::find_definition(name)).expect("the table of types holds JSONSchemaProps")
}

/// A step of a path.
#[derive(Debug)]
enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

/// Where the walk is, and what it found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    path: Vec<Step>,
    structs: Vec<Struct>,
    first_error: Option<String>,
    strict: Vec<String>,
    values: usize,
}

impl Walk {
    fn at(&self, name: &str) -> String {
        let mut out = String::new();
        let more = Step::Key(name.into());
        for step in self.path.iter().chain([&more]) {
            let _infallible = match step {
                Step::Index(index) => write!(out, "[{index}]"),
                Step::Field(name) => write!(out, "{}{name}", if out.is_empty() { "" } else { "." }),
                Step::Key(name) => write!(out, "{}{name}", if out.is_empty() { "" } else { "." }),
            };
        }
        out
    }

    fn strict(&mut self, what: &str, name: &str) {
        if self.strict.len() < MOST_STRICT {
            let text = format!("{what} field {:?}", self.at(name));
            if !self.strict.contains(&text) {
                self.strict.push(text);
            }
        }
    }

    fn fail(&mut self, message: impl FnOnce(&Self) -> String) {
        if self.first_error.is_none() {
            self.first_error = Some(message(self));
        }
    }

    /// Leaves a value that stands behind a key, which it gives back.
    fn leave_key(&mut self) -> String {
        match self.path.pop() {
            Some(Step::Key(key)) => key,
            _ => unreachable!("the path ends with what was entered last"),
        }
    }

    /// A value of a type that the field has not (`json.UnmarshalTypeError`).
    fn mismatch(&mut self, found: &str, type_: Type) {
        self.fail(|walk| {
            let names = walk.path.iter().filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                _ => None,
            });
            let fields: Vec<_> = names.collect();
            match walk.structs.last() {
                Some(schema) if !fields.is_empty() => {
                    let (name, path) = (schema.name(), fields.join("."));
                    format!(
                        "json: cannot unmarshal {found} into Go struct field {name}.{path} of type {}",
                        go_type(type_)
                    )
                }
                _ => format!("json: cannot unmarshal {found} into Go value of type {}", go_type(type_)),
            }
        });
    }

    fn finish(self, object: Value) -> Result<Decoded, DecodeError> {
        if let Some(message) = self.first_error {
            let of = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
            let version = of("apiVersion");
            let version = version.rsplit('/').next().unwrap_or_default();
            let version = if version.is_empty() { "v1" } else { version };
            return Err(DecodeError { message, of: Some((version.into(), of("kind").into())) });
        }
        Ok(Decoded { object, strict: self.strict })
    }
}

/// A type as Go writes it.
fn go_type(type_: Type) -> String {
    match type_ {
        Type::String | Type::Duration => "string".into(),
        Type::Bool => "bool".into(),
        Type::Int32 | Type::IntOrString => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Float64 => "float64".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::Time => "v1.Time".into(),
        Type::MicroTime => "v1.MicroTime".into(),
        Type::RawExtension => "runtime.RawExtension".into(),
        Type::FieldsV1 => "v1.FieldsV1".into(),
        Type::Json => "v1.JSON".into(),
        Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStringArray => "v1.JSONSchemaProps".into(),
        Type::Struct(inner) => {
            let parts: Vec<_> = inner.definition().rsplitn(3, '.').take(2).collect();
            format!("{}.{}", parts.get(1).copied().unwrap_or_default(), inner.name())
        }
        Type::List(elem) | Type::NamedList(elem) => format!("[]{}", go_type(elem.type_())),
        Type::Map(elem) => format!("map[string]{}", go_type(elem.type_())),
    }
}

/// Decodes JSON along a schema.
pub(super) fn typed(body: &[u8], schema: Struct) -> Result<Decoded, DecodeError> {
    // Looked at once as a whole it costs less than every string by itself.
    match str::from_utf8(body) {
        Ok(text) => typed_by(serde_json::Deserializer::from_str(text), body, schema),
        Err(_) => typed_by(serde_json::Deserializer::from_slice(body), body, schema),
    }
}

fn typed_by<'de, R: Read<'de>>(
    mut reader: serde_json::Deserializer<R>,
    body: &[u8],
    schema: Struct,
) -> Result<Decoded, DecodeError> {
    let mut walk = Walk::default();
    let value = Typed { type_: Type::Struct(schema), walk: &mut walk }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| syntax_error(body, &error))?;
    walk.finish(value)
}

/// Decodes JSON without a schema.
pub(super) fn untyped(body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Untyped(&mut walk)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| syntax_error(body, &error))?;
    walk.finish(value)
}

/// Walks a tree without a schema, telling duplicates.
pub(super) fn untyped_from<'de, D: Deserializer<'de>>(reader: D) -> Result<Decoded, D::Error> {
    let mut walk = Walk::default();
    let object = Untyped(&mut walk).deserialize(reader)?;
    Ok(Decoded { object, strict: walk.strict })
}

/// Walks a tree along a schema.
pub(super) fn conform(tree: &Value, schema: Struct) -> Result<Decoded, DecodeError> {
    let mut walk = Walk::default();
    let value = Typed { type_: Type::Struct(schema), walk: &mut walk }
        .deserialize(tree)
        .map_err(|error| DecodeError::unreadable(error.to_string()))?;
    walk.finish(value)
}

/// A value of a known type. Gives null for what is absent or wrong.
struct Typed<'w> {
    type_: Type,
    walk: &'w mut Walk,
}

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        match self.type_ {
            Type::RawExtension | Type::FieldsV1 | Type::Json => Untyped(self.walk).deserialize(reader),
            _ => reader.deserialize_any(self),
        }
    }
}

impl Typed<'_> {
    fn wrong<E>(self, found: &str) -> Result<Value, E> {
        self.walk.mismatch(found, self.type_);
        Ok(Value::Null)
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.walk.values += 1;
        if self.walk.values > MOST_VALUES { Err(E::custom("too many values")) } else { Ok(()) }
    }

    fn number<E: Error>(mut self, number: Number) -> Result<Value, E> {
        self.count()?;
        match self.type_ {
            Type::Int32 if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(number.into()),
            Type::Int64 if number.is_i64() => Ok(number.into()),
            Type::Float64 => Ok(number.into()),
            Type::IntOrString if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                Ok(number.into())
            }
            Type::IntOrString => {
                self.walk
                    .fail(|_| format!("json: cannot unmarshal number {number} into Go value of type int32"));
                Ok(Value::Null)
            }
            Type::Quantity => self.quantity(&number.to_string()),
            Type::Time | Type::MicroTime | Type::Duration => {
                self.walk.fail(|_| "json: cannot unmarshal number into Go value of type string".into());
                Ok(Value::Null)
            }
            Type::Int32 | Type::Int64 => self.wrong(&format!("number {number}")),
            _ => self.wrong("number"),
        }
    }

    fn quantity<E>(self, text: &str) -> Result<Value, E> {
        match text.trim().parse::<Quantity>() {
            Ok(quantity) => Ok(quantity.to_string().into()),
            Err(error) => {
                self.walk.fail(|_| error.to_string());
                Ok(Value::Null)
            }
        }
    }

    fn string<E: Error>(mut self, text: &str) -> Result<Value, E> {
        self.count()?;
        match self.type_ {
            Type::String | Type::IntOrString | Type::Duration => Ok(text.into()),
            Type::Quantity => self.quantity(text),
            Type::Time | Type::MicroTime => {
                let canonical = match self.type_ {
                    Type::Time => time::canonical_time(text),
                    _ => time::canonical_micro_time(text),
                };
                match canonical {
                    Ok(canonical) => Ok(canonical.into()),
                    Err(message) => {
                        self.walk.fail(|_| message);
                        Ok(Value::Null)
                    }
                }
            }
            Type::Bytes => match decode_base64(text) {
                Ok(canonical) => Ok(canonical.into()),
                Err(at) => {
                    self.walk.fail(|_| format!("illegal base64 data at input byte {at}"));
                    Ok(Value::Null)
                }
            },
            _ => self.wrong("string"),
        }
    }
}

/// Base64 as Go takes it (line breaks are skipped), written without them; or where it goes wrong.
pub(super) fn decode_base64(text: &str) -> Result<String, usize> {
    let clean: String;
    let text = if text.contains(['\r', '\n']) {
        clean = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        &clean
    } else {
        text
    };
    match STANDARD.decode(text) {
        Ok(_) => Ok(text.to_string()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(at)
        }
        Err(_) => Err(text.len() / 4 * 4),
    }
}

/// What an element is that is null: Go's zero value.
fn zero(type_: Type) -> Value {
    match type_ {
        Type::String => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Float64 | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Struct(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<Value, E> {
        self.count()?;
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(mut self, on: bool) -> Result<Value, E> {
        self.count()?;
        match self.type_ {
            Type::Bool | Type::SchemaOrBool => Ok(on.into()),
            Type::Quantity => self.quantity("true"),
            Type::IntOrString => {
                self.walk.fail(|_| "json: cannot unmarshal bool into Go value of type int32".into());
                Ok(Value::Null)
            }
            Type::Time | Type::MicroTime | Type::Duration => {
                self.walk.fail(|_| "json: cannot unmarshal bool into Go value of type string".into());
                Ok(Value::Null)
            }
            _ => self.wrong("bool"),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.number(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.number(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        match Number::from_f64(number) {
            Some(number) => self.number(number),
            None => self.wrong("number"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.string(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        self.count()?;
        let type_ = match self.type_ {
            Type::List(elem) | Type::NamedList(elem) => elem.type_(),
            Type::SchemaOrArray => Type::Struct(schema_props()),
            Type::SchemaOrStringArray => Type::String,
            _ => {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return match self.type_ {
                    Type::Quantity => self.quantity("[]"),
                    Type::IntOrString => {
                        self.walk.fail(|_| "json: cannot unmarshal array into Go value of type int32".into());
                        Ok(Value::Null)
                    }
                    _ => self.wrong("array"),
                };
            }
        };
        let mut all = Vec::new();
        loop {
            self.walk.path.push(Step::Index(all.len()));
            let next = seq.next_element_seed(Typed { type_, walk: self.walk })?;
            self.walk.path.pop();
            match next {
                Some(Value::Null) => all.push(zero(type_)),
                Some(value) => all.push(value),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.count()?;
        match self.type_ {
            Type::Struct(schema) => self.fields(schema, map),
            Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStringArray => {
                self.fields(schema_props(), map)
            }
            Type::Map(elem) => self.entries(elem.type_(), map),
            _ => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                match self.type_ {
                    Type::Quantity => self.quantity("{}"),
                    Type::IntOrString => {
                        self.walk
                            .fail(|_| "json: cannot unmarshal object into Go value of type int32".into());
                        Ok(Value::Null)
                    }
                    _ => self.wrong("object"),
                }
            }
        }
    }
}

impl Typed<'_> {
    fn fields<'de, A: MapAccess<'de>>(self, schema: Struct, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let mut seen: u64 = 0;
        self.walk.structs.push(schema);
        while let Some(key) = map.next_key_seed(FieldName(schema))? {
            let (field, index) = match key {
                Ok(known) => known,
                Err(unknown) => {
                    self.walk.strict("unknown", &unknown);
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // No struct has more than 64 fields (there is a test).
            if seen & (1 << (index & 63)) != 0 {
                self.walk.strict("duplicate", field.name());
            }
            seen |= 1 << (index & 63);
            self.walk.path.push(Step::Field(field.name()));
            let value = map.next_value_seed(Typed { type_: field.type_(), walk: self.walk })?;
            self.walk.path.pop();
            if says_nothing(field, &value) {
                out.remove(field.name());
            } else {
                out.insert(field.name().into(), value);
            }
        }
        self.walk.structs.pop();
        Ok(Value::Object(out))
    }

    fn entries<'de, A: MapAccess<'de>>(self, type_: Type, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.walk.strict("duplicate", &key);
            }
            self.walk.path.push(Step::Key(key));
            let value = map.next_value_seed(Typed { type_, walk: self.walk })?;
            let value = if value.is_null() { zero(type_) } else { value };
            out.insert(self.walk.leave_key(), value);
        }
        Ok(Value::Object(out))
    }
}

/// The name of a field: the field and its number, or the name of none.
struct FieldName(Struct);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Result<(Field, usize), String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Result<(Field, usize), String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(match self.0.field(name) {
            Some(field) => Ok((field, self.0.index_of(field))),
            None => Err(name.into()),
        })
    }
}

/// A value of which nothing is known.
struct Untyped<'w>(&'w mut Walk);

impl Untyped<'_> {
    fn count<E: Error>(&mut self) -> Result<(), E> {
        self.0.values += 1;
        if self.0.values > MOST_VALUES { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Untyped<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Untyped<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<Value, E> {
        self.count()?;
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(mut self, on: bool) -> Result<Value, E> {
        self.count()?;
        Ok(on.into())
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<Value, E> {
        self.count()?;
        Ok(number.into())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<Value, E> {
        self.count()?;
        Ok(number.into())
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<Value, E> {
        self.count()?;
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<Value, E> {
        self.count()?;
        Ok(text.into())
    }

    fn visit_string<E: Error>(mut self, text: String) -> Result<Value, E> {
        self.count()?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        self.count()?;
        let mut all = Vec::new();
        loop {
            self.0.path.push(Step::Index(all.len()));
            let next = seq.next_element_seed(Untyped(self.0))?;
            self.0.path.pop();
            match next {
                Some(value) => all.push(value),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.count()?;
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.0.strict("duplicate", &key);
            }
            self.0.path.push(Step::Key(key));
            let value = map.next_value_seed(Untyped(self.0))?;
            out.insert(self.0.leave_key(), value);
        }
        Ok(Value::Object(out))
    }
}
