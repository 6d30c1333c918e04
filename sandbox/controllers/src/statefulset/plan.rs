//! What is next for a StatefulSet (`defaultStatefulSetControl.updateStatefulSet`). With the policy `OrderedReady` one pod is waited for before
//! the next; with `Parallel` none is. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::identity::{ordinal, ordinals, revision};
use crate::shared::meta::Meta;
use crate::shared::numbers::{Round, scaled};
use crate::shared::pods::{is_available, is_ready, is_terminal, phase};

/// Names of the revision that pods have and of that which they shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revisions {
    /// What pods had before the update.
    pub current: String,
    /// What they shall have.
    pub update: String,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make the pod of an ordinal, and its claims.
    Create {
        /// The ordinal.
        ordinal: i32,
        /// Whether from the updated template.
        updated: bool,
    },
    /// Make claims that a waiting pod lacks.
    Claims(i32),
    /// Delete a pod that ended, so that it is made anew.
    Replace(Arc<Pod>),
    /// Delete a pod: there are too many, or it is of an old revision.
    Delete(Arc<Pod>),
}

/// Whether pods are made and deleted one after the other.
fn is_ordered(set: &StatefulSet) -> bool {
    set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel")
}

fn strategy(set: &StatefulSet) -> &str {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate")
}

/// Ordinals from here on are updated.
fn partition(set: &StatefulSet) -> Option<i32> {
    let strategy = set.spec.as_ref()?.update_strategy.as_ref()?;
    strategy.rolling_update.as_ref()?.partition
}

fn min_ready(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && is_ready(pod)
}

fn is_healthy(pod: &Pod) -> bool {
    is_running_and_ready(pod) && !pod.deleting()
}

/// Whether a pod of that ordinal is to be of the old template still (`newVersionedStatefulSetPod`).
fn keeps_current(set: &StatefulSet, ordinal: i32) -> bool {
    if strategy(set) != "RollingUpdate" {
        return false;
    }
    let start = ordinals(set).start;
    match partition(set) {
        Some(partition) => ordinal < start.saturating_add(partition),
        None => {
            let current = set.status.as_ref().and_then(|status| status.current_replicas);
            ordinal < start.saturating_add(current.unwrap_or(0))
        }
    }
}

/// The pods of a set, sorted out.
struct Members {
    /// Those of ordinals that shall be.
    there: BTreeMap<i32, Arc<Pod>>,
    /// The others, highest first.
    condemned: Vec<Arc<Pod>>,
}

fn sort_out(set: &StatefulSet, pods: &[Arc<Pod>]) -> Members {
    let wanted = ordinals(set);
    let mut members = Members { there: BTreeMap::new(), condemned: Vec::new() };
    let mut condemned = BTreeMap::new();
    for pod in pods {
        if let Some(ordinal) = ordinal(set, pod) {
            let list = if wanted.contains(&ordinal) { &mut members.there } else { &mut condemned };
            list.insert(ordinal, pod.clone());
        }
    }
    members.condemned = condemned.into_values().rev().collect();
    members
}

/// The pods that are to go because there are too many, highest ordinal first.
pub fn condemned(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    sort_out(set, pods).condemned
}

/// What is next.
pub fn plan(set: &StatefulSet, revisions: &Revisions, pods: &[Arc<Pod>], now: Timestamp) -> Vec<Step> {
    if set.deleting() {
        return Vec::new();
    }
    let members = sort_out(set, pods);
    let ordered = is_ordered(set);
    let mut steps = Vec::new();
    if !fill(set, revisions, &members, ordered, now, &mut steps) || !shrink(&members, ordered, &mut steps) {
        return steps;
    }
    if strategy(set) != "OnDelete" && steps.iter().all(|step| matches!(step, Step::Claims(_))) {
        steps.extend(update(set, revisions, &members, now));
    }
    steps
}

/// Makes the pods that are missing, lowest first; whether to go on to the next phase.
fn fill(
    set: &StatefulSet,
    revisions: &Revisions,
    members: &Members,
    ordered: bool,
    now: Timestamp,
    steps: &mut Vec<Step>,
) -> bool {
    for ordinal in ordinals(set) {
        let Some(pod) = members.there.get(&ordinal) else {
            // Where nothing is being updated both are the same.
            let updated = !keeps_current(set, ordinal) || revisions.current == revisions.update;
            steps.push(Step::Create { ordinal, updated });
            if ordered {
                return false;
            }
            continue;
        };
        if is_terminal(pod) {
            if !pod.deleting() {
                steps.push(Step::Replace(pod.clone()));
            }
            if ordered {
                return false;
            }
            continue;
        }
        if phase(pod) == "Pending" {
            steps.push(Step::Claims(ordinal));
        }
        let waits = pod.deleting() || !is_running_and_ready(pod) || !is_available(pod, min_ready(set), now);
        if ordered && waits {
            return false;
        }
    }
    true
}

