//! Small groups: networking, discovery, rbac, storage, scheduling, autoscaling; and what all strategies have in common.

use crate::tree::{Object, child, default, default_zero, each, is_zero, made, with_spec, within};
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";

/// What writers of the object itself may not decide: its status (`PrepareForCreate`, `PrepareForUpdate`).
pub fn keep_status(new: &mut Value, old: Option<&Value>, initial: Value) {
    let Some(map) = new.as_object_mut() else { return };
    match old {
        None => {
            map.insert("status".into(), initial);
        }
        Some(old) => match old.get("status") {
            Some(status) => {
                map.insert("status".into(), status.clone());
            }
            None => {
                map.remove("status");
            }
        },
    }
}

/// Ingresses.
pub fn ingress(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        made(map, "spec");
        if let Some(status) = made(map, "status") {
            default(status, "loadBalancer", json!({}));
        }
    }
}

/// Ingress classes.
pub fn ingress_class(object: &mut Value) {
    within(object, &["spec", "parameters"], |parameters| default(parameters, "scope", "Cluster"));
}

/// Network policies.
pub fn network_policy(object: &mut Value) {
    with_spec(object, |spec| {
        default(spec, "podSelector", json!({}));
        for field in ["ingress", "egress"] {
            each(spec, field, |rule| each(rule, "ports", |port| default(port, "protocol", "TCP")));
        }
        if spec.get("policyTypes").is_none_or(is_zero) {
            let egress = spec.get("egress").is_some_and(|rules| !is_zero(rules));
            let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            spec.insert("policyTypes".into(), types);
        }
    });
}

/// Endpoint slices.
pub fn endpoint_slice(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    each(map, "ports", |port| {
        default(port, "name", "");
        default(port, "protocol", "TCP");
    });
    for field in ["endpoints", "ports"] {
        if !map.contains_key(field) {
            map.insert(field.into(), Value::Null);
        }
    }
}

/// Role bindings of both scopes.
pub fn role_binding(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    if let Some(role) = made(map, "roleRef") {
        default_zero(role, "apiGroup", RBAC);
    }
    each(map, "subjects", |subject| {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            default_zero(subject, "apiGroup", RBAC);
        }
    });
}

/// Roles of both scopes: Go writes their rules even when there are none.
pub fn role(object: &mut Value) {
    if let Some(map) = object.as_object_mut()
        && !map.contains_key("rules")
    {
        map.insert("rules".into(), Value::Null);
    }
}

/// Storage classes.
pub fn storage_class(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        default(map, "reclaimPolicy", "Delete");
        default(map, "volumeBindingMode", "Immediate");
    }
}

/// CSI drivers.
pub fn csi_driver(object: &mut Value) {
    with_spec(object, |spec| {
        default(spec, "attachRequired", true);
        default(spec, "podInfoOnMount", false);
        default(spec, "storageCapacity", false);
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        default_zero(spec, "volumeLifecycleModes", json!(["Persistent"]));
        default(spec, "requiresRepublish", false);
        default(spec, "seLinuxMount", false);
    });
}

/// Priority classes.
pub fn priority_class(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        default(map, "preemptionPolicy", "PreemptLowerPriority");
    }
}

/// Pod disruption budgets before their controller has looked.
pub fn prepare_budget(new: &mut Value, old: Option<&Value>) {
    let zero = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    keep_status(new, old, zero);
}

fn scaling_rules(behavior: &mut Object, field: &str, seconds: Option<u32>, policies: Value) {
    if let Some(rules) = made(behavior, field) {
        if let Some(seconds) = seconds {
            default(rules, "stabilizationWindowSeconds", seconds);
        }
        default(rules, "selectPolicy", "Max");
        default(rules, "policies", policies);
    }
}

/// Horizontal pod autoscalers (`pkg/apis/autoscaling/v2/defaults.go`).
pub fn autoscaler(object: &mut Value) {
    with_spec(object, |spec| {
        default(spec, "minReplicas", 1);
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        default_zero(spec, "metrics", cpu);
        if let Some(behavior) = child(spec, "behavior") {
            let up = json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]);
            scaling_rules(behavior, "scaleUp", Some(0), up);
            scaling_rules(
                behavior,
                "scaleDown",
                None,
                json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
            );
        }
    });
}

/// An autoscaler before its controller has looked.
pub fn prepare_autoscaler(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({"desiredReplicas": 0, "currentMetrics": null}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_say_what_they_are_about() {
        let mut object = json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
        network_policy(&mut object);
        assert_eq!(
            object["spec"],
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}]})
        );
    }

    #[test]
    fn autoscalers() {
        let mut object =
            json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}});
        autoscaler(&mut object);
        assert_eq!(object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(object["spec"]["behavior"]["scaleDown"]["policies"][0]["periodSeconds"], 15);
        assert_eq!(object["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 5);
        assert_eq!(object["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
    }

    #[test]
    fn status_is_not_the_writers() {
        let mut new = json!({"status": {"x": 1}});
        keep_status(&mut new, None, json!({}));
        assert_eq!(new["status"], json!({}));
        let mut new = json!({"status": {"x": 1}});
        keep_status(&mut new, Some(&json!({"status": {"x": 2}})), json!({}));
        assert_eq!(new["status"]["x"], 2);
    }
}
