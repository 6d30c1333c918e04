//! Strategic merge patch (k8s.io/apimachinery `pkg/util/strategicpatch`, `StrategicMergeMapPatch`): maps merge, lists merge by the
//! key that the schema names, and directives in the patch say what to delete, to replace or how to order. Lists are looked up by hash:
//! a patch of many elements costs no square.

use super::go_format;
use crate::schema::Type;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Why a patch cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// It has a wrong form: 400.
    Bad(String),
    /// It cannot apply: 422.
    Unprocessable,
    /// What upstream answers 500 to.
    Other(String),
}

type Result<T> = std::result::Result<T, Error>;

fn other<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Other(message.into()))
}

/// What a merge must know of a field.
#[derive(Debug, Clone, Copy)]
pub struct Field<S> {
    /// What is below it: the fields of a struct, or of a list's elements.
    pub below: S,
    /// `patchStrategy: merge`.
    pub merges: bool,
    /// `patchStrategy: replace`.
    pub replaces: bool,
    /// `patchMergeKey`.
    pub key: Option<&'static str>,
}

/// A place in a schema, as a merge asks for it.
pub trait Lookup: Copy {
    /// A field of the struct or map; the error is upstream's for an unknown one.
    fn field(self, name: &str) -> std::result::Result<Field<Self>, String>;
    /// The type's name, for errors.
    fn name(self) -> String;
}

impl Lookup for Option<Type> {
    fn field(self, name: &str) -> std::result::Result<Field<Self>, String> {
        let elements = |type_| match type_ {
            Type::List(elem) | Type::NamedList(elem) => Some(elem.type_()),
            other => Some(other),
        };
        match self {
            Some(Type::Struct(schema)) => match schema.field(name) {
                Some(field) => Ok(Field {
                    below: elements(field.type_()),
                    merges: field.patch_merges(),
                    replaces: field.patch_replaces(),
                    key: field.merge_key(),
                }),
                None => Err(format!(
                    "unable to find api field in struct {} for the json field {name:?}",
                    schema.name()
                )),
            },
            Some(Type::Map(elem)) => {
                Ok(Field { below: elements(elem.type_()), merges: false, replaces: false, key: None })
            }
            _ => Ok(Field { below: None, merges: false, replaces: false, key: None }),
        }
    }

    fn name(self) -> String {
        match self {
            Some(Type::Struct(schema)) => schema.name().into(),
            _ => String::new(),
        }
    }
}

