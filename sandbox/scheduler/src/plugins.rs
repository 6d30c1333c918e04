//! The rules of scheduling as two tables of plain functions: filters say whether a pod may run on a node, scores say how well it would.
//! Names, weights, order and texts are upstream's (scheduler `apis/config/v1/default_plugins.go`). Called by [`crate::schedule`] and
//! [`crate::preemption`]; nothing in here changes anything.

pub(crate) mod affinity;
mod images;
pub(crate) mod node;
pub(crate) mod resources;
pub(crate) mod spread;
pub(crate) mod volumes;

use std::borrow::Cow;

use crate::cache::Cache;
use crate::devices::{self, DeviceState, Devices};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::selectors::OwnerSelectors;
use crate::volumes::Volumes;

/// The highest score that a plugin gives a node.
pub(crate) const MAX_SCORE: i64 = 100;

/// A plugin that can keep a pod from being scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plugin {
    /// Somebody holds the pod back.
    SchedulingGates,
    /// The node is cordoned.
    NodeUnschedulable,
    /// The node is another than the one that the pod names.
    NodeName,
    /// The node has a taint that the pod does not tolerate.
    TaintToleration,
    /// The node's labels are not what the pod wants.
    NodeAffinity,
    /// A port is taken.
    NodePorts,
    /// Resources are short.
    NodeResourcesFit,
    /// A volume can have only one user.
    VolumeRestrictions,
    /// A volume cannot be had on the node.
    VolumeBinding,
    /// Pods would be spread too unevenly.
    PodTopologySpread,
    /// Other pods are, or are not, near.
    InterPodAffinity,
    /// A device cannot be had.
    DynamicResources,
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plugins(u16);

impl Plugins {
    /// Adds one.
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u16;
    }

    /// True if it is there.
    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u16) != 0
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Why a pod may not run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) plugin: Plugin,
    /// True if removing other pods from the node would not change it (`UnschedulableAndUnresolvable`).
    pub(crate) is_final: bool,
    pub(crate) reasons: Vec<Cow<'static, str>>,
}

impl Rejection {
    pub(crate) fn new(plugin: Plugin, is_final: bool, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { plugin, is_final, reasons: vec![reason.into()] }
    }
}

pub(crate) type Verdict = Result<(), Rejection>;

/// Why a pod may not run on any node, found before looking at nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) plugin: Plugin,
    pub(crate) message: String,
}

/// What is computed once for a pod, before nodes are looked at; and can be changed for questions of what would be if.
#[derive(Clone)]
pub(crate) struct State<'a> {
    pub(crate) spread: spread::SpreadState<'a>,
    pub(crate) affinity: affinity::AffinityState,
    pub(crate) claims: volumes::ClaimState,
    pub(crate) devices: DeviceState,
}

/// One attempt to place one pod.
pub(crate) struct Cycle<'a> {
    pub(crate) pod: &'a PodInfo,
    pub(crate) cache: &'a Cache,
    pub(crate) volumes: &'a Volumes,
    pub(crate) state: State<'a>,
    /// The filters that have anything to say about this pod.
    pub(crate) filters: Vec<&'static Filter>,
}

impl<'a> Cycle<'a> {
    /// Computes what the filters need. `counters` are those of [`spread::counters`].
    pub(crate) fn new(
        pod: &'a PodInfo,
        cache: &'a Cache,
        volumes: &'a Volumes,
        devices: &Devices,
        counters: &'a spread::Counters,
    ) -> Result<Self, Refusal> {
        let state = State {
            claims: volumes::prepare(pod, cache, volumes)?,
            devices: devices::prepare(pod, devices)?,
            spread: spread::prepare(pod, cache, counters),
            affinity: affinity::prepare(pod, cache),
        };
        let mut cycle = Self { pod, cache, volumes, state, filters: Vec::new() };
        cycle.filters = FILTERS.iter().filter(|filter| (filter.applies)(&cycle)).collect();
        Ok(cycle)
    }

