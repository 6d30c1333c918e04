//! Which pods of a DaemonSet to make and to delete: so that each node has one (`manage`), and so that each has one of the newest template
//! (`rollingUpdate`). Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use super::nodes::{Fit, fit, hash, target};
use crate::shared::meta::Meta;
use crate::shared::numbers::{Round, scaled};
use crate::shared::pods::{is_available, is_ready, phase};

/// No more at once (`BurstReplicas`).
pub const BURST: usize = 250;

/// What there is.
#[derive(Debug)]
pub struct State<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// The hash of its template.
    pub hash: &'a str,
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// The set's pods.
    pub pods: &'a [Arc<Pod>],
    /// As of when.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes to make a pod for.
    pub create: Vec<String>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that ended, to delete and tell of; whether they failed.
    pub ended: Vec<(Arc<Pod>, bool)>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty() && self.ended.is_empty()
    }
}

/// Pods by node, oldest first.
fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
    let mut all: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = target(pod) {
            all.entry(node).or_default().push(pod);
        }
    }
    for list in all.values_mut() {
        // Of pods of the same age the one that is bound is the older.
        list.sort_by_key(|pod| {
            (crate::shared::pods::node(pod).is_empty(), pod.created(), pod.name().to_owned())
        });
    }
    all
}

fn min_ready(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

/// How many nodes may have two pods, and how many none, of so many.
fn limits(set: &DaemonSet, desired: usize) -> (usize, usize) {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let desired = i32::try_from(desired).unwrap_or(i32::MAX);
    let of = |value: Option<_>| value.and_then(|value| scaled(value, desired, Round::Up)).unwrap_or(0);
    let surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
    let unavailable = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
        Some(value) => scaled(value, desired, Round::Up).unwrap_or(1),
        None => i32::from(surge == 0),
    };
    // A percentage of few nodes must not stop the update.
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    (usize::try_from(surge).unwrap_or(0), usize::try_from(unavailable).unwrap_or(0))
}

fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// What is to be done so that each node has a pod (`podsShouldBeOnNode`).
pub fn manage(state: &State<'_>) -> Plan {
    let there = by_node(state.pods);
    let mut plan = Plan::default();
    let desired = state.nodes.iter().filter(|node| fit(state.set, node).should_run).count();
    let surge = if is_rolling(state.set) { limits(state.set, desired).0 } else { 0 };
    for node in state.nodes {
        let pods = there.get(node.name()).map(Vec::as_slice).unwrap_or_default();
        manage_node(state, node, pods, surge, &mut plan);
    }
    // Pods that wait for a node that is gone will never be bound.
    let known = |name: &str| state.nodes.iter().any(|node| node.name() == name);
    let lost = state.pods.iter().filter(|pod| {
        crate::shared::pods::node(pod).is_empty()
            && !pod.deleting()
            && target(pod).is_some_and(|name| !known(name))
    });
    plan.delete.extend(lost.cloned());
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

fn manage_node(state: &State<'_>, node: &Node, pods: &[&Arc<Pod>], surge: usize, plan: &mut Plan) {
    let Fit { should_run, should_continue } = fit(state.set, node);
    if should_run && pods.is_empty() {
        plan.create.push(node.name().to_owned());
        return;
    }
    if !should_continue {
        plan.delete.extend(pods.iter().filter(|pod| !pod.deleting()).map(|pod| Arc::clone(pod)));
        return;
    }
    let mut running = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.deleting()) {
        match phase(pod) {
            "Failed" => plan.ended.push((Arc::clone(pod), true)),
            "Succeeded" => plan.ended.push((Arc::clone(pod), false)),
            _ => running.push(*pod),
        }
    }
    if running.len() <= 1 {
        return;
    }
    if surge == 0 {
        plan.delete.extend(running[1..].iter().map(|pod| Arc::clone(pod)));
        return;
    }
    // Of each template the oldest stays, and the old one only until the new one is available.
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| hash(pod) == state.hash);
    plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| Arc::clone(pod)));
    let available = |pod: &Pod| is_available(pod, min_ready(state.set), state.now);
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (available(new) || !available(old))
    {
        plan.delete.push(Arc::clone(old));
    }
}

/// A pod of the newest template, and one of an old one.
type NewAndOld<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

/// The pods of a node by template: the newest one's and an old one's; `None`: `manage` has something to do there first.
fn updated_on_node<'a>(state: &State<'_>, pods: &[&'a Arc<Pod>]) -> Option<NewAndOld<'a>> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| !pod.deleting()) {
        let place = if hash(pod) == state.hash { &mut new } else { &mut old };
        if place.replace(*pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// What is to be done so that pods are of the newest template (`rollingUpdate`).
pub fn roll(state: &State<'_>) -> Plan {
    if !is_rolling(state.set) {
        return Plan::default();
    }
    let there = by_node(state.pods);
    let fitting: Vec<_> = state.nodes.iter().filter(|node| fit(state.set, node).should_run).collect();
    let (surge, unavailable) = limits(state.set, fitting.len());
    let available = |pod: &Pod| is_available(pod, min_ready(state.set), state.now);
    let mut missing = 0;
    let mut surging = 0;
    let (mut at_once, mut candidates, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for node in fitting {
        let pods = there.get(node.name()).map(Vec::as_slice).unwrap_or_default();
        match (updated_on_node(state, pods), surge > 0) {
            (None | Some((None, None) | (Some(_), Some(_))), false) => missing += 1,
            (Some((Some(new), None)), false) => missing += usize::from(!available(new)),
            // One that does not work may be replaced whatever the others do.
            (Some((None, Some(old))), _) if !available(old) => at_once.push((node.name(), old)),
            (Some((None, Some(old))), _) => candidates.push((node.name(), old)),
            (Some((Some(new), Some(old))), true) => {
                if available(new) {
                    gone.push(Arc::clone(old));
                } else {
                    surging += 1;
                }
            }
            (None | Some((_, None)), true) => {}
        }
    }
    let room = if surge > 0 { surge.saturating_sub(surging) } else { unavailable.saturating_sub(missing) };
    let chosen = at_once.into_iter().chain(candidates.into_iter().take(room));
    let mut plan = Plan::default();
    if surge > 0 {
        plan.create = chosen.map(|(node, _)| node.to_owned()).collect();
        plan.delete = gone;
    } else {
        plan.delete = chosen.map(|(_, pod)| Arc::clone(pod)).collect();
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// What the status says.
pub fn status(state: &State<'_>) -> DaemonSetStatus {
    let there = by_node(state.pods);
    let mut new = DaemonSetStatus::default();
    let (mut updated, mut available) = (0, 0);
    for node in state.nodes {
        let pods = there.get(node.name()).map(Vec::as_slice).unwrap_or_default();
        if !fit(state.set, node).should_run {
            new.number_misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        new.desired_number_scheduled += 1;
        // While a surge goes on the newer pod is not the node's yet.
        let Some(pod) = pods.first() else { continue };
        new.current_number_scheduled += 1;
        if is_ready(pod) {
            new.number_ready += 1;
            available += i32::from(is_available(pod, min_ready(state.set), state.now));
        }
        updated += i32::from(hash(pod) == state.hash);
    }
    let some = |count: i32| (count != 0).then_some(count);
    new.updated_number_scheduled = some(updated);
    new.number_available = some(available);
    new.number_unavailable = some(new.desired_number_scheduled - available);
    new.observed_generation = state.set.metadata.generation;
    let before = state.set.status.as_ref();
    new.collision_count = before.and_then(|status| status.collision_count);
    new.conditions = before.and_then(|status| status.conditions.clone());
    new
}
