//! Objects as JSON in the order in which Go's encoder writes them: the fields of built-in kinds as their structs have them, all else (maps,
//! custom resources) sorted. Trees themselves keep no order. The fields of an object's own managers may be texts
//! ([`crate::managed_fields::with_texts`]).

use crate::object::text;
use crate::schema::{self, Struct, Type};
use serde_json::{Map, Value};

/// Most fields of a struct (`schema.rs` tests that there are no more).
const MOST_FIELDS: usize = 64;

const MANAGED_FIELDS: &str = "managedFields";

/// Most fields of metadata that a writer leaves out, `managedFields` among them.
const MOST_OMITTED: usize = 3;

/// Writes an object.
pub fn write(out: &mut Vec<u8>, object: &Value) {
    let says = |map: &&Map<String, Value>| map.contains_key("kind") && map.contains_key("apiVersion");
    let Some(map) = object.as_object().filter(says) else {
        return plain(out, object);
    };
    write_object(out, map, object, &[], false);
}

/// Writes an object as it is stored: without some of its metadata (at most two fields), but never without metadata, which follows `kind` and `apiVersion`.
pub fn write_stored(out: &mut Vec<u8>, object: &Value, omitted: &[&str]) {
    let none = Map::new();
    write_object(out, object.as_object().unwrap_or(&none), object, omitted, true);
}

fn write_object(
    out: &mut Vec<u8>,
    map: &Map<String, Value>,
    object: &Value,
    omitted: &[&str],
    always_metadata: bool,
) {
    let api_version = text(object, &["apiVersion"]);
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let named = text(object, &["kind"]);
    let kind = schema::find(group, version, named);
    // Options, `Status` and their like are in any group.
    let kind = kind.or_else(|| schema::find("meta.k8s.io", version, named).filter(|_| group.is_empty()));
    let is_ours = kind.is_some() || group == "meta.k8s.io";
    let head = if is_ours { ["kind", "apiVersion"] } else { ["apiVersion", "kind"] };
    let mut opening = b'{';
    for name in head {
        out.push(std::mem::replace(&mut opening, b','));
        key(out, name);
        plain(out, &object[name]);
    }
    let metadata = map.get("metadata").and_then(Value::as_object);
    if always_metadata || metadata.is_some() {
        out.extend_from_slice(b",\"metadata\":");
        let none = Map::new();
        let metadata = metadata.unwrap_or(&none);
        let type_ = kind.and_then(|kind| kind.field("metadata")).map(schema::Field::type_);
        let of = match type_ {
            Some(Type::Struct(of)) => Some(of),
            _ if is_ours => schema::find_definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            _ => None,
        };
        match metadata.get("managedFields").and_then(Value::as_array) {
            // The last field of metadata.
            Some(entries) if of.is_some() => {
                let mut others = [MANAGED_FIELDS; MOST_OMITTED];
                others.iter_mut().zip(omitted).for_each(|(other, name)| *other = name);
                fields(out, metadata, of, &others, b'{');
                if out.last() != Some(&b'{') {
                    out.push(b',');
                }
                managers(out, entries);
            }
            _ => fields(out, metadata, of, omitted, b'{'),
        }
        out.push(b'}');
    }
    // A `metadata` that is no object is what somebody wrote past us.
    let rest: &[&str] = if always_metadata || metadata.is_some() {
        &["kind", "apiVersion", "metadata"]
    } else {
        &["kind", "apiVersion"]
    };
    fields(out, map, kind, rest, b',');
    out.push(b'}');
}

/// `managedFields` of an object itself.
fn managers(out: &mut Vec<u8>, entries: &[Value]) {
    const FIELDS: [&str; 7] =
        ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"];
    key(out, MANAGED_FIELDS);
    out.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let Some(map) = entry.as_object() else {
            plain(out, entry);
            continue;
        };
        let mut opening = b'{';
        for (name, value) in FIELDS.iter().filter_map(|name| Some((*name, map.get(*name)?))) {
            out.push(std::mem::replace(&mut opening, b','));
            key(out, name);
            match value {
                Value::String(text) if name == "fieldsV1" => out.extend_from_slice(text.as_bytes()),
                value => plain(out, value),
            }
        }
        // What nobody knows is kept.
        for (name, value) in map.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str())) {
            out.push(std::mem::replace(&mut opening, b','));
            plain_key(out, name);
            plain(out, value);
        }
        if opening == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Fields of a struct (none: of a map), the first of them after `opening`.
