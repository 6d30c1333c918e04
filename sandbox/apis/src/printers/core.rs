//! Rows of the core group's other kinds.

use super::{NONE, UNKNOWN, age, name, or, parse, since};
use crate::kind::{Cell, Column};
use crate::tree::{at, entries, flag, get, has, int, list, text};
use drydock_apimachinery::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn entry_count(object: &Value, field: &str) -> usize {
    entries(object, field).count()
}

/// Columns of config maps.
pub const CONFIG_MAP: &[Column] =
    &[Column::NAME, Column::text("Data", "Data contains the configuration data."), Column::AGE];

/// A config map.
pub fn config_map(object: &Value, now: Timestamp) -> Vec<Cell> {
    let count = entry_count(object, "data") + entry_count(object, "binaryData");
    vec![name(object), json!(count), age(object, now)]
}

/// Columns of secrets.
pub const SECRET: &[Column] = &[
    Column::NAME,
    Column::text("Type", "Used to facilitate programmatic handling of secret data."),
    Column::text("Data", "Data contains the secret data."),
    Column::AGE,
];

/// A secret: how much, never what.
pub fn secret(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "type")), json!(entry_count(object, "data")), age(object, now)]
}

/// Columns of service accounts.
pub const SERVICE_ACCOUNT: &[Column] = &[
    Column::NAME,
    Column::text(
        "Secrets",
        "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are allowed to use.",
    ),
    Column::AGE,
];

/// A service account.
pub fn service_account(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(list(object, "secrets").len()), age(object, now)]
}

/// Columns of namespaces.
pub const NAMESPACE: &[Column] =
    &[Column::NAME, Column::text("Status", "The status of the namespace"), Column::AGE];

/// A namespace.
pub fn namespace(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(get(object, "status"), "phase")), age(object, now)]
}

/// Columns of component statuses.
pub const COMPONENT_STATUS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Status of the component conditions"),
    Column::text("Message", "Message of the component conditions"),
    Column::text("Error", "Error of the component conditions"),
];

/// A component's status.
pub fn component_status(object: &Value, _now: Timestamp) -> Vec<Cell> {
    let healthy = list(object, "conditions").iter().find(|one| text(one, "type") == "Healthy");
    let (status, message, error) = match healthy {
        Some(condition) => (
            if text(condition, "status") == "True" { "Healthy" } else { "Unhealthy" },
            text(condition, "message"),
            text(condition, "error"),
        ),
        None => ("Unknown", "", ""),
    };
    vec![name(object), json!(status), json!(message), json!(error)]
}

/// Columns of nodes.
pub const NODE: &[Column] = &[
    Column::NAME,
    Column::text("Status", "The status of the node"),
    Column::text("Roles", "The roles of the node"),
    Column::AGE,
    Column::text("Version", "Kubelet Version reported by the node."),
    Column::text(
        "Internal-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available.",
    )
    .wide(),
    Column::text(
        "External-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available.",
    )
    .wide(),
    Column::text(
        "OS-Image",
        "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
    )
    .wide(),
    Column::text(
        "Kernel-Version",
        "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
    )
    .wide(),
    Column::text(
        "Container-Runtime",
        "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
    )
    .wide(),
];

