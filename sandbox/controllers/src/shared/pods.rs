//! What state a pod is in, and which of several pods goes first (k8s.io/kubernetes/pkg/api/v1/pod/util.go and
//! pkg/controller/controller_utils.go).

use std::cmp::Ordering;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::meta::Meta;

/// What a learner may write to say which pods go first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The phase; empty if nobody has said one.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether it has ended, one way or the other.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it runs, or will (`IsPodActive`).
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.deleting()
}

/// Whether it is going but has not ended (`IsPodTerminating`).
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.deleting()
}

/// The node that it is on; empty: none yet.
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// A condition.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, "Ready").filter(|condition| condition.status == "True")
}

/// Whether it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some()
}

/// When it became ready.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod)?.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready for so long (`IsPodAvailable`).
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_seconds, now) == Some(SignedDuration::ZERO)
}

/// How long it takes until it has been ready long enough, if it stays so; `None` if it is not ready.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
    ready_condition(pod)?;
    if min_ready_seconds <= 0 {
        return Some(SignedDuration::ZERO);
    }
    let at = ready_since(pod)?.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).ok()?;
    Some(at.duration_since(now).max(SignedDuration::ZERO))
}

/// The most restarts of any of its containers.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let containers =
        status.container_statuses.iter().flatten().map(|one| one.restart_count).max().unwrap_or(0);
    let init =
        status.init_container_statuses.iter().flatten().map(|one| one.restart_count).max().unwrap_or(0);
    (containers, init)
}

/// A pod of a template (`GetPodFromTemplate`).
pub fn from_template(
    template: &PodTemplateSpec,
    parent: &str,
    namespace: &str,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            generate_name: Some(generate_name(parent)),
            labels: meta.and_then(|meta| meta.labels.clone()),
            annotations: meta.and_then(|meta| meta.annotations.clone()),
            finalizers: meta.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The prefix of names of pods of a parent: with a hyphen where a name may end so (`getPodsPrefix`).
fn generate_name(parent: &str) -> String {
    format!("{parent}-")
}

/// A pod and how many of its kin are on its node.
#[derive(Debug, Clone, Copy)]
pub struct Ranked<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Pods of the same owner or its siblings on the same node.
    pub kin: usize,
}

/// Which pod goes first (`ActivePodsWithRanks.Less`).
pub fn deletion_order(a: Ranked<'_>, b: Ranked<'_>, now: Timestamp) -> Ordering {
    // Not yet on a node before those on one.
    let unassigned = node(b.pod).is_empty().cmp(&node(a.pod).is_empty());
    unassigned
        .then_with(|| phase_rank(a.pod).cmp(&phase_rank(b.pod)))
        .then_with(|| is_ready(a.pod).cmp(&is_ready(b.pod)))
        .then_with(|| cost(a.pod).cmp(&cost(b.pod)))
        // Doubled up before alone.
        .then_with(|| b.kin.cmp(&a.kin))
        .then_with(|| {
            if is_ready(a.pod) && is_ready(b.pod) {
                younger(ready_since(a.pod), ready_since(b.pod), now)
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| restarts(b.pod).cmp(&restarts(a.pod)))
        .then_with(|| younger(Some(a.pod.created()), Some(b.pod.created()), now))
        .then_with(|| a.pod.uid().cmp(b.pod.uid()))
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The younger first; times of the same order of magnitude are equal (`LogarithmicScaleDown`).
fn younger(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let rank = |time: Option<Timestamp>| {
        time.map_or(i32::MIN, |time| {
            let age = now.duration_since(time).as_nanos();
            if age <= 0 { -1 } else { i32::try_from(age.ilog2()).unwrap_or(i32::MAX) }
        })
    };
    rank(a).cmp(&rank(b))
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    /// A moment of the tests.
    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// A pod on a node in a phase, ready since a moment.
    pub(crate) fn pod(name: &str, node: &str, phase: &str, ready_since: Option<i64>) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some(format!("uid-{name}")),
                creation_timestamp: Some(Time(at(0))),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: (!node.is_empty()).then(|| node.to_owned()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.into()),
                conditions: ready_since.map(|since| {
                    vec![PodCondition {
                        type_: "Ready".into(),
                        status: "True".into(),
                        last_transition_time: Some(Time(at(since))),
                        ..PodCondition::default()
                    }]
                }),
                ..PodStatus::default()
            }),
        }
    }

    #[test]
    fn availability() {
        let ready = pod("a", "n", "Running", Some(10));
        for (seconds, now, expected) in
            [(0, 10, Some(0)), (5, 12, Some(3)), (5, 15, Some(0)), (5, 99, Some(0))]
        {
            let left = available_in(&ready, seconds, at(now)).map(|left| left.as_secs());
            assert_eq!(left, expected, "{seconds} {now}");
        }
        assert_eq!(available_in(&pod("a", "n", "Running", None), 0, at(0)), None);
    }

    /// After upstream's `TestActivePodsFiltering` and `TestSortingActivePodsWithRanks`: each goes before the next.
    #[test]
    fn order_of_deletion() {
        let costly = |mut pod: Pod, cost: &str| {
            pod.metadata.annotations = Some([(DELETION_COST.to_owned(), cost.to_owned())].into());
            pod
        };
        let restarted = |mut pod: Pod, count: i32| {
            pod.status.as_mut().unwrap().container_statuses =
                Some(vec![ContainerStatus { restart_count: count, ..ContainerStatus::default() }]);
            pod
        };
        let aged = |mut pod: Pod, created: i64| {
            pod.metadata.creation_timestamp = Some(Time(at(created)));
            pod
        };
        let pods = [
            (pod("unscheduled", "", "Pending", None), 0),
            (pod("pending", "n", "Pending", None), 0),
            (pod("unknown", "n", "Unknown", None), 0),
            (restarted(pod("not-ready-restarted", "n", "Running", None), 5), 0),
            (aged(pod("not-ready-young", "n", "Running", None), 900), 0),
            (pod("not-ready", "n", "Running", None), 0),
            (costly(pod("cheap", "n", "Running", Some(0)), "-10"), 0),
            (pod("ready-doubled", "n", "Running", Some(0)), 3),
            (pod("ready-late", "n", "Running", Some(990)), 1),
            (restarted(pod("ready-restarted", "n", "Running", Some(0)), 3), 1),
            (aged(pod("ready-young", "n", "Running", Some(0)), 900), 1),
            (pod("ready", "n", "Running", Some(0)), 1),
            (costly(pod("dear", "n", "Running", Some(990)), "10"), 9),
        ];
        let mut sorted: Vec<_> = pods.iter().map(|(pod, kin)| Ranked { pod, kin: *kin }).collect();
        sorted.reverse();
        sorted.sort_by(|a, b| deletion_order(*a, *b, at(1000)));
        let names: Vec<_> = sorted.iter().map(|ranked| ranked.pod.name()).collect();
        let expected: Vec<_> = pods.iter().map(|(pod, _)| pod.name()).collect();
        assert_eq!(names, expected);
    }
}
