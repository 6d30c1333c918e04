//! Jobs and cron jobs (`pkg/apis/batch/validation`).

use super::{
    cron, immutable, immutable_struct, indexed, internal, label_selector, nonnegative, one_of, pod,
    qualified_name, spec,
};
use crate::tree::{at, flag, get, has, int, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::object;
use drydock_apimachinery::selectors::LabelSelector;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A job, new or changed.
pub fn validate_job(job: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(job, "spec"), spec());
    if old.is_none() {
        generated_selector(&mut errors, job);
    }
    job_spec(&mut errors, given, &path);
    if has(given, "selector") {
        label_selector(&mut errors, get(given, "selector"), &path.child("selector"));
    } else {
        errors.required(&path.child("selector"), "");
    }
    let labels = at(given, &["template", "metadata", "labels"]);
    if let Ok(query) = LabelSelector::of_object(get(given, "selector"))
        && !query.matches(|key| get(labels, key).as_str())
    {
        let at = path.child("template.metadata.labels");
        errors.invalid(&at, labels.clone(), "`selector` does not match template `labels`");
    }
    let completions = int(given, "completions");
    if text(given, "completionMode") == "Indexed" && completions > 0 {
        let host = format!("{}-{}", object::name(job), completions - 1);
        if !names::is_dns1123_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.invalid(&Path::new("metadata.name"), object::name(job), detail);
        }
    }
    if let Some(old) = old {
        job_update(&mut errors, given, get(old, "spec"));
    }
    errors
}

