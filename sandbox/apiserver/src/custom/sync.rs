//! The task that looks at definitions: which names they get, which resources are served, and what becomes of objects whose definition
//! is deleted.

use super::{CustomKind, api_services};
use crate::resource::Resource;
use crate::rest::meta;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, map_mut, text};
use drydock_etcd::{KeyRange, Outcome, Query, Record};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Where definitions are.
const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// Holds a definition up until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Objects with finalizers of their own are looked at again after so long.
const AGAIN: Duration = Duration::from_millis(500);

/// What is known of a definition from before: since when its specification is what it is.
type Known = HashMap<Vec<u8>, (Value, i64)>;

/// Serves what the definitions in the store say, now.
pub fn load(server: &Server) -> Result<(), Status> {
    serve(server, &definitions(server)?, &mut Known::new());
    Ok(())
}

/// Keeps what is served as the definitions are, for as long as it is polled.
pub async fn run(server: Arc<Server>) {
    let mut known = Known::new();
    loop {
        let watcher = server.store.watch(&KeyRange::prefix(PREFIX), None);
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "custom resources cannot be watched");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        loop {
            let waits = match sync(&server, &mut known).await {
                Ok(waits) => waits,
                Err(error) => {
                    tracing::warn!(%error, "definitions of custom resources");
                    true
                }
            };
            // Deletions that wait for others are looked at again by the clock; all else by the watch.
            let next =
                async { if waits { tokio::time::sleep(AGAIN).await } else { std::future::pending().await } };
            let changed = tokio::select! {
                changed = watcher.next() => changed.map(|_| ()),
                () = next => Ok(()),
            };
            if let Err(error) = changed {
                tracing::debug!(%error, "the watch of definitions begins anew");
                break;
            }
        }
    }
}

fn definitions(server: &Server) -> Result<Vec<(Arc<Record>, Value)>, Status> {
    let found = server.store.range(&KeyRange::prefix(PREFIX), &Query::default()).map_err(refusal)?;
    let mut all = Vec::new();
    for record in found.records {
        match storage::decode(&record) {
            Ok(tree) => all.push((record, tree)),
            Err(error) => tracing::warn!(%error, "a definition is none"),
        }
    }
    Ok(all)
}

/// One look at all definitions; true if something must be looked at again soon.
async fn sync(server: &Arc<Server>, known: &mut Known) -> Result<bool, Status> {
    let mut all = definitions(server)?;
    // Of two that want a name, the older one has it.
    all.sort_by_key(|(record, _)| record.create_revision);
    let mut changed = Vec::new();
    for index in 0..all.len() {
        let mut accepted = accept(&all, index);
        if object::is_deleting(&accepted) && is_held(&accepted) {
            let words = "CustomResource deletion is in progress";
            condition(&mut accepted, "Terminating", "True", "InstanceDeletionInProgress", words);
        }
        if accepted != all[index].1 {
            all[index].1 = accepted;
            changed.push(index);
        }
    }
    // Served first, told then: whoever sees `Established` finds the resource.
    serve(server, &all, known);
    let established = all.iter().map(|(_, tree)| tree).filter(|tree| is_true(tree, "Established"));
    if let Err(error) = api_services::keep(server, established).await {
        tracing::warn!(%error, "API services of custom resources");
    }
    for index in changed {
        let (record, tree) = &all[index];
        let value = storage::encode(tree);
        let outcome = server.store.update_if(record.key.clone(), record.mod_revision, value, 0).await;
        if let Outcome::Conflict(_) = outcome.map_err(refusal)? {
            tracing::debug!("a definition changed meanwhile; the watch brings it back");
        }
    }
    let mut waits = false;
    for (_, tree) in all.iter().filter(|(_, tree)| object::is_deleting(tree)) {
        waits |= !clean_up(server, tree).await?;
    }
    Ok(waits)
}

fn serve(server: &Server, all: &[(Arc<Record>, Value)], known: &mut Known) {
    known.retain(|key, _| all.iter().any(|(record, _)| record.key == key[..]));
    let mut resources = Vec::new();
    for (record, tree) in all.iter().filter(|(_, tree)| is_true(tree, "Established")) {
        let kept =
            known.entry(record.key.to_vec()).or_insert_with(|| (tree["spec"].clone(), record.mod_revision));
        if kept.0 != tree["spec"] {
            *kept = (tree["spec"].clone(), record.mod_revision);
        }
        resources.extend(CustomKind::resources(tree, kept.1, object::is_deleting(tree)));
    }
    resources.sort_by(|a: &Resource, b| a.group.cmp(&b.group));
    server.registry.replace_custom(resources.into_iter().map(Arc::new).collect());
}

fn is_true(tree: &Value, type_: &str) -> bool {
    let conditions = list(tree, &["status", "conditions"]);
    conditions.iter().any(|one| text(one, &["type"]) == type_ && text(one, &["status"]) == "True")
}

/// The fields of names in the order in which they are checked: of several that clash, the last is told.
const NAMES: [(&str, &str); 5] = [
    ("plural", "PluralConflict"),
    ("singular", "SingularConflict"),
    ("shortNames", "ShortNamesConflict"),
    ("kind", "KindConflict"),
    ("listKind", "ListKindConflict"),
];

/// Kinds and resources have names apart.
fn is_kind(field: &str) -> bool {
    matches!(field, "kind" | "listKind")
}

/// The names in a field, which holds one or a list.
fn names_in<'a>(names: &'a Value, field: &str) -> Vec<&'a str> {
    let all = match &names[field] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    all.into_iter().filter(|name| !name.is_empty()).collect()
}

