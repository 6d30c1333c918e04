//! Pods that wait for a node (scheduler `backend/queue`): active ones by priority and age; those that failed lately and wait a little;
//! those that nothing can be done for until something changes. Owned by [`crate::core`]; an event moves only pods that it may help.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hints::{ClusterEvent, may_help};
use crate::plugins::{Plugin, Plugins};
use crate::pod::PodInfo;

/// `DefaultPodInitialBackoffDuration`, `DefaultPodMaxBackoffDuration`, `DefaultPodMaxInUnschedulablePodsDuration`.
const BACKOFF_FROM: Duration = Duration::from_secs(1);
const BACKOFF_TO: Duration = Duration::from_secs(10);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5 * 60);

const ALL: [Plugin; 12] = [
    Plugin::SchedulingGates,
    Plugin::NodeUnschedulable,
    Plugin::NodeName,
    Plugin::TaintToleration,
    Plugin::NodeAffinity,
    Plugin::NodePorts,
    Plugin::NodeResourcesFit,
    Plugin::VolumeRestrictions,
    Plugin::VolumeBinding,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
    Plugin::DynamicResources,
];

/// Where a pod waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To be scheduled next, by priority and then by age.
    Active(Reverse<i32>, u64),
    /// To be active again at a time; the number keeps pods of one time apart. After an error not before.
    Backoff(Instant, u64, bool),
    /// Until something changes, or long enough has passed.
    Unschedulable(Instant),
    /// Until its gates are gone, and its claims of devices are there.
    Gated,
    /// Being scheduled or bound.
    InFlight,
}

struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    failed: Option<Instant>,
    rejected_by: Plugins,
}

/// Pods that wait.
#[derive(Default)]
pub struct Queue {
    /// By uid.
    entries: HashMap<String, Entry>,
    active: BTreeMap<(Reverse<i32>, u64), String>,
    backoff: BTreeMap<(Instant, u64), String>,
    /// Those that wait for something to change.
    unschedulable: HashSet<String>,
    next: u64,
}

