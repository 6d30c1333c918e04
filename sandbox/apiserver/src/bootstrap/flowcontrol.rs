//! Flow schemas and priority levels of every cluster (k8s.io/apiserver `pkg/apis/flowcontrol/bootstrap`), and what is told of a schema:
//! whether its level exists.

use super::{find, put};
use crate::rest::meta;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::storage::{self, keys};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, text};
use drydock_apis::validation::flowcontrol::{everything, mandatory_level, mandatory_schema};
use drydock_etcd::KeyRange;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Their group.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Levels of which the cluster's owner may make others: name, shares, what of them others may borrow, queues, hands, requests that a
/// queue holds.
const LEVELS: [(&str, u32, u32, [u32; 3]); 6] = [
    ("system", 30, 33, [64, 6, 50]),
    ("node-high", 40, 25, [64, 6, 50]),
    ("leader-election", 10, 0, [16, 4, 50]),
    ("workload-high", 40, 50, [128, 6, 50]),
    ("workload-low", 100, 90, [128, 6, 50]),
    ("global-default", 20, 50, [128, 6, 50]),
];

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn system_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}})
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], namespaces: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": namespaces})
}

/// Such schemas: name, level, precedence, how flows are told apart, rules.
fn schemas() -> [(&'static str, &'static str, u32, &'static str, Value); 11] {
    const WRITE: &[&str] = &["get", "create", "update"];
    let everybody = json!([group("system:unauthenticated"), group("system:authenticated")]);
    let leases = resources(WRITE, "coordination.k8s.io", &["leases"], &["*"]);
    let mut nodes = resources(&["*"], "", &["nodes", "nodes/status"], &["*"]);
    nodes["clusterScope"] = true.into();
    let accounts = || json!([system_account("*")]);
    let probes = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]});
    let locks = |namespace| resources(WRITE, "", &["endpoints", "configmaps"], &[namespace]);
    let manager = user("system:kube-controller-manager");
    let scheduler = user("system:kube-scheduler");
    let (by_user, by_namespace) = ("ByUser", "ByNamespace");
    [
        ("probes", "exempt", 2, "", json!({"subjects": everybody, "nonResourceRules": [probes]})),
        (
            "system-leader-election",
            "leader-election",
            100,
            by_user,
            json!({"subjects": [manager, scheduler, system_account("*")], "resourceRules": [leases]}),
        ),
        (
            "endpoint-controller",
            "workload-high",
            150,
            by_user,
            json!({
                "subjects": [manager, system_account("endpoint-controller"), system_account("endpointslicemirroring-controller")],
                "resourceRules": [resources(WRITE, "", &["endpoints"], &["*"])],
            }),
        ),
        (
            "workload-leader-election",
            "leader-election",
            200,
            by_user,
            json!({"subjects": accounts(), "resourceRules": [locks("*"), leases]}),
        ),
        (
            "system-node-high",
            "node-high",
            400,
            by_user,
            json!({"subjects": [group("system:nodes")],
                "resourceRules": [nodes, resources(&["*"], "coordination.k8s.io", &["leases"], &["*"])]}),
        ),
        ("system-nodes", "system", 500, by_user, everything(&json!([group("system:nodes")]))),
        ("kube-controller-manager", "workload-high", 800, by_namespace, everything(&json!([manager]))),
        ("kube-scheduler", "workload-high", 800, by_namespace, everything(&json!([scheduler]))),
        ("kube-system-service-accounts", "workload-high", 900, by_namespace, everything(&accounts())),
        (
            "service-accounts",
            "workload-low",
            9000,
            by_user,
            everything(&json!([group("system:serviceaccounts")])),
        ),
        ("global-default", "global-default", 9900, by_user, everything(&everybody)),
    ]
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "kind": kind,
        "apiVersion": API_VERSION,
        "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
        "spec": spec,
        "status": {},
    })
}

