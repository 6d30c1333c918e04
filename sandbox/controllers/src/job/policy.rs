//! What a Job's policies say of pods that failed and indexes that succeeded (pkg/controller/job/pod_failure_policy.go, success_policy.go). Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, SuccessPolicy};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::parse;
use crate::shared::meta::Meta;
use crate::shared::pods::condition;

/// What is to be done about a failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, as any failed pod does.
    Count,
    /// It counts for nothing and is made anew.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, for that reason.
    FailJob(String),
}

/// What the policy says of a failed pod.
pub fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    for (index, rule) in policy.iter().flat_map(|policy| &policy.rules).enumerate() {
        let matched = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => matching_container(codes, pod).map(|(name, code)| {
                format!(
                    "Container {name} for pod {}/{} failed with exit code {code} matching {} rule at index {index}",
                    pod.namespace(),
                    pod.name(),
                    rule.action
                )
            }),
            (None, Some(patterns)) => patterns
                .iter()
                .find(|pattern| {
                    let wanted = pattern.status.as_deref().filter(|status| !status.is_empty()).unwrap_or("True");
                    condition(pod, &pattern.type_).is_some_and(|condition| condition.status == wanted)
                })
                .map(|pattern| {
                    format!(
                        "Pod {}/{} has condition {} matching {} rule at index {index}",
                        pod.namespace(),
                        pod.name(),
                        pattern.type_,
                        rule.action
                    )
                }),
            (None, None) => None,
        };
        if let Some(message) = matched {
            return match &*rule.action {
                "Ignore" => Verdict::Ignore,
                "FailIndex" => Verdict::FailIndex,
                "FailJob" => Verdict::FailJob(message),
                _ => Verdict::Count,
            };
        }
    }
    Verdict::Count
}

fn matching_container(codes: &PodFailurePolicyOnExitCodesRequirement, pod: &Pod) -> Option<(String, i32)> {
    let status = pod.status.as_ref()?;
    let all =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.filter(|container| codes.container_name.as_ref().is_none_or(|name| *name == container.name)).find_map(
        |container| {
            let code = exit_code(container)?;
            let matches = code != 0
                && match &*codes.operator {
                    "In" => codes.values.contains(&code),
                    "NotIn" => !codes.values.contains(&code),
                    _ => false,
                };
            matches.then(|| (container.name.clone(), code))
        },
    )
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    container.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code)
}

/// The message of the first rule that the succeeded indexes satisfy.
pub fn succeeded(policy: Option<&SuccessPolicy>, done: &BTreeSet<i32>, completions: i32) -> Option<String> {
    for (index, rule) in policy.iter().flat_map(|policy| &policy.rules).enumerate() {
        let counted = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = parse(text, completions);
                let there = wanted.intersection(done).count();
                (
                    there,
                    rule.succeeded_count.map_or(wanted.len(), |count| usize::try_from(count).unwrap_or(0)),
                )
            }
            None => (
                done.len(),
                rule.succeeded_count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(0)),
            ),
        };
        if counted.0 >= counted.1 {
            return Some(format!("Matched rules at index {index}"));
        }
    }
    None
}
