//! Protobuf bodies: the envelope `k8s\0` + `runtime.Unknown` (k8s.io/apimachinery `pkg/runtime/serializer/protobuf`), then any message
//! by one walk over the table of types. What Go's encoder writes without being asked (zero values of fields that are no pointers) is
//! dropped, as in JSON.

use super::{DecodeError, Decoded, MOST_VALUES, json, says_nothing};
use crate::quantity::Quantity;
use crate::schema::{Field, Struct, Tagged, Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// What a body starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";
/// Most nesting of messages.
const MOST_DEPTH: usize = 64;

type Result<T> = std::result::Result<T, String>;

/// Reads the envelope and the object in it.
pub(super) fn object(body: &[u8], schema: Struct) -> std::result::Result<Decoded, DecodeError> {
    let Some(envelope) = body.strip_prefix(&MAGIC) else {
        return Err(DecodeError::unreadable(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ));
    };
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let read = || -> Result<()> {
        let mut unknown = Reader(envelope);
        while let Some((tag, wire)) = unknown.next()? {
            match (tag, wire) {
                (1, Wire::Bytes(bytes)) => {
                    let mut meta = Reader(bytes);
                    while let Some((tag, wire)) = meta.next()? {
                        match (tag, wire) {
                            (1, Wire::Bytes(bytes)) => version = string(bytes)?,
                            (2, Wire::Bytes(bytes)) => kind = string(bytes)?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(bytes)) => raw = bytes,
                _ => {}
            }
        }
        Ok(())
    };
    let mut read = read;
    read().map_err(DecodeError::unreadable)?;
    let mut walk = Walk { values: 0 };
    let mut map = Map::new();
    walk.message(raw, schema, &mut map, 0).map_err(|message| DecodeError {
        message,
        of: Some((version.rsplit('/').next().unwrap_or_default().into(), kind.clone())),
    })?;
    for (name, value) in [("apiVersion", version), ("kind", kind)] {
        if !value.is_empty() {
            map.insert(name.into(), value.into());
        }
    }
    Ok(Decoded { object: Value::Object(map), strict: Vec::new() })
}

/// What stands on the wire.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((byte, rest)) = self.0.split_first() else { return Err("unexpected EOF".into()) };
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("proto: integer overflow".into())
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| "proto: wrong length")?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or("unexpected EOF")?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next field: its tag and what it holds.
    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| "proto: illegal tag")?;
        if tag == 0 {
            return Err("proto: illegal tag 0".into());
        }
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| "unexpected EOF")?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok(Some((tag, wire)))
    }
}

fn string(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).map_err(|_| "proto: invalid UTF-8 string")?.into())
}

/// The single field of a message that wraps one: all its occurrences.
fn wrapped(bytes: &[u8], wanted: u32) -> Result<Vec<&[u8]>> {
    let (mut reader, mut found) = (Reader(bytes), Vec::new());
    while let Some((tag, wire)) = reader.next()? {
        if let (true, Wire::Bytes(bytes)) = (tag == wanted, wire) {
            found.push(bytes);
        }
    }
    Ok(found)
}

struct Walk {
    values: usize,
}

impl Walk {
    fn count(&mut self) -> Result<()> {
        self.values += 1;
        if self.values > MOST_VALUES { Err("too many values".into()) } else { Ok(()) }
    }