    /// The same with another state.
    pub(crate) fn with_state(&self, state: State<'a>) -> Self {
        Self { pod: self.pod, cache: self.cache, volumes: self.volumes, state, filters: self.filters.clone() }
    }

    /// Whether the pod may run on the node.
    pub(crate) fn filter(&self, node: &NodeInfo) -> Verdict {
        self.filters.iter().try_for_each(|filter| (filter.filter)(self, node))
    }
}

impl State<'_> {
    /// A pod would be on the node too (or, with -1, no longer).
    pub(crate) fn change(&mut self, of: &PodInfo, cache: &Cache, pod: &PodInfo, node: &NodeInfo, by: i64) {
        self.spread.change(of, pod, node, by);
        self.affinity.change(of, cache, pod, node, by);
    }
}

/// A rule that excludes nodes.
pub(crate) struct Filter {
    /// False: it has nothing to say about this pod.
    applies: fn(&Cycle<'_>) -> bool,
    filter: fn(&Cycle<'_>, &NodeInfo) -> Verdict,
}

impl Filter {
    const fn new(applies: fn(&Cycle<'_>) -> bool, filter: fn(&Cycle<'_>, &NodeInfo) -> Verdict) -> Self {
        Self { applies, filter }
    }
}

const fn always(_: &Cycle<'_>) -> bool {
    true
}

/// In upstream's order: the first that excludes a node gives the reason.
static FILTERS: [Filter; 11] = [
    Filter::new(always, node::unschedulable),
    Filter::new(|cycle| cycle.pod.node().is_some(), node::name),
    Filter::new(always, node::taints),
    Filter::new(|cycle| !cycle.pod.required_nodes.is_empty(), node::affinity),
    Filter::new(|cycle| !cycle.pod.host_ports.is_empty(), node::ports),
    Filter::new(always, resources::fit),
    Filter::new(|cycle| cycle.state.claims.has_exclusive(), volumes::restrictions),
    Filter::new(|cycle| cycle.state.claims.has_any(), volumes::binding),
    Filter::new(|cycle| cycle.state.spread.is_active(), spread::filter),
    Filter::new(|cycle| cycle.state.affinity.is_active(cycle.pod), affinity::filter),
    Filter::new(|cycle| cycle.state.devices.must_allocate, devices::filter),
];

/// A filter that looks at nothing but the node itself, for events that a node has changed.
pub(crate) fn node_alone(plugin: Plugin, pod: &PodInfo, node: &NodeInfo) -> bool {
    match plugin {
        Plugin::NodeUnschedulable => node::may_use_unschedulable(pod, node),
        Plugin::NodeName => pod.node().is_none_or(|name| name == node.name),
        Plugin::TaintToleration => crate::terms::untolerated(node.taints(), pod.tolerations()).is_none(),
        Plugin::NodeAffinity => pod.required_nodes.matches(&node.name, node.labels()),
        Plugin::NodeResourcesFit => resources::fits(pod, node),
        _ => true,
    }
}

/// A rule that compares nodes: the scores of the given nodes, each from 0 to [`MAX_SCORE`]; none: it has nothing to say.
type Score = fn(&Cycle<'_>, &[usize], &spread::Counters) -> Option<Vec<i64>>;

/// With upstream's weights.
pub(crate) static SCORES: [(i64, Score); 7] = [
    (3, node::score_taints),
    (2, node::score_affinity),
    (1, resources::score_least_allocated),
    (2, spread::score),
    (2, affinity::score),
    (1, resources::score_balanced),
    (1, images::score),
];

/// `DefaultNormalizeScore`: the largest becomes [`MAX_SCORE`].
fn normalize(scores: &mut [i64], reverse: bool) {
    let largest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let normal = if largest == 0 { 0 } else { *score * MAX_SCORE / largest };
        *score = if reverse { MAX_SCORE - normal } else { normal };
    }
}

/// The selector by which a pod that says nothing itself is spread.
pub(crate) fn default_selector(
    pod: &PodInfo,
    selectors: &OwnerSelectors,
) -> Option<drydock_apimachinery::selectors::LabelSelector> {
    selectors.of(pod).filter(|selector| !selector.is_empty())
}