/// Merges a patch into an object.
pub(super) fn merge<S: Lookup>(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: S,
) -> Result<Map<String, Value>> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => {
                let shown = go_format::value(&directive);
                patch.insert(PATCH.into(), directive);
                other(format!("unknown patch type: {shown} in map: {}", go_format::map(&patch)))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
            Some(list) => (list.to_string(), true),
            None if key.starts_with("$deleteFromPrimitiveList") => {
                return Err(Error::Bad("invalid patch format of primitive list".into()));
            }
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let field = schema.field(&key).map_err(Error::Other)?;
                if field.replaces {
                    Some(Value::Object(new))
                } else {
                    Some(Value::Object(merge(old, new, field.below)?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let field = schema.field(&key).map_err(Error::Other)?;
                let all = if deletes {
                    delete_from(old, &new)
                } else if field.merges {
                    merge_lists(old, new, field, &mut Positions(HashMap::new()))?
                } else {
                    new
                };
                Some(Value::Array(all))
            }
            (old, _) if deletes => old,
            (_, mut new) => {
                discard_nulls(&mut new);
                remove_directives(new)
            }
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

/// `$retainKeys`: drops from the original what it does not list; the patch may not write more.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<()> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || Error::Bad("invalid patch format of retainKeys".into());
    let retained =
        retained.as_array().ok_or_else(bad)?.iter().filter_map(Value::as_str).collect::<HashSet<_>>();
    for (key, value) in patch.iter() {
        let checked = !value.is_null() && !key.starts_with(DELETE_FROM) && !key.starts_with(ORDER);
        if checked && !retained.contains(key.as_str()) {
            return Err(bad());
        }
    }
    original.retain(|key, _| retained.contains(key.as_str()));
    Ok(())
}

/// Lists for which the patch says the order of elements (`$setElementOrder/…`).
fn merge_ordered<S: Lookup>(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: S,
) -> Result<()> {
    let orders: Vec<_> = patch.keys().filter(|key| key.starts_with("$setElementOrder")).cloned().collect();
    for directive in orders {
        let bad = || Error::Bad("invalid patch format of setElementOrder list".into());
        let name = directive.strip_prefix(ORDER).ok_or_else(bad)?;
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(bad()) };
        let field = schema.field(name).map_err(Error::Other)?;
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(all)) => Ok(Some(all)),
            Some(_) => other("expected a slice, but received another type"),
        };
        // A null in the patch deletes the list: the merge of fields does that.
        if patch.get(name).is_some_and(Value::is_null) {
            continue;
        }
        let (old, new) = (list(original.get(name).cloned())?, list(patch.remove(name))?);
        check_order(new.as_deref().unwrap_or_default(), &order, field.key)?;
        let mut server_order = Positions::of(old.as_deref().unwrap_or_default(), field.key);
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match remove_directives(Value::Array(new)) {
                Some(Value::Array(all)) => all,
                _ => continue,
            },
            (Some(old), Some(new)) if field.merges => merge_lists(old, new, field, &mut server_order)?,
            (Some(_), Some(new)) => new,
        };
        let ordered = in_order(merged, &Positions::of(&order, field.key), &server_order, field.key)?;
        original.insert(name.into(), Value::Array(ordered));
    }
    Ok(())
}

/// The elements of a patch must stand in the order that it declares.
fn check_order(list: &[Value], order: &[Value], key: Option<&str>) -> Result<()> {
    if list.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut at = 0;
    for element in list.iter().filter(|element| element.get(PATCH).is_none()) {
        let wanted = identity(element, key)?;
        loop {
            let Some(next) = order.get(at) else {
                let (list, order) = (go_format::value(&list.into()), go_format::value(&order.into()));
                return other(format!(
                    "The order in patch list:\n{list}\n doesn't match $setElementOrder list:\n{order}\n"
                ));
            };
            at += 1;
            if identity(next, key)? == wanted {
                break;
            }
        }
    }
    Ok(())
}

/// By what an element is recognized: the value of the merge key, or itself.
fn identity(element: &Value, key: Option<&str>) -> Result<String> {
    let Some(key) = key else { return Ok(element.to_string()) };
    match element {
        Value::Object(map) => match map.get(key) {
            Some(value) => Ok(value.to_string()),
            None => other(format!("map: {} does not contain declared merge key: {key}", go_format::map(map))),
        },
        _ => other("expected a map, but received another type"),
    }
}

/// Where elements stand in a list.
struct Positions(HashMap<String, usize>);

impl Positions {
    fn of(list: &[Value], key: Option<&str>) -> Self {
        let mut positions = HashMap::with_capacity(list.len());
        for (at, element) in list.iter().enumerate() {
            if let Ok(identity) = identity(element, key) {
                positions.entry(identity).or_insert(at);
            }
        }
        Self(positions)
    }

    fn get(&self, identity: &str) -> Option<usize> {
        self.0.get(identity).copied()
    }
}

