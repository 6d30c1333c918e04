//! How an object lies in the store: compact JSON as answers have it, which begins with kind and version and then `"metadata":{`, without
//! its resource version (that is the record's revision). So an answer is made by copying the stored bytes with the revision put in where
//! it belongs, and what lists and watches must know of an object to choose it ([`Facts`]) is read from it once per revision.

use crate::resource::Resource;
use bytes::Bytes;
use drydock_apimachinery::{Status, object, ordered};
use drydock_etcd::Record;
use memchr::memmem;
use serde_json::Value;
use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, OnceLock};

/// What the engine must know of a stored object without reading it again. Kept with the record.
#[derive(Debug, Default)]
pub struct Facts {
    /// False if the bytes are no object that we wrote; then the rest means nothing.
    pub sound: bool,
    /// Where the resource version belongs.
    splice: usize,
    /// Where the object goes on after `kind` and `apiVersion`.
    body: usize,
    /// Labels, sorted by key.
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the fields that selectors may name, in the order of the kind's table.
    fields: Box<[Box<str>]>,
}

/// What is kept with a record, each once somebody asked for it.
#[derive(Debug, Default)]
struct Derived {
    facts: OnceLock<Arc<Facts>>,
    tree: OnceLock<Arc<Value>>,
}

fn derived(record: &Record) -> Arc<Derived> {
    record.memo(|_| Derived::default())
}

/// What opens an object's metadata.
const METADATA: &[u8] = b"\"metadata\":{";

/// Memory that is kept for writing the next object: more than most take.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes an object as it is stored. It is kept for long, so it takes no more memory than it is long.
pub fn encode(tree: &Value) -> Bytes {
    WRITTEN.with_borrow_mut(|out| {
        out.clear();
        out.reserve(SCRATCH);
        ordered::write_stored(out, tree, &["resourceVersion", "selfLink"]);
        let object = Bytes::copy_from_slice(out);
        out.shrink_to(SCRATCH);
        object
    })
}

/// The object of a record, with its resource version.
pub fn decode(record: &Record) -> Result<Value, Status> {
    decode_at(record, record.mod_revision)
}

/// The same, read once per revision and kept with the record: for what is asked for again and again and of which there are few.
pub fn shared(record: &Record) -> Result<Arc<Value>, Status> {
    let derived = derived(record);
    if let Some(tree) = derived.tree.get() {
        return Ok(tree.clone());
    }
    let tree = Arc::new(decode(record)?);
    Ok(derived.tree.get_or_init(|| tree).clone())
}

/// The object of a record with another resource version: of a deletion, say.
pub fn decode_at(record: &Record, revision: i64) -> Result<Value, Status> {
    let mut tree: Value = serde_json::from_slice(&record.value).map_err(|error| corrupt(record, &error))?;
    if !tree.is_object() {
        return Err(corrupt(record, &"it is no object"));
    }
    object::map_mut(&mut tree, &["metadata"]).insert("resourceVersion".into(), revision.to_string().into());
    Ok(tree)
}

/// Somebody wrote to the store past us.
fn corrupt(record: &Record, why: &dyn std::fmt::Display) -> Status {
    let key = String::from_utf8_lossy(&record.key);
    Status::internal(format!("unable to decode {key}: {why}"))
}

/// What must be known of a record's object.
pub fn facts(record: &Record, resource: &Resource) -> Arc<Facts> {
    let read = || match serde_json::from_slice::<Value>(&record.value) {
        // Our own encoding leaves the resource version out: what has one was written past us.
        Ok(tree) if tree["metadata"]["resourceVersion"].is_null() => {
            Facts::new(&tree, &record.value, resource)
        }
        _ => Facts::default(),
    };
    derived(record).facts.get_or_init(|| Arc::new(read())).clone()
}

/// The same where the object is at hand: after a write.
pub fn remember(record: &Record, resource: &Resource, tree: &Value) {
    if resource.conversion().is_none() {
        derived(record).facts.get_or_init(|| Arc::new(Facts::new(tree, &record.value, resource)));
    }
}

impl Facts {
    fn new(tree: &Value, stored: &[u8], resource: &Resource) -> Self {
        let Some(found) = memmem::find(stored, METADATA) else { return Self::default() };
        if !stored.starts_with(b"{\"kind\":") && !stored.starts_with(b"{\"apiVersion\":") {
            return Self::default();
        }
        let metadata = found + METADATA.len();
        let Some(splice) = place_of_version(&stored[metadata..], resource.custom().is_some()) else {
            return Self::default();
        };
        let labels = object::map(tree, &["metadata", "labels"]);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())));
        let mut labels: Vec<(Box<str>, Box<str>)> = labels.collect();
        labels.sort();
        // Facts are kept with the record, whichever version asks first.
        let fields = resource.builtin_kind().map_or(&[][..], |kind| kind.stored().fields);
        Self {
            sound: true,
            splice: metadata + splice,
            body: found,
            labels: labels.into(),
            fields: fields.iter().map(|(_, value)| value(tree).into()).collect(),
        }
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|(label, _)| (**label).cmp(key)).ok()?;
        Some(&self.labels[found].1)
    }

    /// The value of a field of the kind's table.
    pub fn field(&self, index: usize) -> Option<&str> {
        self.fields.get(index).map(|value| &**value)
    }
}

