//! Who owns which field: server-side apply, and the tracking of all other writes (k8s.io/apimachinery `pkg/util/managedfields`
//! over structured-merge-diff). The API server makes a [`Tracker`] for a request and calls [`Tracker::update`] for every create,
//! update and patch, [`Tracker::apply`] for `application/apply-patch+yaml`, and [`keep_times`] before it decides whether a write changes
//! anything. Objects are complete (`decode::complete`), the empty object of a creation too. All versions of a kind share their fields.

mod apply;
mod place;
mod set;
mod walk;

pub use place::Place;
pub use set::Set;

use serde_json::{Map, Value, json};

/// Most entries of updates; older ones become one.
const MOST_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";
/// Fields that nobody owns.
const UNOWNED: [&[&str]; 11] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// What a request must say for its fields to be tracked.
#[derive(Debug, Clone, Copy)]
pub struct Tracker<'a> {
    /// Such as `apps/v1`.
    pub api_version: &'a str,
    /// Such as `Deployment`.
    pub kind: &'a str,
    /// Empty, or such as `status`.
    pub subresource: &'a str,
    /// The schema.
    pub schema: Place<'a>,
    /// Fields that this request cannot change (`GetResetFields`): `&[&["status"]]` for most kinds, `&[&["spec"]]` for their status.
    pub reset: &'a [&'a [&'a str]],
    /// The time, in seconds: `2026-11-20T13:03:47Z`.
    pub now: &'a str,
}

/// How an entry came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

/// An entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    time: Option<String>,
    fields: Set,
}

impl Entry {
    /// Whether two are of the same manager: appliers regardless of their version.
    fn same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The manager as conflicts name it.
    fn shown(&self) -> String {
        let mut out = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            out += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            out += &format!(" using {}", self.api_version);
        }
        out
    }

    fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
        let operation = match value["operation"].as_str() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        let api_version = text("apiVersion");
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match value["fieldsType"].as_str() {
            Some("FieldsV1") => {}
            None | Some("") => return Err("missing fieldsType in managed fields entry".into()),
            Some(other) => return Err(format!("invalid fieldsType {other:?} in managed fields entry")),
        }
        let fields = match value.get("fieldsV1") {
            None | Some(Value::Null) => Set::default(),
            Some(fields) => Set::from_json(fields)?,
        };
        let time = value["time"].as_str().map(Into::into);
        Ok(Self {
            manager: text("manager"),
            operation,
            api_version,
            subresource: text("subresource"),
            time,
            fields,
        })
    }

    fn write(&self) -> Value {
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        let mut out = json!({"apiVersion": self.api_version, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
            "operation": operation});
        for (name, value) in [("manager", &self.manager), ("subresource", &self.subresource)] {
            if !value.is_empty() {
                out[name] = value.as_str().into();
            }
        }
        if let Some(time) = &self.time {
            out["time"] = time.as_str().into();
        }
        out
    }
}

/// The entries of an object; none if they cannot be read, as upstream.
fn entries(object: &Value) -> Result<Vec<Entry>, String> {
    let all = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    all.into_iter().flatten().map(Entry::read).collect()
}

/// Writes entries into an object, in their order: appliers first, then by time and name.
fn write_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.sort_by(|a, b| {
        let order = |one: &Entry| {
            (
                one.operation,
                one.time.clone().unwrap_or_default(),
                one.manager.clone(),
                one.api_version.clone(),
                one.subresource.clone(),
            )
        };
        order(a).cmp(&order(b))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), entries.iter().map(Entry::write).collect());
    }
}

fn unowned() -> Set {
    paths(&UNOWNED)
}

fn paths(all: &[&[&str]]) -> Set {
    all.iter().map(|path| path.iter().map(|name| format!("f:{name}")).collect()).collect()
}