/// A node.
pub fn node(object: &Value, now: Timestamp) -> Vec<Cell> {
    let status = get(object, "status");
    let ready = list(status, "conditions").iter().rfind(|one| text(one, "type") == "Ready");
    let mut words = match ready {
        Some(condition) if text(condition, "status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if flag(get(object, "spec"), "unschedulable") {
        words.push_str(",SchedulingDisabled");
    }
    let info = get(status, "nodeInfo");
    let address = |kind: &str| {
        let found = list(status, "addresses").iter().find(|one| text(one, "type") == kind);
        json!(found.map_or(NONE, |one| text(one, "address")))
    };
    vec![
        name(object),
        json!(words),
        json!(or(&node_roles(object), NONE)),
        age(object, now),
        json!(text(info, "kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        json!(or(text(info, "osImage"), UNKNOWN)),
        json!(or(text(info, "kernelVersion"), UNKNOWN)),
        json!(or(text(info, "containerRuntimeVersion"), UNKNOWN)),
    ]
}

/// Roles are labels: `node-role.kubernetes.io/ROLE` or `kubernetes.io/role=ROLE`.
fn node_roles(object: &Value) -> String {
    let roles: BTreeSet<&str> = entries(get(object, "metadata"), "labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

/// Columns of events: the only table whose first column is no name.
pub const EVENT: &[Column] = &[
    Column::text("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
    Column::text("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
    Column::text("Reason", "This should be a short, machine understandable string that gives the reason for the transition into the object's current status."),
    Column::text("Object", "The object that this event is about."),
    Column::text("Subobject", "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement.").wide(),
    Column::text("Source", "The component reporting this event. Should be a short machine understandable string.").wide(),
    Column::text("Message", "A human-readable description of the status of this operation."),
    Column::text("First Seen", "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)").wide(),
    Column::text("Count", "The number of times this event has occurred.").wide(),
    Column { format: "name", ..Column::text("Name", Column::NAME.description).wide() },
];

/// An event.
pub fn event(object: &Value, now: Timestamp) -> Vec<Cell> {
    let moment = |field: &str| get(object, field);
    let first = if parse(moment("firstTimestamp")).is_some() { "firstTimestamp" } else { "eventTime" };
    let first = since(moment(first), now);
    let series = get(object, "series");
    let (last, count) = if has(object, "series") {
        (since(get(series, "lastObservedTime"), now), int(series, "count"))
    } else if parse(moment("lastTimestamp")).is_some() {
        (since(moment("lastTimestamp"), now), int(object, "count").max(1))
    } else {
        (first.clone(), int(object, "count").max(1))
    };
    let about = get(object, "involvedObject");
    let kind = text(about, "kind").to_lowercase();
    let target = match text(about, "name") {
        "" => kind,
        named => format!("{kind}/{named}"),
    };
    vec![
        json!(last),
        json!(text(object, "type")),
        json!(text(object, "reason")),
        json!(target),
        json!(text(about, "fieldPath")),
        json!(event_source(object)),
        json!(text(object, "message").trim()),
        json!(first),
        json!(count),
        name(object),
    ]
}

fn event_source(object: &Value) -> String {
    let source = get(object, "source");
    let component = or(text(source, "component"), text(object, "reportingComponent"));
    match or(text(source, "host"), text(object, "reportingInstance")) {
        "" => component.into(),
        instance => format!("{component}, {instance}"),
    }
}

/// Columns of resource quotas.
pub const QUOTA: &[Column] = &[
    Column::NAME,
    Column::text(
        "Request",
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    Column::text(
        "Limit",
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
    ),
    Column::AGE,
];

/// A resource quota.
pub fn quota(object: &Value, now: Timestamp) -> Vec<Cell> {
    let status = get(object, "status");
    let shown = |value: &Value| Quantity::of(value).unwrap_or_default().to_string();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in entries(status, "hard") {
        let used = shown(at(status, &["used", resource]));
        let line = format!("{resource}: {used}/{}", shown(hard));
        if resource.starts_with("limits.") { limits.push(line) } else { requests.push(line) }
    }
    vec![name(object), json!(requests.join(", ")), json!(limits.join(", ")), age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:05:00Z".parse().unwrap()
    }

    // Cases of TestPrintNodeStatus, TestPrintNodeRole and their kind.
    #[test]
    fn nodes() {
        let cells = |labels: Value, spec: Value, status: Value| {
            let object = json!({"metadata": {"name": "n", "labels": labels}, "spec": spec, "status": status});
            let cells = node(&object, now());
            format!("{} {}", cells[1].as_str().unwrap(), cells[2].as_str().unwrap())
        };
        let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
        assert_eq!(cells(json!({}), json!({}), ready("True")), "Ready <none>");
        assert_eq!(
            cells(json!({}), json!({"unschedulable": true}), ready("True")),
            "Ready,SchedulingDisabled <none>"
        );
        assert_eq!(
            cells(json!({}), json!({"unschedulable": true}), ready("Unknown")),
            "NotReady,SchedulingDisabled <none>"
        );
        assert_eq!(cells(json!({}), json!({}), json!({})), "Unknown <none>");
        assert_eq!(
            cells(
                json!({"node-role.kubernetes.io/master": "", "node-role.kubernetes.io/proxy": "", "kubernetes.io/role": "node"}),
                json!({}),
                json!({})
            ),
            "Unknown master,node,proxy"
        );
    }

    #[test]
    fn events() {
        let base = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Scheduled", "message": " m\n",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}});
        let mut old = base.clone();
        old["firstTimestamp"] = json!("2026-01-01T00:00:00Z");
        old["lastTimestamp"] = json!("2026-01-01T00:04:00Z");
        old["count"] = json!(6);
        old["source"] = json!({"component": "kubelet", "host": "node1"});
        assert_eq!(
            Value::from(event(&old, now())),
            json!([
                "60s",
                "Normal",
                "Scheduled",
                "pod/p",
                "spec.containers{c}",
                "kubelet, node1",
                "m",
                "5m",
                6,
                "e"
            ])
        );
        let mut new = base;
        new["eventTime"] = json!("2026-01-01T00:03:00.000000Z");
        new["reportingComponent"] = json!("default-scheduler");
        assert_eq!(
            Value::from(event(&new, now())),
            json!([
                "2m",
                "Normal",
                "Scheduled",
                "pod/p",
                "spec.containers{c}",
                "default-scheduler",
                "m",
                "2m",
                1,
                "e"
            ])
        );
        new["series"] = json!({"count": 7, "lastObservedTime": "2026-01-01T00:04:30.000000Z"});
        assert_eq!(event(&new, now())[0], "30s");
        assert_eq!(event(&new, now())[8], 7);
    }

    #[test]
    fn quotas() {
        let object = json!({"metadata": {"name": "q"}, "status": {"hard": {"cpu": "6", "limits.memory": "2000Mi", "pods": "10"},
            "used": {"cpu": "3", "limits.memory": "1Gi"}}});
        assert_eq!(
            Value::from(quota(&object, now())),
            json!(["q", "cpu: 3/6, pods: 0/10", "limits.memory: 1Gi/2000Mi", "<unknown>"])
        );
    }
}
