//! What nodes are and what pods want of them: NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts.

use k8s_openapi::api::core::v1::Taint;

use super::{Cycle, Plugin, Rejection, Verdict, normalize, spread};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::terms::{tolerates, untolerated};

const TAINTED: &str = "node(s) had untolerated taint(s)";
pub(crate) const OTHER_NAME: &str = "node(s) didn't match the requested node name";
pub(crate) const OTHER_LABELS: &str = "node(s) didn't match Pod's node affinity/selector";
pub(crate) const PORTS_TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";

pub(super) fn unschedulable(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    if may_use_unschedulable(cycle.pod, node) {
        return Ok(());
    }
    Err(Rejection::new(Plugin::NodeUnschedulable, true, "node(s) were unschedulable"))
}

/// A pod that tolerates the taint of cordoned nodes may run on one before the taint is there.
pub(super) fn may_use_unschedulable(pod: &PodInfo, node: &NodeInfo) -> bool {
    let taint = || Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        value: None,
        time_added: None,
    };
    !node.is_unschedulable || tolerates(pod.tolerations(), &taint())
}

pub(super) fn name(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    if cycle.pod.node().is_none_or(|name| name == node.name) {
        return Ok(());
    }
    Err(Rejection::new(Plugin::NodeName, true, OTHER_NAME))
}

pub(super) fn taints(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    if !node.is_tainted {
        return Ok(());
    }
    if untolerated(node.taints(), cycle.pod.tolerations()).is_none() {
        return Ok(());
    }
    Err(Rejection::new(Plugin::TaintToleration, true, TAINTED))
}

pub(super) fn affinity(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    if cycle.pod.required_nodes.matches(&node.name, node.labels()) {
        return Ok(());
    }
    Err(Rejection::new(Plugin::NodeAffinity, true, OTHER_LABELS))
}

/// Whether all of the node's ports that the pod takes are free.
pub(crate) fn has_free_ports(pod: &PodInfo, node: &NodeInfo) -> bool {
    let mut taken = node.pods.iter().flat_map(|pod| &pod.host_ports);
    !taken.any(|taken| pod.host_ports.iter().any(|wanted| wanted.conflicts(taken)))
}

pub(super) fn ports(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    if has_free_ports(cycle.pod, node) {
        return Ok(());
    }
    Err(Rejection::new(Plugin::NodePorts, false, PORTS_TAKEN))
}

/// Nodes with fewer soft taints that the pod does not tolerate are better.
pub(super) fn score_taints(cycle: &Cycle<'_>, nodes: &[usize], _: &spread::Counters) -> Option<Vec<i64>> {
    let soft = |taint: &&Taint| taint.effect == "PreferNoSchedule";
    let nodes = || nodes.iter().map(|node| &cycle.cache.nodes()[*node]);
    // Without any soft taint every node gets the same.
    nodes().filter(|node| node.is_tainted).flat_map(NodeInfo::taints).find(soft)?;
    let count = |taints: &[Taint]| {
        taints.iter().filter(soft).filter(|taint| !tolerates(cycle.pod.tolerations(), taint)).count()
    };
    let mut scores: Vec<i64> =
        nodes().map(|node| i64::try_from(count(node.taints())).unwrap_or(i64::MAX)).collect();
    normalize(&mut scores, true);
    Some(scores)
}

/// Nodes that the pod prefers are better.
pub(super) fn score_affinity(cycle: &Cycle<'_>, nodes: &[usize], _: &spread::Counters) -> Option<Vec<i64>> {
    if cycle.pod.preferred_nodes.is_empty() {
        return None;
    }
    let weigh = |node: &NodeInfo| {
        let terms =
            cycle.pod.preferred_nodes.iter().filter(|(_, term)| term.matches(&node.name, node.labels()));
        terms.map(|(weight, _)| weight).sum()
    };
    let mut scores: Vec<i64> = nodes.iter().map(|node| weigh(&cycle.cache.nodes()[*node])).collect();
    normalize(&mut scores, false);
    Some(scores)
}
