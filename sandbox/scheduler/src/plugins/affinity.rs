//! InterPodAffinity: pods that must or should be near each other, or far from each other (scheduler `plugins/interpodaffinity`). What
//! existing pods want of the new one counts as well as what it wants of them.

use std::collections::HashMap;

use super::{Cycle, MAX_SCORE, Plugin, Rejection, Verdict, spread};
use crate::cache::Cache;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::terms::PodTerm;

/// `hardPodAffinityWeight`: what a required affinity of an existing pod weighs.
const HARD_WEIGHT: i64 = 1;

/// Numbers of matches by label and value of nodes.
type Matches<'a> = HashMap<(&'a str, &'a str), i64>;

/// Numbers of matches by label of nodes, then by its value.
type Domains = HashMap<String, HashMap<String, i64>>;

/// What must hold for the pod, by domains.
#[derive(Clone, Default)]
pub(crate) struct AffinityState {
    /// Existing pods that do not want this one near.
    existing_anti: Domains,
    /// Existing pods that this one must be near.
    near: Domains,
    /// Existing pods that this one must be far from.
    far: Domains,
}

impl AffinityState {
    pub(crate) fn is_active(&self, pod: &PodInfo) -> bool {
        !self.existing_anti.is_empty()
            || !pod.required_affinity.is_empty()
            || !pod.required_anti_affinity.is_empty()
    }

    /// `updateWithPod`.
    pub(crate) fn change(&mut self, of: &PodInfo, cache: &Cache, pod: &PodInfo, node: &NodeInfo, by: i64) {
        let namespaces = |name: &str| cache.namespace(name);
        for term in &pod.required_anti_affinity {
            if term.matches(&of.key.namespace, of.labels(), &namespaces) {
                count(&mut self.existing_anti, term, node, by);
            }
        }
        if matches_all(&of.required_affinity, pod, &namespaces) {
            for term in &of.required_affinity {
                count(&mut self.near, term, node, by);
            }
        }
        for term in &of.required_anti_affinity {
            if term.matches(&pod.key.namespace, pod.labels(), &namespaces) {
                count(&mut self.far, term, node, by);
            }
        }
    }
}

fn count(domains: &mut Domains, term: &PodTerm, node: &NodeInfo, by: i64) {
    let (key, labels) = (&term.topology_key, node.labels());
    let Some(value) = labels.get(key) else { return };
    let number = match domains.get_mut(key) {
        Some(values) => match values.get_mut(value) {
            Some(number) => number,
            None => values.entry(value.clone()).or_default(),
        },
        None => domains.entry(key.clone()).or_default().entry(value.clone()).or_default(),
    };
    *number += by;
    if *number == 0
        && let Some(values) = domains.get_mut(key)
    {
        values.remove(value);
        if values.is_empty() {
            domains.remove(key);
        }
    }
}

/// How many matches there are in the node's domain of that label.
fn here(domains: &Domains, key: &str, node: &NodeInfo) -> i64 {
    let Some((values, value)) = domains.get(key).zip(node.labels().get(key)) else { return 0 };
    values.get(value).copied().unwrap_or(0)
}

fn matches_all(
    terms: &[PodTerm],
    pod: &PodInfo,
    namespaces: &impl Fn(&str) -> Option<crate::terms::Labels>,
) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(&pod.key.namespace, pod.labels(), namespaces))
}

pub(crate) fn prepare(pod: &PodInfo, cache: &Cache) -> AffinityState {
    let mut state = AffinityState::default();
    let looks_at_all = !pod.required_affinity.is_empty() || !pod.required_anti_affinity.is_empty();
    if !looks_at_all && !cache.has_affinity() {
        return state;
    }
    for node in cache.nodes() {
        let pods = if looks_at_all { &node.pods } else { &node.with_affinity };
        for existing in pods {
            state.change(pod, cache, existing, node, 1);
        }
    }
    state
}

pub(super) fn filter(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    let (pod, state) = (cycle.pod, &cycle.state.affinity);
    let reject =
        |is_final, reason: &'static str| Err(Rejection::new(Plugin::InterPodAffinity, is_final, reason));
    if !is_near(cycle, node) {
        return reject(true, "node(s) didn't match pod affinity rules");
    }
    if pod.required_anti_affinity.iter().any(|term| here(&state.far, &term.topology_key, node) > 0) {
        return reject(false, "node(s) didn't match pod anti-affinity rules");
    }
    if state.existing_anti.keys().any(|key| here(&state.existing_anti, key, node) > 0) {
        return reject(false, "node(s) didn't satisfy existing pods anti-affinity rules");
    }
    Ok(())
}

/// `satisfyPodAffinity`: the first pod of a group that wants to be together has nobody to be near.
fn is_near(cycle: &Cycle<'_>, node: &NodeInfo) -> bool {
    let (pod, state) = (cycle.pod, &cycle.state.affinity);
    let mut others = true;
    for term in &pod.required_affinity {
        if !node.labels().contains_key(&term.topology_key) {
            return false;
        }
        others &= here(&state.near, &term.topology_key, node) > 0;
    }
    others
        || (state.near.is_empty()
            && matches_all(&pod.required_affinity, pod, &|name: &str| cycle.cache.namespace(name)))
}

/// Nodes near the pods that this one, or they, would like it to be near are better.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as upstream computes
pub(super) fn score(cycle: &Cycle<'_>, nodes: &[usize], _: &spread::Counters) -> Option<Vec<i64>> {
    let pod = cycle.pod;
    let prefers = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
    if !prefers && !cycle.cache.has_affinity() {
        return None;
    }
    let mut topology: Matches<'_> = HashMap::new();
    for node in cycle.cache.nodes() {
        let pods = if prefers { &node.pods } else { &node.with_affinity };
        for existing in pods {
            weigh(&mut topology, cycle, existing, node);
        }
    }
    if topology.is_empty() {
        return None;
    }
    let sum = |node: &NodeInfo| {
        let pairs = node.labels().iter().map(|(key, value)| (key.as_str(), value.as_str()));
        pairs.filter_map(|pair| topology.get(&pair)).sum::<i64>()
    };
    let scores: Vec<i64> = nodes.iter().map(|node| sum(&cycle.cache.nodes()[*node])).collect();
    let (least, most) =
        (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
    let range = most - least;
    let normal = |score: i64| {
        if range > 0 { (MAX_SCORE as f64 * ((score - least) as f64 / range as f64)) as i64 } else { 0 }
    };
    Some(scores.into_iter().map(normal).collect())
}

/// `processExistingPod`.
fn weigh<'a>(topology: &mut Matches<'a>, cycle: &Cycle<'a>, existing: &'a PodInfo, node: &'a NodeInfo) {
    let namespaces = |name: &str| cycle.cache.namespace(name);
    let mut add = |terms: &'a [PodTerm], target: &PodInfo, weight: Option<i64>, sign: i64| {
        for term in terms {
            if let Some(value) = node.labels().get(&term.topology_key)
                && term.matches(&target.key.namespace, target.labels(), &namespaces)
            {
                *topology.entry((term.topology_key.as_str(), value.as_str())).or_default() +=
                    sign * weight.unwrap_or(term.weight);
            }
        }
    };
    add(&cycle.pod.preferred_affinity, existing, None, 1);
    add(&cycle.pod.preferred_anti_affinity, existing, None, -1);
    add(&existing.required_affinity, cycle.pod, Some(HARD_WEIGHT), 1);
    add(&existing.preferred_affinity, cycle.pod, None, 1);
    add(&existing.preferred_anti_affinity, cycle.pod, None, -1);
}