impl Queue {
    /// How many pods wait, wherever.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no pod waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A pod without a node is new or has changed.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let uid = pod.uid.clone();
        let Some(entry) = self.entries.get_mut(&uid) else {
            let place = if pod.is_gated() { Place::Gated } else { self.first_place(&pod) };
            let entry = Entry { pod, place, attempts: 0, failed: None, rejected_by: Plugins::default() };
            self.entries.insert(uid.clone(), entry);
            self.enter(&uid, place);
            return;
        };
        let old = std::mem::replace(&mut entry.pod, pod.clone());
        match entry.place {
            Place::Gated if !pod.is_gated() => {
                let place = self.first_place(&pod);
                self.move_to(&uid, place);
            }
            // A pod that was changed may fit now; a change of its status says nothing (it is mostly our own).
            Place::Unschedulable(_) if has_changed(&old, &pod) => self.retry(&uid, now),
            Place::Active(priority, _) if priority.0 != pod.priority => {
                let place = self.first_place(&pod);
                self.move_to(&uid, place);
            }
            Place::Active(..)
            | Place::Backoff(..)
            | Place::Unschedulable(_)
            | Place::Gated
            | Place::InFlight => {}
        }
    }

    /// A pod without a node is new or has changed, and nobody is to look at it: something that it names is not there.
    pub fn hold(&mut self, pod: Arc<PodInfo>) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod;
            return self.move_to(&uid, Place::Gated);
        }
        let place = Place::Gated;
        let entry = Entry { pod, place, attempts: 0, failed: None, rejected_by: Plugins::default() };
        self.entries.insert(uid, entry);
    }

    /// Pods that are held and have no gates.
    pub fn held(&self) -> Vec<Arc<PodInfo>> {
        let held = self.entries.values().filter(|entry| entry.place == Place::Gated && !entry.pod.is_gated());
        held.map(|entry| entry.pod.clone()).collect()
    }

    /// The pod is bound, gone, or not ours any more.
    pub fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.leave(uid, entry.place);
        }
    }

    /// The next pod to schedule; [`Queue::fail`] or [`Queue::remove`] follows.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.move_due(now);
        let uid = self.active.first_key_value().map(|(_, uid)| uid.clone()).or_else(|| self.early())?;
        self.move_to(&uid, Place::InFlight);
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(entry.pod.clone())
    }

    /// If there is nothing else to do, a pod need not wait to its end, unless it failed by an error (`SchedulerPopFromBackoffQ`).
    fn early(&self) -> Option<String> {
        let mut waiting = self.backoff.values();
        waiting
            .find(|uid| {
                self.entries.get(*uid).is_some_and(|entry| matches!(entry.place, Place::Backoff(_, _, false)))
            })
            .cloned()
    }

    /// The pod could not be scheduled because of `plugins`; none: because of an error.
    pub fn fail(&mut self, uid: &str, plugins: Plugins, now: Instant) {
        let next = self.number();
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.failed = Some(now);
        entry.rejected_by = plugins;
        let place = if plugins.is_empty() {
            Place::Backoff(now + wait(entry.attempts), next, true)
        } else {
            Place::Unschedulable(now)
        };
        self.move_to(uid, place);
    }

    /// Something happened: pods that it may help are tried again.
    pub fn notify(&mut self, event: ClusterEvent<'_>, now: Instant) {
        let may_be_helped = |uid: &&String| {
            self.entries.get(*uid).is_some_and(|entry| {
                let mut rejected = ALL.iter().filter(|plugin| entry.rejected_by.contains(**plugin));
                rejected.any(|plugin| may_help(*plugin, event, &entry.pod))
            })
        };
        let helped: Vec<String> = self.unschedulable.iter().filter(may_be_helped).cloned().collect();
        for uid in helped {
            self.retry(&uid, now);
        }
    }

    /// When something is due without any event.
    pub fn deadline(&self) -> Option<Instant> {
        let backoff = self.backoff.keys().next().map(|(at, _)| *at);
        let forgotten = self.unschedulable.iter().filter_map(|uid| Some(self.since(uid)? + FORGOTTEN_AFTER));
        forgotten.chain(backoff).min()
    }

    fn move_due(&mut self, now: Instant) {
        while let Some(uid) =
            self.backoff.first_key_value().filter(|((at, _), _)| *at <= now).map(|(_, uid)| uid.clone())
        {
            self.activate(&uid);
        }
        // Only when a search is due at all: this looks at every pod.
        if self.active.is_empty() {
            let is_forgotten =
                |uid: &&String| self.since(uid).is_some_and(|since| since + FORGOTTEN_AFTER <= now);
            let forgotten: Vec<String> = self.unschedulable.iter().filter(is_forgotten).cloned().collect();
            for uid in forgotten {
                self.activate(&uid);
            }
        }
    }

    /// Since when a pod waits for something to change.
    fn since(&self, uid: &str) -> Option<Instant> {
        match self.entries.get(uid)?.place {
            Place::Unschedulable(since) => Some(since),
            _ => None,
        }
    }

    /// Tries a pod again, not sooner than it may after its last failure.
    fn retry(&mut self, uid: &str, now: Instant) {
        let next = self.number();
        let Some(entry) = self.entries.get(uid) else { return };
        let at = entry.failed.map_or(now, |failed| failed + wait(entry.attempts));
        if at > now { self.move_to(uid, Place::Backoff(at, next, false)) } else { self.activate(uid) }
    }

    fn activate(&mut self, uid: &str) {
        if let Some(pod) = self.entries.get(uid).map(|entry| entry.pod.clone()) {
            let place = self.first_place(&pod);
            self.move_to(uid, place);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn first_place(&mut self, pod: &PodInfo) -> Place {
        Place::Active(Reverse(pod.priority), self.number())
    }

    fn move_to(&mut self, uid: &str, place: Place) {
        if let Some(entry) = self.entries.get_mut(uid) {
            let old = std::mem::replace(&mut entry.place, place);
            self.leave(uid, old);
            self.enter(uid, place);
        }
    }

    fn leave(&mut self, uid: &str, place: Place) {
        match place {
            Place::Active(priority, number) => {
                self.active.remove(&(priority, number));
            }
            Place::Backoff(at, number, _) => {
                self.backoff.remove(&(at, number));
            }
            Place::Unschedulable(_) => {
                self.unschedulable.remove(uid);
            }
            Place::Gated | Place::InFlight => {}
        }
    }

    fn enter(&mut self, uid: &str, place: Place) {
        match place {
            Place::Active(priority, number) => {
                self.active.insert((priority, number), uid.to_owned());
            }
            Place::Backoff(at, number, _) => {
                self.backoff.insert((at, number), uid.to_owned());
            }
            Place::Unschedulable(_) => {
                self.unschedulable.insert(uid.to_owned());
            }
            Place::Gated | Place::InFlight => {}
        }
    }
}

/// `calculateBackoffDuration`.
fn wait(attempts: u32) -> Duration {
    BACKOFF_FROM
        .saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(BACKOFF_TO)
}

/// Whether more than the status of a pod has changed.
fn has_changed(old: &PodInfo, new: &PodInfo) -> bool {
    old.pod.spec != new.pod.spec || old.pod.metadata.labels != new.pod.metadata.labels
}

/// Pods for which room was made, by the node where it was.
#[derive(Default)]
pub struct Nominations {
    by_node: HashMap<String, Vec<Arc<PodInfo>>>,
    nodes: HashMap<String, String>,
}

impl Nominations {
    /// The pod is to come to a node; or, with none, to no particular one.
    pub fn set(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        self.remove(&pod.uid);
        if let Some(node) = node {
            self.nodes.insert(pod.uid.clone(), node.to_owned());
            self.by_node.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }

    /// The pod is bound or gone.
    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.nodes.remove(uid) else { return };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|pod| pod.uid != uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// Pods that are to come to the node and are not less important than `pod`.
    pub(crate) fn on(&self, node: &str, pod: &PodInfo) -> Vec<Arc<PodInfo>> {
        if self.by_node.is_empty() {
            return Vec::new();
        }
        let pods = self.by_node.get(node).into_iter().flatten();
        pods.filter(|other| other.priority >= pod.priority && other.uid != pod.uid).cloned().collect()
    }

    /// Pods that are to come to the node and are less important than `pod`.
    pub fn less_important(&self, node: &str, pod: &PodInfo) -> Vec<Arc<PodInfo>> {
        let pods = self.by_node.get(node).into_iter().flatten();
        pods.filter(|other| other.priority < pod.priority).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeInfo;
    use crate::terms::Labels;
    use crate::testing::{node, pod};

    fn names(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|pod| pod.key.name.clone()).collect()
    }

    fn only(plugin: Plugin) -> Plugins {
        let mut plugins = Plugins::default();
        plugins.insert(plugin);
        plugins
    }

    #[test]
    fn priority_goes_first_then_age() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("old", 0), ("high", 10), ("new", 0), ("low", -5)] {
            queue.set(pod(name).priority(priority).build(), now);
        }
        queue.set(pod("gated").gate("g").build(), now);
        queue.remove("uid-new");
        assert_eq!(names(&mut queue, now), ["high", "old", "low"]);
        queue.set(pod("gated").build(), now);
        assert_eq!(names(&mut queue, now), ["gated"], "its gates are gone");
    }

    #[test]
    fn only_events_that_may_help_bring_a_pod_back() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(pod("p").cpu("2").build(), now);
        assert_eq!(names(&mut queue, now), ["p"]);
        queue.fail("uid-p", only(Plugin::NodeResourcesFit), now);
        let small = NodeInfo::new(node("small").cpu("1").build());
        let large = NodeInfo::new(node("large").cpu("4").build());
        let (other, none) = (pod("other").cpu("1").on("n1").build(), |_: &str| None::<Labels>);
        let placed = ClusterEvent::PodPlaced { old: None, pod: &other, namespaces: &none };
        for event in [ClusterEvent::Storage, placed, ClusterEvent::NodeAdded(&small)] {
            queue.notify(event, now);
            assert!(names(&mut queue, now).is_empty());
        }
        queue.notify(ClusterEvent::NodeAdded(&large), now);
        assert_eq!(names(&mut queue, now), ["p"]);
    }

    #[test]
    fn errors_wait_longer_each_time_and_the_forgotten_are_tried_again() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.set(pod("p").build(), now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            assert_eq!(names(&mut queue, now), ["p"]);
            queue.fail("uid-p", Plugins::default(), now);
            assert_eq!(queue.deadline(), Some(now + Duration::from_secs(seconds)));
            assert!(names(&mut queue, now).is_empty(), "an error is not tried again at once");
            now += Duration::from_secs(seconds);
        }
        assert_eq!(names(&mut queue, now), ["p"]);
        queue.fail("uid-p", only(Plugin::NodeAffinity), now);
        assert!(names(&mut queue, now + Duration::from_secs(299)).is_empty());
        assert_eq!(names(&mut queue, now + Duration::from_secs(300)), ["p"]);
    }

    #[test]
    fn a_change_of_the_status_alone_brings_nobody_back() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(pod("p").build(), now);
        queue.pop(now);
        queue.fail("uid-p", only(Plugin::NodeAffinity), now);
        queue.set(pod("p").nominated("n1").build(), now);
        assert!(names(&mut queue, now).is_empty());
        queue.set(pod("p").label("a", "b").build(), now);
        assert_eq!(names(&mut queue, now), ["p"]);
    }
}
