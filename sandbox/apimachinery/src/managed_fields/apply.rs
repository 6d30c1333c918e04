//! `application/apply-patch+yaml`: an object becomes what its appliers together say.

use super::walk::Absent;
use super::{
    Entry, Fields, Operation, Set, Tracker, entries, listed, paths, release, set, unowned, walk,
    write_entries,
};
use crate::Status;
use serde_json::Value;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager for whose sake the annotation of client-side apply is looked at.
const KUBECTL: &str = "kubectl";

/// A field that somebody else owns.
#[derive(Debug, Clone)]
struct Conflict {
    manager: Entry,
    path: Vec<String>,
}

impl Tracker<'_> {
    /// Applies a configuration to an object (for a creation: the complete empty object, without a uid). Gives the object with its
    /// `managedFields`, not yet defaulted; it equals `live` if nothing changes.
    pub fn apply(&self, live: &Value, config: &Value, manager: &str, force: bool) -> Result<Value, Status> {
        self.check(config)?;
        let mut managers = entries(listed(live).cloned(), true)
            .map_err(|error| plain(format!("failed to decode managed fields: {error}")))?;
        let mut bare = live.clone();
        if let Some(metadata) = bare.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if managers.is_empty() {
            let nothing = Value::Object(serde_json::Map::new());
            managers = self.track(&nothing, &bare, managers, "before-first-apply");
        }
        let applied = match self.merge(&bare, config, &managers, manager, force) {
            Err(conflicts) if manager == KUBECTL && !force => {
                let allowed = self.allowed_by_last_applied(&bare);
                let allowed = allowed.as_ref();
                let left =
                    conflicts.into_iter().filter(|one| !allowed.is_some_and(|set| contains(set, &one.path)));
                let left: Vec<_> = left.collect();
                if left.is_empty() { self.merge(&bare, config, &managers, manager, true) } else { Err(left) }
            }
            other => other,
        };
        let (mut object, managers) = applied.map_err(|conflicts| conflict_status(&self.told(conflicts)))?;
        if manager == KUBECTL {
            follow_last_applied(&mut object, config);
        }
        write_entries(&mut object, super::cap(managers), self.writes_texts());
        Ok(object)
    }

    /// The conflicts as who applies sees them: of a scale, that others have the scale's field (`scalehandler.go`).
    fn told(&self, conflicts: Vec<Conflict>) -> Vec<Conflict> {
        if self.subresource != "scale" {
            return conflicts;
        }
        let seen = |one: Conflict| Conflict {
            manager: Entry { api_version: "autoscaling/v1".into(), ..one.manager },
            path: ["f:spec", "f:replicas"].map(String::from).into(),
        };
        conflicts.into_iter().map(seen).collect()
    }

    /// What upstream refuses before it looks at the object: of a configuration as it was written, since no field that the schema has not
    /// may be dropped silently.
    pub fn check(&self, config: &Value) -> Result<(), Status> {
        let text = |name: &str| config[name].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if (version, kind) != (self.api_version, self.kind) {
            let of = if version.contains('/') { version.to_string() } else { format!("/{version}") };
            return Err(Status::bad_request(format!("invalid object type: {of}, Kind={kind}")));
        }
        if config.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        let errors = walk::validate(config, self.schema);
        if errors.is_empty() {
            return Ok(());
        }
        let metadata = |name: &str| config["metadata"][name].as_str().unwrap_or_default();
        let errors = match &errors[..] {
            [one] => one.clone(),
            all => format!("errors:\n  {}", all.join("\n  ")),
        };
        let of = if version.contains('/') { version.to_string() } else { format!("/{version}") };
        Err(plain(format!(
            "failed to create typed patch object ({}/{}; {of}, Kind={kind}): {errors}",
            metadata("namespace"),
            metadata("name"),
        )))
    }

    /// The merged object and who owns what, or the conflicts.
    fn merge(
        &self,
        live: &Value,
        config: &Value,
        managers: &[Entry],
        manager: &str,
        force: bool,
    ) -> Result<(Value, Vec<Entry>), Vec<Conflict>> {
        let reset = paths(self.reset);
        let mut mine = Entry {
            manager: manager.into(),
            operation: Operation::Apply,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: None,
            fields: Fields::Set(Set::default()),
        };
        let applied = walk::fields(config, self.schema).without_trees(&reset);
        let last = managers.iter().find(|one| one.same(&mine)).cloned();
        let others: Vec<_> = managers.iter().filter(|one| !one.same(&mine)).cloned().collect();
        let merged = walk::merge(Some(live), Some(config), self.schema).unwrap_or_else(|| live.clone());
        let object = match &last {
            Some(last) if !last.fields.is_empty() => {
                self.prune(&merged, &others, &applied, &last.fields.set())
            }
            _ => merged,
        };
        let comparison = walk::compare(live, &object, self.schema, Absent::Nothing).without(&reset);
        let changed = comparison.modified.union(comparison.added);
        if !force {
            let conflicts: Vec<_> = others
                .iter()
                .flat_map(|one| {
                    let paths = one.fields.set().intersection(&changed).paths();
                    paths.into_iter().map(|path| Conflict { manager: one.clone(), path })
                })
                .collect();
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        let mut managers = release(others, &changed, &comparison.removed);
        mine.fields = Fields::Set(applied.difference(unowned()));
        // An apply that changes nothing keeps its time.
        mine.time = if object == *live { last.and_then(|last| last.time) } else { Some(self.now.into()) };
        if !mine.fields.is_empty() {
            managers.push(mine);
        }
        Ok((object, managers))
    }

    /// Takes away what the applier said last time, says no more, and nobody else owns.
    fn prune(&self, merged: &Value, others: &[Entry], now: &Set, last: &Set) -> Value {
        let named = |set: &Set| walk::with_named_fields(set, self.schema);
        let remove = |fields: &Set| {
            walk::remove(merged, fields, self.schema).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
        };
        let fields_of = |value: &Value| walk::fields(value, self.schema);
        let last = named(last);
        let merged_fields = named(&fields_of(merged));
        let pruned = remove(&last);
        let owned = others.iter().fold(now.clone(), |all, one| all.union(one.fields.set()));
        let kept = named(&fields_of(&pruned)).union(named(&owned));
        let pruned = remove(&merged_fields.clone().difference(&kept));
        let pruned_fields = named(&fields_of(&pruned));
        remove(&merged_fields.difference(&pruned_fields).intersection(&last))
    }

    /// What client-side apply last said and still holds: `kubectl apply --server-side` may take it over.
    fn allowed_by_last_applied(&self, live: &Value) -> Option<Set> {
        let text = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
        let applied =
            crate::decode::decode_untyped(text.as_bytes(), crate::decode::Format::Json).ok()?.object;
        if applied["apiVersion"].as_str() != Some(self.api_version) {
            return None;
        }
        let comparison = walk::compare(&applied, live, self.schema, Absent::Nothing);
        let fields = walk::fields(&applied, self.schema);
        Some(
            fields
                .difference(&comparison.modified)
                .difference(&comparison.added)
                .difference(&comparison.removed),
        )
    }
}

