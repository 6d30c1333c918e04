//! The walks of structured-merge-diff over values and their schema: the fields of a value, the difference of two, the merge of a
//! configuration into an object, and an object without some fields.

use super::place::{Place, Shape};
use super::set::Set;
use crate::patch::go_format;
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::error::Error;

/// What it means that a field is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// Just that.
    Nothing,
    /// The object is sparse (see `decode`): what Go's encoder always writes is there, with its zero value.
    Zero,
}

impl Absent {
    /// The value of a field that is not there.
    fn value(self, place: Place<'_>, name: &str) -> Option<Value> {
        if self == Self::Zero { place.zero(name) } else { None }
    }
}

/// What two values differ in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    /// Without what is in or below a set.
    pub fn without(self, ignored: &Set) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.without_trees(ignored),
            modified: self.modified.without_trees(ignored),
            removed: self.removed.without_trees(ignored),
        }
    }
}

/// The element of `FieldsV1` for a list's element; an error if it has none.
pub(super) fn element(
    place: Place<'_>,
    shape: Shape,
    value: &Value,
    absent: Absent,
) -> Result<String, String> {
    if shape == Shape::Set {
        return match value {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            scalar => Ok(format!("v:{scalar}")),
        };
    }
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let declared = place.keys();
    let mut keys: SmallVec<[(&str, Cow<'_, Value>); 3]> = SmallVec::new();
    for &key in &declared {
        let value = match map.get(key) {
            Some(value) => Some(Cow::Borrowed(value)),
            None => place.key_default(key).or_else(|| absent.value(place.element(), key)).map(Cow::Owned),
        };
        keys.extend(value.map(|value| (key, value)));
    }
    if keys.is_empty() && !declared.is_empty() {
        let names: Vec<_> = declared.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key \
             fields)",
            names.join(" ")
        ));
    }
    keys.sort_unstable_by_key(|(key, _)| *key);
    keyed(&keys).map_err(|error| error.to_string())
}

/// `k:{"port":80}`.
fn keyed(keys: &[(&str, Cow<'_, Value>)]) -> Result<String, Box<dyn Error>> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"k:{");
    for (index, (key, value)) in keys.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, key)?;
        out.push(b':');
        serde_json::to_writer(&mut out, value)?;
    }
    out.push(b'}');
    Ok(String::from_utf8(out)?)
}

fn field(name: &str) -> String {
    ["f:", name].concat()
}

fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => true,
    }
}

/// Elements of a list by what they are recognized by, in order; those without are left out.
fn indexed<'v>(
    place: Place<'_>,
    shape: Shape,
    list: &'v [Value],
    absent: Absent,
) -> (Vec<String>, HashMap<String, Vec<&'v Value>>) {
    let (mut order, mut values) = (Vec::new(), HashMap::<String, Vec<&Value>>::new());
    for one in list {
        let Ok(element) = element(place, shape, one, absent) else { continue };
        let all = values.entry(element.clone()).or_default();
        if all.is_empty() {
            order.push(element);
        }
        all.push(one);
    }
    (order, values)
}

/// All fields of a value.
pub(super) fn fields(value: &Value, place: Place<'_>) -> Set {
    collect(value, place).1
}

/// The fields below a value, and whether it is one itself.
fn collect(value: &Value, place: Place<'_>) -> (bool, Set) {
    let mut set = Set::default();
    match place.shape(Some(value), None) {
        Shape::Leaf => return (true, set),
        Shape::Map => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let (below, declared) = place.field(name).unwrap_or((Place::Deduced, false));
                let (member, inner) = collect(value, below);
                let nothing = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                set.put(|| field(name), member || nothing || !declared, inner);
            }
        }
        shape @ (Shape::Set | Shape::Keyed) => {
            let (order, values) = indexed(place, shape, list_of(Some(value)), Absent::Nothing);
            for element in order {
                let inner = match values[&element][..] {
                    [one] => collect(one, place.element()).1,
                    // What stands twice is owned as a whole.
                    _ => Set::default(),
                };
                set.put(|| element, true, inner);
            }
        }
    }
    (false, set)
}

/// How a value itself differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Modified,
    Removed,
}

impl Comparison {
    /// Puts in what was found at an element.
    fn put(&mut self, element: &dyn Fn() -> String, (change, below): (Change, Self)) {
        self.added.put(element, change == Change::Added, below.added);
        self.modified.put(element, change == Change::Modified, below.modified);
        self.removed.put(element, change == Change::Removed, below.removed);
    }
}

