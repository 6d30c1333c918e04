//! Making room for a pod by removing pods of lower priority (scheduler `framework/preemption`, `plugins/defaultpreemption`): on each node
//! where that could help, the fewest and least important ones; of these nodes the one where it hurts least. A pure decision; the event
//! loop removes the victims.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use drydock_apimachinery::selectors::LabelSelector;
use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;

use crate::node::NodeInfo;
use crate::plugins::{Cycle, Plugin, Rejection};
use crate::pod::PodInfo;
use crate::queue::Nominations;
use crate::schedule::{Diagnosis, World, check, histogram};
use crate::terms::{selector, selects};

/// `minCandidateNodesPercentage` and `minCandidateNodesAbsolute`.
const CANDIDATES_PERCENTAGE: usize = 10;
const CANDIDATES: usize = 100;
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// A budget as preemption needs it.
struct Budget {
    selector: LabelSelector,
    allowed: i32,
    /// Pods whose disruption is counted already.
    disrupted: Vec<String>,
}

/// The disruption budgets of all namespaces.
#[derive(Default)]
pub struct Budgets {
    budgets: HashMap<ObjectKey, Budget>,
}

impl Budgets {
    /// A budget is as it is, or gone.
    pub fn set(&mut self, key: ObjectKey, budget: Option<&PodDisruptionBudget>) {
        let Some(budget) = budget else {
            self.budgets.remove(&key);
            return;
        };
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        self.budgets.insert(
            key,
            Budget {
                selector: selector(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
                allowed: status.map_or(0, |status| status.disruptions_allowed),
                disrupted: disrupted.map_or_else(Vec::new, |pods| pods.keys().cloned().collect()),
            },
        );
    }

    /// Divides pods into those whose removal breaks a budget and the others (`filterPodsWithPDBViolation`).
    fn divide(&self, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        let mut left: HashMap<&ObjectKey, i32> =
            self.budgets.iter().map(|(key, budget)| (key, budget.allowed)).collect();
        pods.into_iter().partition(|pod| {
            let mut violates = false;
            for (key, budget) in &self.budgets {
                let is_meant = key.namespace == pod.key.namespace
                    && !pod.labels().is_empty()
                    && !budget.selector.is_empty();
                if !is_meant
                    || !selects(&budget.selector, pod.labels())
                    || budget.disrupted.contains(&pod.key.name)
                {
                    continue;
                }
                let left = left.entry(key).or_default();
                *left -= 1;
                violates |= *left < 0;
            }
            violates
        })
    }
}

/// Room that can be made.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Where.
    pub node: String,
    /// Which pods go, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// Why no room can be made.
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) clears_nomination: bool,
}

struct Candidate {
    index: usize,
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// What is said if a pod's refusal has nothing to do with nodes.
pub(crate) fn unhelpful(pod: &PodInfo, all: usize) -> String {
    match never(pod) {
        Some(message) => message.to_owned(),
        None => histogram(all, BTreeMap::from([(NOT_HELPFUL, all)])),
    }
}

fn never(pod: &PodInfo) -> Option<&'static str> {
    (pod.spec().preemption_policy.as_deref() == Some("Never"))
        .then_some("not eligible due to preemptionPolicy=Never.")
}

