//! Pods of Jobs: how they are marked, and what a new one looks like. Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use serde_json::{Value, json};

use crate::shared::meta::{Meta, controller_ref};
use crate::shared::pods::{from_template, phase};

/// The finalizer that keeps a pod until it has been counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The label and annotation with a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often pods of the same index have failed before (only with a limit per index).
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// And how often such failures were not to be counted.
pub const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Whether the Job's pods have indexes.
pub fn is_indexed(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.completion_mode.as_deref() == Some("Indexed"))
}

/// Whether a pod is made anew only when the old one has really ended.
pub fn replaces_failed_only(job: &Job) -> bool {
    let Some(spec) = &job.spec else { return false };
    spec.pod_replacement_policy.as_deref() == Some("Failed")
        || (spec.pod_replacement_policy.is_none() && spec.pod_failure_policy.is_some())
}

/// The index of a pod.
pub fn index(pod: &Pod) -> Option<i32> {
    pod.annotation(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// How often pods of its index failed before it.
pub fn failures_before(pod: &Pod) -> i32 {
    pod.annotation(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether a pod is to be counted as failed. One that is being deleted is, unless the Job waits for the real end.
pub fn has_failed(job: &Job, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pod.deleting() && !replaces_failed_only(job),
    }
}

/// The patch that takes the finalizer away.
pub fn without_finalizer(pod: &Pod) -> Value {
    json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
}

/// A new pod: for an index, with how often that index has failed before.
pub fn new_pod(job: &Job, index: Option<(i32, i32)>) -> Option<Pod> {
    let spec = job.spec.as_ref()?;
    let owner = controller_ref("batch/v1", "Job", &job.metadata);
    let mut pod = from_template(&spec.template, job.name(), job.namespace(), owner);
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.into());
    let Some((index, failures)) = index else { return Some(pod) };
    pod.metadata.generate_name = Some(format!("{}-{index}-", job.name()));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if spec.backoff_limit_per_index.is_some() {
        annotations.insert(INDEX_FAILURES.into(), failures.to_string());
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let pod_spec = pod.spec.get_or_insert_default();
    if pod_spec.hostname.as_ref().is_none_or(String::is_empty) {
        pod_spec.hostname = Some(format!("{}-{index}", job.name()));
    }
    let init = pod_spec.init_containers.iter_mut().flatten();
    for container in pod_spec.containers.iter_mut().chain(init) {
        tell_index(container);
    }
    Some(pod)
}

/// The variable with the index, unless the template has one of that name.
fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    env.push(EnvVar {
        name: INDEX_VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    });
}
