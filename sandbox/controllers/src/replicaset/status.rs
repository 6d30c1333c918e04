//! What the status of a ReplicaSet says (`calculateStatus`).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::scaled::Scaled;
use crate::shared::conditions;
use crate::shared::meta::{Meta, has_all};
use crate::shared::pods::{available_in, is_available, is_ready};

const FAILURE: &str = "ReplicaFailure";

/// Why pods could not be made or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// What the API server said.
    pub message: String,
}

/// The status with these pods. Of a kind whose status does not tell terminating pods, `terminating` is `None`.
pub fn status<S: Scaled>(
    set: &S,
    active: &[Arc<Pod>],
    terminating: Option<usize>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let none = std::collections::BTreeMap::new();
    let labels =
        set.template().and_then(|template| template.metadata.as_ref()?.labels.as_ref()).unwrap_or(&none);
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let count = |of: &dyn Fn(&Pod) -> bool| number(active.iter().filter(|pod| of(pod)).count());
    let some = |count: i32| (count != 0).then_some(count);
    let current = set.current_status();
    let mut conditions = current.conditions;
    match failure {
        Some(failure) => {
            let condition = ReplicaSetCondition {
                type_: FAILURE.into(),
                status: "True".into(),
                reason: Some(failure.reason.into()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(Time(now)),
            };
            conditions::set(&mut conditions, condition);
        }
        None => {
            conditions::remove(&mut conditions, FAILURE);
        }
    }
    ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: some(count(&|pod| has_all(labels, pod.labels()))),
        ready_replicas: some(count(&is_ready)),
        available_replicas: some(count(&|pod| is_available(pod, set.min_ready_seconds(), now))),
        terminating_replicas: terminating.map(number),
        observed_generation: Meta::meta(set).generation,
        conditions,
    }
}

/// When a pod that is ready becomes available: the next one.
pub fn look_again<S: Scaled>(set: &S, active: &[Arc<Pod>], now: Timestamp) -> Option<SignedDuration> {
    active
        .iter()
        .filter_map(|pod| available_in(pod, set.min_ready_seconds(), now))
        .filter(|wait| *wait > SignedDuration::ZERO)
        .min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
    use k8s_openapi::api::core::v1::PodTemplateSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::shared::pods::tests::{at, pod};

    fn set() -> ReplicaSet {
        ReplicaSet {
            metadata: ObjectMeta { generation: Some(3), ..ObjectMeta::default() },
            spec: Some(ReplicaSetSpec {
                min_ready_seconds: Some(10),
                template: Some(PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some([("app".to_owned(), "web".to_owned())].into()),
                        ..ObjectMeta::default()
                    }),
                    spec: None,
                }),
                ..ReplicaSetSpec::default()
            }),
            status: None,
        }
    }

    #[test]
    fn counts() {
        let mut labelled = pod("a", "n", "Running", Some(0));
        labelled.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        let pods: Vec<_> = [labelled, pod("b", "n", "Running", Some(6)), pod("c", "n", "Pending", None)]
            .map(Arc::new)
            .to_vec();
        let status = status(&set(), &pods, Some(2), None, at(12));
        assert_eq!(
            status,
            ReplicaSetStatus {
                replicas: 3,
                fully_labeled_replicas: Some(1),
                ready_replicas: Some(2),
                available_replicas: Some(1),
                terminating_replicas: Some(2),
                observed_generation: Some(3),
                conditions: None,
            }
        );
        assert_eq!(look_again(&set(), &pods, at(12)), Some(SignedDuration::from_secs(4)));
        assert_eq!(look_again(&set(), &pods, at(99)), None);
    }

    #[test]
    fn a_failure_is_told_until_it_is_over() {
        let mut set = set();
        let failure = Failure { reason: "FailedCreate", message: "exceeded quota".into() };
        let failing = status(&set, &[], None, Some(&failure), at(0));
        assert_eq!(failing.conditions.as_ref().unwrap()[0].reason.as_deref(), Some("FailedCreate"));
        set.status = Some(failing.clone());
        assert_eq!(
            status(&set, &[], None, Some(&failure), at(5)).conditions,
            failing.conditions,
            "its time stays"
        );
        assert_eq!(status(&set, &[], None, None, at(5)).conditions, None);
    }
}
