//! How many replicas would be right for what pods use (pkg/controller/podautoscaler/replica_calculator.go). Pods that are starting or tell
//! nothing are counted so that they never make a change larger. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use drydock_apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::metrics::Uses;
use crate::shared::meta::Meta;
use crate::shared::pods::{condition, phase};

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// So many percent of what is requested, on the average.
    Utilization(i32),
    /// So many thousandths, on the average.
    Average(i64),
}

/// How pods are judged.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Below this part of the target nothing is scaled.
    pub tolerance: (f64, f64),
    /// For how long after its start a pod's use of CPU may say nothing.
    pub cpu_initialization: SignedDuration,
    /// For how long a pod counts as starting.
    pub readiness_delay: SignedDuration,
    /// As of when.
    pub now: Timestamp,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How many replicas would be right.
    pub replicas: i32,
    /// Percent of what is requested, if that was the target.
    pub utilization: Option<i32>,
    /// The average use, in thousandths.
    pub average: i64,
    /// When it was measured.
    pub at: Timestamp,
}

/// Pods by what they say.
#[derive(Debug, Default)]
struct Groups<'a> {
    ready: usize,
    unready: Vec<&'a str>,
    missing: Vec<&'a str>,
    ignored: Vec<&'a str>,
}

fn group<'a>(pods: &'a [Arc<Pod>], uses: &Uses, resource: &str, rules: Rules) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        if pod.deleting() || phase(pod) == "Failed" {
            groups.ignored.push(pod.name());
        } else if phase(pod) == "Pending" {
            groups.unready.push(pod.name());
        } else if !uses.contains_key(pod.name()) {
            groups.missing.push(pod.name());
        } else if resource == "cpu" && is_starting(pod, uses, rules) {
            groups.unready.push(pod.name());
        } else {
            groups.ready += 1;
        }
    }
    groups
}

/// Whether a pod's use of CPU is that of its start.
fn is_starting(pod: &Pod, uses: &Uses, rules: Rules) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(started, |time| time.0);
    let is_ready = ready.status == "True";
    let after = |time: Timestamp, wait: SignedDuration| time.checked_add(wait).unwrap_or(Timestamp::MAX);
    if after(started, rules.cpu_initialization) > rules.now {
        // What was measured before it was ready is of the start.
        let measured = uses.get(pod.name());
        let early =
            measured.is_some_and(|one| one.at < after(changed, SignedDuration::from_secs(one.window)));
        return !is_ready || early;
    }
    !is_ready && after(started, rules.readiness_delay) > changed
}

/// What a pod requests of a resource, in thousandths; an error if a container does not say.
fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    let sidecars =
        spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let mut sum = 0_i64;
    for one in
        spec.containers.iter().chain(sidecars).filter(|one| container.is_none_or(|name| one.name == name))
    {
        let text = one.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
        let amount = text.and_then(|text| text.0.parse::<Quantity>().ok());
        let amount = amount.ok_or_else(|| {
            format!("missing request for {resource} in container {} of Pod {}", one.name, pod.name())
        })?;
        sum = sum.saturating_add(amount.millis());
    }
    Ok(sum)
}

fn percent_of(amount: i64, percent: i32) -> i64 {
    i64::try_from(i128::from(amount) * i128::from(percent) / 100).unwrap_or(i64::MAX)
}