/// An object without its entries.
fn without_entries(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

impl Tracker<'_> {
    /// Tells in `new` who wrote what differs from `live` (of a creation: the complete empty object). The writer may have changed
    /// `managedFields` itself; an empty list, or one of an empty entry, forgets them all.
    pub fn update(&self, live: &Value, new: &mut Value, manager: &str) {
        let given = new.pointer("/metadata/managedFields").cloned();
        let forget = match given.as_ref().and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => true,
            Some([Value::Object(one)]) => one.is_empty(),
            _ => false,
        };
        let of_live = || entries(live).unwrap_or_default();
        let managers = if !self.subresource.is_empty() {
            of_live()
        } else if forget {
            Vec::new()
        } else {
            match entries(new) {
                Ok(managers) if !managers.is_empty() => managers,
                _ => of_live(),
            }
        };
        let creating = live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().is_empty();
        if managers.is_empty() && !creating {
            // Nobody's fields are tracked: an old object, or somebody wanted it so.
            return write_entries(new, Vec::new());
        }
        let managers = self.track(live, new, managers, manager, self.now);
        write_entries(new, managers);
    }

    /// Ownership after a write that is no apply.
    fn track(&self, live: &Value, new: &Value, managers: Vec<Entry>, manager: &str, now: &str) -> Vec<Entry> {
        let comparison = walk::compare(&without_entries(live), &without_entries(new), self.schema)
            .without(&paths(self.reset));
        let changed = comparison.modified.union(comparison.added);
        let mut managers = release(managers, &changed, &comparison.removed);
        let taken = changed.difference(&unowned());
        if !taken.is_empty() {
            let mine = Entry {
                manager: if manager.is_empty() { "unknown".into() } else { manager.into() },
                operation: Operation::Update,
                api_version: self.api_version.into(),
                subresource: self.subresource.into(),
                time: Some(now.into()),
                fields: taken,
            };
            match managers.iter_mut().find(|one| one.same(&mine)) {
                Some(known) => {
                    known.fields = std::mem::take(&mut known.fields).union(mine.fields);
                    known.time = mine.time;
                }
                None => managers.push(mine),
            }
        }
        cap(managers)
    }
}

/// Takes from managers what somebody else has changed or removed.
fn release(managers: Vec<Entry>, changed: &Set, removed: &Set) -> Vec<Entry> {
    let rest = managers.into_iter().map(|mut one| {
        one.fields = one.fields.difference(changed).difference(removed);
        one
    });
    rest.filter(|one| !one.fields.is_empty()).collect()
}

/// Merges the oldest updates so that there are not too many.
fn cap(mut managers: Vec<Entry>) -> Vec<Entry> {
    let mut updaters: Vec<_> =
        managers.iter().filter(|one| one.operation == Operation::Update).cloned().collect();
    let mut count = updaters.len();
    if count <= MOST_UPDATERS {
        return managers;
    }
    updaters.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    managers.retain(|one| one.operation == Operation::Apply);
    let mut buckets: Vec<Entry> = Vec::new();
    for one in updaters {
        match buckets.iter_mut().find(|bucket| bucket.api_version == one.api_version) {
            Some(bucket) if count > MOST_UPDATERS => {
                bucket.manager = ANCIENT.into();
                bucket.subresource = String::new();
                bucket.fields = std::mem::take(&mut bucket.fields).union(one.fields);
                bucket.time = one.time;
                count -= 1;
            }
            _ => buckets.push(one),
        }
    }
    managers.extend(buckets);
    managers
}

/// If two objects differ in nothing but the times of their entries, gives the new one the old times: such a write is none.
pub fn keep_times(old: &Value, new: &mut Value) {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        let all = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
        all.into_iter().flatten().filter_map(Value::as_object_mut).for_each(
            |entry: &mut Map<String, Value>| {
                entry.remove("time");
            },
        );
        object
    };
    if old.pointer("/metadata/managedFields") != new.pointer("/metadata/managedFields")
        && timeless(old) == timeless(new)
        && let Some(managed) = old.pointer("/metadata/managedFields")
    {
        new["metadata"]["managedFields"] = managed.clone();
    }
}

#[cfg(test)]
mod tests;
