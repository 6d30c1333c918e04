//! Finding a node for one pod (scheduler `schedule_one.go`): nodes that all filters let pass, of these the one with the best score. A
//! pure decision over cache and volumes: nothing is assumed, written or told here.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::cache::Cache;
use crate::devices::Devices;
use crate::node::NodeInfo;
use crate::plugins::{Cycle, Plugin, Plugins, Refusal, Rejection, SCORES, Verdict, spread, volumes};
use crate::pod::PodInfo;
use crate::preemption::{self, Budgets, Preemption};
use crate::queue::Nominations;
use crate::selectors::OwnerSelectors;
use crate::volumes::{Step, Volumes};

/// Below this many nodes all are looked at (`minFeasibleNodesToFind`).
const MIN_FEASIBLE: usize = 100;
const MIN_PERCENTAGE: usize = 5;

/// Everything that a decision rests on.
#[derive(Default)]
pub struct World {
    /// Nodes and the pods on them.
    pub cache: Cache,
    /// Storage.
    pub volumes: Volumes,
    /// Devices.
    pub devices: Devices,
    /// What makes pods be of one kind.
    pub selectors: OwnerSelectors,
    /// Disruption budgets.
    pub budgets: Budgets,
}

/// Where a pod is to run.
#[derive(Debug)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// What must be done for its claims first.
    pub steps: Vec<Step>,
}

/// Why a pod can run nowhere.
#[derive(Debug)]
pub struct Unschedulable {
    /// For people (`FitError`).
    pub message: String,
    /// Who said no: the pod is looked at again when something changes that one of these looks at.
    pub plugins: Plugins,
    /// What could be removed to make room.
    pub preemption: Option<Preemption>,
    /// True if the pod's nomination no longer helps it.
    pub clears_nomination: bool,
}

/// Chooses nodes, one pod after the other.
#[derive(Debug)]
pub struct Chooser {
    /// Where the next search begins, so that all nodes get their turn.
    start: usize,
    random: u64,
}

