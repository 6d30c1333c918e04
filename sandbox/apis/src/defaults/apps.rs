//! `apps/v1` (`pkg/apis/apps/v1/defaults.go`).

use super::pod::template;
use crate::tree::{Object, child, default, default_zero, each, made, with_spec};
use serde_json::{Value, json};

const ROLLING: &str = "RollingUpdate";

fn rolling<'a>(spec: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    let strategy = made(spec, field)?;
    default_zero(strategy, "type", ROLLING);
    if strategy.get("type").and_then(Value::as_str) != Some(ROLLING) {
        return None;
    }
    made(strategy, "rollingUpdate")
}

/// Deployments.
pub fn deployment(object: &mut Value) {
    with_spec(object, |spec| {
        default(spec, "replicas", 1);
        if let Some(update) = rolling(spec, "strategy") {
            default(update, "maxUnavailable", "25%");
            default(update, "maxSurge", "25%");
        }
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        template(spec);
    });
}

/// Daemon sets.
pub fn daemon_set(object: &mut Value) {
    with_spec(object, |spec| {
        if let Some(update) = rolling(spec, "updateStrategy") {
            default(update, "maxUnavailable", 1);
            default(update, "maxSurge", 0);
        }
        default(spec, "revisionHistoryLimit", 10);
        template(spec);
    });
}

/// Stateful sets.
pub fn stateful_set(object: &mut Value) {
    with_spec(object, |spec| {
        default_zero(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = made(spec, "updateStrategy") {
            if strategy.get("type").is_none_or(crate::tree::is_zero) {
                strategy.insert("type".into(), ROLLING.into());
                made(strategy, "rollingUpdate");
            }
            if strategy.get("type").and_then(Value::as_str) == Some(ROLLING)
                && let Some(update) = child(strategy, "rollingUpdate")
            {
                default(update, "partition", 0);
                default(update, "maxUnavailable", 1);
            }
        }
        if let Some(policy) = made(spec, "persistentVolumeClaimRetentionPolicy") {
            default_zero(policy, "whenDeleted", "Retain");
            default_zero(policy, "whenScaled", "Retain");
        }
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        template(spec);
        each(spec, "volumeClaimTemplates", |claim| {
            default_zero(claim, "apiVersion", "v1");
            default_zero(claim, "kind", "PersistentVolumeClaim");
            let mut whole = Value::Object(std::mem::take(claim));
            super::core::claim(&mut whole);
            if let Value::Object(map) = whole {
                *claim = map;
            }
        });
    });
}

/// Replica sets.
pub fn replica_set(object: &mut Value) {
    with_spec(object, |spec| {
        default(spec, "replicas", 1);
        template(spec);
    });
}

/// Statuses before any controller has looked: Go writes these numbers even when they are 0.
pub fn initial_status(kind: &str) -> Value {
    match kind {
        "ReplicaSet" | "ReplicationController" => json!({"replicas": 0}),
        "StatefulSet" => json!({"replicas": 0, "availableReplicas": 0}),
        "DaemonSet" => {
            json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies() {
        let mut object = json!({"spec": {"template": {}}});
        deployment(&mut object);
        assert_eq!(
            object["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        let mut object = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
        deployment(&mut object);
        assert_eq!(object["spec"]["strategy"], json!({"type": "Recreate"}));
        assert_eq!(object["spec"]["replicas"], 0);
        let mut object = json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "d"}}]}});
        stateful_set(&mut object);
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
        );
        assert_eq!(
            object["spec"]["volumeClaimTemplates"][0],
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"},
                "spec": {"volumeMode": "Filesystem", "resources": {}}, "status": {"phase": "Pending"}})
        );
    }
}