/// Orders a merged list: elements of the patch in its order, those of the server in theirs, and the two woven together.
fn in_order(
    list: Vec<Value>,
    order: &Positions,
    server: &Positions,
    key: Option<&str>,
) -> Result<Vec<Value>> {
    let (mut patched, mut kept) = (Vec::new(), Vec::new());
    for element in list {
        let identity = identity(&element, key)?;
        let at = server.get(&identity);
        match order.get(&identity) {
            Some(place) => patched.push((place, at, element)),
            None => kept.push((at, element)),
        }
    }
    patched.sort_by_key(|one| one.0);
    // What the server does not know comes first, as upstream's comparison has it.
    kept.sort_by_key(|one| one.0);
    let mut out = Vec::with_capacity(patched.len() + kept.len());
    let (mut patched, mut kept) = (patched.into_iter().peekable(), kept.into_iter().peekable());
    loop {
        let take_kept = match (kept.peek(), patched.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((left, _)), Some((_, right, _))) => {
                matches!((left, right), (Some(left), Some(right)) if left < right)
            }
        };
        if take_kept {
            out.extend(kept.next().map(|one| one.1))
        } else {
            out.extend(patched.next().map(|one| one.2))
        }
    }
}

/// Merges two lists of a field with strategy `merge`. `server_order` becomes what upstream takes for the server's order afterwards:
/// there, deleting and adding happen in place, so that as many new elements count as the server's as were deleted.
fn merge_lists<S: Lookup>(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: Field<S>,
    server_order: &mut Positions,
) -> Result<Vec<Value>> {
    let Some(first) = original.first().or(patch.first()) else { return Ok(original) };
    if original.iter().chain(&patch).any(Value::is_array) {
        return Err(Error::Unprocessable);
    }
    let maps = first.is_object();
    if original.iter().chain(&patch).any(|one| one.is_object() != maps) {
        return other("list element types are not identical");
    }
    if !maps {
        let server = Positions::of(&original, None);
        let order = Positions::of(&patch, None);
        let mut seen = HashSet::new();
        let both = original.into_iter().chain(patch).filter(|one| seen.insert(one.to_string())).collect();
        return in_order(both, &order, &server, None);
    }
    let Some(key) = field.key else {
        return other(format!("cannot merge lists without merge key for {}", field.below.name()));
    };
    let before = original.len();
    let (mut original, patch) = special_elements(original, patch, key)?;
    let server = Positions::of(&original, Some(key));
    let order = Positions::of(&patch, Some(key));
    let mut known = Positions::of(&original, Some(key)).0;
    let in_place = !patch.is_empty() && original.len() < before;
    if in_place {
        server_order.0 = known.clone();
    }
    for element in patch {
        let identity = identity(&element, Some(key))?;
        match (known.get(&identity), element) {
            (Some(&at), Value::Object(new)) => {
                if let Value::Object(old) = original[at].take() {
                    original[at] = Value::Object(merge(old, new, field.below)?);
                }
            }
            (_, element) => {
                if in_place && original.len() < before {
                    server_order.0.insert(identity.clone(), original.len());
                }
                known.insert(identity, original.len());
                original.push(element);
            }
        }
    }
    in_order(original, &order, &server, Some(key))
}

/// Carries out the elements of a patch that are directives.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut rest, mut deleted, mut replace) = (Vec::new(), HashSet::new(), false);
    for element in patch {
        let Some(directive) = element.get(PATCH) else {
            rest.push(element);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                deleted.insert(identity(&element, Some(key))?);
            }
            Some("replace") => replace = true,
            Some("merge") => return other("merging lists cannot yet be specified in the patch"),
            _ => {
                let (directive, element) = (go_format::value(directive), go_format::value(&element));
                return other(format!("unknown patch type: {directive} in map: {element}"));
            }
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    if !deleted.is_empty() {
        original.retain(|element| !identity(element, Some(key)).is_ok_and(|one| deleted.contains(&one)));
    }
    Ok((original, rest))
}

fn delete_from(list: Vec<Value>, deleted: &[Value]) -> Vec<Value> {
    let deleted: HashSet<_> = deleted.iter().map(ToString::to_string).collect();
    list.into_iter().filter(|one| !deleted.contains(&one.to_string())).collect()
}

