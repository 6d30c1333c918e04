//! Who owns which field: server-side apply, and the tracking of all other writes (k8s.io/apimachinery `pkg/util/managedfields`
//! over structured-merge-diff). The API server makes a [`Tracker`] for a request and calls [`Tracker::update`] for every create,
//! update and patch, [`Tracker::apply`] for `application/apply-patch+yaml`, and [`keep_times`] before it decides whether a write changes
//! anything. What [`Tracker::update`] compares may be complete (`decode::complete`) or sparse; what is applied to is complete, the empty
//! object of a creation too. All versions of a kind share their fields.

mod apply;
mod created;
mod place;
mod set;
mod text;
mod walk;

pub use place::Place;
pub use set::Set;
pub use text::{has_texts, with_texts, without_texts};

use serde_json::{Map, Value};
use std::sync::OnceLock;

/// Most entries of updates; older ones become one.
const MOST_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";
/// Fields that nobody owns, though somebody may own what is below them.
const UNOWNED: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// The same of `metadata`.
const UNOWNED_METADATA: [&str; 8] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
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
    fields: Fields,
}

/// The fields of an entry: as they were read (a tree or, see [`text`], a text), until something must be known of them. Most entries are
/// written as they were read.
#[derive(Debug, Clone, PartialEq)]
enum Fields {
    Raw(Value),
    Set(Set),
}

impl Fields {
    fn set(&self) -> Set {
        match self {
            // What cannot be read was refused when the entry was read.
            Self::Raw(Value::String(text)) => serde_json::from_str(text)
                .map_or_else(|_| Set::default(), |raw| Set::from_json(&raw).unwrap_or_default()),
            Self::Raw(raw) => Set::from_json(raw).unwrap_or_default(),
            Self::Set(set) => set.clone(),
        }
    }

    /// Makes another set of it.
    fn change(&mut self, change: impl FnOnce(Set) -> Set) {
        let set = match self {
            Self::Raw(_) => self.set(),
            Self::Set(set) => std::mem::take(set),
        };
        *self = Self::Set(change(set));
    }

