//! The rest of the core group (`pkg/apis/core/v1/defaults.go`).

use crate::tree::{Object, child, default, default_zero, each, made, within};
use base64::Engine;
use serde_json::{Value, json};

/// Persistent volume claims.
pub fn claim(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    if let Some(spec) = made(map, "spec") {
        claim_spec(spec);
        default(spec, "resources", json!({}));
    }
    if let Some(status) = made(map, "status") {
        default_zero(status, "phase", "Pending");
    }
}

/// The specification of a claim, also in templates of claims.
pub fn claim_spec(spec: &mut Object) {
    default(spec, "volumeMode", "Filesystem");
}

/// Persistent volumes.
pub fn volume(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    if let Some(status) = made(map, "status") {
        default_zero(status, "phase", "Pending");
    }
    if let Some(spec) = made(map, "spec") {
        default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        if let Some(source) = child(spec, "hostPath") {
            default(source, "type", "");
        }
        if let Some(source) = child(spec, "iscsi") {
            default_zero(source, "iscsiInterface", "default");
        }
    }
}

/// Secrets: `stringData` is a way to write, never to read.
pub fn secret(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    default_zero(map, "type", "Opaque");
    if let Some(Value::Object(plain)) = map.remove("stringData")
        && let Some(data) = made(map, "data")
    {
        for (key, text) in plain {
            if let Value::String(text) = text {
                data.insert(key, base64::engine::general_purpose::STANDARD.encode(text).into());
            }
        }
    }
}

/// Namespaces carry their name as a label, so that selectors can name them.
pub fn namespace(object: &mut Value) {
    let name = crate::tree::text(crate::tree::get(object, "metadata"), "name").to_string();
    let Some(map) = object.as_object_mut() else { return };
    if !name.is_empty()
        && let Some(labels) = child(map, "metadata").and_then(|metadata| made(metadata, "labels"))
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
    made(map, "spec");
    if let Some(status) = made(map, "status") {
        default_zero(status, "phase", "Active");
    }
}

/// Nodes.
pub fn node(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        made(map, "spec");
    }
    within(object, &["status"], |status| {
        if let Some(capacity) = status.get("capacity").cloned() {
            default(status, "allocatable", capacity);
        }
    });
}

/// Endpoints.
pub fn endpoints(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        each(map, "subsets", |subset| each(subset, "ports", |port| default_zero(port, "protocol", "TCP")));
    }
}

/// Limit ranges: what containers get follows from what they may have at most and at least.
pub fn limit_range(object: &mut Value) {
    within(object, &["spec"], |spec| {
        each(spec, "limits", |item| {
            if item.get("type").and_then(Value::as_str) != Some("Container") {
                return;
            }
            copy_missing(item, "max", "default");
            copy_missing(item, "default", "defaultRequest");
            copy_missing(item, "min", "defaultRequest");
        });
    });
}

fn copy_missing(item: &mut Object, from: &str, to: &str) {
    let Some(values) = child(item, from).cloned() else { return };
    if let Some(target) = made(item, to) {
        for (name, value) in values {
            default(target, &name, value);
        }
    }
}

/// Resource quotas.
pub fn quota(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        made(map, "spec");
        made(map, "status");
    }
}

/// Events: Go writes these even when they are empty.
pub fn event(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    for field in ["involvedObject", "source"] {
        default(map, field, json!({}));
    }
    for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        if !map.contains_key(field) {
            map.insert(field.into(), Value::Null);
        }
    }
    for field in ["reportingComponent", "reportingInstance"] {
        default(map, field, "");
    }
}

/// Replication controllers select by what their template's labels say.
pub fn replication_controller(object: &mut Value) {
    let labels = crate::tree::at(object, &["spec", "template", "metadata", "labels"]).clone();
    let Some(map) = object.as_object_mut() else { return };
    if labels.is_object() {
        if let Some(metadata) = child(map, "metadata") {
            default_zero(metadata, "labels", labels.clone());
        }
        if let Some(spec) = made(map, "spec") {
            default_zero(spec, "selector", labels);
        }
    }
    if let Some(spec) = made(map, "spec") {
        default(spec, "replicas", 1);
        if spec.contains_key("template") {
            super::pod::template(spec);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_secrets_are_encoded_and_win() {
        let mut object = json!({"data": {"a": "eA=="}, "stringData": {"a": "new", "b": "é"}});
        secret(&mut object);
        assert_eq!(object, json!({"type": "Opaque", "data": {"a": "bmV3", "b": "w6k="}}));
    }

    #[test]
    fn ranges_for_containers() {
        let mut object = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m", "memory": "4Mi"}, "defaultRequest": {}},
            {"type": "Pod", "max": {"cpu": "2"}}]}});
        limit_range(&mut object);
        assert_eq!(
            object["spec"]["limits"],
            json!([{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m", "memory": "4Mi"}, "default": {"cpu": "2"},
                "defaultRequest": {"cpu": "2", "memory": "4Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}])
        );
    }
}
