//! What is below an object. Some are the object itself, of which a writer may change only a part: `status`, `finalize`, `approval`,
//! `ephemeralcontainers`, `resize`; each keeps all else as it was (the strategies' `PrepareForUpdate`). The others have files of
//! their own.

use super::call::Call;
use super::{binding, eviction, get, meta, patch, scale, update};
use crate::http::respond::Answer;
use crate::proxy;
use crate::resource::Resource;
use crate::router::no_route;
use drydock_apimachinery::Status;
use drydock_apimachinery::field::ErrorList;
use drydock_apimachinery::object;
use hyper::body::Incoming;
use serde_json::{Map, Value};

/// Answers a request for something below an object.
pub async fn answer(call: &mut Call, body: Incoming) -> Result<Answer, Status> {
    let name = call.info.subresource.clone();
    let Some(sub) = call.resource.subresource(&name).cloned() else {
        // Below custom resources there is a handler of all paths, below the others a container that knows its routes.
        return Err(match call.resource.custom() {
            Some(_) => Status::not_found(call.resource.group_resource(), &call.info.name),
            None => no_route(),
        });
    };
    let verb = call.info.verb;
    match name.as_str() {
        "proxy" => return Box::pin(proxy::to_object(call, body)).await,
        "exec" | "attach" | "portforward" | "log" => return Box::pin(proxy::to_container(call, body)).await,
        _ => {}
    }
    if !sub.verbs.contains(&verb) {
        return Err(Status::method_not_supported(call.resource.group_resource(), verb));
    }
    match (name.as_str(), verb) {
        ("scale", "get") => scale::get(call).await,
        ("scale", "update") => scale::update(call, body).await,
        ("scale", "patch") => scale::patch(call, body).await,
        ("binding", _) => binding::bind(call, body).await,
        ("eviction", _) => eviction::evict(call, body).await,
        ("token", _) => crate::review::token(call, body).await,
        (_, "get") => get::get(call).await,
        (_, "update") => update::update(call, body).await,
        (_, "patch") => patch::patch(call, body).await,
        _ => Err(Status::method_not_supported(call.resource.group_resource(), verb)),
    }
}

/// Puts back what a write to this subresource may not change.
pub fn keep(resource: &Resource, sub: &str, new: &mut Value, old: &Value) {
    match sub {
        "" => keep_status(resource, new, old),
        "status" => {
            only(new, old, &["status"], keeps_metadata(resource));
            if let Some(owned) = owners_part(resource) {
                put(meta::of(new), owned, object::map(old, &["metadata"]).and_then(|was| was.get(owned)));
            }
            if resource.group == "certificates.k8s.io" {
                date_conditions(new, old);
            }
        }
        "finalize" => within(new, old, &["spec", "finalizers"], false),
        "ephemeralcontainers" => within(new, old, &["spec", "ephemeralContainers"], true),
        "approval" => {
            date_conditions(new, old);
            let conditions = new["status"]["conditions"].take();
            only(new, old, &[], false);
            if !conditions.is_null() {
                object::map_mut(new, &["status"]).insert("conditions".into(), conditions);
            }
        }
        "resize" => only(new, old, &["spec"], true),
        _ => {}
    }
}

/// Conditions of a signing request tell when they were written and when they became what they are (`populateConditionTimestamps`).
fn date_conditions(new: &mut Value, old: &Value) {
    let now = Value::from(meta::now());
    let before = object::list(old, &["status", "conditions"]);
    for condition in new.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten()
    {
        let same = |old: &&Value| old["type"] == condition["type"] && old["status"] == condition["status"];
        let since =
            before.iter().filter(same).map(|old| &old["lastTransitionTime"]).find(|time| !time.is_null());
        let since = since.unwrap_or(&now).clone();
        let Some(condition) = condition.as_object_mut() else { continue };
        for (field, time) in [("lastUpdateTime", now.clone()), ("lastTransitionTime", since)] {
            if condition.get(field).is_none_or(Value::is_null) {
                condition.insert(field.into(), time);
            }
        }
    }
}