    fn touched_by(&self, set: &Set) -> bool {
        match self {
            Self::Raw(Value::String(text)) => text::touched(text, set),
            Self::Raw(raw) => set.touches(raw),
            Self::Set(own) => !own.intersection(set).is_empty(),
        }
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        match self {
            Self::Raw(Value::String(text)) => matches!(text.as_str(), "{}" | r#"{".":{}}"#),
            Self::Raw(raw) => raw.as_object().is_none_or(|raw| raw.keys().all(|key| key == ".")),
            Self::Set(set) => set.is_empty(),
        }
    }

    fn write(self, as_text: bool) -> Value {
        let raw = match self {
            Self::Raw(raw) => raw,
            Self::Set(set) => set.into_json(),
        };
        match raw {
            raw @ Value::Object(_) if as_text => raw.to_string().into(),
            raw if as_text => raw,
            raw => text::tree(raw),
        }
    }
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

    /// Reads an entry. With `trusted`, its fields are those of a stored object: they were checked before.
    fn read(mut value: Value, trusted: bool) -> Result<Self, String> {
        let mut text = |name: &str| match value.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        let (api_version, fields_type) = (text("apiVersion"), text("fieldsType"));
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match fields_type.as_str() {
            "FieldsV1" => {}
            "" => return Err("missing fieldsType in managed fields entry".into()),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry")),
        }
        let (manager, subresource, time) = (text("manager"), text("subresource"), text("time"));
        let time = (!time.is_empty()).then_some(time);
        let fields = match value.get_mut("fieldsV1").map(Value::take) {
            None | Some(Value::Null) => Fields::Set(Set::default()),
            Some(raw) if trusted && (raw.is_object() || raw.is_string()) => Fields::Raw(raw),
            Some(raw) => Fields::Set(Set::from_json(&raw)?),
        };
        Ok(Self { manager, operation, api_version, subresource, time, fields })
    }

    fn write(self, as_text: bool) -> Value {
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        let fields = self.fields.write(as_text);
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| out.insert(name.into(), value);
        put("apiVersion", self.api_version.into());
        put("fieldsType", "FieldsV1".into());
        put("fieldsV1", fields);
        put("operation", operation.into());
        for (name, value) in [("manager", self.manager), ("subresource", self.subresource)] {
            if !value.is_empty() {
                put(name, value.into());
            }
        }
        if let Some(time) = self.time {
            put("time", time.into());
        }
        Value::Object(out)
    }
}

/// Entries of a list of them.
fn entries(all: Option<Value>, trusted: bool) -> Result<Vec<Entry>, String> {
    match all {
        Some(Value::Array(all)) => all.into_iter().map(|one| Entry::read(one, trusted)).collect(),
        _ => Ok(Vec::new()),
    }
}

/// The list of an object's entries.
fn listed(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// Writes entries into an object, in their order: appliers first, then by time and name.
fn write_entries(object: &mut Value, mut entries: Vec<Entry>, as_text: bool) {
    entries.sort_by(|a, b| {
        let order = |one: &Entry| (one.operation, one.time.is_some());
        order(a)
            .cmp(&order(b))
            .then_with(|| a.time.cmp(&b.time))
            .then_with(|| a.manager.cmp(&b.manager))
            .then_with(|| a.api_version.cmp(&b.api_version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), entries.into_iter().map(|one| one.write(as_text)).collect());
    }
}

fn unowned() -> &'static Set {
    static SET: OnceLock<Set> = OnceLock::new();
    SET.get_or_init(|| {
        let top = UNOWNED.iter().map(|name| vec![format!("f:{name}")]);
        let below = UNOWNED_METADATA.iter().map(|name| vec!["f:metadata".into(), format!("f:{name}")]);
        top.chain(below).collect()
    })
}

fn paths(all: &[&[&str]]) -> Set {
    all.iter().map(|path| path.iter().map(|name| format!("f:{name}")).collect()).collect()
}

impl Tracker<'_> {
    /// Whether the fields of entries are written as texts: the objects of custom kinds are written sorted, whatever their fields are.
    fn writes_texts(&self) -> bool {
        matches!(self.schema, Place::BuiltIn(..))
    }

    /// Tells in `new` who wrote what differs from `live` (of a creation: the empty object). The writer may have changed
    /// `managedFields` itself; an empty list, or one of an empty entry, forgets them all.
    pub fn update(&self, live: &Value, new: &mut Value, manager: &str) {
        if self.is_simple_creation(live, new) {
            // Names of fields are text.
            let fields = created::fields(new, self.schema, self.reset).unwrap_or_default();
            let mine = (fields.len() > "{}".len()).then(|| {
                let raw = if self.writes_texts() { fields.into() } else { text::tree(fields.into()) };
                self.entry(manager, Fields::Raw(raw))
            });
            return write_entries(new, mine.into_iter().collect(), self.writes_texts());
        }
        let given = new
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .and_then(|metadata| metadata.remove("managedFields"));
        let forget = match given.as_ref().and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => true,
            Some([Value::Object(one)]) => one.is_empty(),
            _ => false,
        };
        let of_live = || entries(listed(live).cloned(), true).unwrap_or_default();
        let managers = if given.as_ref() == listed(live) {
            entries(given, true).unwrap_or_default()
        } else if !self.subresource.is_empty() {
            of_live()
        } else if forget {
            Vec::new()
        } else {
            match entries(given, false) {
                Ok(managers) if !managers.is_empty() => managers,
                _ => of_live(),
            }
        };
        let creating = live.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().is_empty();
        if managers.is_empty() && !creating {
            // Nobody's fields are tracked: an old object, or somebody wanted it so.
            return write_entries(new, Vec::new(), false);
        }
        let managers = self.track(live, new, managers, manager);
        write_entries(new, managers, self.writes_texts());
    }

    /// Whether nobody owns anything yet: most creations are so.
    fn is_simple_creation(&self, live: &Value, new: &Value) -> bool {
        live.as_object().is_some_and(Map::is_empty)
            && listed(new).is_none()
            && self.reset.iter().all(|path| path.len() == 1)
    }

    /// An entry of a manager that writes now.
    fn entry(&self, manager: &str, fields: Fields) -> Entry {
        Entry {
            manager: if manager.is_empty() { "unknown".into() } else { manager.into() },
            operation: Operation::Update,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: Some(self.now.into()),
            fields,
        }
    }