/// What changes from one value to another; absence differs from null. `metadata.managedFields` is not looked at.
pub(super) fn compare(old: &Value, new: &Value, place: Place<'_>, absent: Absent) -> Comparison {
    let mut out = Comparison::default();
    let (old, new) = (old.as_object(), new.as_object());
    let metadata = |map: Option<&Map<String, Value>>| map.and_then(|map| map.get("metadata")).is_some();
    for_each_name(old, new, place, absent, |name, before, after| {
        let below = place.field(name).map_or(Place::Deduced, |found| found.0);
        if name != "metadata" || !(metadata(old) && metadata(new)) {
            return out.put(&|| field(name), walk(before, after, below, absent));
        }
        let mut inner = Comparison::default();
        for_each_name(map_of(before), map_of(after), below, absent, |name, before, after| {
            if name != "managedFields" {
                let below = below.field(name).map_or(Place::Deduced, |found| found.0);
                inner.put(&|| field(name), walk(before, after, below, absent));
            }
        });
        out.put(&|| field(name), (Change::None, inner));
    });
    out
}

/// Calls for every name in either of two maps, in order.
fn for_each_name(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    place: Place<'_>,
    absent: Absent,
    mut call: impl FnMut(&str, Option<&Value>, Option<&Value>),
) {
    for (name, value) in old.into_iter().flatten() {
        match new.and_then(|new| new.get(name)) {
            Some(after) => call(name, Some(value), Some(after)),
            None => call(name, Some(value), absent.value(place, name).as_ref()),
        }
    }
    for (name, value) in new.into_iter().flatten() {
        if !old.is_some_and(|old| old.contains_key(name)) {
            call(name, absent.value(place, name).as_ref(), Some(value));
        }
    }
}

/// What is below a value that came or went as a whole.
fn below(value: &Value, place: Place<'_>, absent: Absent) -> Set {
    let mut set = Set::default();
    match place.shape(Some(value), None) {
        Shape::Leaf => {}
        Shape::Map => {
            let Some(map) = value.as_object() else { return set };
            for (name, value) in map {
                let place = place.field(name).map_or(Place::Deduced, |found| found.0);
                set.put(|| field(name), true, below(value, place, absent));
            }
            if absent == Absent::Zero {
                for (name, zero, place) in place.zeros().filter(|(name, ..)| !map.contains_key(*name)) {
                    set.put(|| field(name), true, below(&zero, place, absent));
                }
            }
        }
        shape @ (Shape::Set | Shape::Keyed) => {
            let (order, values) = indexed(place, shape, list_of(Some(value)), absent);
            for element in order {
                let inner = match values[&element][..] {
                    [one] => below(one, place.element(), absent),
                    // What stands twice comes and goes as a whole.
                    _ => Set::default(),
                };
                set.put(|| element, true, inner);
            }
        }
    }
    set
}

/// Whether two values are the same one.
pub(super) fn alike(before: &Value, after: &Value, place: Place<'_>, absent: Absent) -> bool {
    before == after || (absent == Absent::Zero && place.completed(before) == place.completed(after))
}

fn walk(old: Option<&Value>, new: Option<&Value>, place: Place<'_>, absent: Absent) -> (Change, Comparison) {
    let mut out = Comparison::default();
    let (before, after) = match (old, new) {
        (None, None) => return (Change::None, out),
        (None, Some(new)) => {
            out.added = below(new, place, absent);
            return (Change::Added, out);
        }
        (Some(old), None) => {
            out.removed = below(old, place, absent);
            return (Change::Removed, out);
        }
        (Some(before), Some(after)) => (before, after),
    };
    if before == after {
        return (Change::None, out);
    }
    match place.shape(old, new) {
        Shape::Leaf => {
            let change = if alike(before, after, place, absent) { Change::None } else { Change::Modified };
            return (change, out);
        }
        _ if is_empty(before) && is_empty(after) => return (Change::Modified, out),
        Shape::Map => for_each_name(map_of(old), map_of(new), place, absent, |name, before, after| {
            let below = place.field(name).map_or(Place::Deduced, |found| found.0);
            out.put(&|| field(name), walk(before, after, below, absent));
        }),
        shape => walk_lists(&mut out, shape, list_of(old), list_of(new), place, absent),
    }
    (Change::None, out)
}

