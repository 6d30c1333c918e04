//! `metadata.managedFields`: who owns which field. The rules are [`drydock_apimachinery::managed_fields`]; this is where the engine calls
//! them.

use crate::codec;
use crate::resource::Resource;
use crate::rest::meta;
use drydock_apimachinery::Status;
use drydock_apimachinery::managed_fields::{self, Place, Tracker};
use drydock_apimachinery::schema;
use serde_json::{Value, json};

/// What a writer to this subresource can't change (`GetResetFields`).
fn reset(resource: &Resource, subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "" if resource.has_status() => &[&["status"]],
        "status" => &[&["spec"]],
        _ => &[],
    }
}

fn place(resource: &Resource) -> Place<'_> {
    if let Some(custom) = resource.custom() {
        return Place::Custom(custom.schema());
    }
    match schema::find(&resource.group, &resource.version, &resource.kind) {
        Some(schema) => Place::of(schema),
        None => Place::Deduced,
    }
}

/// The object that an applied creation begins with.
fn nothing(resource: &Resource) -> Value {
    let mut tree = json!({});
    codec::complete(resource, &mut tree);
    tree
}

fn with_tracker<T>(resource: &Resource, subresource: &str, work: impl FnOnce(&Tracker<'_>) -> T) -> T {
    let now = meta::now();
    work(&Tracker {
        api_version: &resource.api_version,
        kind: &resource.kind,
        subresource,
        schema: place(resource),
        reset: reset(resource, subresource),
        now: &now,
    })
}

/// A writer made `new` of `old` (nothing: it is new): what it changed is its own from now on.
pub fn update(resource: &Resource, subresource: &str, old: Option<&Value>, new: &mut Value, manager: &str) {
    let empty = json!({});
    // There is something to write the entries into, even if nobody said anything.
    meta::of(new);
    with_tracker(resource, subresource, |tracker| tracker.update(old.unwrap_or(&empty), new, manager));
}

/// Refuses a configuration, as it was written, that is none of the kind.
pub fn check(resource: &Resource, subresource: &str, config: &Value) -> Result<(), Status> {
    with_tracker(resource, subresource, |tracker| tracker.check(config))
}

/// Merges what a manager wants into what there is (nothing: a new object).
pub fn apply(
    resource: &Resource,
    subresource: &str,
    old: Option<&Value>,
    wanted: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    let empty;
    let live = match old {
        Some(old) => old,
        None => {
            empty = nothing(resource);
            &empty
        }
    };
    let merged = with_tracker(resource, subresource, |tracker| tracker.apply(live, wanted, manager, force))?;
    codec::sparse(resource, merged)
}

/// Times alone are no change. Whether there is none.
pub fn keep_times(new: &mut Value, old: &Value) -> bool {
    managed_fields::keep_times(old, new)
}

/// An object without its entries, which often are half of it.
pub fn without_entries(object: &Value) -> Value {
    let Some(map) = object.as_object() else { return object.clone() };
    let copied = |(key, value): (&String, &Value)| (key.clone(), value.clone());
    let all = map.iter().map(|(key, value)| match value {
        Value::Object(metadata) if key == "metadata" => {
            let rest = metadata.iter().filter(|(key, _)| *key != "managedFields");
            (key.clone(), Value::Object(rest.map(copied).collect()))
        }
        value => copied((key, value)),
    });
    Value::Object(all.collect())
}
