//! NodeResourcesFit (with LeastAllocated) and NodeResourcesBalancedAllocation.

use std::borrow::Cow;

use super::{Cycle, MAX_SCORE, Plugin, Rejection, Verdict, spread};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Everything that the node has too little of, in upstream's order (`fitsRequest`).
pub(super) fn fit(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    let pod = cycle.pod;
    if fits(pod, node) {
        return Ok(());
    }
    let shortages = shortages(pod, node);
    let reason = |shortage: &Shortage<'_>| match shortage.resource {
        "pods" => "Too many pods".into(),
        name => Cow::from(format!("Insufficient {name}")),
    };
    // A node that is too small even when empty cannot be helped by preemption.
    let is_final = shortages.iter().any(|s| s.resource != "pods" && s.requested > s.capacity);
    let reasons = shortages.iter().map(reason).collect();
    Err(Rejection { plugin: Plugin::NodeResourcesFit, is_final, reasons })
}

/// Something that a node has too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage<'a> {
    pub(crate) resource: &'a str,
    pub(crate) requested: i64,
    pub(crate) used: i64,
    pub(crate) capacity: i64,
}

/// What the node has too little of for the pod.
pub(crate) fn shortages<'a>(pod: &'a PodInfo, node: &NodeInfo) -> Vec<Shortage<'a>> {
    let mut shortages = Vec::new();
    if has_too_many_pods(node) {
        let used = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        shortages.push(Shortage { resource: "pods", requested: 1, used, capacity: node.allocatable.pods });
    }
    let mut check = |resource, requested: i64, capacity: i64, used: i64| {
        if requested > 0 && requested > capacity - used {
            shortages.push(Shortage { resource, requested, used, capacity });
        }
    };
    let (asked, has, taken) = (&pod.requests, &node.allocatable, &node.requested);
    check("cpu", asked.milli_cpu, has.milli_cpu, taken.milli_cpu);
    check("memory", asked.memory, has.memory, taken.memory);
    check("ephemeral-storage", asked.ephemeral_storage, has.ephemeral_storage, taken.ephemeral_storage);
    for (name, amount) in &asked.scalars {
        check(name, *amount, has.scalar(name), taken.scalar(name));
    }
    shortages
}

fn has_too_many_pods(node: &NodeInfo) -> bool {
    i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.allocatable.pods
}

/// True if nothing is short; the quick answer to the usual case.
pub(super) fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    let (asked, has, taken) = (&pod.requests, &node.allocatable, &node.requested);
    let enough = |asked: i64, has: i64, taken: i64| asked <= 0 || asked <= has - taken;
    !has_too_many_pods(node)
        && enough(asked.milli_cpu, has.milli_cpu, taken.milli_cpu)
        && enough(asked.memory, has.memory, taken.memory)
        && enough(asked.ephemeral_storage, has.ephemeral_storage, taken.ephemeral_storage)
        && asked.scalars.iter().all(|(name, amount)| enough(*amount, has.scalar(name), taken.scalar(name)))
}

/// Nodes of which less is taken are better (`leastResourceScorer`, with CPU and memory of equal weight).
pub(super) fn score_least_allocated(
    cycle: &Cycle<'_>,
    nodes: &[usize],
    _: &spread::Counters,
) -> Option<Vec<i64>> {
    let pod = cycle.pod.non_zero;
    let score = |node: &NodeInfo| {
        let resources = [
            (node.allocatable.milli_cpu, node.non_zero.milli_cpu + pod.milli_cpu),
            (node.allocatable.memory, node.non_zero.memory + pod.memory),
        ];
        let (mut sum, mut weights) = (0, 0);
        for (has, taken) in resources.into_iter().filter(|(has, _)| *has > 0) {
            weights += 1;
            sum += if taken > has { 0 } else { (has - taken).saturating_mul(MAX_SCORE) / has };
        }
        if weights == 0 { 0 } else { sum / weights }
    };
    Some(nodes.iter().map(|node| score(&cycle.cache.nodes()[*node])).collect())
}

/// Nodes of whose CPU and memory the same part would be taken are better (`balancedResourceScorer`). Pods that ask for nothing would only
/// be drawn to nodes that are unbalanced already.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // parts of a whole, from 0 to 1
pub(super) fn score_balanced(cycle: &Cycle<'_>, nodes: &[usize], _: &spread::Counters) -> Option<Vec<i64>> {
    let pod = &cycle.pod.requests;
    if pod.milli_cpu == 0 && pod.memory == 0 {
        return None;
    }
    let part = |has: i64, taken: i64| (has > 0).then(|| (taken as f64 / has as f64).min(1.0));
    let score = |node: &NodeInfo| {
        let cpu = part(node.allocatable.milli_cpu, node.requested.milli_cpu + pod.milli_cpu);
        let memory = part(node.allocatable.memory, node.requested.memory + pod.memory);
        let deviation = cpu.zip(memory).map_or(0.0, |(cpu, memory)| ((cpu - memory) / 2.0).abs());
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    };
    Some(nodes.iter().map(|node| score(&cycle.cache.nodes()[*node])).collect())
}