/// What changes in a list whose elements are recognized.
fn walk_lists(
    out: &mut Comparison,
    shape: Shape,
    old: &[Value],
    new: &[Value],
    place: Place<'_>,
    absent: Absent,
) {
    let (old_order, old_values) = indexed(place, shape, old, absent);
    let (new_order, new_values) = indexed(place, shape, new, absent);
    let fresh = new_order.iter().filter(|element| !old_values.contains_key(*element));
    let inner = |rest: &[&Value]| match rest {
        [one] => below(one, place.element(), absent),
        _ => Set::default(),
    };
    for element in old_order.iter().chain(fresh) {
        let before = old_values.get(element).map_or(&[][..], Vec::as_slice);
        let after = new_values.get(element).map_or(&[][..], Vec::as_slice);
        let found = match (before, after) {
            ([_, _, ..], [_, _, ..]) => {
                let same = before.len() == after.len()
                    && before
                        .iter()
                        .zip(after)
                        .all(|(one, other)| alike(one, other, place.element(), absent));
                (if same { Change::None } else { Change::Modified }, Comparison::default())
            }
            // What stood twice and now stands once is new below, and gone as it was.
            ([_, _, ..], rest) => {
                if !rest.is_empty() {
                    out.added.put(|| element.clone(), true, Set::default());
                }
                (Change::Removed, Comparison { added: inner(rest), ..Comparison::default() })
            }
            (rest, [_, _, ..]) => {
                if !rest.is_empty() {
                    out.removed.put(|| element.clone(), true, Set::default());
                }
                (Change::Added, Comparison { removed: inner(rest), ..Comparison::default() })
            }
            (before, after) => walk(before.first().copied(), after.first().copied(), place.element(), absent),
        };
        out.put(&|| element.clone(), found);
    }
}

/// A configuration merged into an object.
pub(super) fn merge(old: Option<&Value>, new: Option<&Value>, place: Place<'_>) -> Option<Value> {
    let (Some(before), Some(after)) = (old, new) else { return new.or(old).cloned() };
    let shape = place.shape(old, new);
    if shape == Shape::Leaf || (is_empty(before) && is_empty(after)) {
        return Some(after.clone());
    }
    if shape == Shape::Map {
        let mut out = before.as_object().cloned().unwrap_or_default();
        for (name, value) in after.as_object().into_iter().flatten() {
            let below = place.field(name).map_or(Place::Deduced, |found| found.0);
            match merge(out.get(name), Some(value), below) {
                Some(merged) => out.insert(name.clone(), merged),
                None => out.remove(name),
            };
        }
        return Some(Value::Object(out));
    }
    Some(Value::Array(merge_lists(place, shape, list_of(old), list_of(new))))
}

