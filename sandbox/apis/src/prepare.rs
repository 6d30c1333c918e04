//! What a writer of an object may not decide, per kind (`PrepareForCreate` and `PrepareForUpdate` of upstream's strategies, `pkg/registry`).
//! Called by the engine after defaults and admission, before validation; with the old object on updates.

use crate::defaults::others::keep_status;
use crate::defaults::{apps, pod as pods};
use crate::tree::{Object, child, get, list, made, text};
use jiff::Timestamp;
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
    let mut initial = pods::initial_status(new);
    // The scheduler does not look at such a pod, so nobody else would say why it waits.
    if !list(get(new, "spec"), "schedulingGates").is_empty() {
        initial["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": now(),
        }]);
    }
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

fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
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
    let Some(spec) = new.as_object_mut().and_then(|map| child(map, "spec")) else { return };
    // There is one list behind both; the older field wins where they differ (`Convert_v1_NodeSpec_To_core_NodeSpec`).
    let one = spec.get("podCIDR").and_then(Value::as_str).unwrap_or_default().to_string();
    let first = spec.get("podCIDRs").and_then(|all| all.get(0)).and_then(Value::as_str).map(String::from);
    match first {
        Some(first) if one.is_empty() => spec.insert("podCIDR".into(), first.into()),
        Some(first) if first == one => None,
        _ if one.is_empty() => None,
        _ => spec.insert("podCIDRs".into(), json!([one])),
    };
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
    let stored: Vec<String> = list(get(new, "spec"), "versions")
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
    fn a_nodes_range_is_one_in_both_fields() {
        let old = json!({"spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}, "status": {}});
        let told = |spec: Value| {
            let mut new = json!({"spec": spec, "status": {}});
            node(&mut new, Some(&old));
            let errors = crate::validation::core::validate_node(&new, Some(&old)).aggregate();
            (new["spec"].clone(), errors)
        };
        let (_, errors) = told(json!({"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.244.0.0/24"]}));
        let why = "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
        assert_eq!(errors, why);
        let (spec, errors) = told(json!({"podCIDRs": ["10.244.0.0/24"]}));
        assert_eq!((&spec, errors.as_str()), (&old["spec"], "[]"));
        let (_, errors) = told(json!({}));
        assert_eq!(errors, why);
    }

    #[test]
    fn a_gated_pod_says_why_it_waits() {
        let mut object = json!({"spec": {"containers": [], "schedulingGates": [{"name": "a.io/b"}]}});
        pod(&mut object, None);
        let condition = &object["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("False")));
        assert_eq!(condition["message"], "Scheduling is blocked due to non-empty scheduling gates");
        let status = crate::printers::pod::row(&object, Timestamp::UNIX_EPOCH).swap_remove(2);
        assert_eq!(status, json!("SchedulingGated"));
        let mut opened = json!({"spec": {"containers": []}});
        pod(&mut opened, Some(&object));
        assert_eq!(opened["status"], object["status"]);
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