/// Nulls in what is new would delete nothing.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(all) => all.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What is new without its directives; nothing if it is one.
fn remove_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(
            map.into_iter().filter_map(|(key, value)| Some((key, remove_directives(value)?))).collect(),
        )),
        Value::Array(all) => Some(Value::Array(all.into_iter().filter_map(remove_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The item of upstream's tests: every kind of list and map at every level.
    #[derive(Clone, Copy)]
    struct Item;

    impl Lookup for Item {
        fn field(self, name: &str) -> std::result::Result<Field<Self>, String> {
            let (merges, replaces, key) = match name {
                "mergingList" => (true, false, Some("name")),
                "mergingIntList" => (true, false, None),
                "replacingItem" => (false, true, None),
                _ => (false, false, None),
            };
            Ok(Field { below: Self, merges, replaces, key })
        }

        fn name(self) -> String {
            "MergeItem".into()
        }
    }

    fn run(original: Value, patch: Value) -> Result<Value> {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        merge(map(original), map(patch), Item).map(Value::Object)
    }

    /// What patches make of objects, one case for each rule of upstream's `TestCustomStrategicMergePatch` and
    /// `TestStrategicMergePatch`.
    #[test]
    fn merges_as_upstream_does() {
        for (original, patch, expected) in [
            // Maps merge; null deletes; null for what is not there is nothing.
            (
                json!({"simpleMap": {"a": 1, "b": 2}}),
                json!({"simpleMap": {"a": null, "c": 3, "d": null}}),
                json!({"simpleMap": {"b": 2, "c": 3}}),
            ),
            (json!({}), json!({"simpleMap": {"a": null, "b": 1}}), json!({"simpleMap": {"b": 1}})),
            // Directives in maps.
            (
                json!({"simpleMap": {"a": 1}}),
                json!({"simpleMap": {"$patch": "replace", "b": 2}}),
                json!({"simpleMap": {"b": 2}}),
            ),
            (
                json!({"simpleMap": {"a": 1}}),
                json!({"simpleMap": {"$patch": "delete"}}),
                json!({"simpleMap": {}}),
            ),
            (
                json!({"replacingItem": {"a": 1}}),
                json!({"replacingItem": {"b": 2}}),
                json!({"replacingItem": {"b": 2}}),
            ),
            // Lists without a strategy are replaced, whatever is in them.
            (json!({"list": [{"name": 1}]}), json!({"list": [{"name": 2}]}), json!({"list": [{"name": 2}]})),
            // Lists of maps merge by key.
            (
                json!({"mergingList": [{"name": 1, "other": "a"}, {"name": 2, "value": 2}]}),
                json!({"mergingList": [{"name": 2, "value": 3}, {"name": 3}]}),
                json!({"mergingList": [{"name": 1, "other": "a"}, {"name": 2, "value": 3}, {"name": 3}]}),
            ),
            (
                json!({"mergingList": [{"name": 1}, {"name": 2}]}),
                json!({"mergingList": [{"name": 1, "$patch": "delete"}, {"name": 9, "$patch": "delete"}]}),
                json!({"mergingList": [{"name": 2}]}),
            ),
            (
                json!({"mergingList": [{"name": 1}, {"name": 2}]}),
                json!({"mergingList": [{"$patch": "replace"}, {"name": 3}]}),
                json!({"mergingList": [{"name": 3}]}),
            ),
            (
                json!({"name": "hi"}),
                json!({"mergingList": [{"name": 1}, {"name": 2, "$patch": "delete"}]}),
                json!({"name": "hi", "mergingList": [{"name": 1}]}),
            ),
            // An order, and what only the server has, which stays before what it stood before.
            (
                json!({"mergingList": [{"name": 1}, {"name": "server"}, {"name": 2}]}),
                json!({"$setElementOrder/mergingList": [{"name": 2}, {"name": 3}, {"name": 1}], "mergingList": [{"name": 3}]}),
                json!({"mergingList": [{"name": "server"}, {"name": 2}, {"name": 3}, {"name": 1}]}),
            ),
            // Deleting and adding at once: the added takes the place that became free.
            (
                json!({"mergingList": [{"name": 1}, {"name": 2, "other": "b"}, {"name": 4, "other": "c"}]}),
                json!({"$setElementOrder/mergingList": [{"name": 2}, {"name": 3}],
                    "mergingList": [{"name": 3}, {"name": 1, "$patch": "delete"}]}),
                json!({"mergingList": [{"name": 2, "other": "b"}, {"name": 4, "other": "c"}, {"name": 3}]}),
            ),
            // Lists of scalars.
            (
                json!({"mergingIntList": [1, 2]}),
                json!({"mergingIntList": [2, 3]}),
                json!({"mergingIntList": [1, 2, 3]}),
            ),
            (
                json!({"mergingIntList": [1, 2, 3, 3, 4]}),
                json!({"$setElementOrder/mergingIntList": [1, 2], "$deleteFromPrimitiveList/mergingIntList": [3]}),
                json!({"mergingIntList": [1, 2, 4]}),
            ),
            (json!({}), json!({"$deleteFromPrimitiveList/mergingIntList": [1]}), json!({})),
            // `$retainKeys`.
            (
                json!({"simpleMap": {"type": "a", "old": 1}}),
                json!({"simpleMap": {"$retainKeys": ["type", "new"], "type": "b", "new": 2, "old": null}}),
                json!({"simpleMap": {"type": "b", "new": 2}}),
            ),
            // Another type replaces.
            (json!({"name": {"a": 1}}), json!({"name": "text"}), json!({"name": "text"})),
        ] {
            assert_eq!(run(original.clone(), patch.clone()), Ok(expected), "{original} with {patch}");
        }
    }

    #[test]
    fn wrong_patches_are_refused() {
        let list = json!({"mergingList": [{"name": 1}]});
        for (patch, error) in [
            (
                json!({"$patch": "boom"}),
                Error::Other("unknown patch type: boom in map: map[$patch:boom]".into()),
            ),
            (
                json!({"mergingList": [{"value": 1}]}),
                Error::Other("map: map[value:1] does not contain declared merge key: name".into()),
            ),
            (json!({"mergingList": [[1]]}), Error::Unprocessable),
            (json!({"mergingList": [1]}), Error::Other("list element types are not identical".into())),
            (
                json!({"$setElementOrder": []}),
                Error::Bad("invalid patch format of setElementOrder list".into()),
            ),
            (
                json!({"$setElementOrder/mergingList": 1}),
                Error::Bad("invalid patch format of setElementOrder list".into()),
            ),
            (
                json!({"$deleteFromPrimitiveList": []}),
                Error::Bad("invalid patch format of primitive list".into()),
            ),
            (json!({"$retainKeys": 1}), Error::Bad("invalid patch format of retainKeys".into())),
            (json!({"$retainKeys": ["a"], "b": 1}), Error::Bad("invalid patch format of retainKeys".into())),
        ] {
            assert_eq!(run(list.clone(), patch.clone()), Err(error), "{patch}");
        }
        let unordered = json!({"$setElementOrder/mergingList": [{"name": 1}, {"name": 2}], "mergingList": [{"name": 2}, {"name": 1}]});
        assert!(
            matches!(run(list, unordered), Err(Error::Other(message)) if message.starts_with("The order in patch list"))
        );
    }

    #[test]
    fn large_lists_merge_without_squares() {
        let items = |from: u32| (from..from + 20_000).map(|n| json!({"name": n})).collect::<Vec<_>>();
        let merged = run(json!({"mergingList": items(0)}), json!({"mergingList": items(10_000)})).unwrap();
        assert_eq!(merged["mergingList"].as_array().unwrap().len(), 30_000);
    }
}
