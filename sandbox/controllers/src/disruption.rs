//! How many pods of a PodDisruptionBudget may be evicted (k8s.io/kubernetes/pkg/controller/disruption). The API server's eviction asks the
//! status that is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::{Context, Reconcile, Running, wait, work};
use crate::error::Error;
use crate::shared::meta::{Meta, go_text, selects};
use crate::shared::numbers::{Round, scaled};
use crate::shared::pods::{is_ready, is_terminal};

/// An evicted pod that is still there after this time will stay (`DeletionTimeout`).
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

struct Controller {
    client: Client,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful_sets: Informer<StatefulSet>,
    controllers: Informer<ReplicationController>,
    recorder: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let budgets = context.informer::<PodDisruptionBudget>();
    let to_queue = queue.clone();
    budgets.subscribe(move |event| to_queue.add(event.object().key()));
    let pods = context.informer::<Pod>();
    let (of_pods, to_queue) = (budgets.clone(), queue.clone());
    pods.subscribe(move |event| {
        let pod = event.object();
        for budget in of_pods.in_namespace(pod.namespace()) {
            if covers(&budget, pod) {
                to_queue.add(budget.key());
            }
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        budgets,
        pods,
        sets: context.informer(),
        deployments: context.informer(),
        stateful_sets: context.informer(),
        controllers: context.informer(),
        recorder: context.recorder("controllermanager"),
    };
    work(Arc::new(controller), queue, 1)
}

/// Whether a budget is for a pod; one without a selector is for none.
fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selects(selector, pod.labels()))
}

/// Pods that were evicted a moment ago and are not gone yet; and when the first of them is given up.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<SignedDuration>) {
    let known = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let mut kept = BTreeMap::new();
    let mut next: Option<SignedDuration> = None;
    for (name, since) in known {
        let there = pods.iter().any(|pod| pod.name() == name && !pod.deleting());
        let left = DELETION_TIMEOUT.saturating_sub(now.duration_since(since.0));
        if there && left > SignedDuration::ZERO {
            next = Some(next.map_or(left, |next| next.min(left)));
            kept.insert(name, since);
        }
    }
    (kept, next)
}

/// The status of a budget whose pods' owners want `expected` pods in all.
fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let spec = budget.spec.as_ref();
    let max = spec.and_then(|spec| spec.max_unavailable.as_ref());
    let min = spec.and_then(|spec| spec.min_available.as_ref());
    let (expected, desired) = match (max, min) {
        (Some(max), _) => {
            (expected, expected.saturating_sub(scaled(max, expected, Round::Up).unwrap_or(0)).max(0))
        }
        // A plain number needs to know nothing of owners.
        (None, Some(IntOrString::Int(min))) => (i32::try_from(pods.len()).unwrap_or(i32::MAX), *min),
        (None, Some(min)) => (expected, scaled(min, expected, Round::Up).unwrap_or(0)),
        (None, None) => (expected, 0),
    };
    let healthy = pods
        .iter()
        .filter(|pod| !pod.deleting() && is_ready(pod) && !disrupted.contains_key(pod.name()))
        .count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let allowed = if expected <= 0 { 0 } else { healthy.saturating_sub(desired).max(0) };
    PodDisruptionBudgetStatus {
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(budget, allowed, now)),
    }
}