/// Deletes the pods that are too many, highest first; whether to go on to the next phase.
fn shrink(members: &Members, ordered: bool, steps: &mut Vec<Step>) -> bool {
    let mut unhealthy =
        members.there.values().chain(members.condemned.iter().rev()).filter(|pod| !is_healthy(pod));
    let first_unhealthy = unhealthy.next();
    for pod in &members.condemned {
        if pod.deleting() {
            if ordered {
                return false;
            }
            continue;
        }
        // Of those that are not well the lowest is the one that may go.
        let blocked = ordered
            && !is_running_and_ready(pod)
            && !first_unhealthy.is_some_and(|first| Arc::ptr_eq(first, pod));
        if blocked {
            return false;
        }
        steps.push(Step::Delete(pod.clone()));
        if ordered {
            return false;
        }
    }
    true
}

/// How many pods an update may take away at a time (`getStatefulSetMaxUnavailable`).
fn max_unavailable(set: &StatefulSet) -> usize {
    let update = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.rolling_update.as_ref());
    let wanted = update.and_then(|update| update.max_unavailable.as_ref());
    let all = i32::try_from(ordinals(set).len()).unwrap_or(i32::MAX);
    let wanted = wanted.and_then(|wanted| scaled(wanted, all, Round::Down)).unwrap_or(1);
    usize::try_from(wanted).unwrap_or(0).max(1)
}

/// The pods whose turn it is to be updated: the highest that are not, as many as may be away together.
fn update(set: &StatefulSet, revisions: &Revisions, members: &Members, now: Timestamp) -> Vec<Step> {
    let from = ordinals(set).start.saturating_add(partition(set).unwrap_or(0));
    let is_old = |pod: &Pod| revision(pod) != revisions.update && !pod.deleting();
    let is_away = |pod: &Pod| !is_healthy(pod) || !is_available(pod, min_ready(set), now);
    let updated = members.there.range(from..).rev().map(|(_, pod)| pod);
    let most = max_unavailable(set);
    if most > 1 {
        let away = members.there.values().filter(|pod| is_away(pod)).count();
        let old = updated.filter(|pod| is_old(pod)).take(most.saturating_sub(away));
        return old.map(|pod| Step::Delete(pod.clone())).collect();
    }
    for pod in updated {
        if is_old(pod) {
            return vec![Step::Delete(pod.clone())];
        }
        if is_away(pod) {
            break;
        }
    }
    Vec::new()
}

/// What the status says.
pub fn status(
    set: &StatefulSet,
    revisions: &Revisions,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> StatefulSetStatus {
    let pods: Vec<_> = pods.iter().filter(|pod| ordinal(set, pod).is_some()).collect();
    let count = |of: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| of(pod)).count()).unwrap_or(i32::MAX)
    };
    let stays = |pod: &Pod| !pod.deleting() && !phase(pod).is_empty();
    let replicas = count(&|pod| !phase(pod).is_empty());
    let ready = count(&is_running_and_ready);
    let updated = count(&|pod| stays(pod) && revision(pod) == revisions.update);
    let mut current = count(&|pod| stays(pod) && revision(pod) == revisions.current);
    let mut current_revision = revisions.current.clone();
    let wanted = i32::try_from(ordinals(set).len()).unwrap_or(i32::MAX);
    // An update is over when all are of it and ready: what was updated is current then.
    if strategy(set) == "RollingUpdate" && [updated, ready, replicas] == [wanted; 3] {
        current = updated;
        current_revision.clone_from(&revisions.update);
    }
    let some = |count: i32| (count != 0).then_some(count);
    let before = set.status.as_ref();
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(count(&|pod| {
            is_running_and_ready(pod) && is_available(pod, min_ready(set), now)
        })),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(current_revision).filter(|name| !name.is_empty()),
        update_revision: Some(revisions.update.clone()).filter(|name| !name.is_empty()),
        collision_count: Some(before.and_then(|status| status.collision_count).unwrap_or(0)),
        conditions: before.and_then(|status| status.conditions.clone()),
    }
}