impl Default for Chooser {
    fn default() -> Self {
        Self { start: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Chooser {
    /// The best node for a pod.
    pub fn schedule(
        &mut self,
        pod: &PodInfo,
        world: &mut World,
        nominations: &Nominations,
    ) -> Result<Placement, Box<Unschedulable>> {
        let counters = spread::counters(pod, &mut world.cache, &world.selectors);
        let world = &*world;
        if world.cache.nodes().is_empty() {
            return Err(Box::new(Unschedulable {
                message: "no nodes available to schedule pods".into(),
                plugins: Plugins::default(),
                preemption: None,
                clears_nomination: false,
            }));
        }
        let cycle = match Cycle::new(pod, &world.cache, &world.volumes, &world.devices, &counters) {
            Ok(cycle) => cycle,
            Err(refusal) => return Err(Box::new(refused(pod, world, refusal))),
        };
        let mut diagnosis = Diagnosis::new(world.cache.nodes().len());
        let feasible = self.feasible(&cycle, nominations, &mut diagnosis);
        let Some(best) = self.best(&cycle, &feasible, &counters) else {
            return Err(Box::new(unschedulable(&cycle, diagnosis, world, nominations)));
        };
        let node = &world.cache.nodes()[best];
        let steps = volumes::steps(&cycle, node).unwrap_or_default();
        Ok(Placement { node: node.name.clone(), steps })
    }

    /// Nodes that would do; as many as are worth comparing.
    fn feasible(
        &mut self,
        cycle: &Cycle<'_>,
        nominations: &Nominations,
        diagnosis: &mut Diagnosis,
    ) -> Vec<usize> {
        let nodes = cycle.cache.nodes();
        // A node that victims were removed from for this pod is asked first: if it will do, no other is looked at.
        if let Some(index) = cycle.pod.nominated_node().and_then(|name| cycle.cache.index(name))
            && check(cycle, &nodes[index], nominations).is_ok()
        {
            return vec![index];
        }
        if let Some(names) = cycle.pod.required_nodes.names() {
            let named = names.iter().filter_map(|name| cycle.cache.index(name));
            diagnosis.others = Some(Rejection {
                plugin: Plugin::NodeAffinity,
                is_final: true,
                reasons: vec![Cow::Borrowed("node(s) didn't satisfy plugin(s) [NodeAffinity]")],
            });
            return named
                .filter(|index| diagnosis.keep(*index, check(cycle, &nodes[*index], nominations)))
                .collect();
        }
        let enough = enough(nodes.len());
        let mut feasible = Vec::with_capacity(enough);
        let mut looked_at = 0;
        while looked_at < nodes.len() && feasible.len() < enough {
            let index = (self.start + looked_at) % nodes.len();
            looked_at += 1;
            if diagnosis.keep(index, check(cycle, &nodes[index], nominations)) {
                feasible.push(index);
            }
        }
        self.start = (self.start + looked_at) % nodes.len();
        feasible
    }

    /// The node with the highest score; any of them if there are several.
    fn best(&mut self, cycle: &Cycle<'_>, feasible: &[usize], counters: &spread::Counters) -> Option<usize> {
        if feasible.len() < 2 {
            return feasible.first().copied();
        }
        let mut totals = vec![0; feasible.len()];
        for (weight, score) in &SCORES {
            for (total, score) in
                totals.iter_mut().zip(score(cycle, feasible, counters).into_iter().flatten())
            {
                *total += weight * score;
            }
        }
        let most = totals.iter().copied().max()?;
        let mut best =
            totals.iter().zip(feasible).filter(|(total, _)| **total == most).map(|(_, index)| *index);
        let number = best.clone().count();
        best.nth(self.random(number))
    }

    fn random(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap_or(0) % limit.max(1)
    }
}

/// `numFeasibleNodesToFind`: of many nodes only a part is compared.
fn enough(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percentage = 50usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE);
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}

/// Whether the pod may run on a node, also if pods of no lower priority come there for which room was made
/// (`RunFilterPluginsWithNominatedPods`). They might as well not come, so it must fit without them too.
pub(crate) fn check(cycle: &Cycle<'_>, node: &NodeInfo, nominations: &Nominations) -> Verdict {
    let coming = nominations.on(&node.name, cycle.pod);
    if !coming.is_empty() {
        check_with(cycle, node, &coming)?;
    }
    cycle.filter(node)
}

fn check_with(cycle: &Cycle<'_>, node: &NodeInfo, coming: &[Arc<PodInfo>]) -> Verdict {
    let (mut state, mut full) = (cycle.state.clone(), node.clone());
    for pod in coming {
        state.change(cycle.pod, cycle.cache, pod, node, 1);
        full.add(pod.clone());
    }
    cycle.with_state(state).filter(&full)
}

/// Why each node was excluded.
pub(crate) struct Diagnosis {
    all: usize,
    pub(crate) rejections: HashMap<usize, Rejection>,
    /// Why those were excluded that nobody looked at.
    others: Option<Rejection>,
}

impl Diagnosis {
    fn new(all: usize) -> Self {
        Self { all, rejections: HashMap::new(), others: None }
    }

    /// Notes why a node is excluded; true if it is not.
    fn keep(&mut self, index: usize, verdict: Verdict) -> bool {
        match verdict {
            Ok(()) => true,
            Err(rejection) => {
                self.rejections.insert(index, rejection);
                false
            }
        }
    }

    fn plugins(&self) -> Plugins {
        let mut plugins = Plugins::default();
        for rejection in self.rejections.values().chain(&self.others) {
            plugins.insert(rejection.plugin);
        }
        plugins
    }

    fn message(&self) -> String {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.rejections.values().flat_map(|rejection| &rejection.reasons) {
            *reasons.entry(reason).or_default() += 1;
        }
        if let Some(others) = &self.others {
            for reason in &others.reasons {
                *reasons.entry(reason).or_default() += self.all - self.rejections.len();
            }
        }
        histogram(self.all, reasons)
    }
}

/// `0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.`
pub(crate) fn histogram(all: usize, reasons: BTreeMap<&str, usize>) -> String {
    let mut texts: Vec<String> = reasons
        .into_iter()
        .filter(|(_, number)| *number > 0)
        .map(|(reason, number)| format!("{number} {reason}"))
        .collect();
    texts.sort();
    let mut message = format!("0/{all} nodes are available:");
    if !texts.is_empty() {
        message.push_str(&format!(" {}.", texts.join(", ")));
    }
    message
}

/// A plugin refused the pod before nodes were looked at. Upstream then asks DynamicResources what it may free, which finds nothing of what it
/// would have noted had it had its turn: its error is the last word.
fn refused(pod: &PodInfo, world: &World, refusal: Refusal) -> Unschedulable {
    let all = world.cache.nodes().len();
    let mut plugins = Plugins::default();
    plugins.insert(refusal.plugin);
    let had_its_turn = refusal.plugin == Plugin::DynamicResources;
    let last = if had_its_turn {
        format!("{NOTHING_TO_FREE}, preemption: {}", preemption::unhelpful(pod, all))
    } else {
        "not found".into()
    };
    Unschedulable {
        message: format!("0/{all} nodes are available: {}. {last}", refusal.message),
        plugins,
        preemption: None,
        clears_nomination: had_its_turn,
    }
}

/// What DynamicResources says of a pod of which it has noted no claim, before preemption has its word (`PostFilter` of
/// `plugins/dynamicresources/dynamicresources.go`).
const NOTHING_TO_FREE: &str = "no new claims to deallocate";

/// And of one with claims.
const NOTHING_FREED: &str = "still not schedulable";

fn unschedulable(
    cycle: &Cycle<'_>,
    diagnosis: Diagnosis,
    world: &World,
    nominations: &Nominations,
) -> Unschedulable {
    let (plugins, message) = (diagnosis.plugins(), diagnosis.message());
    match preemption::preempt(cycle, &diagnosis, world, nominations) {
        Ok(preemption) => {
            Unschedulable { message, plugins, preemption: Some(preemption), clears_nomination: false }
        }
        Err(refused) => {
            let has_claims =
                cycle.pod.spec().resource_claims.as_ref().is_some_and(|claims| !claims.is_empty());
            let devices = if has_claims { NOTHING_FREED } else { NOTHING_TO_FREE };
            Unschedulable {
                message: format!("{message} {devices}, preemption: {}", refused.message),
                plugins,
                preemption: None,
                clears_nomination: refused.clears_nomination,
            }
        }
    }
}