fn contains(set: &Set, path: &[String]) -> bool {
    match path {
        [] => false,
        [last] => set.has(last),
        [first, rest @ ..] => set.below(first).is_some_and(|below| contains(below, rest)),
    }
}

/// Keeps the annotation of client-side apply true, if there is one.
fn follow_last_applied(object: &mut Value, config: &Value) {
    let annotation = &object["metadata"]["annotations"][LAST_APPLIED];
    if annotation.as_str().is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty()
            && let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    object["metadata"]["annotations"][LAST_APPLIED] = format!("{config}\n").into();
}

/// An error that upstream answers 500 to, without a reason.
fn plain(message: String) -> Status {
    Status::failure(500, "", message)
}

fn conflict_status(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                one.manager.shown(),
                set::shown(&one.path)
            )
        }
        all => {
            let mut names: Vec<_> = all.iter().map(|one| one.manager.shown()).collect();
            names.sort();
            names.dedup();
            let mut lines = Vec::new();
            for name in names {
                lines.push(format!("conflicts with {name}:"));
                let of_manager = all.iter().filter(|one| one.manager.shown() == name);
                lines.extend(of_manager.map(|one| format!("- {}", set::shown(&one.path))));
            }
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    conflicts.iter().fold(Status::failure(409, "Conflict", message), |status, one| {
        let cause = format!("conflict with {}", one.manager.shown());
        status.cause("FieldManagerConflict", cause, &set::shown(&one.path))
    })
}