/// Two lists merged: the configuration's elements in its order, and the object's where they were between them.
fn merge_lists(place: Place<'_>, shape: Shape, old: &[Value], new: &[Value]) -> Vec<Value> {
    let absent = Absent::Nothing;
    let (new_order, new_values) = indexed(place, shape, new, absent);
    let old_elements: Vec<_> =
        old.iter().filter_map(|one| Some((element(place, shape, one, absent).ok()?, one))).collect();
    let (_, old_values) = indexed(place, shape, old, absent);
    let merged = |element: &String| {
        // What stands twice in the object merges with nothing.
        let before =
            old_values.get(element).and_then(|all| if let [one] = all[..] { Some(one) } else { None });
        merge(before, new_values.get(element).and_then(|all| all.first().copied()), place.element())
    };
    let mut shared = new_order.iter().filter(|element| old_values.contains_key(*element));
    let mut next_shared = shared.next();
    let (mut out, mut done, mut left, mut right) = (Vec::new(), HashSet::new(), 0, 0);
    while left < old_elements.len() || right < new_order.len() {
        if let (Some((element, _)), Some(wanted)) = (old_elements.get(left), new_order.get(right)) {
            if element == wanted {
                done.insert(wanted);
                out.extend(merged(wanted));
                (left, right) = (left + 1, right + 1);
                next_shared = shared.next();
                continue;
            }
            if new_values.contains_key(element) && next_shared.is_some_and(|next| next != element) {
                left += 1;
                continue;
            }
        }
        if let Some((element, value)) = old_elements.get(left) {
            if !new_values.contains_key(element) {
                out.push((*value).clone());
                left += 1;
                continue;
            }
            if done.contains(element) {
                left += 1;
            }
        }
        if let Some(wanted) = new_order.get(right) {
            done.insert(wanted);
            out.extend(merged(wanted));
            right += 1;
            if next_shared == Some(wanted) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// A value without the fields of a set. Maps and lists that become empty are gone; so are atomic ones of which a part is named.
pub(super) fn remove(value: &Value, fields: &Set, place: Place<'_>) -> Option<Value> {
    match place.shape(Some(value), None) {
        Shape::Leaf if value.is_object() || value.is_array() => None,
        Shape::Leaf => Some(value.clone()),
        Shape::Map => {
            let mut out = Map::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                let element = field(name);
                if fields.has(&element) {
                    continue;
                }
                let below = place.field(name).map_or(Place::Deduced, |found| found.0);
                let kept = match fields.below(&element) {
                    // As upstream: what becomes nothing is null.
                    Some(subset) => remove(value, subset, below).unwrap_or(Value::Null),
                    None => value.clone(),
                };
                out.insert(name.clone(), kept);
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        shape => {
            let mut out = Vec::new();
            for one in list_of(Some(value)) {
                let Ok(element) = element(place, shape, one, Absent::Nothing) else { continue };
                if fields.has(&element) {
                    continue;
                }
                out.push(match fields.below(&element) {
                    Some(subset) => remove(one, subset, place.element()).unwrap_or(Value::Null),
                    None => one.clone(),
                });
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
    }
}

/// A set in which fields that a schema declares are members if anything below them is.
pub(super) fn with_named_fields(set: &Set, place: Place<'_>) -> Set {
    set.with_parents(place, &|place: Place<'_>, element: &str| match element.split_once(':') {
        Some(("f", name)) => place.field(name).unwrap_or((Place::Deduced, false)),
        Some(("k" | "v" | "i", _)) => (place.element(), false),
        _ => (Place::Deduced, false),
    })
}

/// What is wrong with a configuration to apply: fields that the schema has not, wrong types, doubled keys.
pub(super) fn validate(value: &Value, place: Place<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    check(value, place, &mut String::new(), &mut errors);
    errors
}

fn check(value: &Value, place: Place<'_>, path: &mut String, errors: &mut Vec<String>) {
    const MOST_ERRORS: usize = 100;
    if value.is_null() || errors.len() >= MOST_ERRORS {
        return;
    }
    let mut fail = |path: &str, message: String| errors.push(format!("{path}: {message}"));
    let fits = match place.scalar() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some(_) => value.is_number(),
        None => match place.composite() {
            Some("list") => value.is_array(),
            Some(_) => value.is_object(),
            None => true,
        },
    };
    if !fits {
        let wanted = place.scalar().or(place.composite()).unwrap_or_default();
        return fail(path, misfit(wanted, value));
    }
    let length = path.len();
    match value {
        Value::Object(map) => {
            let mut unknown = None;
            for (name, value) in map {
                path.push('.');
                path.push_str(name);
                match place.field(name) {
                    Some((below, _)) => check(value, below, path, errors),
                    None => unknown = unknown.or_else(|| Some(path.clone())),
                }
                path.truncate(length);
            }
            // As upstream, which leaves a map at the first that it does not know (in no order: it may come to it last).
            errors.extend(unknown.map(|path| format!("{path}: field not declared in schema")));
        }
        Value::Array(all) => {
            let shape = place.shape(Some(value), None);
            let mut seen = HashSet::new();
            for (index, one) in all.iter().enumerate() {
                let shown = if matches!(shape, Shape::Set | Shape::Keyed) {
                    match element(place, shape, one, Absent::Nothing) {
                        Ok(element) => {
                            let shown = super::set::shown(std::slice::from_ref(&element));
                            if !seen.insert(element) {
                                errors.push(format!("{path}: duplicate entries for key {shown}"));
                            }
                            shown
                        }
                        Err(message) => {
                            errors.push(format!("{path}: element {index}: {message}"));
                            break;
                        }
                    }
                } else {
                    format!("[{index}]")
                };
                path.push_str(&shown);
                check(one, place.element(), path, errors);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What a value is where something else was wanted, in the words of structured-merge-diff, which shows its own types.
fn misfit(wanted: &str, value: &Value) -> String {
    match wanted {
        "numeric" => {
            let type_ = match value {
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                Value::Object(_) => "map[string]interface {}",
                _ => "string",
            };
            format!("expected numeric (int or float), got {type_}")
        }
        "string" => {
            let shown = go_format::syntax(value);
            format!("expected string, got &value.valueUnstructured{{Value:{shown}}}")
        }
        other => format!("expected {other}, got &{{{}}}", go_format::value(value)),
    }
}