fn fields(
    out: &mut Vec<u8>,
    map: &Map<String, Value>,
    of: Option<Struct>,
    omitted: &[&str],
    mut opening: u8,
) {
    let begins = opening == b'{';
    let mut has_unknown = false;
    // By their ranks, of which those that are there are bits.
    let (mut known, mut there): ([Option<&Value>; MOST_FIELDS], u64) = ([None; MOST_FIELDS], 0);
    let mut emit = |out: &mut Vec<u8>| out.push(std::mem::replace(&mut opening, b','));
    for (name, value) in map.iter().filter(|(name, _)| !omitted.contains(&name.as_str())) {
        match of.and_then(|of| Some(of.rank_of(of.field(name)?))) {
            Some(rank) if rank < MOST_FIELDS => {
                known[rank] = Some(value);
                there |= 1 << rank;
            }
            _ if of.is_some() => has_unknown = true,
            _ => {
                emit(out);
                plain_key(out, name);
                plain(out, value);
            }
        }
    }
    if let Some(of) = of {
        while there != 0 {
            let rank = there.trailing_zeros() as usize;
            there &= there - 1;
            let (Some(field), Some(value)) = (of.ranked(rank), known[rank]) else { continue };
            emit(out);
            key(out, field.name());
            typed(out, value, field.type_());
        }
        let is_unknown = |name: &str| has_unknown && of.field(name).is_none() && !omitted.contains(&name);
        for (name, value) in map.iter().filter(|(name, _)| is_unknown(name)) {
            emit(out);
            plain_key(out, name);
            plain(out, value);
        }
    }
    if begins && opening == b'{' {
        out.push(b'{');
    }
}

fn typed(out: &mut Vec<u8>, value: &Value, type_: Type) {
    match (type_, value) {
        (Type::Struct(of), Value::Object(map)) => {
            fields(out, map, Some(of), &[], b'{');
            out.push(b'}');
        }
        (Type::List(of) | Type::NamedList(of), Value::Array(all)) => {
            out.push(b'[');
            for (index, one) in all.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                typed(out, one, of.type_());
            }
            out.push(b']');
        }
        (Type::Map(of), Value::Object(map)) => {
            let mut opening = b'{';
            for (name, one) in map {
                out.push(std::mem::replace(&mut opening, b','));
                plain_key(out, name);
                typed(out, one, of.type_());
            }
            if map.is_empty() {
                out.push(b'{');
            }
            out.push(b'}');
        }
        (Type::RawExtension, _) => write(out, value),
        _ => plain(out, value),
    }
}

