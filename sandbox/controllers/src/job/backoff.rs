//! How long a Job waits before it makes a pod anew (pkg/controller/job/backoff_utils.go): 10 s after the first failure, twice as long after each
//! further one without a success, six minutes at most. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::shared::meta::Meta;
use crate::shared::pods::{condition, phase};

const FIRST: i64 = 10;
const MOST: i64 = 600;

/// Failures since the last success, and when the last was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

/// When a pod ended: when its last container did, else when it was last said to be ready or not, else when it began to go or was made.
pub fn ended_at(pod: &Pod) -> Timestamp {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let ends = containers
        .filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    ends.map(|time| time.0)
        .max()
        .or_else(|| condition(pod, "Ready")?.last_transition_time.as_ref().map(|time| time.0))
        .or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
        .unwrap_or_else(|| pod.created())
}

impl Record {
    /// Takes in pods that ended since, in the order in which they did.
    pub fn with(self, ended: &[&Pod]) -> Self {
        let mut sorted: Vec<_> = ended.iter().map(|pod| (ended_at(pod), phase(pod) == "Succeeded")).collect();
        sorted.sort();
        sorted.into_iter().fold(self, |record, (at, succeeded)| {
            if succeeded {
                Self::default()
            } else {
                Self { failures: record.failures.saturating_add(1), last: Some(at) }
            }
        })
    }

    /// How long is still to be waited.
    pub fn remaining(self, now: Timestamp) -> SignedDuration {
        let Some(last) = self.last.filter(|_| self.failures > 0) else { return SignedDuration::ZERO };
        remaining(self.failures, last, now)
    }
}

/// How long is still to be waited after so many failures, the last of them then.
pub fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> SignedDuration {
    let factor = 1_i64.checked_shl(failures.saturating_sub(1).min(32)).unwrap_or(i64::MAX);
    let whole = SignedDuration::from_secs(FIRST.saturating_mul(factor).min(MOST));
    (whole - now.duration_since(last)).max(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::pods::tests::{at, pod};

    #[test]
    fn waits_double_and_a_success_ends_them() {
        let failed = |second| {
            let mut pod = pod("p", "n", "Failed", None);
            pod.metadata.creation_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second)));
            pod
        };
        let one = Record::default().with(&[&failed(0)]);
        assert_eq!(one.remaining(at(4)).as_secs(), 6);
        let three = one.with(&[&failed(30), &failed(20)]);
        assert_eq!(three.remaining(at(30)).as_secs(), 40);
        let many = (0..20).fold(three, |record, _| record.with(&[&failed(40)]));
        assert_eq!(many.remaining(at(40)).as_secs(), 600);
        let mut success = failed(50);
        success.status.as_mut().unwrap().phase = Some("Succeeded".into());
        assert_eq!(many.with(&[&success]).remaining(at(50)), SignedDuration::ZERO);
    }
}
