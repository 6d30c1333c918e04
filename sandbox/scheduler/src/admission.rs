//! What a kubelet asks before it takes a pod (`AdmissionCheck` of `pkg/scheduler`, `pkg/kubelet/lifecycle/predicate.go`): whoever names a
//! node in `spec.nodeName` goes past the scheduler, and a node may have changed since the scheduler chose it. Pure.

use crate::node::NodeInfo;
use crate::plugins::{node as rules, resources};
use crate::pod::PodInfo;
use crate::terms::tolerates;

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has too little of something.
    Short {
        /// Of what.
        resource: String,
        /// What the pod asks for; CPUs in thousandths.
        requested: i64,
        /// What the pods on the node have asked for.
        used: i64,
        /// What the node has for pods.
        capacity: i64,
    },
    /// A rule is against it.
    Rule {
        /// Its name.
        name: &'static str,
        /// What it says.
        reason: &'static str,
    },
}

/// All that speaks against a pod on a node, which knows its other pods; the first is what learners are told.
pub fn refusals(pod: &PodInfo, node: &NodeInfo, is_static: bool) -> Vec<Refusal> {
    let short = resources::shortages(pod, node).into_iter().filter(|short| is_of_node(short.resource, node));
    let mut refusals: Vec<Refusal> = short
        .map(|short| Refusal::Short {
            resource: short.resource.to_owned(),
            requested: short.requested,
            used: short.used,
            capacity: short.capacity,
        })
        .collect();
    let mut rule = |holds: bool, name, reason| {
        if !holds {
            refusals.push(Refusal::Rule { name, reason });
        }
    };
    rule(pod.required_nodes.matches(&node.name, node.labels()), "NodeAffinity", rules::OTHER_LABELS);
    rule(pod.node().is_none_or(|name| name == node.name), "NodeName", rules::OTHER_NAME);
    rule(rules::has_free_ports(pod, node), "NodePorts", rules::PORTS_TAKEN);
    // A pod that is here already is not sent away by `NoSchedule`.
    let mut ends = node.taints().iter().filter(|taint| taint.effect == "NoExecute");
    let tolerated = is_static || ends.all(|taint| tolerates(pod.tolerations(), taint));
    rule(tolerated, "TaintToleration", "node(s) had taints that the pod didn't tolerate");
    refusals
}

/// Extended resources that the node does not know are the cluster's, and not its to count (`removeMissingExtendedResources`).
fn is_of_node(resource: &str, node: &NodeInfo) -> bool {
    let extended = resource.contains('/') && !resource.contains("kubernetes.io/");
    !extended || node.allocatable.scalars.iter().any(|(name, _)| name == resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(name: &str, spec: Value) -> PodInfo {
        PodInfo::new(Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap(),
        ))
    }

    fn asks(requests: &Value) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
    }

    fn node(spec: &Value) -> NodeInfo {
        let allocatable = json!({"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/a": "1"});
        NodeInfo::new(Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "node1", "labels": {"disk": "ssd"}},
                "spec": spec,
                "status": {"allocatable": allocatable},
            }))
            .unwrap(),
        ))
    }

    #[test]
    fn what_the_node_has_too_little_of() {
        let mut node = node(&json!({}));
        node.add(Arc::new(pod("other", asks(&json!({"cpu": "1500m"})))));
        let of = |requests: Value| refusals(&pod("new", asks(&requests)), &node, false);
        assert_eq!(of(json!({"cpu": "500m", "example.com/a": 1})), []);
        let cpu = Refusal::Short { resource: "cpu".into(), requested: 501, used: 1500, capacity: 2000 };
        assert_eq!(of(json!({"cpu": "501m"})), [cpu]);
        assert!(
            matches!(&of(json!({"example.com/a": 2}))[..], [Refusal::Short { resource, .. }] if resource == "example.com/a")
        );
        // Nobody on this node counts those.
        assert_eq!(of(json!({"example.com/b": 2})), []);
        for name in ["a", "b"] {
            node.add(Arc::new(pod(name, asks(&json!({})))));
        }
        let pods = Refusal::Short { resource: "pods".into(), requested: 1, used: 3, capacity: 3 };
        assert_eq!(refusals(&pod("new", asks(&json!({}))), &node, false), [pods]);
    }

    #[test]
    fn rules() {
        let names = |spec: Value, node: &NodeInfo, is_static| -> Vec<&'static str> {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "c", "ports": [{"containerPort": 1, "hostPort": spec["port"].as_i64().unwrap_or(0)}]}]);
            let named = |refusal| match refusal {
                Refusal::Rule { name, .. } => name,
                Refusal::Short { .. } => "short",
            };
            refusals(&pod("new", spec), node, is_static).into_iter().map(named).collect()
        };
        let mut plain = node(&json!({"taints": [{"key": "a", "effect": "NoSchedule"}]}));
        let none: [&str; 0] = [];
        assert_eq!(names(json!({"nodeSelector": {"disk": "ssd"}, "nodeName": "node1"}), &plain, false), none);
        assert_eq!(names(json!({"nodeSelector": {"disk": "hdd"}}), &plain, false), ["NodeAffinity"]);
        assert_eq!(names(json!({"nodeName": "node2"}), &plain, false), ["NodeName"]);
        assert_eq!(names(json!({"port": 80}), &plain, false), none);
        let taken = json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]});
        plain.add(Arc::new(pod("other", taken)));
        assert_eq!(names(json!({"port": 80}), &plain, false), ["NodePorts"]);
        let tainted = node(&json!({"taints": [{"key": "a", "effect": "NoExecute"}]}));
        assert_eq!(names(json!({}), &tainted, false), ["TaintToleration"]);
        assert_eq!(names(json!({"tolerations": [{"operator": "Exists"}]}), &tainted, false), none);
        assert_eq!(names(json!({}), &tainted, true), none);
    }
}