/// Labels that say which job a pod is of can't be the writer's.
fn generated_selector(errors: &mut ErrorList, job: &Value) {
    if flag(get(job, "spec"), "manualSelector") {
        return;
    }
    let path = Path::new("spec.template.metadata.labels");
    let labels = at(job, &["spec", "template", "metadata", "labels"]);
    for (key, value) in [
        ("controller-uid", object::uid(job)),
        ("job-name", object::name(job)),
        ("batch.kubernetes.io/controller-uid", object::uid(job)),
        ("batch.kubernetes.io/job-name", object::name(job)),
    ] {
        match get(labels, key).as_str() {
            None => errors.required(&path.key(key), &format!("must be '{value}'")),
            Some(found) if found != value => {
                errors.invalid(&path.key(key), labels.clone(), format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    let expected = json!({"controller-uid": object::uid(job), "job-name": object::name(job),
        "batch.kubernetes.io/controller-uid": object::uid(job), "batch.kubernetes.io/job-name": object::name(job)});
    let selector = at(job, &["spec", "selector"]);
    if let Ok(query) = LabelSelector::of_object(selector)
        && !query.matches(|key| get(&expected, key).as_str())
    {
        errors.invalid(
            &Path::new("spec.selector"),
            internal::shown("LabelSelector", selector),
            "`selector` not auto-generated",
        );
    }
}

fn job_spec(errors: &mut ErrorList, given: &Value, path: &Path) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        nonnegative(errors, given, field, path);
    }
    if has(given, "maxFailedIndexes") && !has(given, "backoffLimitPerIndex") {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    completion_mode(errors, given, path);
    if has(given, "podFailurePolicy") {
        failure_policy(errors, given, &path.child("podFailurePolicy"));
    }
    if has(given, "successPolicy") {
        success_policy(errors, given, &path.child("successPolicy"));
    }
    let replacement = text(given, "podReplacementPolicy");
    let supported: &[&str] =
        if has(given, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(errors, replacement, (path, "podReplacementPolicy"), supported, false);
    pod::template(errors, get(given, "template"), &path.child("template"));
    let restart = at(given, &["template", "spec", "restartPolicy"]).as_str().unwrap_or_default();
    let at = path.child("template.spec.restartPolicy");
    match restart {
        "Always" | "" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if has(given, "podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&at, restart, detail);
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn completion_mode(errors: &mut ErrorList, given: &Value, path: &Path) {
    const MOST: i64 = 100_000;
    let mode = text(given, "completionMode");
    one_of(errors, mode, (path, "completionMode"), &["NonIndexed", "Indexed"], false);
    if mode != "Indexed" {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = get(given, field).as_i64() {
                errors.invalid(&path.child(field), number, "requires indexed completion mode");
            }
        }
        return;
    }
    if !has(given, "completions") {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if int(given, "parallelism") > MOST {
        let detail = format!("must be less than or equal to {MOST} when completion mode is Indexed");
        errors.invalid(&path.child("parallelism"), int(given, "parallelism"), detail);
    }
    if has(given, "completions") && int(given, "maxFailedIndexes") > int(given, "completions") {
        let detail = "must be less than or equal to completions";
        errors.invalid(&path.child("maxFailedIndexes"), int(given, "maxFailedIndexes"), detail);
    }
}

fn failure_policy(errors: &mut ErrorList, given: &Value, path: &Path) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    let policy = get(given, "podFailurePolicy");
    let count = list(policy, "rules").len();
    if count > 20 {
        errors.too_many(&path.child("rules"), count, 20);
    }
    let pod = at(given, &["template", "spec"]);
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| list(pod, field))
        .map(|one| text(one, "name"))
        .collect();
    for (path, rule) in indexed(policy, "rules", path) {
        let action = text(rule, "action");
        match action {
            "" => errors.required(
                &path.child("action"),
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ),
            "FailIndex" if !has(given, "backoffLimitPerIndex") => {
                errors.invalid(&path.child("action"), action, "requires the backoffLimitPerIndex to be set");
            }
            _ => one_of(errors, action, (&path, "action"), ACTIONS, true),
        }
        let by_conditions = !list(rule, "onPodConditions").is_empty();
        if has(rule, "onExitCodes") {
            exit_codes(errors, get(rule, "onExitCodes"), &containers, &path.child("onExitCodes"));
        }
        for (path, pattern) in indexed(rule, "onPodConditions", &path) {
            qualified_name(errors, (&path, "type"), text(pattern, "type"));
            one_of(
                errors,
                text(pattern, "status"),
                &path.child("status"),
                &["False", "True", "Unknown"],
                true,
            );
        }
        match (has(rule, "onExitCodes"), by_conditions) {
            (true, true) => errors.invalid_without_value(
                &path,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, false) => errors.invalid_without_value(
                &path,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

fn exit_codes(errors: &mut ErrorList, codes: &Value, containers: &HashSet<&str>, path: &Path) {
    let operator = text(codes, "operator");
    one_of(errors, operator, (path, "operator"), &["In", "NotIn"], true);
    if let Some(name) = get(codes, "containerName").as_str()
        && !containers.contains(name)
    {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, detail);
    }
    let values = list(codes, "values");
    let shown = get(codes, "values").clone();
    let at = path.child("values");
    if values.is_empty() {
        errors.invalid(&at, shown.clone(), "at least one value is required");
    } else if values.len() > 255 {
        errors.too_many(&at, values.len(), 255);
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = HashSet::new();
    for (index, code) in numbers.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errors.invalid(&at.index(index), *code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&at.index(index), *code);
        }
    }
    if !numbers.is_sorted() {
        errors.invalid(&at, shown, "must be ordered");
    }
}

fn success_policy(errors: &mut ErrorList, given: &Value, path: &Path) {
    let policy = get(given, "successPolicy");
    if text(given, "completionMode") != "Indexed" {
        errors.invalid(path, internal::shown("SuccessPolicy", policy), "requires indexed completion mode");
        return;
    }
    let rules = list(policy, "rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path.child("rules"), detail);
    }
    if rules.len() > 20 {
        errors.too_many(&path.child("rules"), rules.len(), 20);
    }
    let completions = int(given, "completions");
    for (path, rule) in indexed(policy, "rules", path) {
        if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&path, detail);
        }
        nonnegative(errors, rule, "succeededCount", &path);
        let count = int(rule, "succeededCount");
        if count > completions {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&path.child("succeededCount"), count, detail);
        }
    }
}

/// `ValidateJobSpecUpdate`.
fn job_update(errors: &mut ErrorList, new: &Value, old: &Value) {
    let path = spec();
    let indexed = text(new, "completionMode") == "Indexed";
    // How many an indexed job is of may change together with how many run at once.
    let elastic = indexed && get(new, "completions") == get(new, "parallelism") && has(new, "completions");
    if !elastic {
        immutable(errors, get(new, "completions"), get(old, "completions"), &path.child("completions"));
    }
    immutable_struct(
        errors,
        "LabelSelector",
        get(new, "selector"),
        get(old, "selector"),
        &path.child("selector"),
    );
    let template = template_that_may_be(new, old);
    immutable_struct(errors, "PodTemplateSpec", get(new, "template"), &template, &path.child("template"));
    for (field, kind) in [
        ("completionMode", ""),
        ("podFailurePolicy", "PodFailurePolicy"),
        ("backoffLimitPerIndex", ""),
        ("managedBy", ""),
        ("successPolicy", "SuccessPolicy"),
    ] {
        let (new, old, path) = (get(new, field), get(old, field), path.child(field));
        match kind {
            "" => immutable(errors, new, old, &path),
            kind => immutable_struct(errors, kind, new, old, &path),
        }
    }
}

/// The old template; where its pods may run can change while the job has not begun.
fn template_that_may_be(new: &Value, old: &Value) -> Value {
    let mut template = get(old, "template").clone();
    if !flag(old, "suspend") {
        return template;
    }
    let now = get(new, "template");
    for (part, fields) in [
        ("metadata", &["annotations", "labels"][..]),
        ("spec", &["nodeSelector", "tolerations", "schedulingGates", "affinity"][..]),
    ] {
        crate::tree::within(&mut template, &[part], |map| {
            for field in fields {
                match get(now, part).get(*field) {
                    Some(value) => map.insert((*field).into(), value.clone()),
                    None => map.remove(*field),
                };
            }
        });
    }
    template
}

/// What the job controller says.
pub fn validate_job_status(job: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let (status, path) = (get(job, "status"), Path::new("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        nonnegative(&mut errors, status, field, &path);
    }
    let holds = |kind: &str| {
        list(status, "conditions")
            .iter()
            .any(|one| text(one, "type") == kind && text(one, "status") == "True")
    };
    if holds("Complete") && holds("Failed") {
        let detail = "cannot set Complete=True and Failed=true conditions";
        errors.invalid_without_value(&path.child("conditions"), detail);
    }
    if holds("Complete") && !has(status, "completionTime") {
        let detail = "completionTime is required for Complete jobs";
        errors.required(&path.child("completionTime"), detail);
    }
    if !holds("Complete") && has(status, "completionTime") {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&path.child("completionTime"), get(status, "completionTime").clone(), detail);
    }
    let done = holds("Complete") || holds("Failed");
    if done && int(status, "active") > 0 {
        errors.invalid(&path.child("active"), int(status, "active"), "active>0 is invalid for finished job");
    }
    if done && !has(status, "startTime") {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
    errors
}

/// A cron job, new or changed.
pub fn validate_cron_job(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let schedule = text(given, "schedule");
    let at_schedule = path.child("schedule");
    if schedule.is_empty() {
        errors.required(&at_schedule, "");
    } else {
        if let Err(why) = cron::check(schedule) {
            errors.invalid(&at_schedule, schedule, why);
        }
        let before = old.is_some_and(|old| text(get(old, "spec"), "schedule").contains("TZ"));
        if schedule.contains("TZ") && !before {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.invalid(&at_schedule, schedule, detail);
        } else if schedule.contains("TZ") && has(given, "timeZone") {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            errors.invalid(&at_schedule, schedule, detail);
        }
    }
    nonnegative(&mut errors, given, "startingDeadlineSeconds", &path);
    let zone_changed = old.is_none_or(|old| get(get(old, "spec"), "timeZone") != get(given, "timeZone"));
    if zone_changed && let Some(zone) = get(given, "timeZone").as_str() {
        time_zone(&mut errors, zone, &path.child("timeZone"));
    }
    let policies = &["Allow", "Forbid", "Replace"];
    one_of(&mut errors, text(given, "concurrencyPolicy"), &path.child("concurrencyPolicy"), policies, true);
    let job = at(given, &["jobTemplate", "spec"]);
    let job_path = path.child("jobTemplate.spec");
    job_spec(&mut errors, job, &job_path);
    if has(job, "selector") {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&job_path.child("selector"), get(job, "selector").clone(), detail);
    }
    if flag(job, "manualSelector") {
        errors.not_supported(&job_path.child("manualSelector"), true, &["nil", "false"]);
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        nonnegative(&mut errors, given, field, &path);
    }
    if old.is_none() && object::name(object).len() > 52 {
        // Jobs are named after it and the time, eleven characters more.
        let at = Path::new("metadata.name");
        errors.invalid(&at, object::name(object), "must be no more than 52 characters");
    }
    errors
}

fn time_zone(errors: &mut ErrorList, zone: &str, path: &Path) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let fine = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    };
    if !zone.split('/').all(fine) {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
        // A name that Go knows, so there is nothing else to say; of `local` there is.
        if zone == "Local" {
            return;
        }
    }
    if jiff::tz::TimeZone::get(zone).is_err() {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(change: Value) -> Value {
        let mut object = json!({"metadata": {"name": "pi", "uid": "u"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
        for (key, value) in change.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        crate::defaults::batch::job(&mut object);
        crate::defaults::batch::prepare_job(&mut object, None);
        object
    }

    #[test]
    fn jobs() {
        assert_eq!(validate_job(&job(json!({})), None).aggregate(), "[]");
        let always = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(
            validate_job(&job(json!({"template": always})), None).aggregate(),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        );
        assert_eq!(
            validate_job(&job(json!({"completionMode": "Indexed", "parallelism": 2})), None).aggregate(),
            "spec.completions: Required value: when completion mode is Indexed"
        );
        let old = job(json!({}));
        let mut new = old.clone();
        new["spec"]["parallelism"] = json!(3);
        assert!(validate_job(&new, Some(&old)).is_empty());
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
        let text = validate_job(&new, Some(&old)).aggregate();
        assert!(
            text.starts_with("spec.template: Invalid value: {") && text.ends_with(": field is immutable"),
            "{text}"
        );
    }

    #[test]
    fn cron_jobs() {
        let cron = |change: Value| {
            let mut object = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}}}}}});
            for (key, value) in change.as_object().unwrap() {
                object["spec"][key] = value.clone();
            }
            crate::defaults::batch::cron_job(&mut object);
            validate_cron_job(&object, None).aggregate()
        };
        assert_eq!(cron(json!({})), "[]");
        assert_eq!(cron(json!({"timeZone": "Europe/Berlin"})), "[]");
        assert_eq!(
            cron(json!({"timeZone": "Europe/Atlantis"})),
            "spec.timeZone: Invalid value: \"Europe/Atlantis\": unknown time zone Europe/Atlantis"
        );
        assert_eq!(
            cron(json!({"timeZone": "Local"})),
            "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        );
        assert_eq!(
            cron(json!({"schedule": "every minute"})),
            "spec.schedule: Invalid value: \"every minute\": expected exactly 5 fields, found 2: [every minute]"
        );
        assert_eq!(
            cron(json!({"concurrencyPolicy": "Queue"})),
            "spec.concurrencyPolicy: Unsupported value: \"Queue\": supported values: \"Allow\", \"Forbid\", \"Replace\""
        );
    }
}
