//! How an object lies in the store: compact JSON as answers have it, which begins with kind and version and then `"metadata":{`, without
//! its resource version (that is the record's revision). So an answer is made by copying the stored bytes with the revision put in where
//! it belongs, and what lists and watches must know of an object to choose it ([`Facts`]) is read from it once per revision.

use crate::http::body;
use crate::resource::Resource;
use bytes::Bytes;
use drydock_apimachinery::{Status, managed_fields, object, ordered};
use drydock_etcd::Record;
use memchr::memmem;
use serde_json::Value;
use std::cell::RefCell;
use std::cmp::Ordering;
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
    /// Keys and values of its labels, sorted by key, and then the values of the fields that selectors may name, in the order of the
    /// kind's table: in one piece, since they are kept for every object.
    texts: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
    /// How many labels there are.
    labels: usize,
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
    written(|out| {
        ordered::write_stored(out, tree, &["resourceVersion", "selfLink"]);
        Bytes::copy_from_slice(out)
    })
}

/// A record's object as a line of JSON, to be sent at once.
pub fn line(record: &Record, resource: &Resource) -> Result<Bytes, Status> {
    written(|out| {
        write(out, record, resource, record.mod_revision, Naming::Full)?;
        out.push(b'\n');
        Ok(body::copied(out))
    })
}

/// Lends memory that is kept for it.
fn written<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    WRITTEN.with_borrow_mut(|out| {
        out.clear();
        out.reserve(SCRATCH);
        let done = work(out);
        out.shrink_to(SCRATCH);
        done
    })
}

/// The object of a record, with its resource version.
pub fn decode(record: &Record) -> Result<Value, Status> {
    decode_at(record, record.mod_revision)
}

/// The same for whoever writes it anew: the fields of its managers are texts, if that is how its kind is written
/// ([`managed_fields::with_texts`]).
pub fn decode_to_change(record: &Record, resource: &Resource) -> Result<Value, Status> {
    let texts =
        if resource.custom().is_none() { managed_fields::with_texts(&record.value).ok() } else { None };
    let Some(mut tree) = texts else { return decode(record) };
    object::map_mut(&mut tree, &["metadata"])
        .insert("resourceVersion".into(), record.mod_revision.to_string().into());
    Ok(tree)
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
        let (mut texts, mut ends) = (String::with_capacity(256), Vec::with_capacity(32));
        let mut add = |text: &str| {
            texts.push_str(text);
            ends.push(texts.len() as u32);
        };
        let mut labels = 0;
        // A map of JSON is sorted.
        for (key, value) in object::map(tree, &["metadata", "labels"]).into_iter().flatten() {
            if let Some(value) = value.as_str() {
                add(key);
                add(value);
                labels += 1;
            }
        }
        // Facts are kept with the record, whichever version asks first.
        let fields = resource.builtin_kind().map_or(&[][..], |kind| kind.stored().fields);
        fields.iter().for_each(|(_, value)| add(&value(tree)));
        let (texts, ends) = (texts.into(), ends.into());
        Self { sound: true, splice: metadata + splice, body: found, texts, ends, labels }
    }

    fn text(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.texts.get(start..end)
    }

    /// A label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let (mut from, mut to) = (0, self.labels);
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.text(2 * middle)?.cmp(key) {
                Ordering::Equal => return self.text(2 * middle + 1),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        None
    }

    /// The value of a field of the kind's table.
    pub fn field(&self, index: usize) -> Option<&str> {
        self.text(2 * self.labels + index)
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
    fn facts_are_found_again() {
        let registry = crate::resource::Registry::new();
        let pods = registry.snapshot().find("", "v1", "pods").cloned().expect("pods");
        let labels: serde_json::Map<_, _> =
            (0..9).map(|n| (format!("k{n}"), format!("v{n}").into())).collect();
        let pod = serde_json::json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "labels": labels},
            "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        let facts = Facts::new(&pod, &encode(&pod), &pods);
        assert!(facts.sound);
        for n in 0..9 {
            assert_eq!(facts.label(&format!("k{n}")), Some(&*format!("v{n}")));
        }
        assert_eq!([facts.label("k"), facts.label("k41"), facts.label("z")], [None; 3]);
        let kind = pods.builtin_kind().expect("a built-in kind").stored();
        for (index, (name, value)) in kind.fields.iter().enumerate() {
            assert_eq!(facts.field(index), Some(&*value(&pod)), "{name}");
        }
        assert_eq!(facts.field(kind.fields.len()), None);
    }

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