/// All of them, each with the name of its resource.
pub fn all() -> Vec<(&'static str, Value)> {
    let mut levels = Vec::new();
    let mut flows = Vec::new();
    for name in ["exempt", "catch-all"] {
        levels.extend(mandatory_level(name).map(|spec| (name, spec)));
        flows.extend(mandatory_schema(name).map(|spec| (name, spec)));
    }
    for (name, shares, lendable, [queues, hand, length]) in LEVELS {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": length});
        let limited = json!({
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing},
        });
        levels.push((name, json!({"type": "Limited", "limited": limited})));
    }
    for (name, level, precedence, method, rule) in schemas() {
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "rules": [rule],
        });
        if !method.is_empty() {
            spec["distinguisherMethod"] = json!({"type": method});
        }
        flows.push((name, spec));
    }
    let levels = levels.into_iter().map(|(name, spec)| {
        ("prioritylevelconfigurations", object("PriorityLevelConfiguration", name, spec))
    });
    let flows = flows.into_iter().map(|(name, spec)| {
        let mut schema = object("FlowSchema", name, spec);
        set_condition(&mut schema, true);
        ("flowschemas", schema)
    });
    levels.chain(flows).collect()
}

fn level_of(schema: &Value) -> &str {
    text(schema, &["spec", "priorityLevelConfiguration", "name"])
}

/// Tells whether a schema's level exists. False: that was told before.
fn set_condition(schema: &mut Value, exists: bool) -> bool {
    let (status, reason, what) = if exists {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let mut conditions = list(schema, &["status", "conditions"]).to_vec();
    if conditions.iter().any(|one| one["type"] == "Dangling" && one["status"] == status) {
        return false;
    }
    let level = level_of(schema);
    conditions.retain(|one| one["type"] != "Dangling");
    conditions.push(json!({
        "type": "Dangling",
        "status": status,
        "lastTransitionTime": meta::now(),
        "reason": reason,
        "message": format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {what}"),
    }));
    object::map_mut(schema, &["status"]).insert("conditions".into(), conditions.into());
    true
}

/// Tells of each schema whether the level that it names exists (`pkg/util/flowcontrol/apf_controller.go`).
pub async fn tell(server: &Arc<Server>) -> Result<(), Status> {
    let schemas = find(server, GROUP, "v1", "flowschemas")?;
    let levels = find(server, GROUP, "v1", "prioritylevelconfigurations")?;
    for record in server.store.below(schemas.prefix.as_bytes()) {
        let mut schema = storage::decode(&record)?;
        let key = keys::of(&levels, "", level_of(&schema));
        let exists = server.store.get(key.as_bytes(), None).map_err(refusal)?.is_some();
        if set_condition(&mut schema, exists) {
            put(server, GROUP, "v1", "flowschemas", schema, &["status"]).await?;
        }
    }
    Ok(())
}

/// Tells it again whenever a schema or a level has changed, for as long as it is polled.
pub async fn keep(server: &Arc<Server>) {
    loop {
        let Err(status) = follow(server).await;
        tracing::debug!("the watch of flow schemas begins anew: {status}");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow(server: &Arc<Server>) -> Result<Infallible, Status> {
    let watch = |plural: &str| {
        let of = find(server, GROUP, "v1", plural)?;
        server.store.watch(&KeyRange::prefix(of.prefix.clone()), None).map_err(refusal)
    };
    let (mut schemas, mut levels) = (watch("flowschemas")?, watch("prioritylevelconfigurations")?);
    loop {
        tell(server).await?;
        tokio::select! {
            changed = schemas.next() => changed.map_err(refusal)?,
            changed = levels.next() => changed.map_err(refusal)?,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_apis::find;

    #[test]
    fn what_every_cluster_has_is_valid_and_complete() {
        let all = all();
        assert_eq!(all.len(), 8 + 13);
        for (plural, tree) in &all {
            let kind = find(GROUP, "v1", plural).expect("a kind");
            let mut defaulted = tree.clone();
            (kind.defaults)(&mut defaulted);
            assert_eq!(&defaulted, tree);
            assert_eq!((kind.validate)(tree, None).aggregate(), "[]");
        }
        let level = |schema: &Value| all.iter().any(|(_, one)| object::name(one) == level_of(schema));
        assert!(all.iter().filter(|(plural, _)| *plural == "flowschemas").all(|(_, schema)| level(schema)));
    }
}
