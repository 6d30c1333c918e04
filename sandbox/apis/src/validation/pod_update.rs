//! What may change of a pod that is there: of its specification, of its status, of containers that were put into it later.

use super::pod::pod_spec;
use super::{container, diff, dns_subdomain, indexed, is_valid_ip, reasons, same, scheduling, spec};
use crate::defaults::pod::qos_class;
use crate::tree::{at, get, has, int, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::{names, object};
use serde_json::Value;
use std::collections::HashSet;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 \
    if it was previously negative)";

/// What marks the copy of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What asked for profiles of AppArmor before there was a field for it, by container.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// `ValidatePodSpecificAnnotations`, of a pod or a template.
pub fn own_annotations(errors: &mut ErrorList, annotations: &Value, spec: &Value, path: &Path) {
    let mirror = get(annotations, MIRROR);
    if !mirror.is_null() && text(spec, "nodeName").is_empty() {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&path.key(MIRROR), mirror.clone(), detail);
    }
}

/// `ValidatePodSpecificAnnotationUpdates`: some annotations are as they were when the pod was made.
fn kept_annotations(errors: &mut ErrorList, pod: &Value, old: &Value) {
    let path = Path::new("metadata.annotations");
    let (now, before) = (at(pod, &["metadata", "annotations"]), at(old, &["metadata", "annotations"]));
    let kind = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    for (key, value) in crate::tree::entries(at(old, &["metadata"]), "annotations") {
        if let Some(kind) = kind(key).filter(|_| get(now, key) != value) {
            errors.forbidden(&path.key(key), format!("may not remove or update {kind}"));
        }
    }
    for (key, _) in crate::tree::entries(at(pod, &["metadata"]), "annotations") {
        if let Some(kind) = kind(key).filter(|_| !has(before, key)) {
            errors.forbidden(&path.key(key), format!("may not add {kind}"));
        }
    }
    own_annotations(errors, now, get(pod, "spec"), &path);
}

/// `ValidatePodUpdate`: what may change of a pod that is there.
pub fn update(errors: &mut ErrorList, pod: &Value, old: &Value) {
    kept_annotations(errors, pod, old);
    let (new_spec, old_spec) = (get(pod, "spec"), get(old, "spec"));
    let path = spec();
    for field in ["containers", "initContainers"] {
        if list(new_spec, field).len() != list(old_spec, field).len() {
            errors.forbidden(&path.child(field), "pod updates may not add or remove containers");
            return;
        }
        for (path, one) in indexed(new_spec, field, &path) {
            if text(one, "image").is_empty() {
                errors.required(&path.child("image"), "");
            }
            container::untrimmed_image(errors, one, &path);
        }
    }
    if !deadline(errors, new_spec, old_spec) {
        return;
    }
    scheduling::only_added_tolerations(errors, new_spec, old_spec, &path);
    only_deleted_gates(errors, new_spec, old_spec, &path);
    if same(new_spec, old_spec) {
        return;
    }
    let class = at(old, &["status", "qosClass"]).as_str().unwrap_or_else(|| qos_class(old));
    if qos_class(pod) != class {
        // The value is that of the status, which a writer of the specification has no say in.
        errors.invalid(&Path::new("metadata"), class, "Pod QoS is immutable");
    }
    let munged = munge(errors, new_spec, old_spec);
    if !same(&munged, old_spec) {
        let detail = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            diff::of("PodSpec", old_spec, &munged)
        );
        errors.forbidden(&path, detail);
    }
}

