//! What `kubectl get` prints: columns and cells per kind, as `pkg/printers/internalversion/printers.go` has them. Called by the
//! API server for `as=Table`; it computes every cell (also the age, also those of `-o wide`), the client prints them as they are.

pub mod core;
pub mod flowcontrol;
pub mod labels;
pub mod network;
pub mod others;
pub mod pod;
pub mod resource;
pub mod storage;
pub mod workloads;

use crate::kind::{Cell, Column};
use crate::tree::{at, get, has, list, text};
use drydock_apimachinery::{duration, object};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of a kind that has none of its own.
pub const OBJECT_META: &[Column] = &[
    Column::NAME,
    Column {
        name: "Created At",
        type_: "date",
        format: "",
        description: Column::AGE.description,
        priority: 0,
    },
];

const NONE: &str = "<none>";
const UNSET: &str = "<unset>";
const UNKNOWN: &str = "<unknown>";

/// Cells of [`OBJECT_META`].
pub fn object_meta(object: &Value, _now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(object::text(object, &["metadata", "creationTimestamp"]))]
}

fn name(object: &Value) -> Cell {
    json!(object::name(object))
}

/// How long ago a moment was that stands in an object.
fn since(moment: &Value, now: Timestamp) -> String {
    match parse(moment) {
        Some(then) => duration::human_duration(seconds(now, then)),
        None => UNKNOWN.into(),
    }
}

fn seconds(later: Timestamp, earlier: Timestamp) -> i64 {
    // Whole seconds towards zero, as Go's conversion does.
    let nanoseconds = later.as_nanosecond() - earlier.as_nanosecond();
    i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX)
}

fn parse(moment: &Value) -> Option<Timestamp> {
    moment.as_str()?.parse().ok()
}

fn age(object: &Value, now: Timestamp) -> Cell {
    json!(since(at(object, &["metadata", "creationTimestamp"]), now))
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// A number or a percentage.
fn int_or_string(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Names and images of a pod specification's containers.
fn containers(spec: &Value) -> [Cell; 2] {
    let joined = |field: &str| {
        let all: Vec<_> = list(spec, "containers").iter().map(|one| text(one, field)).collect();
        json!(all.join(","))
    };
    [joined("name"), joined("image")]
}

/// At most `most` of some texts, and how many more there are.
fn with_more(mut all: Vec<String>, most: usize) -> String {
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    let shown = all.join(",");
    if more > 0 { format!("{shown} + {more} more...") } else { shown }
}

fn is_deleting(object: &Value) -> bool {
    has(get(object, "metadata"), "deletionTimestamp")
}
