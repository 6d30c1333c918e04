//! Horizontal pod autoscalers (`pkg/apis/autoscaling/validation`) and scales.

use super::{container_resource_name, dns_label, indexed, nonnegative, one_of, reasons, spec};
use crate::tree::{at, get, has, int, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;

/// An autoscaler, new or changed.
pub fn validate(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let (least, most) = (get(given, "minReplicas").as_i64(), int(given, "maxReplicas"));
    if let Some(least) = least.filter(|least| *least < 1) {
        errors.invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1");
    }
    if most < 1 {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.invalid(&path.child("maxReplicas"), most, detail);
    }
    reference(&mut errors, get(given, "scaleTargetRef"), &path.child("scaleTargetRef"));
    for (path, one) in indexed(given, "metrics", &path) {
        metric(&mut errors, one, &path);
    }
    for field in ["scaleUp", "scaleDown"] {
        let rules = get(get(given, "behavior"), field);
        if !rules.is_null() {
            scaling_rules(&mut errors, rules, &path.child("behavior").child(field));
        }
    }
    errors
}

/// What the autoscaler's controller says.
pub fn validate_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    for field in ["currentReplicas", "desiredReplicas"] {
        nonnegative(&mut errors, get(object, "status"), field, &Path::new("status"));
    }
    errors
}

/// `autoscaling/v1` scales: what `scale` subresources take.
pub fn validate_scale(scale: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    nonnegative(&mut errors, get(scale, "spec"), "replicas", &spec());
    errors
}

fn reference(errors: &mut ErrorList, reference: &Value, path: &Path) {
    for field in ["kind", "name"] {
        let value = text(reference, field);
        if value.is_empty() {
            errors.required(&path.child(field), "");
        } else {
            reasons(errors, (path, field), value, names::is_valid_path_segment_name(value));
        }
    }
}

/// The types of metrics and the field that each fills in.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn metric(errors: &mut ErrorList, metric: &Value, path: &Path) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    if expected.is_none() {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
    let given: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| has(metric, field)).collect();
    if let Some(first) = given.first() {
        source(errors, first, get(metric, first), &path.child(first));
    }
    if let Some(field) = expected
        && !given.contains(&field)
    {
        let detail = "must populate information for the given metric source";
        errors.required(&path.child(field), detail);
    }
    if given.len() != 1 {
        for more in given.into_iter().filter(|field| Some(*field) != expected) {
            errors.forbidden(&path.child(more), "must populate the given metric source only");
        }
    }
}

fn source(errors: &mut ErrorList, kind: &str, source: &Value, path: &Path) {
    let target = get(source, "target");
    let at_target = path.child("target");
    match kind {
        "object" => {
            reference(errors, get(source, "describedObject"), &path.child("describedObject"));
            identifier(errors, source, path);
        }
        "external" | "pods" => identifier(errors, source, path),
        _ => {
            let name = text(source, "name");
            if name.is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            } else if kind == "containerResource" {
                container_resource_name(errors, name, &path.child("name"));
            }
            let container = text(source, "container");
            if kind == "containerResource" && container.is_empty() {
                errors.required(&path.child("container"), "must specify a container");
            } else if kind == "containerResource" {
                dns_label(errors, (path, "container"), container);
            }
        }
    }
    metric_target(errors, target, &at_target);
    let (value, average, utilization) =
        (has(target, "value"), has(target, "averageValue"), has(target, "averageUtilization"));
    match kind {
        "object" if !value && !average => {
            errors
                .required(&at_target.child("averageValue"), "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.required(&at_target.child("averageValue"), detail);
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&at_target.child("value"), detail);
        }
        "pods" if !average => {
            errors.required(&at_target.child("averageValue"), "must specify a positive target averageValue");
        }
        "resource" | "containerResource" if !utilization && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&at_target.child("averageUtilization"), detail);
        }
        "resource" | "containerResource" if utilization && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.forbidden(&at_target.child("averageValue"), detail);
        }
        _ => {}
    }
}

fn identifier(errors: &mut ErrorList, source: &Value, path: &Path) {
    let name = at(source, &["metric", "name"]).as_str().unwrap_or_default();
    let path = path.child("metric.name");
    if name.is_empty() {
        errors.required(&path, "must specify a metric name");
    } else {
        reasons(errors, &path, name, names::is_valid_path_segment_name(name));
    }
}

fn metric_target(errors: &mut ErrorList, target: &Value, path: &Path) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        if let Some(amount) = Quantity::of(get(target, field))
            && (amount.is_zero() || amount.is_negative())
        {
            errors.invalid(&path.child(field), amount.to_string(), "must be positive");
        }
    }
    if let Some(percent) = get(target, "averageUtilization").as_i64().filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}

fn scaling_rules(errors: &mut ErrorList, rules: &Value, path: &Path) {
    let window = path.child("stabilizationWindowSeconds");
    match get(rules, "stabilizationWindowSeconds").as_i64() {
        Some(seconds) if seconds < 0 => {
            errors.invalid(&window, seconds, "must be greater than or equal to zero");
        }
        Some(seconds) if seconds > 3600 => {
            errors.invalid(&window, seconds, "must be less than or equal to 3600");
        }
        _ => {}
    }
    let policies = &["Disabled", "Max", "Min"];
    one_of(errors, text(rules, "selectPolicy"), (path, "selectPolicy"), policies, false);
    if list(rules, "policies").is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (path, policy) in indexed(rules, "policies", path) {
        if !matches!(text(policy, "type"), "Pods" | "Percent") {
            errors.not_supported(&path.child("type"), text(policy, "type"), &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            if int(policy, field) <= 0 {
                errors.invalid(&path.child(field), int(policy, field), "must be greater than zero");
            }
        }
        if int(policy, "periodSeconds") > 1800 {
            let detail = "must be less than or equal to 1800";
            errors.invalid(&path.child("periodSeconds"), int(policy, "periodSeconds"), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_and_metrics() {
        let check = |change: Value| {
            let mut object =
                json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}});
            for (key, value) in change.as_object().unwrap() {
                object["spec"][key] = value.clone();
            }
            crate::defaults::others::autoscaler(&mut object);
            validate(&object, None).aggregate()
        };
        assert_eq!(check(json!({})), "[]");
        assert_eq!(
            check(json!({"minReplicas": 5})),
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"
        );
        assert_eq!(
            check(json!({"maxReplicas": 0, "minReplicas": 0})),
            "[spec.minReplicas: Invalid value: 0: must be greater than or equal to 1, spec.maxReplicas: Invalid value: 0: must be greater than 0]"
        );
        assert_eq!(
            check(json!({"scaleTargetRef": {}})),
            "[spec.scaleTargetRef.kind: Required value, spec.scaleTargetRef.name: Required value]"
        );
        assert_eq!(
            check(json!({"metrics": [{"type": "Resource"}]})),
            "spec.metrics[0].resource: Required value: must populate information for the given metric source"
        );
        assert_eq!(
            check(json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 4000}}})),
            "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600"
        );
    }
}