/// A name that we know: nothing in it is to be escaped.
fn key(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn plain_key(out: &mut Vec<u8>, name: &str) {
    string(out, name);
    out.push(b':');
}

/// Writes a string.
fn string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// Writes what stands between the quotes of a string.
pub(crate) fn escaped(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if !has_any(bytes, |byte| byte < b' ' || is_marked(byte)) {
        out.extend_from_slice(bytes);
    } else if has_any(bytes, |byte| byte < b' ') {
        // A text can't fail.
        let quoted = serde_json::to_string(text).unwrap_or_default();
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        out.extend_from_slice(inner.unwrap_or_default().as_bytes());
    } else {
        // Elements of `fieldsV1`, mostly.
        for byte in bytes.iter().copied() {
            if is_marked(byte) {
                out.push(b'\\');
            }
            out.push(byte);
        }
    }
}

fn is_marked(byte: u8) -> bool {
    byte == b'"' || byte == b'\\'
}

/// Whether some of the bytes are of a kind.
fn has_any(bytes: &[u8], is_one: impl Fn(u8) -> bool) -> bool {
    // Of a chunk all, and not up to the first: so the processor looks at them together.
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().any(|chunk| chunk.iter().fold(false, |found, byte| found | is_one(*byte)))
        || rest.iter().any(|byte| is_one(*byte))
}

fn plain(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        Value::Array(all) => {
            out.push(b'[');
            for (index, one) in all.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                plain(out, one);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (index, (name, one)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                plain_key(out, name);
                plain(out, one);
            }
            out.push(b'}');
        }
        Value::Bool(on) => out.extend_from_slice(if *on { b"true" } else { b"false" }),
        Value::Null => out.extend_from_slice(b"null"),
        Value::Number(_) => {
            let _infallible = serde_json::to_writer(out, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(object: &Value) -> String {
        let mut out = Vec::new();
        write(&mut out, object);
        let read: Value = serde_json::from_slice(&out).expect("it is JSON");
        assert_eq!(read, *object);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn built_in_kinds_are_written_as_their_structs_are() {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "creationTimestamp": "2026-11-20T13:03:47Z", "labels": {"b": "1", "a": "2"}, "name": "p", "namespace": "default",
                "resourceVersion": "5", "uid": "u",
                "managedFields": [{"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}, "manager": "m", "operation": "Update"}],
            },
            "spec": {
                "containers": [{"image": "i", "name": "c", "resources": {}}], "initContainers": [], "nodeSelector": {},
                "volumes": [{"emptyDir": {}, "name": "v"}],
            },
            "status": {},
        });
        assert_eq!(
            written(&pod),
            concat!(
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default","uid":"u","resourceVersion":"5","#,
                r#""creationTimestamp":"2026-11-20T13:03:47Z","labels":{"a":"2","b":"1"},"managedFields":[{"manager":"m","#,
                r#""operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{}}]},"spec":{"#,
                r#""volumes":[{"name":"v","emptyDir":{}}],"initContainers":[],"containers":[{"name":"c","image":"i","resources":{}}],"#,
                r#""nodeSelector":{}},"status":{}}"#,
            )
        );
    }

    #[test]
    fn a_claim_in_a_set_says_its_kind_first() {
        let claim = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "data"}, "spec": {}});
        let set = json!({"kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": {}, "spec": {"volumeClaimTemplates": [claim]}});
        let text = written(&set);
        assert!(
            text.contains(
                r#"[{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"name":"data"},"#
            ),
            "{text}"
        );
    }

    #[test]
    fn all_else_is_sorted() {
        let widget = json!({"kind": "Widget", "apiVersion": "example.com/v1", "metadata": {"uid": "u", "name": "w"}, "spec": {"b": 1, "a": {}}});
        assert_eq!(
            written(&widget),
            r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w","uid":"u"},"spec":{"a":{},"b":1}}"#
        );
        assert_eq!(written(&json!({"b": 1, "a": 2})), r#"{"a":2,"b":1}"#);
        let odd = json!({"\"\\": ["\n", "\u{1f}", "\u{7f}ü/", [], {}, null, true, false, -1, 1.5], "": ""});
        assert_eq!(written(&odd), odd.to_string());
        assert_eq!(written(&json!({"kind": "Pod", "group": ""})), r#"{"group":"","kind":"Pod"}"#);
    }

    #[test]
    fn strings_are_escaped_wherever_it_is_due() {
        for odd in ['"', '\\', '\n', '\u{1f}', '\u{7f}', 'ü'] {
            for at in 0..40 {
                let text = format!("{}{odd}{}\"", "a".repeat(at), "b".repeat(20));
                let mut out = Vec::new();
                string(&mut out, &text);
                assert_eq!(String::from_utf8_lossy(&out), json!(text).to_string());
            }
        }
    }

    #[test]
    fn nothing_is_lost_that_no_schema_knows() {
        written(
            &json!({"kind": "Pod", "apiVersion": "v1", "spec": {"new": {"er": 1}, "containers": null}, "more": []}),
        );
        let mut out = Vec::new();
        write_stored(&mut out, &json!({"kind": "Pod", "apiVersion": "v1", "spec": {}}), &["uid"]);
        assert_eq!(out, br#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{}}"#);
    }
}
