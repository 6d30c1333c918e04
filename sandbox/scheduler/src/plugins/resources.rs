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
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    // A node that is too small even when empty cannot be helped by preemption.
    let mut is_final = false;
    if has_too_many_pods(node) {
        reasons.push("Too many pods".into());
    }
    let mut check = |asked: i64, has: i64, taken: i64, reason: Cow<'static, str>| {
        if asked > 0 && asked > has - taken {
            reasons.push(reason);
            is_final |= asked > has;
        }
    };
    let (asked, has, taken) = (&pod.requests, &node.allocatable, &node.requested);
    check(asked.milli_cpu, has.milli_cpu, taken.milli_cpu, "Insufficient cpu".into());
    check(asked.memory, has.memory, taken.memory, "Insufficient memory".into());
    check(
        asked.ephemeral_storage,
        has.ephemeral_storage,
        taken.ephemeral_storage,
        "Insufficient ephemeral-storage".into(),
    );
    for (name, amount) in &asked.scalars {
        check(*amount, has.scalar(name), taken.scalar(name), format!("Insufficient {name}").into());
    }
    Err(Rejection { plugin: Plugin::NodeResourcesFit, is_final, reasons })
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
