//! Sets of fields, as `managedFields` holds them (`FieldsV1`): a tree whose keys are written as there: `f:name`, `k:{"port":80}`,
//! `v:"text"`, `i:0`. The algebra is that of structured-merge-diff's `fieldpath.Set`.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Most nesting of a set.
const MOST_DEPTH: usize = 128;

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(BTreeMap<String, Node>);

/// An element: whether it is in the set itself, and what is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Set,
}

impl Set {
    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `fieldsV1`.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        read(value, 0)
    }

    /// Writes `fieldsV1`.
    pub fn into_json(self) -> Value {
        let all = self.0.into_iter().map(|(element, node)| {
            let mut below = node.below.into_json();
            if let (true, Value::Object(map)) = (node.member, &mut below)
                && !map.is_empty()
            {
                map.insert(".".into(), Value::Object(Map::new()));
            }
            (element, below)
        });
        Value::Object(all.collect())
    }

    /// Puts an element into it, as a member or for what is below it; nothing if it is neither. What is there already is replaced, but
    /// stays a member.
    pub(super) fn put(&mut self, element: impl FnOnce() -> String, member: bool, below: Self) {
        if member || !below.is_empty() {
            let node = self.0.entry(element()).or_default();
            node.member |= member;
            node.below = below;
        }
    }

    /// Whether any member of a set is a member of `fieldsV1`.
    pub(super) fn touches(&self, fields: &Value) -> bool {
        self.0.iter().any(|(element, node)| {
            fields.get(element).is_some_and(|found| {
                let member =
                    found.as_object().is_none_or(|found| found.is_empty() || found.contains_key("."));
                (node.member && member) || node.below.touches(found)
            })
        })
    }

    /// An element: whether it is a member, and what is below it.
    pub(super) fn found(&self, element: &str) -> Option<(bool, &Self)> {
        self.0.get(element).map(|node| (node.member, &node.below))
    }

    /// Puts a path into it; the empty path is nothing.
    pub fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        if !self.0.contains_key(first) {
            self.0.insert(first.clone(), Node::default());
        }
        let Some(node) = self.0.get_mut(first) else { return };
        if rest.is_empty() { node.member = true } else { node.below.insert(rest) }
    }

    /// Whether an element of the first level is in it.
    pub fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// What it says below an element.
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.0.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        for (element, theirs) in other.0 {
            match self.0.get_mut(&element) {
                None => {
                    self.0.insert(element, theirs);
                }
                Some(ours) => {
                    ours.member |= theirs.member;
                    ours.below = std::mem::take(&mut ours.below).union(theirs.below);
                }
            }
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(|element, node| {
            let theirs = other.0.get(element)?;
            Some((node.member && theirs.member, node.below.intersection(&theirs.below)))
        })
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        self.take_away(other, &|ours, theirs| {
            ours.member &= !theirs.member;
            ours.below = std::mem::take(&mut ours.below).difference(&theirs.below);
        });
        self
    }

    /// What is in this and neither in the other nor below anything in it.
    #[must_use]
    pub fn without_trees(mut self, other: &Self) -> Self {
        self.take_away(other, &|ours, theirs| {
            if theirs.member {
                *ours = Node::default();
            } else {
                ours.below = std::mem::take(&mut ours.below).without_trees(&theirs.below);
            }
        });
        self
    }

    /// Changes the elements that both have; of what is nothing then, nothing stays.
    fn take_away(&mut self, other: &Self, change: &impl Fn(&mut Node, &Node)) {
        for (element, theirs) in &other.0 {
            let Some(ours) = self.0.get_mut(element) else { continue };
            change(ours, theirs);
            if !ours.member && ours.below.is_empty() {
                self.0.remove(element);
            }
        }
    }

    fn combine(&self, keep: impl Fn(&str, &Node) -> Option<(bool, Self)>) -> Self {
        let kept = self.0.iter().filter_map(|(element, node)| {
            let (member, below) = keep(element, node)?;
            (member || !below.is_empty()).then(|| (element.clone(), Node { member, below }))
        });
        Self(kept.collect())
    }

    /// The same where every element that has something below it is in the set itself, if `named` (of its path so far) says so.
    pub(super) fn with_parents<P: Copy>(&self, place: P, step: &impl Fn(P, &str) -> (P, bool)) -> Self {
        let all = self.0.iter().map(|(element, node)| {
            let (below, named) = step(place, element);
            let member = node.member || (named && !node.below.is_empty());
            (element.clone(), Node { member, below: node.below.with_parents(below, step) })
        });
        Self(all.collect())
    }

    /// All paths in it.
    pub fn paths(&self) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, at: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
        for (element, node) in &self.0 {
            at.push(element.clone());
            if node.member {
                out.push(at.clone());
            }
            node.below.collect(at, out);
            at.pop();
        }
    }
}

