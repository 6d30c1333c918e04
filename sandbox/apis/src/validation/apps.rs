//! What keeps pods running: replication controllers and `apps/v1`.

use super::core::replica_counts;
use super::{
    at_most_all, dns_label, immutable, immutable_struct, int_or_percent, int_or_percent_value, internal,
    is_empty_selector, label_selector, nonnegative, one_of, pod, same, spec, storage,
};
use crate::tree::{at, get, has, int, is_zero, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::selectors::LabelSelector;
use serde_json::{Value, json};

const MISMATCH: &str = "`selector` does not match template `labels`";

/// `spec.selector` and the template that it must select.
fn selector_and_template(errors: &mut ErrorList, given: &Value, required: bool, empty: &str) {
    let path = spec();
    let selector = get(given, "selector");
    if has(given, "selector") {
        label_selector(errors, selector, &path.child("selector"));
        if is_empty_selector(selector) {
            errors.invalid(&path.child("selector"), internal::shown("LabelSelector", selector), empty);
        }
    } else if required {
        errors.required(&path.child("selector"), "");
    }
    match LabelSelector::of_object(selector) {
        Err(_) => errors.invalid(
            &path.child("selector"),
            internal::shown("LabelSelector", selector),
            "invalid label selector",
        ),
        Ok(query) => selects(errors, &query, given),
    }
}

fn selects(errors: &mut ErrorList, query: &LabelSelector, given: &Value) {
    let labels = at(given, &["template", "metadata", "labels"]);
    if !query.is_empty() && !query.matches(|key| get(labels, key).as_str()) {
        let path = Path::new("spec.template.metadata.labels");
        errors.invalid(&path, labels.clone(), MISMATCH);
    }
}

/// Pods that are kept running are always started again.
fn template(errors: &mut ErrorList, template: &Value, kind: &str) {
    let path = Path::new("spec.template");
    pod::template(errors, template, &path);
    let (given, path) = (get(template, "spec"), path.child("spec"));
    let policy = text(given, "restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if has(given, "activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

/// A deployment, new or changed.
pub fn validate_deployment(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    nonnegative(&mut errors, given, "replicas", &path);
    selector_and_template(&mut errors, given, true, "empty selector is invalid for deployment");
    template(&mut errors, get(given, "template"), "ReplicaSet");
    deployment_strategy(&mut errors, get(given, "strategy"), &path.child("strategy"));
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        nonnegative(&mut errors, given, field, &path);
    }
    if let Some(deadline) = get(given, "progressDeadlineSeconds").as_i64()
        && deadline <= int(given, "minReadySeconds")
    {
        let at = path.child("progressDeadlineSeconds");
        errors.invalid(&at, deadline, "must be greater than minReadySeconds");
    }
    if let Some(old) = old {
        immutable_struct(
            &mut errors,
            "LabelSelector",
            get(given, "selector"),
            at(old, &["spec", "selector"]),
            &path.child("selector"),
        );
    }
    errors
}

fn deployment_strategy(errors: &mut ErrorList, strategy: &Value, path: &Path) {
    let update = get(strategy, "rollingUpdate");
    let at = path.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if has(strategy, "rollingUpdate") {
                errors.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if !has(strategy, "rollingUpdate") {
                errors.required(&at, "this should be defaulted and never be nil");
                return;
            }
            let (unavailable, surge) = (get(update, "maxUnavailable"), get(update, "maxSurge"));
            int_or_percent(errors, unavailable, &at.child("maxUnavailable"));
            int_or_percent(errors, surge, &at.child("maxSurge"));
            if int_or_percent_value(unavailable) == 0 && int_or_percent_value(surge) == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&at.child("maxUnavailable"), unavailable.clone(), detail);
            }
            at_most_all(errors, unavailable, &at.child("maxUnavailable"));
        }
        _ => {
            let shown = internal::shown("DeploymentStrategy", strategy);
            errors.not_supported(path, shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

/// A replica set, new or changed.
pub fn validate_replica_set(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    nonnegative(&mut errors, given, "replicas", &path);
    nonnegative(&mut errors, given, "minReadySeconds", &path);
    selector_and_template(&mut errors, given, true, "empty selector is invalid for deployment");
    template(&mut errors, get(given, "template"), "ReplicaSet");
    if let Some(old) = old {
        immutable_struct(
            &mut errors,
            "LabelSelector",
            get(given, "selector"),
            at(old, &["spec", "selector"]),
            &path.child("selector"),
        );
    }
    errors
}

/// A replication controller, whose selector is a plain map.
pub fn validate_replication_controller(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    nonnegative(&mut errors, given, "minReadySeconds", &path);
    let selector = get(given, "selector");
    if is_zero(selector) {
        errors.required(&path.child("selector"), "");
    }
    nonnegative(&mut errors, given, "replicas", &path);
    if has(given, "template") {
        if let Ok(query) = LabelSelector::of_labels(selector) {
            selects(&mut errors, &query, given);
        }
        template(&mut errors, get(given, "template"), "ReplicationController");
    } else {
        errors.required(&path.child("template"), "");
    }
    errors
}

/// A daemon set, new or changed.
pub fn validate_daemon_set(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    if let Some(old) = old {
        immutable_struct(
            &mut errors,
            "LabelSelector",
            get(given, "selector"),
            at(old, &["spec", "selector"]),
            &path.child("selector"),
        );
    }
    selector_and_template(&mut errors, given, false, "empty selector is invalid for daemonset");
    template(&mut errors, get(given, "template"), "DaemonSet");
    nonnegative(&mut errors, given, "minReadySeconds", &path);
    daemon_strategy(&mut errors, get(given, "updateStrategy"), &path.child("updateStrategy"));
    nonnegative(&mut errors, given, "revisionHistoryLimit", &path);
    errors
}

fn daemon_strategy(errors: &mut ErrorList, strategy: &Value, path: &Path) {
    let update = get(strategy, "rollingUpdate");
    let at = path.child("rollingUpdate");
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            if !has(strategy, "rollingUpdate") {
                errors.required(&at, "");
                return;
            }
            for field in ["maxUnavailable", "maxSurge"] {
                int_or_percent(errors, get(update, field), &at.child(field));
                at_most_all(errors, get(update, field), &at.child(field));
            }
            let surge = get(update, "maxSurge");
            match (int_or_percent_value(get(update, "maxUnavailable")) != 0, int_or_percent_value(surge) != 0)
            {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&at.child("maxSurge"), surge.clone(), detail);
                }
                (false, false) => {
                    errors.required(&at.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        _ => {
            let shown = internal::shown("DeploymentStrategy", strategy);
            errors.not_supported(path, shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}

/// A stateful set, new or changed.
pub fn validate_stateful_set(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let policy = text(given, "podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.invalid(&path.child("podManagementPolicy"), policy, detail);
    }
    stateful_strategy(&mut errors, get(given, "updateStrategy"), &path.child("updateStrategy"));
    let retention = get(given, "persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        one_of(&mut errors, text(retention, field), (&at, field), &["Retain", "Delete"], false);
    }
    if old.is_none() {
        for (path, claim) in super::indexed(given, "volumeClaimTemplates", &path) {
            storage::claim_spec(&mut errors, get(claim, "spec"), &path.child("spec"));
        }
    }
    nonnegative(&mut errors, given, "replicas", &path);
    nonnegative(&mut errors, given, "minReadySeconds", &path);
    if let Some(start) = at(given, &["ordinals", "start"]).as_i64().filter(|start| *start < 0) {
        errors.invalid(&path.child("ordinals.start"), start, super::NEGATIVE);
    }
    let service = text(given, "serviceName");
    if old.is_none() && !service.is_empty() {
        dns_label(&mut errors, &path.child("serviceName"), service);
    }
    selector_and_template(&mut errors, given, true, "empty selector is invalid for statefulset");
    template(&mut errors, &with_claims(given), "StatefulSet");
    if let Some(old) = old {
        stateful_update(&mut errors, given, get(old, "spec"));
    }
    errors
}

fn stateful_strategy(errors: &mut ErrorList, strategy: &Value, path: &Path) {
    let update = get(strategy, "rollingUpdate");
    let at = path.child("rollingUpdate");
    match text(strategy, "type") {
        "" => errors.required(path, ""),
        "OnDelete" => {
            if has(strategy, "rollingUpdate") {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&at, internal::shown("RollingUpdateStatefulSet", update), detail);
            }
        }
        "RollingUpdate" => {
            nonnegative(errors, update, "partition", &at);
            let unavailable = get(update, "maxUnavailable");
            if !unavailable.is_null() {
                let at = at.child("maxUnavailable");
                int_or_percent(errors, unavailable, &at);
                if int_or_percent_value(unavailable) == 0 {
                    errors.invalid(&at, unavailable.clone(), "cannot be 0");
                }
                at_most_all(errors, unavailable, &at);
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.invalid(path, internal::shown("StatefulSetUpdateStrategy", strategy), detail);
        }
    }
}

/// The template with a volume for each claim that the set makes, and without the names that its pods are given.
fn with_claims(given: &Value) -> Value {
    let mut template = get(given, "template").clone();
    let claims: Vec<&str> = list(given, "volumeClaimTemplates")
        .iter()
        .map(|claim| text(get(claim, "metadata"), "name"))
        .collect();
    crate::tree::within(&mut template, &["spec"], |pod| {
        pod.remove("hostname");
        pod.remove("subdomain");
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        let own = pod.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.extend(own.into_iter().filter(|volume| !claims.contains(&text(volume, "name"))));
        if !claims.is_empty() {
            pod.insert("volumes".into(), volumes.into());
        }
    });
    template
}

fn stateful_update(errors: &mut ErrorList, new: &Value, old: &Value) {
    const CHANGEABLE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let fixed = |given: &Value| -> Value {
        given
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(field, _)| !CHANGEABLE.contains(&&field[..]))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    };
    if !same(&fixed(new), &fixed(old)) {
        errors.forbidden(
            &spec(),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// A controller revision never changes.
pub fn validate_controller_revision(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let path = Path::new("data");
    match (get(object, "data"), old) {
        (data, Some(old)) => immutable(&mut errors, data, get(old, "data"), &path),
        (Value::Null, None) => errors.required(&path, "data is mandatory"),
        (Value::Object(_), None) => {}
        (_, None) => errors.required(&path, "data must be a valid JSON object"),
    }
    nonnegative(&mut errors, object, "revision", &Path::default());
    errors
}

/// Statuses of deployments.
pub fn validate_deployment_status(object: &Value, _old: &Value) -> ErrorList {
    replica_counts(object, &["updatedReplicas", "readyReplicas", "availableReplicas"])
}

/// Statuses of replica sets and replication controllers.
pub fn validate_replicas_status(object: &Value, _old: &Value) -> ErrorList {
    replica_counts(object, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"])
}

/// Statuses of stateful sets.
pub fn validate_stateful_status(object: &Value, _old: &Value) -> ErrorList {
    replica_counts(object, &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"])
}

/// Statuses of daemon sets.
pub fn validate_daemon_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    for field in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    ] {
        nonnegative(&mut errors, get(object, "status"), field, &Path::new("status"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(change: &Value) -> Value {
        let mut object = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        for (key, value) in change.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        crate::defaults::apps::deployment(&mut object);
        object
    }

    #[test]
    fn deployments() {
        let containers = json!([{"name": "c", "image": "i"}]);
        for (change, want) in [
            (
                json!({"selector": {"matchLabels": {"app": "other"}}}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (
                json!({"selector": {}}),
                "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
            ),
            (
                json!({"strategy": {"type": "Rolling"}}),
                "spec.strategy: Unsupported value: {\"Type\":\"Rolling\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
            ),
            (
                json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ),
            (
                json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, "restartPolicy": "Never"}}}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {}}}),
                "spec.template.spec.containers: Required value",
            ),
        ] {
            let texts: Vec<_> =
                validate_deployment(&deployment(&change), None).iter().map(ToString::to_string).collect();
            assert!(texts.iter().any(|text| text == want), "{change}: {texts:#?}\nwant {want}");
        }
        assert!(validate_deployment(&deployment(&json!({})), None).is_empty());
        let mut new = deployment(&json!({}));
        new["spec"]["selector"]["matchLabels"]["tier"] = json!("x");
        new["spec"]["template"]["metadata"]["labels"]["tier"] = json!("x");
        assert_eq!(
            validate_deployment(&new, Some(&deployment(&json!({})))).aggregate(),
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"tier\":\"x\"}}: field is immutable"
        );
    }

    #[test]
    fn stateful_sets() {
        let mut object = json!({"metadata": {"name": "s"}, "spec": {"serviceName": "s", "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}}]}});
        crate::defaults::apps::stateful_set(&mut object);
        assert_eq!(validate_stateful_set(&object, None).aggregate(), "[]");
        let mut new = object.clone();
        new["spec"]["replicas"] = json!(5);
        assert!(validate_stateful_set(&new, Some(&object)).is_empty());
        new["spec"]["serviceName"] = json!("t");
        assert!(
            validate_stateful_set(&new, Some(&object))
                .aggregate()
                .starts_with("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'")
        );
    }
}
