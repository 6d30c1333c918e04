//! PodTopologySpread: pods of one kind in equal numbers in each domain (scheduler `plugins/podtopologyspread`). Which pods a selector
//! takes on each node is counted by the cache, so that a pod of a large Deployment costs no look at all the others.

use super::{Cycle, MAX_SCORE, Plugin, Rejection, Verdict};
use crate::cache::Cache;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::selectors::OwnerSelectors;
use crate::terms::{Spread, selects, untolerated};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A constraint with the cache's numbers for it.
struct Constraint {
    rule: Spread,
    counter: usize,
    topology: usize,
}

/// The constraints of a pod.
#[derive(Default)]
pub(crate) struct Counters {
    hard: Vec<Constraint>,
    soft: Vec<Constraint>,
    /// The constraints are the pod's own and not the defaults: nodes without their labels do not count.
    requires_labels: bool,
}

/// The constraints of a pod: its own, or the defaults (at most 3 more on a host and 5 more in a zone, if it can be had).
pub(crate) fn counters(pod: &PodInfo, cache: &mut Cache, selectors: &OwnerSelectors) -> Counters {
    cache.begin();
    let mut counters = Counters { requires_labels: !pod.spread.is_empty(), ..Counters::default() };
    let mut add = |constraint: Spread| {
        let counter = cache.counter(&pod.key.namespace, &constraint.selector);
        let topology = cache.topology(&constraint.topology_key);
        let list = if constraint.is_hard { &mut counters.hard } else { &mut counters.soft };
        list.push(Constraint { rule: constraint, counter, topology });
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

/// Numbers of pods by domain; none for domains that no node that counts is in.
#[derive(Clone)]
struct Domains {
    numbers: Vec<Option<i64>>,
    /// How many domains there are.
    count: i64,
    /// The smallest number.
    least: i64,
}

impl Domains {
    fn new(size: usize) -> Self {
        Self { numbers: vec![None; size], count: 0, least: i64::from(i32::MAX) }
    }

    fn update(&mut self) {
        let numbers = || self.numbers.iter().flatten();
        self.count = i64::try_from(numbers().count()).unwrap_or(i64::MAX);
        self.least = numbers().copied().min().unwrap_or(i64::from(i32::MAX));
    }
}

/// Numbers of pods in each domain, for each constraint that must hold.
#[derive(Clone)]
pub(crate) struct SpreadState<'a> {
    constraints: &'a [Constraint],
    domains: Vec<Domains>,
}

impl SpreadState<'_> {
    pub(crate) fn is_active(&self) -> bool {
        !self.constraints.is_empty()
    }

    /// `updateWithPod`.
    pub(crate) fn change(&mut self, of: &PodInfo, pod: &PodInfo, node: &NodeInfo, by: i64) {
        let counts = !pod.is_terminating() && pod.key.namespace == of.key.namespace;
        if !counts || !has_labels(self.constraints, node) {
            return;
        }
        for (constraint, domains) in self.constraints.iter().zip(&mut self.domains) {
            if selects(&constraint.rule.selector, pod.labels())
                && counts_node(&constraint.rule, of, node)
                && let Some(domain) = node.domain(constraint.topology)
                && let Some(Some(number)) = domains.numbers.get_mut(domain)
            {
                *number += by;
                domains.update();
            }
        }
    }
}

fn has_labels(constraints: &[Constraint], node: &NodeInfo) -> bool {
    constraints.iter().all(|constraint| node.domain(constraint.topology).is_some())
}

/// `matchNodeInclusionPolicies`.
fn counts_node(rule: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!rule.honors_affinity
        || pod.required_nodes.is_empty()
        || pod.required_nodes.matches(&node.name, node.labels()))
        && (!rule.honors_taints || untolerated(node.taints(), pod.tolerations()).is_none())
}