impl FromIterator<Vec<String>> for Set {
    fn from_iter<I: IntoIterator<Item = Vec<String>>>(paths: I) -> Self {
        let mut set = Self::default();
        paths.into_iter().for_each(|path| set.insert(&path));
        set
    }
}

fn read(value: &Value, depth: usize) -> Result<Set, String> {
    let map = value.as_object().ok_or("fieldsV1 must be an object")?;
    if depth > MOST_DEPTH {
        return Err("fieldsV1 is nested too deeply".into());
    }
    let mut set = Set::default();
    for (key, value) in map {
        if key == "." {
            continue;
        }
        let below = read(value, depth + 1)?;
        let member = below.is_empty() || value.get(".").is_some();
        set.0.insert(canonical(key)?, Node { member, below });
    }
    Ok(set)
}

/// An element as we write it ourselves.
fn canonical(key: &str) -> Result<String, String> {
    let invalid = || format!("missing or unknown element type in {key:?}");
    let (kind, rest) = key.split_once(':').ok_or_else(invalid)?;
    match kind {
        "f" => Ok(key.into()),
        "i" => rest.parse::<i64>().map(|index| format!("i:{index}")).map_err(|error| error.to_string()),
        "k" | "v" => {
            let value: Value = serde_json::from_str(rest).map_err(|error| error.to_string())?;
            Ok(format!("{kind}:{value}"))
        }
        _ => Err(invalid()),
    }
}

/// A path as conflicts show it: `.spec.ports[port=80,protocol="TCP"].name`.
pub(super) fn shown(path: &[String]) -> String {
    let mut out = String::new();
    for element in path {
        let _infallible = match element.split_once(':') {
            Some(("f", name)) => write!(out, ".{name}"),
            Some(("k", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(out, "[{}]", keys.join(","))
            }
            Some(("v", value)) => write!(out, "[={value}]"),
            Some((_, index)) => write!(out, "[{index}]"),
            None => Ok(()),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> Set {
        Set::from_json(&value).unwrap()
    }

    #[test]
    fn sets_read_and_write_fields_v1() {
        let value = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}, "v:1": {}, "i:0": {}}}});
        assert_eq!(set(value.clone()).into_json(), value);
        assert_eq!(
            set(json!({"k:{\"b\": 1, \"a\": 2}": {}})).into_json(),
            json!({"k:{\"a\":2,\"b\":1}": {}})
        );
        for bad in [json!({"x:a": {}}), json!({"f": {}}), json!({"k:{": {}}), json!([]), json!({"i:x": {}})] {
            assert!(Set::from_json(&bad).is_err(), "{bad}");
        }
        let paths = set(value).paths();
        assert!(
            paths
                .iter()
                .map(|path| shown(path))
                .any(|path| path == ".spec.ports[port=80,protocol=\"TCP\"].port")
        );
    }

    #[test]
    fn algebra() {
        let one = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}, "f:e": {}}}));
        let two = set(json!({"f:a": {}, "f:c": {"f:e": {}}, "f:x": {}}));
        assert_eq!(one.intersection(&two).into_json(), json!({"f:a": {}, "f:c": {"f:e": {}}}));
        assert_eq!(one.clone().difference(&two).into_json(), json!({"f:a": {"f:b": {}}, "f:c": {"f:d": {}}}));
        assert_eq!(one.clone().without_trees(&two).into_json(), json!({"f:c": {"f:d": {}}}));
        assert_eq!(
            one.clone().union(two).into_json(),
            json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}, "f:e": {}}, "f:x": {}})
        );
        assert!(one.clone().difference(&one).is_empty());
    }
}