fn ratio_of(
    uses: &BTreeMap<&str, i64>,
    requests: &BTreeMap<&str, i64>,
    target: Target,
) -> Result<(f64, Option<i32>, i64), String> {
    let count = i64::try_from(uses.len()).unwrap_or(i64::MAX).max(1);
    let total: i128 = uses.values().copied().map(i128::from).sum();
    let average = i64::try_from(total / i128::from(count)).unwrap_or(i64::MAX);
    match target {
        Target::Utilization(percent) => {
            let requested: i128 =
                uses.keys().filter_map(|name| requests.get(name)).copied().map(i128::from).sum();
            if requested == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = i32::try_from(total * 100 / requested).unwrap_or(i32::MAX);
            Ok((f64::from(utilization) / f64::from(percent.max(1)), Some(utilization), average))
        }
        Target::Average(millis) =>
        {
            #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
            Ok((average as f64 / millis.max(1) as f64, None, average))
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "counts of pods are small, and it saturates"
)]
fn ceil(ratio: f64, count: usize) -> i32 {
    (ratio * count as f64).ceil() as i32
}

/// How many replicas would be right.
pub fn replicas(
    current: i32,
    pods: &[Arc<Pod>],
    mut uses: Uses,
    (resource, container): (&str, Option<&str>),
    target: Target,
    rules: Rules,
) -> Result<Answer, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = group(pods, &uses, resource, rules);
    let at = uses.values().map(|one| one.at).max().unwrap_or(rules.now);
    uses.retain(|name, _| {
        pods.iter().any(|pod| pod.name() == name)
            && !groups.unready.contains(&&**name)
            && !groups.ignored.contains(&&**name)
    });
    let mut requests = BTreeMap::new();
    if matches!(target, Target::Utilization(_)) {
        for pod in pods {
            requests.insert(pod.name(), request(pod, resource, container)?);
        }
    }
    if uses.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let mut counted: BTreeMap<&str, i64> = uses.iter().map(|(name, one)| (&**name, one.millis)).collect();
    let (ratio, utilization, average) = ratio_of(&counted, &requests, target)?;
    let answer = |replicas| Answer { replicas, utilization, average, at };
    let within = |ratio: f64| ratio >= 1.0 - rules.tolerance.0 && ratio <= 1.0 + rules.tolerance.1;
    let unready_matter = !groups.unready.is_empty() && ratio > 1.0;
    if !unready_matter && groups.missing.is_empty() {
        return Ok(answer(if within(ratio) { current } else { ceil(ratio, groups.ready) }));
    }
    for name in &groups.missing {
        // On the way down they count as if they used what they ask for, on the way up as if nothing.
        let assumed = if ratio < 1.0 {
            match target {
                Target::Utilization(percent) => {
                    percent_of(requests.get(name).copied().unwrap_or(0), percent.max(100))
                }
                Target::Average(millis) => millis,
            }
        } else if ratio > 1.0 {
            0
        } else {
            continue;
        };
        counted.insert(name, assumed);
    }
    if unready_matter {
        counted.extend(groups.unready.iter().map(|name| (*name, 0)));
    }
    let (new, _, _) = ratio_of(&counted, &requests, target)?;
    if within(new) || (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0) {
        return Ok(answer(current));
    }
    let wanted = ceil(new, counted.len());
    let against = (new < 1.0 && wanted > current) || (new > 1.0 && wanted < current);
    Ok(answer(if against { current } else { wanted }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::metrics::Use;
    use super::*;
    use crate::shared::pods::tests::at;

    /// A pod that requests a whole CPU: `r` ready, `u` just started, `p` pending, `g` going.
    fn pod(number: usize, kind: char) -> Arc<Pod> {
        let ready = if kind == 'r' { "True" } else { "False" };
        let mut value = json!({
            "metadata": {"name": format!("p{number}")},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {
                "phase": if kind == 'p' { "Pending" } else { "Running" },
                "startTime": at(0).to_string(),
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": at(1).to_string()}],
            },
        });
        if kind == 'g' {
            value["metadata"]["deletionTimestamp"] = at(5).to_string().into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn answer(current: i32, kinds: &str, millis: &[i64], target: i32) -> Result<Answer, String> {
        let pods: Vec<_> = kinds.chars().enumerate().map(|(number, kind)| pod(number, kind)).collect();
        let uses = millis
            .iter()
            .enumerate()
            .filter(|(_, millis)| **millis >= 0)
            .map(|(number, millis)| (format!("p{number}"), Use { millis: *millis, at: at(1000), window: 30 }))
            .collect();
        let rules = Rules {
            tolerance: (0.1, 0.1),
            cpu_initialization: SignedDuration::from_secs(5000),
            readiness_delay: SignedDuration::from_secs(30),
            now: at(1000),
        };
        replicas(current, &pods, uses, ("cpu", None), Target::Utilization(target), rules)
    }

    /// After upstream's `TestReplicaCalc…`; −1: the pod tells nothing.
    #[test]
    fn replicas_of_upstream() {
        for (name, current, kinds, millis, target, expected, utilization) in [
            ("scale up", 3, "rrr", vec![300, 500, 700], 30, 5, 50),
            ("scale up, unready less", 3, "urr", vec![300, 500, 700], 30, 4, 60),
            ("scale up, pending less", 3, "rrp", vec![500, 700, -1], 30, 4, 60),
            ("scale up, going ignored", 2, "grr", vec![900, 500, 700], 30, 4, 60),
            ("scale down", 5, "rrrrr", vec![100, 300, 500, 250, 250], 50, 3, 28),
            ("scale down, unready less", 5, "rrruu", vec![100, 300, 500, 250, 250], 50, 2, 30),
            ("within the tolerance", 3, "rrr", vec![1010, 1030, 1020], 100, 3, 102),
            ("missing metrics: none up", 2, "rr", vec![1000, -1], 100, 2, 100),
            ("missing metrics: less up", 2, "rr", vec![2000, -1], 50, 4, 200),
            ("missing metrics: none down", 2, "rr", vec![100, -1], 100, 2, 10),
            ("unready: none up", 3, "ruu", vec![1000, 450, 2000], 50, 3, 100),
        ] {
            let answer = answer(current, kinds, &millis, target).unwrap();
            assert_eq!((answer.replicas, answer.utilization), (expected, Some(utilization)), "{name}");
        }
        assert!(answer(3, "", &[], 50).is_err());
        assert!(answer(3, "ppp", &[], 50).is_err());
    }

    #[test]
    fn requests_and_uses_as_large_as_can_be_do_not_wrap() {
        let pods: Vec<_> = (0..3)
            .map(|number| {
                let mut pod = Pod::clone(&pod(number, 'r'));
                let resources = pod.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
                resources.requests = Some(
                    [(
                        "cpu".to_owned(),
                        k8s_openapi::apimachinery::pkg::api::resource::Quantity("9223372036854775".into()),
                    )]
                    .into(),
                );
                Arc::new(pod)
            })
            .collect();
        let uses = |millis: [i64; 2]| {
            let uses = millis.into_iter().enumerate();
            uses.map(|(number, millis)| (format!("p{number}"), Use { millis, at: at(1000), window: 30 }))
                .collect()
        };
        let rules = Rules {
            tolerance: (0.1, 0.1),
            cpu_initialization: SignedDuration::ZERO,
            readiness_delay: SignedDuration::ZERO,
            now: at(1000),
        };
        let ask = |millis| replicas(3, &pods, uses(millis), ("cpu", None), Target::Utilization(50), rules);
        assert_eq!(ask([0, 0]).unwrap().replicas, 2, "the third counts as if it used what it asks for");
        assert!(ask([i64::MAX, i64::MAX]).is_ok());
    }

    #[test]
    fn a_container_without_a_request_is_an_error() {
        let mut bare = Pod::clone(&pod(0, 'r'));
        bare.spec.as_mut().unwrap().containers[0].resources = None;
        assert_eq!(
            request(&bare, "cpu", None).unwrap_err(),
            "missing request for cpu in container c of Pod p0"
        );
    }
}