/// The definition with its names accepted or not (`pkg/controller/status/naming_controller.go`): who has a name keeps it.
fn accept(all: &[(Arc<Record>, Value)], index: usize) -> Value {
    let tree = &all[index].1;
    let group = text(tree, &["spec", "group"]);
    let others = all.iter().map(|(_, one)| one).filter(|one| text(one, &["spec", "group"]) == group);
    let taken: Vec<_> = others.map(|one| &one["status"]["acceptedNames"]).collect();
    let is_taken = |field: &str, name: &str| {
        let alike = NAMES.iter().filter(|(other, _)| is_kind(other) == is_kind(field));
        alike.into_iter().any(|(other, _)| taken.iter().any(|names| names_in(names, other).contains(&name)))
    };
    let (wanted, before) = (&tree["spec"]["names"], &tree["status"]["acceptedNames"]);
    let is_own = |field: &str, name: &str| {
        let fields: &[&str] =
            if field == "shortNames" { &["shortNames", "plural", "singular"] } else { &[field] };
        fields.iter().any(|field| names_in(before, field).contains(&name))
    };
    let mut accepted = before.as_object().cloned().unwrap_or_default();
    let mut take = |field: &str| match wanted.get(field) {
        Some(names) => accepted.insert(field.into(), names.clone()),
        None => accepted.remove(field),
    };
    let mut clash = None;
    for (field, reason) in NAMES {
        let in_use = |name: &&str| !is_own(field, name) && is_taken(field, name);
        let mut in_use: Vec<_> = names_in(wanted, field).into_iter().filter(in_use).collect();
        in_use.dedup();
        let told: Vec<_> = in_use.iter().map(|name| format!("{name:?} is already in use")).collect();
        match &told[..] {
            [] => drop(take(field)),
            [one] => clash = Some((reason, one.clone())),
            several => clash = Some((reason, format!("[{}]", several.join(", ")))),
        }
    }
    take("categories");
    let mut new = tree.clone();
    map_mut(&mut new, &["status"]).insert("acceptedNames".into(), accepted.into());
    match clash {
        Some((reason, message)) => {
            condition(&mut new, "NamesAccepted", "False", reason, &message);
            if !is_true(&new, "Established") {
                condition(&mut new, "Established", "False", "NotAccepted", "not all names are accepted");
            }
        }
        None => {
            condition(&mut new, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
            let words = "the initial names have been accepted";
            condition(&mut new, "Established", "True", "InitialNamesAccepted", words);
        }
    }
    new
}

/// Sets a condition of a definition, with a new time if its status changes.
pub fn condition(tree: &mut Value, type_: &str, status: &str, reason: &str, message: &str) {
    let conditions = map_mut(tree, &["status"]).entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let found = conditions.iter_mut().find(|one| text(one, &["type"]) == type_);
    match found {
        Some(one) if text(one, &["status"]) == status => {
            one["reason"] = reason.into();
            one["message"] = message.into();
        }
        found => {
            let new = json!({
                "type": type_,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": meta::now(),
            });
            match found {
                Some(one) => *one = new,
                None => conditions.push(new),
            }
        }
    }
}

/// Whether a definition waits for its objects to go.
fn is_held(tree: &Value) -> bool {
    list(tree, &["metadata", "finalizers"]).contains(&json!(CLEANUP))
}

/// Deletes the objects of a definition that is deleted; true if they are gone (`pkg/controller/finalizer/crd_finalizer.go`).
async fn clean_up(server: &Arc<Server>, tree: &Value) -> Result<bool, Status> {
    if !is_held(tree) {
        return Ok(true);
    }
    let (group, plural) = (text(tree, &["spec", "group"]), text(tree, &["spec", "names", "plural"]));
    let snapshot = server.registry.snapshot();
    let prefix = storage::keys::custom_prefix(group, plural);
    let found = server.store.range(&KeyRange::prefix(prefix), &Query::default()).map_err(refusal)?;
    if let Some(resource) = snapshot.any_version(group, plural) {
        for record in &found.records {
            crate::rest::delete::delete_record(server, resource, record).await?;
        }
    }
    let left = server.store.range(
        &KeyRange::prefix(storage::keys::custom_prefix(group, plural)),
        &Query { count_only: true, count: true, ..Query::default() },
    );
    if left.map_err(refusal)?.count > 0 {
        return Ok(false);
    }
    forget(server, tree).await
}

/// The objects are gone: the definition may go.
async fn forget(server: &Server, tree: &Value) -> Result<bool, Status> {
    let key = format!("{PREFIX}{}", object::name(tree));
    let Some(record) = server.store.get(key.as_bytes(), None).map_err(refusal)? else { return Ok(true) };
    let mut new = storage::decode(&record)?;
    let rest: Vec<Value> =
        list(&new, &["metadata", "finalizers"]).iter().filter(|one| **one != CLEANUP).cloned().collect();
    let outcome = if rest.is_empty() {
        server.store.delete_if(record.key.clone(), record.mod_revision).await
    } else {
        meta::of(&mut new).insert("finalizers".into(), rest.into());
        condition(&mut new, "Terminating", "False", "InstanceDeletionCompleted", "removed all instances");
        server.store.update_if(record.key.clone(), record.mod_revision, storage::encode(&new), 0).await
    };
    Ok(matches!(outcome.map_err(refusal)?, Outcome::Done { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_it_does_not_change() {
        let mut tree = json!({});
        condition(&mut tree, "Established", "False", "A", "a");
        tree["status"]["conditions"][0]["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
        condition(&mut tree, "Established", "False", "B", "b");
        assert_eq!(tree["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(tree["status"]["conditions"][0]["reason"], "B");
        condition(&mut tree, "Established", "True", "C", "c");
        assert_ne!(tree["status"]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(tree["status"]["conditions"].as_array().map(Vec::len), Some(1));
    }
}
