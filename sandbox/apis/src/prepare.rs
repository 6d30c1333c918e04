//! What a writer of an object may not decide, per kind (`PrepareForCreate` and `PrepareForUpdate` of upstream's strategies, `pkg/registry`).
//! Called by the engine after defaults and admission, before validation; with the old object on updates.

use crate::defaults::others::keep_status;
use crate::defaults::{apps, pod as pods};
use crate::tree::{Object, child, get, made, text};
use serde_json::{Value, json};

/// Kinds whose status begins empty.
pub fn empty_status(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({}));
}

/// Claims and volumes wait to be bound.
pub fn pending(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({"phase": "Pending"}));
}

/// Replica sets and replication controllers.
pub fn replicas(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, apps::initial_status("ReplicaSet"));
}

/// Daemon sets.
pub fn daemon_set(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, apps::initial_status("DaemonSet"));
}

/// Stateful sets.
pub fn stateful_set(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, apps::initial_status("StatefulSet"));
}

/// Ingresses.
pub fn balanced(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({"loadBalancer": {}}));
}

/// Volume attachments.
pub fn attachment(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({"attached": false}));
}

/// Pods: a new one is pending; containers that were put into a running one stay as they are.
pub fn pod(new: &mut Value, old: Option<&Value>) {
    let initial = pods::initial_status(new);
    keep_status(new, old, initial);
    if let Some(spec) = new.as_object_mut().and_then(|map| child(map, "spec")) {
        pods::service_account(spec);
        if old.is_none() {
            // They can only be added to a pod that is there (`pods/NAME/ephemeralcontainers`).
            spec.entry("ephemeralContainers").and_modify(|list| {
                if list.as_array().is_some_and(Vec::is_empty) {
                    *list = Value::Null;
                }
            });
            if spec.get("ephemeralContainers").is_some_and(Value::is_null) {
                spec.remove("ephemeralContainers");
            }
        }
    }
}

/// Namespaces: their contents are deleted before they are (finalizer `kubernetes`).
pub fn namespace(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({"phase": "Active"}));
    let Some(map) = new.as_object_mut() else { return };
    match old {
        None => {
            if let Some(spec) = made(map, "spec") {
                let mut finalizers =
                    spec.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
                if !finalizers.iter().any(|one| one == "kubernetes") {
                    finalizers.push("kubernetes".into());
                }
                spec.insert("finalizers".into(), finalizers.into());
            }
        }
        Some(old) => {
            // They are changed by `finalize` only.
            let before = get(get(old, "spec"), "finalizers").clone();
            if let Some(spec) = made(map, "spec") {
                restore(spec, "finalizers", before);
            }
        }
    }
    let name = text(get(new, "metadata"), "name").to_string();
    if let Some(labels) = new
        .as_object_mut()
        .and_then(|map| child(map, "metadata"))
        .filter(|_| !name.is_empty())
        .and_then(|metadata| made(metadata, "labels"))
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

fn restore(map: &mut Object, field: &str, value: Value) {
    if value.is_null() {
        map.remove(field);
    } else {
        map.insert(field.into(), value);
    }
}

/// Nodes: a kubelet tells its status when it registers, so a new one keeps it.
pub fn node(new: &mut Value, old: Option<&Value>) {
    if old.is_some() {
        keep_status(new, old, Value::Null);
    } else if let Some(map) = new.as_object_mut() {
        made(map, "status");
    }
}

/// Certificate signing requests: what is asked for does not change; the API server says who asks.
pub fn signing_request(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({}));
    if let (Some(old), Some(map)) = (old, new.as_object_mut()) {
        map.insert("spec".into(), get(old, "spec").clone());
    }
}

/// Custom resource definitions: versions that were ever stored are noted.
pub fn custom_resource_definition(new: &mut Value, old: Option<&Value>) {
    keep_status(
        new,
        old,
        json!({"conditions": [], "storedVersions": [], "acceptedNames": {"kind": "", "plural": ""}}),
    );
    let stored: Vec<String> = crate::tree::list(get(new, "spec"), "versions")
        .iter()
        .filter(|version| crate::tree::flag(version, "storage"))
        .map(|version| text(version, "name").to_string())
        .collect();
    let Some(status) = new.as_object_mut().and_then(|map| made(map, "status")) else { return };
    let mut versions = status.get("storedVersions").and_then(Value::as_array).cloned().unwrap_or_default();
    for version in stored {
        if !versions.iter().any(|one| *one == version) {
            versions.push(version.into());
        }
    }
    status.insert("storedVersions".into(), versions.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_objects_have_their_first_status() {
        let mut object = json!({"metadata": {"name": "a"}, "status": {"phase": "Running", "podIP": "1.2.3.4"},
            "spec": {"serviceAccount": "x", "containers": []}});
        pod(&mut object, None);
        assert_eq!(object["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        assert_eq!(object["spec"]["serviceAccountName"], "x");
        let mut object = json!({"metadata": {"name": "a"}});
        namespace(&mut object, None);
        assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(object["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
        let mut changed = json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}});
        namespace(&mut changed, Some(&object));
        assert_eq!(changed["spec"], object["spec"]);
    }

    #[test]
    fn stored_versions_accumulate() {
        let version = |name: &str, storage: bool| json!({"name": name, "storage": storage});
        let mut old = json!({"spec": {"versions": [version("v1", true)]}});
        custom_resource_definition(&mut old, None);
        let mut new = json!({"spec": {"versions": [version("v1", false), version("v2", true)]}});
        custom_resource_definition(&mut new, Some(&old));
        assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    }
}