/// The best way to make room for the cycle's pod.
pub(crate) fn preempt(
    cycle: &Cycle<'_>,
    diagnosis: &Diagnosis,
    world: &World,
    nominations: &Nominations,
) -> Result<Preemption, Refused> {
    if let Some(message) = not_eligible(cycle, diagnosis) {
        return Err(Refused { message: message.to_owned(), clears_nomination: false });
    }
    let nodes = cycle.cache.nodes();
    let mut possible: Vec<usize> = diagnosis
        .rejections
        .iter()
        .filter(|(_, rejection)| !rejection.is_final)
        .map(|(index, _)| *index)
        .collect();
    possible.sort_unstable();
    let enough = (possible.len() * CANDIDATES_PERCENTAGE / 100).max(CANDIDATES);
    let mut candidates = Vec::new();
    let mut reasons: BTreeMap<Cow<'static, str>, usize> = BTreeMap::new();
    let mut told = 0;
    for index in possible {
        match victims(cycle, &nodes[index], world, nominations) {
            Ok((victims, violations)) => candidates.push(Candidate { index, victims, violations }),
            Err(rejection) => {
                told += 1;
                for reason in rejection.reasons {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
        if candidates.len() >= enough {
            break;
        }
    }
    let Some(best) = best(&candidates) else {
        *reasons.entry(NOT_HELPFUL.into()).or_default() += nodes.len() - told;
        let reasons = reasons.iter().map(|(reason, number)| (&**reason, *number)).collect();
        return Err(Refused { message: histogram(nodes.len(), reasons), clears_nomination: true });
    };
    Ok(Preemption { node: nodes[best.index].name.clone(), victims: best.victims.clone() })
}

/// `PodEligibleToPreemptOthers`: whoever has made room waits until it is there.
fn not_eligible(cycle: &Cycle<'_>, diagnosis: &Diagnosis) -> Option<&'static str> {
    let pod = cycle.pod;
    if let Some(message) = never(pod) {
        return Some(message);
    }
    let index = pod.nominated_node().and_then(|name| cycle.cache.index(name))?;
    // If the node no longer helps at all, another may be tried.
    if diagnosis.rejections.get(&index).is_some_and(|rejection| rejection.is_final) {
        return None;
    }
    let going =
        |other: &Arc<PodInfo>| other.priority < pod.priority && other.is_terminating() && is_preempted(other);
    cycle.cache.nodes()[index]
        .pods
        .iter()
        .any(going)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

fn is_preempted(pod: &PodInfo) -> bool {
    let conditions = pod.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut targets = conditions.filter(|condition| condition.type_ == "DisruptionTarget");
    targets.any(|condition| {
        condition.status == "True" && condition.reason.as_deref() == Some("PreemptionByScheduler")
    })
}

/// The pods of a node that must go, and how many budgets that breaks (`SelectVictimsOnNode`).
fn victims(
    cycle: &Cycle<'_>,
    node: &NodeInfo,
    world: &World,
    nominations: &Nominations,
) -> Result<(Vec<Arc<PodInfo>>, usize), Rejection> {
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|pod| pod.priority < cycle.pod.priority).cloned().collect();
    if lower.is_empty() {
        let reasons = vec![Cow::Borrowed("No preemption victims found for incoming pod")];
        return Err(Rejection { plugin: Plugin::NodeResourcesFit, is_final: true, reasons });
    }
    let mut left = node.clone();
    let mut what_if = cycle.with_state(cycle.state.clone());
    for pod in &lower {
        left.remove(&pod.uid);
        what_if.state.change(cycle.pod, cycle.cache, pod, node, -1);
    }
    check(&what_if, &left, nominations)?;
    lower.sort_by_key(|pod| importance(pod));
    let (violating, others) = world.budgets.divide(lower);
    let (mut victims, mut violations) = (Vec::new(), 0);
    let violating = violating.into_iter().map(|pod| (pod, true));
    for (pod, breaks_budget) in violating.chain(others.into_iter().map(|pod| (pod, false))) {
        left.add(pod.clone());
        what_if.state.change(cycle.pod, cycle.cache, &pod, node, 1);
        if check(&what_if, &left, nominations).is_ok() {
            continue;
        }
        left.remove(&pod.uid);
        what_if.state.change(cycle.pod, cycle.cache, &pod, node, -1);
        violations += usize::from(breaks_budget);
        victims.push(pod);
    }
    victims.sort_by_key(|pod| importance(pod));
    Ok((victims, violations))
}

/// `MoreImportantPod`: the higher priority first, then the one that has run longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority), pod.started())
}

/// `pickOneNodeForPreemption`: fewest broken budgets; lowest priority of the most important victim; lowest sum of priorities; fewest
/// victims; the latest start of the most important victims.
fn best(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().min_by_key(|candidate| {
        let highest = candidate.victims.first().map_or(i32::MIN, |pod| pod.priority);
        let sum: i64 =
            candidate.victims.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
        let most_important = candidate.victims.iter().filter(|pod| pod.priority == highest);
        let earliest = most_important.map(|pod| pod.started()).min().unwrap_or(Timestamp::MAX);
        (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    })
}