/// Where in metadata, whose entries begin here, the resource version belongs: after the uid, or where the alphabet has it. None: it is no
/// JSON.
fn place_of_version(entries: &[u8], is_sorted: bool) -> Option<usize> {
    const BEFORE: [&[u8]; 5] = [b"name", b"generateName", b"namespace", b"selfLink", b"uid"];
    let mut at = 0;
    while entries.get(at)? == &b'"' {
        let colon = after_value(entries, at)?;
        let key = &entries[at + 1..colon - 1];
        if if is_sorted { key > &b"resourceVersion"[..] } else { !BEFORE.contains(&key) } {
            return Some(at);
        }
        let end = after_value(entries, colon + 1)?;
        match entries.get(end)? {
            b',' => at = end + 1,
            _ => return Some(end),
        }
    }
    Some(at)
}

/// Where the JSON value ends that begins here.
fn after_value(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0u32;
    loop {
        match json.get(at)? {
            b'"' => {
                at += 1;
                loop {
                    match json.get(at)? {
                        b'\\' => at += 2,
                        b'"' => break,
                        _ => at += 1,
                    }
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return Some(at),
            _ if depth > 0 => {}
            // A number or a word.
            _ => {
                let rest = json.get(at..)?;
                return Some(at + rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?);
            }
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Whether an item of a list says its kind: those of custom resources do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `kind` and `apiVersion` are part of it.
    Full,
    /// They are left out: the list says them.
    Item,
}

/// Writes a record's object as JSON into `out`.
pub fn write(
    out: &mut Vec<u8>,
    record: &Record,
    resource: &Resource,
    revision: i64,
    naming: Naming,
) -> Result<(), Status> {
    let is_outdated = resource.custom().is_some_and(|custom| record.mod_revision < custom.since);
    if resource.conversion().is_some() || is_outdated {
        let mut tree = resource.load(decode_at(record, revision)?);
        if let Some(custom) = resource.custom() {
            custom.refresh(&mut tree);
        }
        if naming == Naming::Item
            && let Some(map) = tree.as_object_mut()
        {
            map.remove("kind");
            map.remove("apiVersion");
        }
        ordered::write(out, &tree);
        return Ok(());
    }
    let facts = facts(record, resource);
    if !facts.sound {
        // Written past us, but perhaps sound JSON all the same.
        let tree = decode_at(record, revision)?;
        ordered::write(out, &tree);
        return Ok(());
    }
    let from = match naming {
        Naming::Full if !resource.is_converted() => 0,
        Naming::Full => {
            let _infallible =
                write!(out, "{{\"kind\":{:?},\"apiVersion\":{:?},", resource.kind, resource.api_version);
            facts.body
        }
        Naming::Item => {
            out.push(b'{');
            facts.body
        }
    };
    let (head, tail) = record.value.split_at(facts.splice);
    out.extend_from_slice(&head[from..]);
    let (before, after) = match (head.last(), tail.first()) {
        (Some(b'{'), Some(b'}')) => ("", ""),
        (_, Some(b'}')) => (",", ""),
        _ => ("", ","),
    };
    let _infallible = write!(out, "{before}\"resourceVersion\":\"{revision}\"{after}");
    out.extend_from_slice(tail);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_has_its_place() {
        fn place(json: &str, is_sorted: bool) -> Option<&str> {
            json.get(place_of_version(json.as_bytes(), is_sorted)?..)
        }
        let typed = r#""name":"a\"}","namespace":"b","uid":"u","labels":{"uid":"v"}},"spec":1}"#;
        assert_eq!(place(typed, false), Some(r#""labels":{"uid":"v"}},"spec":1}"#));
        assert_eq!(place(r#""name":"a"},"spec":1}"#, false), Some(r#"},"spec":1}"#));
        let sorted = r#""annotations":{"x":"\\"},"generation":1,"name":"a","uid":"u"}}"#;
        assert_eq!(place(sorted, true), Some(r#""uid":"u"}}"#));
        // As an older program left it.
        assert_eq!(place(r#""generation":1,"name":"a"}}"#, false), Some(r#""generation":1,"name":"a"}}"#));
        assert_eq!(place("}}", false), Some("}}"));
        for cut in ["", "\"", "\"name", "\"name\":", "\"name\":\"a\"", "\"name\":[{\"a\"]"] {
            assert_eq!(place(cut, false), None, "{cut}");
        }
    }
}