    fn message(
        &mut self,
        bytes: &[u8],
        schema: Struct,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        if depth > MOST_DEPTH {
            return Err("exceeded max depth".into());
        }
        let mut reader = Reader(bytes);
        while let Some((tag, wire)) = reader.next()? {
            match schema.tag(tag) {
                Some(Tagged::Field(field)) => self.field(field, wire, out, depth)?,
                Some(Tagged::Inlined(inner)) => {
                    let Wire::Bytes(bytes) = wire else { return Err("proto: wrong wireType".into()) };
                    self.message(bytes, inner, out, depth + 1)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: Field,
        wire: Wire<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        let name = field.name();
        match (field.type_(), wire) {
            (Type::List(elem), wire) => {
                let mut all = match out.remove(name) {
                    Some(Value::Array(all)) => all,
                    _ => Vec::new(),
                };
                match (elem.type_(), wire) {
                    (type_ @ (Type::Int32 | Type::Int64 | Type::Bool), Wire::Bytes(packed)) => {
                        let mut reader = Reader(packed);
                        while !reader.0.is_empty() {
                            let number = reader.varint()?;
                            all.push(self.value(type_, Wire::Varint(number), depth)?);
                        }
                    }
                    (type_, wire) => all.push(self.value(type_, wire, depth)?),
                }
                out.insert(name.into(), Value::Array(all));
            }
            (Type::Map(elem), Wire::Bytes(entry)) => {
                let (key, value) = self.entry(entry, elem.type_(), depth)?;
                if let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
            (type_, wire) => {
                let value = self.value(type_, wire, depth)?;
                if says_nothing(field, &value) {
                    out.remove(name);
                } else {
                    out.insert(name.into(), value);
                }
            }
        }
        Ok(())
    }

    /// An entry of a map: a message of key and value.
    fn entry(&mut self, bytes: &[u8], type_: Type, depth: usize) -> Result<(String, Value)> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader(bytes);
        while let Some((tag, wire)) = reader.next()? {
            match (tag, wire) {
                (1, Wire::Bytes(bytes)) => key = string(bytes)?,
                (2, wire) => value = Some(self.value(type_, wire, depth)?),
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            None => match type_ {
                Type::Int32 | Type::Int64 | Type::Bool | Type::Float64 => Value::Null,
                type_ => self.value(type_, Wire::Bytes(&[]), depth)?,
            },
        };
        Ok((key, value))
    }

    fn value(&mut self, type_: Type, wire: Wire<'_>, depth: usize) -> Result<Value> {
        self.count()?;
        Ok(match (type_, wire) {
            (Type::Bool, Wire::Varint(number)) => (number != 0).into(),
            // Negative numbers of 32 bits stand as ten bytes on the wire.
            (Type::Int32, Wire::Varint(number)) => (number as i32).into(),
            (Type::Int64, Wire::Varint(number)) => (number as i64).into(),
            (Type::Float64, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
            (Type::String, Wire::Bytes(bytes)) => string(bytes)?.into(),
            (Type::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Type::Struct(inner), Wire::Bytes(bytes)) => {
                let mut map = Map::new();
                self.message(bytes, inner, &mut map, depth + 1)?;
                Value::Object(map)
            }
            (Type::NamedList(elem), Wire::Bytes(bytes)) => {
                let all: Result<Vec<_>> = wrapped(bytes, 1)?
                    .into_iter()
                    .map(|one| self.value(elem.type_(), Wire::Bytes(one), depth + 1))
                    .collect();
                Value::Array(all?)
            }
            (Type::List(elem), Wire::Bytes(bytes)) => {
                Value::Array(vec![self.value(elem.type_(), Wire::Bytes(bytes), depth + 1)?])
            }
            (Type::Map(elem), Wire::Bytes(bytes)) => {
                let (key, value) = self.entry(bytes, elem.type_(), depth + 1)?;
                Value::Object(Map::from_iter([(key, value)]))
            }
            (_, Wire::Bytes(bytes)) => self.special(type_, bytes, depth)?,
            _ => return Err("proto: wrong wireType for field".into()),
        })
    }

    /// Types whose JSON is not that of their message.
    fn special(&mut self, type_: Type, bytes: &[u8], depth: usize) -> Result<Value> {
        match type_ {
            Type::Quantity => {
                let text = wrapped(bytes, 1)?.pop().map(string).transpose()?.unwrap_or_default();
                if text.is_empty() {
                    return Ok("0".into());
                }
                Ok(text.parse::<Quantity>().map_err(|error| error.to_string())?.to_string().into())
            }
            Type::IntOrString => int_or_string(bytes),
            Type::Time | Type::MicroTime => time(bytes, type_ == Type::MicroTime),
            Type::Duration => {
                let mut reader = Reader(bytes);
                let mut nanos = 0;
                while let Some((tag, wire)) = reader.next()? {
                    if let (1, Wire::Varint(number)) = (tag, wire) {
                        nanos = number as i64;
                    }
                }
                Ok(crate::duration::go_duration(nanos).into())
            }
            Type::RawExtension | Type::FieldsV1 | Type::Json => {
                let Some(raw) = wrapped(bytes, 1)?.pop() else { return Ok(Value::Null) };
                let decoded = json::untyped(raw).map_err(|error| error.to_string())?;
                Ok(decoded.object)
            }
            Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStringArray => {
                self.schema_or(type_, bytes, depth)
            }
            _ => Err("proto: wrong wireType for field".into()),
        }
    }

    fn schema_or(&mut self, type_: Type, bytes: &[u8], depth: usize) -> Result<Value> {
        let props = Type::Struct(json::schema_props());
        let (mut schema, mut allows, mut list) = (None, false, Vec::new());
        let mut reader = Reader(bytes);
        while let Some((tag, wire)) = reader.next()? {
            match (type_, tag, wire) {
                (Type::SchemaOrBool, 1, Wire::Varint(on)) => allows = on != 0,
                (Type::SchemaOrBool, 2, Wire::Bytes(bytes))
                | (Type::SchemaOrArray | Type::SchemaOrStringArray, 1, Wire::Bytes(bytes)) => {
                    schema = Some(self.value(props, Wire::Bytes(bytes), depth + 1)?);
                }
                (Type::SchemaOrArray, 2, Wire::Bytes(bytes)) => {
                    list.push(self.value(props, Wire::Bytes(bytes), depth + 1)?)
                }
                (Type::SchemaOrStringArray, 2, Wire::Bytes(bytes)) => list.push(string(bytes)?.into()),
                _ => {}
            }
        }
        Ok(match (schema, type_) {
            (Some(schema), _) => schema,
            (None, Type::SchemaOrBool) => allows.into(),
            (None, _) => Value::Array(list),
        })
    }
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0i32, String::new());
    let mut reader = Reader(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match (tag, wire) {
            (1, Wire::Varint(kind)) => is_text = kind != 0,
            (2, Wire::Varint(value)) => number = value as i32,
            (3, Wire::Bytes(bytes)) => text = string(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// A timestamp; zero is Go's zero time, which is null in JSON.
fn time(bytes: &[u8], micro: bool) -> Result<Value> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut reader = Reader(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match (tag, wire) {
            (1, Wire::Varint(number)) => seconds = number as i64,
            (2, Wire::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let time =
        Timestamp::new(seconds, if micro { nanos } else { 0 }).map_err(|_| "proto: time out of range")?;
    let form = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(form).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Format, decode};
    use crate::schema::find;
    use serde_json::json;

    /// A field of bytes.
    fn bytes(tag: u8, inner: &[u8]) -> Vec<u8> {
        assert!(inner.len() < 128, "one byte of length is enough here");
        let mut out = vec![tag << 3 | 2, inner.len() as u8];
        out.extend(inner);
        out
    }

    fn number(tag: u8, value: u8) -> Vec<u8> {
        vec![tag << 3, value]
    }

    fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
    }

    #[test]
    fn a_scale_of_nothing_keeps_its_zero() {
        // Deployment{metadata{name, labels, creationTimestamp{}}, spec{replicas 0, selector{matchLabels}, paused false}}
        let label = [bytes(1, b"app"), bytes(2, b"web")].concat();
        let meta = [bytes(1, b"web"), bytes(3, b""), bytes(8, b""), bytes(11, &label)].concat();
        let selector = bytes(1, &label);
        let surge = [number(1, 1), number(2, 0), bytes(3, b"25%")].concat();
        let strategy = [bytes(1, b""), bytes(2, &bytes(2, &surge))].concat();
        let spec = [number(1, 0), bytes(2, &selector), bytes(4, &strategy), number(7, 0)].concat();
        let raw = [bytes(1, &meta), bytes(2, &spec), bytes(3, b"")].concat();
        let schema = find("apps", "v1", "Deployment").unwrap();
        let decoded = decode(&envelope("apps/v1", "Deployment", &raw), Format::Protobuf, schema).unwrap();
        assert_eq!(
            decoded.object,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}},
                    "strategy": {"rollingUpdate": {"maxSurge": "25%"}}}})
        );
    }

    #[test]
    fn inlined_messages_quantities_and_times_become_json() {
        // Pod{metadata{creationTimestamp}, spec{volumes[{name, volumeSource{emptyDir{}}}], containers[{resources{limits}}]}}
        let limit = [bytes(1, b"memory"), bytes(2, &bytes(1, b"1024Mi"))].concat();
        let container = [bytes(1, b"c"), bytes(8, &bytes(1, &limit))].concat();
        let volume = [bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat();
        let spec = [bytes(1, &volume), bytes(2, &container), bytes(3, b"Always")].concat();
        let time = [vec![8], vec![0x80, 0xa3, 0x05]].concat();
        let raw = [bytes(1, &bytes(8, &time)), bytes(2, &spec)].concat();
        let schema = find("", "v1", "Pod").unwrap();
        let decoded = decode(&envelope("v1", "Pod", &raw), Format::Protobuf, schema).unwrap();
        assert_eq!(decoded.object["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
        assert_eq!(
            decoded.object["spec"]["containers"][0]["resources"],
            json!({"limits": {"memory": "1Gi"}})
        );
        assert_eq!(decoded.object["metadata"]["creationTimestamp"], "1970-01-02T00:00:00Z");
    }

    #[test]
    fn damaged_bodies_are_refused() {
        let schema = find("", "v1", "Pod").unwrap();
        let good = envelope("v1", "Pod", &bytes(1, &bytes(1, b"name")));
        assert!(decode(&good, Format::Protobuf, schema).is_ok());
        assert!(decode(b"{}", Format::Protobuf, schema).unwrap_err().to_string().contains("expected prefix"));
        for cut in 5..good.len() {
            // No panic; most cuts are errors, those between fields are not.
            let _either = decode(&good[..cut], Format::Protobuf, schema);
        }
        let mut deep = Vec::new();
        let mut schema_in_schema = vec![];
        for _ in 0..60 {
            schema_in_schema = bytes(1, &schema_in_schema[..schema_in_schema.len().min(100)]);
        }
        deep.extend(envelope("v1", "X", &schema_in_schema));
        let crd = find("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        let _either = decode(&deep, Format::Protobuf, crd);
    }
}