fn conditions(budget: &PodDisruptionBudget, allowed: i32, now: Timestamp) -> Vec<Condition> {
    let (status, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let current = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let since = current
        .iter()
        .find(|one| one.type_ == ALLOWED && one.status == status)
        .map(|one| one.last_transition_time.clone());
    let mut all: Vec<_> = current.into_iter().filter(|one| one.type_ != ALLOWED).collect();
    all.push(Condition {
        type_: ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: budget.metadata.generation,
    });
    all
}

impl Controller {
    /// How many pods the owners of these pods want together, and whether there are pods without an owner, which are not counted
    /// (`getExpectedScale`).
    fn expected(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<(i32, bool), String> {
        let mut seen = BTreeSet::new();
        let (mut sum, mut any_unmanaged) = (0_i32, false);
        for pod in pods {
            let Some(owner) = pod.controller() else {
                any_unmanaged = true;
                continue;
            };
            let (uid, replicas) = self.scale(namespace, &owner.kind, &owner.name).ok_or_else(|| {
                format!(
                    "found no controllers for pod {:?}: {} does not implement the scale subresource",
                    pod.name(),
                    owner.kind
                )
            })?;
            if seen.insert(uid) {
                sum = sum.saturating_add(replicas);
            }
        }
        Ok((sum, any_unmanaged))
    }

    /// Tells that a budget cannot count its pods.
    fn warn_of_unmanaged(&self, budget: &PodDisruptionBudget) {
        let selector = go_text(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
             \".spec.minAvailable\" field of the PDB to an integer value."
        );
        self.recorder.event(budget, EventType::Warning, "UnmanagedPods", message);
    }

    /// The uid and size of an owner; of a ReplicaSet that of its Deployment.
    fn scale(&self, namespace: &str, kind: &str, name: &str) -> Option<(String, i32)> {
        let key = ObjectKey::new(namespace, name);
        match kind {
            "ReplicaSet" => {
                let set = self.sets.get(&key)?;
                if let Some(owner) = set.controller().filter(|owner| owner.kind == "Deployment") {
                    return self.scale(namespace, "Deployment", &owner.name);
                }
                Some((set.uid().into(), set.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            "Deployment" => {
                let deployment = self.deployments.get(&key)?;
                Some((deployment.uid().into(), deployment.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            "StatefulSet" => {
                let set = self.stateful_sets.get(&key)?;
                Some((set.uid().into(), set.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            "ReplicationController" => {
                let controller = self.controllers.get(&key)?;
                Some((controller.uid().into(), controller.spec.as_ref()?.replicas.unwrap_or(1)))
            }
            _ => None,
        }
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(None) };
        let now = Timestamp::now();
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| covers(&budget, pod) && !is_terminal(pod));
        if pods.is_empty() && budget.status.as_ref().is_none_or(|status| status.observed_generation.is_none())
        {
            self.recorder.event(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let (disrupted, again) = disrupted(&budget, &pods, now);
        let needs_owners = budget.spec.as_ref().is_some_and(|spec| {
            spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
        });
        let expected = if needs_owners { self.expected(&key.namespace, &pods) } else { Ok((0, false)) };
        let new = match expected {
            Ok((expected, any_unmanaged)) => {
                if any_unmanaged {
                    self.warn_of_unmanaged(&budget);
                }
                status(&budget, &pods, expected, disrupted, now)
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.recorder.event(&*budget, EventType::Warning, "CalculateExpectedPodCountFailed", message);
                // Whom nobody can count, nobody may evict.
                let mut safe = budget.status.clone().unwrap_or_default();
                safe.disruptions_allowed = 0;
                safe.observed_generation = budget.metadata.generation;
                safe
            }
        };
        if budget.status.as_ref() != Some(&new) {
            let mut copy = PodDisruptionBudget::clone(&budget);
            copy.status = Some(new);
            let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), &key.namespace);
            errors::unless_gone(api.replace_status(&key.name, &PostParams::default(), &copy).await)?;
        }
        Ok(again.map(wait))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;

    use super::*;
    use crate::shared::pods::tests::{at, pod};

    fn budget(min: Option<IntOrString>, max: Option<IntOrString>) -> PodDisruptionBudget {
        PodDisruptionBudget {
            spec: Some(PodDisruptionBudgetSpec {
                min_available: min,
                max_unavailable: max,
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }
    }

    #[test]
    fn how_many_may_go() {
        let int = |number| Some(IntOrString::Int(number));
        let text = |text: &str| Some(IntOrString::String(text.into()));
        for (min, max, healthy, unready, expected, desired, allowed) in [
            (int(2), None, 3, 0, 0, 2, 1),
            (int(2), None, 1, 2, 0, 2, 0),
            (text("50%"), None, 3, 0, 3, 2, 1),
            (None, int(1), 3, 0, 3, 2, 1),
            (None, int(1), 2, 1, 3, 2, 0),
            (None, text("30%"), 10, 0, 10, 7, 3),
            (None, int(5), 3, 0, 3, 0, 3),
            (int(0), None, 0, 0, 0, 0, 0),
        ] {
            let pods: Vec<_> = (0..healthy)
                .map(|n| pod(&format!("h{n}"), "n", "Running", Some(0)))
                .chain((0..unready).map(|n| pod(&format!("u{n}"), "n", "Running", None)))
                .map(Arc::new)
                .collect();
            let status = status(&budget(min.clone(), max.clone()), &pods, expected, BTreeMap::new(), at(0));
            assert_eq!(
                (status.desired_healthy, status.disruptions_allowed),
                (desired, allowed),
                "{min:?} {max:?} {healthy}"
            );
        }
    }

    #[test]
    fn evicted_pods_count_as_gone_for_a_while() {
        let pods = [Arc::new(pod("a", "n", "Running", Some(0))), Arc::new(pod("b", "n", "Running", Some(0)))];
        let mut budget = budget(Some(IntOrString::Int(1)), None);
        budget.status = Some(PodDisruptionBudgetStatus {
            disrupted_pods: Some([("a".to_owned(), Time(at(0))), ("gone".to_owned(), Time(at(0)))].into()),
            ..PodDisruptionBudgetStatus::default()
        });
        let (kept, again) = disrupted(&budget, &pods, at(30));
        assert_eq!((kept.len(), again.map(|left| left.as_secs())), (1, Some(90)));
        assert_eq!(status(&budget, &pods, 0, kept, at(30)).disruptions_allowed, 0);
        let (kept, again) = disrupted(&budget, &pods, at(120));
        assert_eq!((kept.len(), again), (0, None));
    }
}