/// False if no more is to be said.
fn deadline(errors: &mut ErrorList, new: &Value, old: &Value) -> bool {
    let path = Path::new("spec.activeDeadlineSeconds");
    match (get(new, "activeDeadlineSeconds").as_i64(), get(old, "activeDeadlineSeconds").as_i64()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(&path, seconds, "must be between 0 and 2147483647, inclusive");
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            errors.invalid(&path, seconds, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn only_deleted_gates(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path) {
    let before: HashSet<&str> = list(old, "schedulingGates").iter().map(|one| text(one, "name")).collect();
    for (path, gate) in indexed(new, "schedulingGates", path) {
        let name = text(gate, "name");
        if !before.contains(name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&path.child("name"), detail);
        }
    }
}

/// The new specification with what may change set back.
fn munge(errors: &mut ErrorList, new: &Value, old: &Value) -> Value {
    let mut munged = new.clone();
    let Some(map) = munged.as_object_mut() else { return munged };
    let mut fields = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    if int(old, "terminationGracePeriodSeconds") < 0 && int(new, "terminationGracePeriodSeconds") == 1 {
        fields.push("terminationGracePeriodSeconds");
    }
    if !list(old, "schedulingGates").is_empty() {
        gated(errors, new, old);
        fields.extend(["nodeSelector", "affinity"]);
    }
    for field in fields {
        match old.get(field) {
            Some(value) => map.insert(field.into(), value.clone()),
            None => map.remove(field),
        };
    }
    for field in ["containers", "initContainers"] {
        let before = list(old, field);
        let Some(Value::Array(containers)) = map.get_mut(field) else { continue };
        for (one, before) in containers.iter_mut().zip(before) {
            if let (Some(one), Some(image)) = (one.as_object_mut(), before.get("image")) {
                one.insert("image".into(), image.clone());
            }
        }
    }
    munged
}

/// A pod that waits at a gate may be given more to be placed by.
fn gated(errors: &mut ErrorList, new: &Value, old: &Value) {
    let kept = crate::tree::entries(old, "nodeSelector")
        .all(|(key, value)| at(new, &["nodeSelector", key]) == value);
    if !kept {
        let path = Path::new("spec.nodeSelector");
        errors.invalid(
            &path,
            get(new, "nodeSelector").clone(),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
}

/// What a kubelet or a controller may say of a pod (`ValidatePodStatusUpdate`).
pub fn validate_status(pod: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    kept_annotations(&mut errors, pod, old);
    let path = Path::new("status");
    if text(get(pod, "spec"), "nodeName") != text(get(old, "spec"), "nodeName") {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    let status = get(pod, "status");
    let nominated = text(status, "nominatedNodeName");
    if !nominated.is_empty() {
        dns_subdomain(&mut errors, &path.child("nominatedNodeName"), nominated);
    }
    for (path, one) in indexed(status, "podIPs", &path).chain(indexed(status, "hostIPs", &path)) {
        reasons(&mut errors, &path, text(one, "ip"), is_valid_ip(text(one, "ip")));
    }
    for (path, condition) in indexed(status, "conditions", &path) {
        reasons(
            &mut errors,
            &path.child("Type"),
            text(condition, "type"),
            names::is_qualified_name(text(condition, "type")),
        );
    }
    let policy = text(get(old, "spec"), "restartPolicy");
    for (field, policy) in [
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        back_to_life(&mut errors, status, get(old, "status"), field, policy, get(old, "spec"));
    }
    errors
}

/// Containers that have ended for good do not run again.
fn back_to_life(errors: &mut ErrorList, new: &Value, old: &Value, field: &str, policy: &str, spec: &Value) {
    if policy == "Always" {
        return;
    }
    for (path, before) in indexed(old, field, &Path::new("status")) {
        let name = text(before, "name");
        let ended = get(get(before, "state"), "terminated");
        let own_policy = ["containers", "initContainers"]
            .into_iter()
            .flat_map(|field| list(spec, field))
            .any(|one| text(one, "name") == name && has(one, "restartPolicy"));
        let may_restart = own_policy || (int(ended, "exitCode") != 0 && policy == "OnFailure");
        if ended.is_null() || may_restart {
            continue;
        }
        let revived = list(new, field)
            .iter()
            .any(|now| text(now, "name") == name && !has(get(now, "state"), "terminated"));
        if revived {
            errors.forbidden(&path.child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// Containers put into a pod that runs stay as they are (`ValidatePodEphemeralContainersUpdate`).
pub fn validate_ephemeral_containers(pod: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let mirror = at(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]);
    if !mirror.is_null() {
        errors.forbidden(&Path::default(), "static pods do not support ephemeral containers");
        return errors;
    }
    pod_spec(&mut errors, get(pod, "spec"), object::name(pod), true, &spec());
    let path = Path::new("spec.ephemeralContainers");
    let now = list(get(pod, "spec"), "ephemeralContainers");
    for before in list(get(old, "spec"), "ephemeralContainers") {
        let name = text(before, "name");
        match now.iter().find(|one| text(one, "name") == name) {
            None => errors
                .forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(one) if !same(one, before) => {
                let changes = diff::of("EphemeralContainer", before, one);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
                errors.forbidden(&path, detail);
            }
            Some(_) => {}
        }
    }
    errors
}

/// `pods/NAME/resize`: CPU and memory of containers, and nothing else (`ValidatePodResize`).
pub fn validate_resize(pod: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    pod_spec(&mut errors, get(pod, "spec"), object::name(pod), true, &spec());
    let (new_spec, old_spec) = (get(pod, "spec"), get(old, "spec"));
    if !at(old, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_null() {
        errors.forbidden(&Path::default(), "static pods cannot be resized");
        return errors;
    }
    for field in ["containers", "initContainers"] {
        if list(new_spec, field).len() != list(old_spec, field).len() {
            errors.forbidden(&spec().child(field), "pod resize may not add or remove containers");
            return errors;
        }
    }
    let before = at(old, &["status", "qosClass"]).as_str().unwrap_or_else(|| qos_class(old));
    if qos_class(pod) != before {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&spec(), before, detail);
    }
    let (now, then) = (without_amounts(new_spec), without_amounts(old_spec));
    if !same(&now, &then) {
        let changes = diff::of("PodSpec", &then, &now);
        errors.forbidden(&spec(), format!("only cpu and memory resources are mutable\n{changes}"));
    }
    errors
}

/// A specification without what a resize may change.
fn without_amounts(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(map) = spec.as_object_mut() else { return spec };
    for field in ["containers", "initContainers"] {
        crate::tree::each(map, field, |container| {
            let Some(resources) = crate::tree::child(container, "resources") else { return };
            for part in ["limits", "requests"] {
                if let Some(amounts) = crate::tree::child(resources, part) {
                    amounts.remove("cpu");
                    amounts.remove("memory");
                    // None left is as none given.
                    if amounts.is_empty() {
                        resources.remove(part);
                    }
                }
            }
            if resources.is_empty() {
                container.remove("resources");
            }
        });
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: &Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}});
        crate::defaults::pod::pod(&mut pod);
        pod
    }

    fn resized(before: &Value, after: &Value) -> Vec<String> {
        validate_resize(&pod(after), &pod(before)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_copy_of_a_static_pod_stays_one_and_nothing_else_becomes_one() {
        let pod = |annotations: Value| {
            let mut pod = pod(&json!({}));
            pod["metadata"]["annotations"] = annotations;
            pod["spec"]["nodeName"] = json!("n");
            pod
        };
        let told = |before: Value, after: Value| -> Vec<String> {
            let mut errors = ErrorList::default();
            update(&mut errors, &pod(after), &pod(before));
            errors.iter().map(ToString::to_string).collect()
        };
        let mirror = || json!({"kubernetes.io/config.mirror": "a"});
        assert_eq!(told(mirror(), mirror()), Vec::<String>::new());
        let kept = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation";
        assert_eq!(told(mirror(), json!({"kubernetes.io/config.mirror": "b"})), [kept]);
        assert_eq!(told(mirror(), json!({})), [kept]);
        let added =
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation";
        assert_eq!(told(json!({"a": "b"}), mirror()), [added]);
        let profile = json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"});
        assert!(told(json!({}), profile)[0].ends_with("may not add AppArmor annotations"));
        let mut errors = ErrorList::default();
        own_annotations(&mut errors, &mirror(), &json!({}), &Path::new("metadata.annotations"));
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"a\": must set spec.nodeName if mirror pod annotation is set"
            ]
        );
    }

    #[test]
    fn a_resize_gives_no_amounts_to_who_has_none() {
        let classes = "Pod QOS Class may not change as a result of resizing";
        assert_eq!(
            resized(&json!({}), &json!({"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}})),
            [format!("spec: Invalid value: \"BestEffort\": {classes}")]
        );
        let other = resized(
            &json!({"requests": {"cpu": "1"}}),
            &json!({"requests": {"cpu": "2", "ephemeral-storage": "1Gi"}}),
        );
        assert!(
            other[0].starts_with("spec: Forbidden: only cpu and memory resources are mutable\n"),
            "{other:?}"
        );
        assert_eq!(
            resized(&json!({"requests": {"cpu": "1"}}), &json!({"requests": {"cpu": "2"}})),
            Vec::<String>::new()
        );
    }
}
