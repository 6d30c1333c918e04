//! `batch/v1` (`pkg/apis/batch/v1/defaults.go` and the job strategy's selector).

use super::pod::template;
use crate::tree::{
    Object, at, child, default, default_zero, each, get, is_zero, made, text, with_spec, within,
};
use serde_json::{Value, json};

/// Jobs.
pub fn job(object: &mut Value) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
    if labels.is_object() {
        within(object, &["metadata"], |metadata| default_zero(metadata, "labels", labels));
    }
    with_spec(object, |spec| {
        let unset = |spec: &Object, field: &str| spec.get(field).is_none_or(Value::is_null);
        if unset(spec, "completions") && unset(spec, "parallelism") {
            spec.insert("completions".into(), 1.into());
        }
        default(spec, "parallelism", 1);
        let per_index = !unset(spec, "backoffLimitPerIndex");
        default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
        default(spec, "completionMode", "NonIndexed");
        default(spec, "suspend", false);
        let failure_policy = !unset(spec, "podFailurePolicy");
        default(spec, "podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
        if let Some(policy) = child(spec, "podFailurePolicy") {
            each(policy, "rules", |rule| {
                each(rule, "onPodConditions", |pattern| default_zero(pattern, "status", "True"));
            });
        }
        template(spec);
    });
}

/// Cron jobs.
pub fn cron_job(object: &mut Value) {
    with_spec(object, |spec| {
        default_zero(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = made(spec, "jobTemplate").and_then(|job| made(job, "spec")) {
            template(job);
        }
    });
}

/// `generateSelector`: a job finds its pods by its own uid, unless it says that it selects by itself.
pub fn select_own_pods(object: &mut Value) {
    let metadata = get(object, "metadata");
    let (name, uid) = (text(metadata, "name").to_string(), text(metadata, "uid").to_string());
    if at(object, &["spec", "manualSelector"]) == &Value::Bool(true) {
        return;
    }
    with_spec(object, |spec| {
        let labels =
            made(spec, "template").and_then(|one| made(one, "metadata")).and_then(|one| made(one, "labels"));
        if let Some(labels) = labels {
            for (key, value) in [
                ("batch.kubernetes.io/job-name", &name),
                ("job-name", &name),
                ("batch.kubernetes.io/controller-uid", &uid),
                ("controller-uid", &uid),
            ] {
                default(labels, key, value.clone());
            }
        }
        if let Some(labels) = made(spec, "selector").and_then(|selector| made(selector, "matchLabels")) {
            default(labels, "batch.kubernetes.io/controller-uid", uid);
        }
    });
    // As a real server shows it as soon as it has read the job back.
    let labels = at(object, &["spec", "template", "metadata", "labels"]).clone();
    within(object, &["metadata"], |metadata| {
        if metadata.get("labels").is_none_or(is_zero) {
            metadata.insert("labels".into(), labels);
        }
    });
}

/// Statuses of both begin empty.
pub fn prepare_job(new: &mut Value, old: Option<&Value>) {
    super::others::keep_status(new, old, json!({}));
    if old.is_none() {
        select_own_pods(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs() {
        let mut object = json!({"metadata": {"name": "pi", "uid": "u"}, "spec": {"template": {"spec": {"restartPolicy": "Never"}}}});
        job(&mut object);
        prepare_job(&mut object, None);
        let spec = &object["spec"];
        assert_eq!(spec["completions"], 1);
        assert_eq!(spec["backoffLimit"], 6);
        assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
        assert_eq!(spec["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
        assert_eq!(spec["template"]["metadata"]["labels"]["job-name"], "pi");
        assert_eq!(object["metadata"]["labels"], spec["template"]["metadata"]["labels"]);
        let mut object = json!({"spec": {"parallelism": 2}});
        job(&mut object);
        assert_eq!(object["spec"].get("completions"), None);
    }
}