pub(crate) fn prepare<'a>(pod: &PodInfo, cache: &Cache, counters: &'a Counters) -> SpreadState<'a> {
    let constraints = &counters.hard[..];
    let mut domains: Vec<Domains> =
        constraints.iter().map(|one| Domains::new(cache.domains(one.topology))).collect();
    if !constraints.is_empty() {
        for node in cache.nodes().iter().filter(|node| has_labels(constraints, node)) {
            for (constraint, domains) in constraints.iter().zip(&mut domains) {
                if counts_node(&constraint.rule, pod, node)
                    && let Some(number) =
                        node.domain(constraint.topology).and_then(|domain| domains.numbers.get_mut(domain))
                {
                    *number.get_or_insert(0) += i64::from(node.counts[constraint.counter]);
                }
            }
        }
        domains.iter_mut().for_each(Domains::update);
    }
    SpreadState { constraints, domains }
}

pub(super) fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
    const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
    let state = &cycle.state.spread;
    for (constraint, domains) in state.constraints.iter().zip(&state.domains) {
        let Some(domain) = node.domain(constraint.topology) else {
            return Err(Rejection::new(Plugin::PodTopologySpread, true, NO_LABEL));
        };
        let least = if domains.count < constraint.rule.min_domains { 0 } else { domains.least };
        let itself = i64::from(selects(&constraint.rule.selector, cycle.pod.labels()));
        let here = domains.numbers.get(domain).copied().flatten().unwrap_or(0);
        if here + itself - least > constraint.rule.max_skew {
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
    let is_ignored = |node: &NodeInfo| counters.requires_labels && !has_labels(&counters.soft, node);
    let mut sums = vec![0.0; nodes.len()];
    for constraint in &counters.soft {
        let is_host = constraint.rule.topology_key == HOSTNAME;
        let numbers = if is_host { Vec::new() } else { in_domains(cycle, nodes, constraint, &is_ignored) };
        let size = if is_host {
            nodes.iter().filter(|node| !is_ignored(&all[**node])).count()
        } else {
            numbers.iter().flatten().count()
        };
        let weight = ((size + 2) as f64).ln();
        for (sum, node) in sums.iter_mut().zip(nodes) {
            let node = &all[*node];
            let Some(domain) = node.domain(constraint.topology) else { continue };
            let here = i64::from(node.counts[constraint.counter]);
            let count = if is_host { here } else { numbers.get(domain).copied().flatten().unwrap_or(0) };
            *sum += count as f64 * weight + (constraint.rule.max_skew - 1) as f64;
        }
    }
    let mut scores: Vec<i64> = sums.into_iter().map(|sum| sum.round() as i64).collect();
    let counted =
        || scores.iter().zip(nodes).filter(|(_, node)| !is_ignored(&all[**node])).map(|(score, _)| *score);
    let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
    for (score, node) in scores.iter_mut().zip(nodes) {
        *score = match most {
            _ if is_ignored(&all[*node]) => 0,
            0 => MAX_SCORE,
            most => MAX_SCORE * (most + least - *score) / most,
        };
    }
    Some(scores)
}

/// How many pods there are in each domain that one of the given nodes is in; pods on all nodes count.
fn in_domains(
    cycle: &Cycle<'_>,
    nodes: &[usize],
    constraint: &Constraint,
    is_ignored: &impl Fn(&NodeInfo) -> bool,
) -> Vec<Option<i64>> {
    let all = cycle.cache.nodes();
    let mut numbers = vec![None; cycle.cache.domains(constraint.topology)];
    for node in nodes.iter().map(|node| &all[*node]).filter(|node| !is_ignored(node)) {
        if let Some(number) = node.domain(constraint.topology).and_then(|domain| numbers.get_mut(domain)) {
            *number = Some(0);
        }
    }
    for node in all.iter().filter(|node| !is_ignored(node) && counts_node(&constraint.rule, cycle.pod, node))
    {
        if let Some(Some(number)) =
            node.domain(constraint.topology).and_then(|domain| numbers.get_mut(domain))
        {
            *number += i64::from(node.counts[constraint.counter]);
        }
    }
    numbers
}