    /// Ownership after a write that is no apply.
    fn track(&self, live: &Value, new: &Value, managers: Vec<Entry>, manager: &str) -> Vec<Entry> {
        let comparison =
            walk::compare(live, new, self.schema, walk::Absent::Zero).without(&paths(self.reset));
        let changed = comparison.modified.union(comparison.added);
        let mut managers = release(managers, &changed, &comparison.removed);
        let taken = changed.difference(unowned());
        if !taken.is_empty() {
            let mut mine = self.entry(manager, Fields::Set(taken));
            if let Some(at) = managers.iter().position(|one| one.same(&mine)) {
                let known = managers.remove(at);
                mine.fields.change(|taken| known.fields.set().union(taken));
            }
            managers.push(mine);
        }
        cap(managers)
    }
}

/// Takes from managers what somebody else has changed or removed.
fn release(managers: Vec<Entry>, changed: &Set, removed: &Set) -> Vec<Entry> {
    let rest = managers.into_iter().map(|mut one| {
        if one.fields.touched_by(changed) || one.fields.touched_by(removed) {
            one.fields.change(|set| set.difference(changed).difference(removed));
        }
        one
    });
    rest.filter(|one| !one.fields.is_empty()).collect()
}

/// Merges the oldest updates so that there are not too many.
fn cap(managers: Vec<Entry>) -> Vec<Entry> {
    let is_update = |one: &Entry| one.operation == Operation::Update;
    let mut count = managers.iter().filter(|one| is_update(one)).count();
    if count <= MOST_UPDATERS {
        return managers;
    }
    let (mut updaters, mut managers): (Vec<_>, Vec<_>) = managers.into_iter().partition(is_update);
    updaters.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut buckets: Vec<Entry> = Vec::new();
    for one in updaters {
        match buckets.iter_mut().find(|bucket| bucket.api_version == one.api_version) {
            Some(bucket) if count > MOST_UPDATERS => {
                bucket.manager = ANCIENT.into();
                bucket.subresource = String::new();
                bucket.fields.change(|set| set.union(one.fields.set()));
                bucket.time = one.time;
                count -= 1;
            }
            _ => buckets.push(one),
        }
    }
    managers.extend(buckets);
    managers
}

/// If two objects differ in nothing but the times of their entries, gives the new one the old times: such a write is none. Tells whether
/// it is so, or they did not differ at all.
pub fn keep_times(old: &Value, new: &mut Value) -> bool {
    let (Some(before), Some(_)) = (listed(old), listed(new)) else { return old == new };
    let is_same = same_but(old, new, &["metadata"], |old, new| {
        same_but(old, new, &["managedFields"], |old, new| {
            let (Some(old), Some(new)) = (old.as_array(), new.as_array()) else { return false };
            old.len() == new.len()
                && old.iter().zip(new).all(|(old, new)| {
                    same_but(old, new, &["time", "fieldsV1"], |_, _| true) && same_fields(old, new)
                })
        })
    });
    if is_same {
        new["metadata"]["managedFields"] = before.clone();
    }
    is_same
}

/// Whether the fields of two entries are the same, whichever of them is a text.
fn same_fields(old: &Value, new: &Value) -> bool {
    match (old.get("fieldsV1"), new.get("fieldsV1")) {
        (Some(text @ Value::String(_)), Some(tree @ Value::Object(_)))
        | (Some(tree @ Value::Object(_)), Some(text @ Value::String(_))) => text::tree(text.clone()) == *tree,
        (old, new) => old == new,
    }
}

/// Whether two objects are the same but for some fields, which `also` compares if both have them.
fn same_but(old: &Value, new: &Value, fields: &[&str], also: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let others =
        |map: &Map<String, Value>| map.len() - fields.iter().filter(|name| map.contains_key(**name)).count();
    let same =
        |(name, value): (&String, &Value)| fields.contains(&name.as_str()) || new.get(name) == Some(value);
    let pair = |name: &&str| match (old.get(*name), new.get(*name)) {
        (Some(old), Some(new)) => also(old, new),
        _ => true,
    };
    // From the end, where the status is: mostly it is what differs.
    others(old) == others(new) && old.iter().rev().all(same) && fields.iter().all(pair)
}

#[cfg(test)]
mod tests;