/// Writes to the object itself leave its status alone.
fn keep_status(resource: &Resource, new: &mut Value, old: &Value) {
    if !resource.has_status() {
        return;
    }
    if let Some(map) = new.as_object_mut() {
        put(map, "status", old.get("status"));
    }
}

/// Whoever writes a status may write labels and annotations with it, but for the kinds whose strategies put them back
/// (`ResetObjectMetaForStatus`).
fn keeps_metadata(resource: &Resource) -> bool {
    resource.custom().is_some()
        || matches!(
            (&*resource.group, &*resource.plural),
            ("apiextensions.k8s.io", "customresourcedefinitions")
                | ("apiregistration.k8s.io", "apiservices")
                | ("storage.k8s.io", "volumeattachments")
                | ("flowcontrol.apiserver.k8s.io", _)
                | ("networking.k8s.io", "servicecidrs")
                | ("admissionregistration.k8s.io", _)
                | ("resource.k8s.io", _)
        )
}

/// What of its metadata only the owner of an object may change, where the rest may come with the status.
fn owners_part(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.plural) {
        ("apps", "deployments") => Some("labels"),
        ("", "pods") => Some("ownerReferences"),
        _ => None,
    }
}

/// All but these parts (and, if so wanted, all metadata but `managedFields`) is as it was.
fn only(new: &mut Value, old: &Value, parts: &[&str], metadata_too: bool) {
    let (Some(map), Some(before)) = (new.as_object_mut(), old.as_object()) else { return };
    restore(map, before, |key| key == "metadata" || parts.contains(&key));
    let before = object::map(old, &["metadata"]);
    let metadata = meta::of(new);
    if metadata_too && let Some(before) = before {
        restore(metadata, before, |key| matches!(key, "managedFields" | "resourceVersion" | "uid"));
    }
    // What the writer believed is checked later.
    for key in ["resourceVersion", "uid"] {
        if !metadata.contains_key(key) {
            put(metadata, key, before.and_then(|before| before.get(key)));
        }
    }
}

/// Makes a map what it was, but for the entries that `spare` spares. Most entries are: they are not copied.
fn restore(new: &mut Map<String, Value>, old: &Map<String, Value>, spare: impl Fn(&str) -> bool) {
    new.retain(|key, _| spare(key) || old.contains_key(key));
    for (key, value) in old {
        if !spare(key) && new.get(key) != Some(value) {
            new.insert(key.clone(), value.clone());
        }
    }
}

/// All but one field of one part is as it was.
fn within(new: &mut Value, old: &Value, [part, field]: &[&str; 2], metadata_too: bool) {
    let value = new[*part].get(*field).cloned();
    only(new, old, &[], metadata_too);
    put(object::map_mut(new, &[part]), field, value.as_ref());
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    match value {
        Some(value) => map.insert(key.into(), value.clone()),
        None => map.remove(key),
    };
}

/// What is wrong with a write to this subresource.
pub fn validate(resource: &Resource, sub: &str, new: &Value, old: &Value, before: ErrorList) -> ErrorList {
    match sub {
        "" => resource.validate(new, Some(old), before),
        "status" => resource.validate_status(new, old, before),
        other => {
            let mut errors = before;
            errors.extend(resource.validate_subresource(other, new, old));
            errors
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_tell_since_when_they_are() {
        let of = |conditions: Value| json!({"status": {"conditions": conditions}});
        let long_ago = "2020-01-01T00:00:00Z";
        let old = of(json!([{"type": "Approved", "status": "True", "lastTransitionTime": long_ago}]));
        let mut new = of(json!([
            {"type": "Approved", "status": "True", "lastUpdateTime": null, "lastTransitionTime": null},
            {"type": "Failed", "status": "True", "lastUpdateTime": long_ago},
        ]));
        date_conditions(&mut new, &old);
        let list = &new["status"]["conditions"];
        assert_eq!(
            (&list[0]["lastTransitionTime"], &list[1]["lastUpdateTime"]),
            (&json!(long_ago), &json!(long_ago))
        );
        assert!(list[0]["lastUpdateTime"].as_str().is_some_and(|time| time > long_ago));
        assert!(list[1]["lastTransitionTime"].as_str().is_some_and(|time| time > long_ago));
    }
}
