//! PodTopologySpread: pods of one kind in equal numbers in each domain (scheduler `plugins/podtopologyspread`). Which pods a selector
//! takes on each node is counted by the cache, so that a pod of a large Deployment costs no look at all the others.

use std::collections::{HashMap, HashSet};

use super::{Cycle, MAX_SCORE, Plugin, Rejection, Verdict};
use crate::cache::Cache;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::selectors::OwnerSelectors;
use crate::terms::{Spread, selects, untolerated};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The constraints of a pod, each with its counter.
#[derive(Default)]
pub(crate) struct Counters {
    hard: Vec<(Spread, usize)>,
    soft: Vec<(Spread, usize)>,
    /// The constraints are the pod's own and not the defaults: nodes without their labels do not count.
    requires_labels: bool,
}

/// The constraints of a pod: its own, or the defaults (at most 3 more on a host and 5 more in a zone, if it can be had).
pub(crate) fn counters(pod: &PodInfo, cache: &mut Cache, selectors: &OwnerSelectors) -> Counters {
    let mut counters = Counters { requires_labels: !pod.spread.is_empty(), ..Counters::default() };
    let mut add = |constraint: Spread| {
        let counter = cache.counter(&pod.key.namespace, &constraint.selector);
        let list = if constraint.is_hard { &mut counters.hard } else { &mut counters.soft };
        list.push((constraint, counter));
    };
    if !pod.spread.is_empty() {
        pod.spread.iter().cloned().for_each(add);
    } else if let Some(selector) = super::default_selector(pod, selectors) {
        for (topology_key, max_skew) in [(HOSTNAME, 3), (ZONE, 5)] {
            add(Spread {
                max_skew,
                topology_key: topology_key.to_owned(),
                is_hard: false,
                selector: selector.clone(),
                min_domains: 1,
                honors_affinity: true,
                honors_taints: false,
            });
        }
    }
    counters
}

/// Numbers of pods in each domain, for each constraint that must hold.
#[derive(Clone, Default)]
pub(crate) struct SpreadState<'a> {
    constraints: Vec<(Spread, HashMap<&'a str, i64>)>,
}

impl SpreadState<'_> {
    pub(crate) fn is_active(&self) -> bool {
        !self.constraints.is_empty()
    }

    /// `updateWithPod`.
    pub(crate) fn change(&mut self, of: &PodInfo, pod: &PodInfo, node: &NodeInfo, by: i64) {
        if pod.key.namespace != of.key.namespace
            || !self.constraints.iter().all(|(one, _)| node.labels().contains_key(&one.topology_key))
        {
            return;
        }
        for (constraint, domains) in &mut self.constraints {
            if !selects(&constraint.selector, pod.labels()) || !counts_node(constraint, of, node) {
                continue;
            }
            let value = node.labels().get(&constraint.topology_key).map_or("", String::as_str);
            if let Some(count) = domains.get_mut(value) {
                *count += by;
            }
        }
    }
}

/// `matchNodeInclusionPolicies`.
fn counts_node(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!constraint.honors_affinity
        || pod.required_nodes.is_empty()
        || pod.required_nodes.matches(&node.name, node.labels()))
        && (!constraint.honors_taints || untolerated(node.taints(), pod.tolerations()).is_none())
}

pub(crate) fn prepare<'a>(pod: &PodInfo, cache: &'a Cache, counters: &Counters) -> SpreadState<'a> {
    let mut state = SpreadState {
        constraints: counters.hard.iter().map(|(one, _)| (one.clone(), HashMap::new())).collect(),
    };
    if counters.hard.is_empty() {
        return state;
    }
    for node in cache.nodes() {
        if !counters.hard.iter().all(|(one, _)| node.labels().contains_key(&one.topology_key)) {
            continue;
        }
        for ((constraint, domains), (_, counter)) in state.constraints.iter_mut().zip(&counters.hard) {
            if counts_node(constraint, pod, node)
                && let Some(value) = node.labels().get(&constraint.topology_key)
            {
                *domains.entry(value.as_str()).or_default() += i64::from(node.counts[*counter]);
            }
        }
    }
    state
}

pub(super) fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
    const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
    for (constraint, domains) in &cycle.state.spread.constraints {
        let Some(value) = node.labels().get(&constraint.topology_key) else {
            return Err(Rejection::new(Plugin::PodTopologySpread, true, NO_LABEL));
        };
        let few = i64::try_from(domains.len()).unwrap_or(i64::MAX) < constraint.min_domains;
        let least = if few { 0 } else { domains.values().copied().min().unwrap_or(i64::from(i32::MAX)) };
        let itself = i64::from(selects(&constraint.selector, cycle.pod.labels()));
        let here = domains.get(value.as_str()).copied().unwrap_or(0);
        if here + itself - least > constraint.max_skew {
            return Err(Rejection::new(Plugin::PodTopologySpread, false, UNEVEN));
        }
    }
    Ok(())
}

/// Nodes in domains with fewer pods are better.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // numbers of pods, as upstream computes with them
pub(super) fn score(cycle: &Cycle<'_>, nodes: &[usize], counters: &Counters) -> Option<Vec<i64>> {
    if counters.soft.is_empty() {
        return None;
    }
    let all = cycle.cache.nodes();
    let has_labels = |node: &NodeInfo| {
        !counters.requires_labels
            || counters.soft.iter().all(|(one, _)| node.labels().contains_key(&one.topology_key))
    };
    let ignored: HashSet<usize> = if counters.requires_labels {
        nodes.iter().copied().filter(|node| !has_labels(&all[*node])).collect()
    } else {
        HashSet::new()
    };
    let mut scores = vec![0.0; nodes.len()];
    for (constraint, counter) in &counters.soft {
        let value = |node: &'_ NodeInfo| {
            node.labels().get(&constraint.topology_key).map_or("", String::as_str).to_owned()
        };
        let is_host = constraint.topology_key == HOSTNAME;
        let mut domains: HashMap<String, i64> = HashMap::new();
        if !is_host {
            for node in nodes.iter().filter(|node| !ignored.contains(node)) {
                domains.entry(value(&all[*node])).or_insert(0);
            }
            // A single domain gives every node the same.
            for node in all.iter().filter(|node| has_labels(node) && counts_node(constraint, cycle.pod, node))
            {
                if let Some(count) =
                    domains.get_mut(node.labels().get(&constraint.topology_key).map_or("", String::as_str))
                {
                    *count += i64::from(node.counts[*counter]);
                }
            }
        }
        let size = if is_host { nodes.len() - ignored.len() } else { domains.len() };
        let weight = ((size + 2) as f64).ln();
        for (score, node) in scores.iter_mut().zip(nodes) {
            let node = &all[*node];
            let Some(value) = node.labels().get(&constraint.topology_key) else { continue };
            let count = if is_host {
                i64::from(node.counts[*counter])
            } else {
                domains.get(value).copied().unwrap_or(0)
            };
            *score += count as f64 * weight + (constraint.max_skew - 1) as f64;
        }
    }
    let mut scores: Vec<i64> = scores.into_iter().map(|score| score.round() as i64).collect();
    let counted =
        || scores.iter().zip(nodes).filter(|(_, node)| !ignored.contains(node)).map(|(score, _)| *score);
    let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
    for (score, node) in scores.iter_mut().zip(nodes) {
        *score = match most {
            _ if ignored.contains(node) => 0,
            0 => MAX_SCORE,
            most => MAX_SCORE * (most + least - *score) / most,
        };
    }
    Some(scores)
}
