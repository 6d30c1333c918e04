//! Where pods may run: node selectors, affinity, tolerations, taints, topology spread.

use super::{
    NOT_POSITIVE, dns_label, dns_subdomain, indexed, internal, label_selector, qualified_name, reasons,
};
use crate::tree::{entries, get, has, int, list, text, texts};
use drydock_apimachinery::field::{ErrorKind, ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;
use std::collections::HashSet;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `validateAffinity`.
pub fn affinity(errors: &mut ErrorList, affinity: &Value, path: &Path) {
    if affinity.is_null() {
        return;
    }
    let node = get(affinity, "nodeAffinity");
    let node_path = path.child("nodeAffinity");
    if has(node, REQUIRED) {
        node_selector(errors, get(node, REQUIRED), &node_path.child(REQUIRED));
    }
    for (path, term) in indexed(node, PREFERRED, &node_path) {
        weight(errors, term, &path);
        node_selector_term(errors, get(term, "preference"), &path.child("preference"));
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let pods = get(affinity, field);
        let path = path.child(field);
        for (path, term) in indexed(pods, REQUIRED, &path) {
            pod_affinity_term(errors, term, &path);
        }
        for (path, term) in indexed(pods, PREFERRED, &path) {
            weight(errors, term, &path);
            pod_affinity_term(errors, get(term, "podAffinityTerm"), &path.child("podAffinityTerm"));
        }
    }
}

fn weight(errors: &mut ErrorList, term: &Value, path: &Path) {
    let weight = int(term, "weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// `ValidateNodeSelector`.
pub fn node_selector(errors: &mut ErrorList, selector: &Value, path: &Path) {
    let terms = path.child("nodeSelectorTerms");
    if list(selector, "nodeSelectorTerms").is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for (path, term) in indexed(selector, "nodeSelectorTerms", path) {
        node_selector_term(errors, term, &path);
    }
}

fn node_selector_term(errors: &mut ErrorList, term: &Value, path: &Path) {
    for (path, requirement) in indexed(term, "matchExpressions", path) {
        let values = list(requirement, "values");
        let values_path = path.child("values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if values.len() != 1 => errors
                .required(&values_path, "must be specified single value when `operator` is 'Lt' or 'Gt'"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        qualified_name(errors, (&path, "key"), text(requirement, "key"));
        for (index, value) in texts(requirement, "values").into_iter().enumerate() {
            reasons(errors, &values_path.index(index), value, names::is_valid_label_value(value));
        }
    }
    for (path, requirement) in indexed(term, "matchFields", path) {
        match text(requirement, "operator") {
            "In" | "NotIn" if list(requirement, "values").len() == 1 => {}
            "In" | "NotIn" => errors.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        match text(requirement, "key") {
            "metadata.name" => {
                for (index, value) in texts(requirement, "values").into_iter().enumerate() {
                    dns_subdomain(errors, &path.element("values", index), value);
                }
            }
            other => errors.invalid(&path.child("key"), other, "not a valid field selector key"),
        }
    }
}

fn pod_affinity_term(errors: &mut ErrorList, term: &Value, path: &Path) {
    label_selector(errors, get(term, "labelSelector"), &path.child("labelSelector"));
    label_selector(errors, get(term, "namespaceSelector"), &path.child("namespaceSelector"));
    for namespace in texts(term, "namespaces") {
        dns_label(errors, (path, "namespace"), namespace);
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let path = path.child(field);
        if !list(term, field).is_empty() && !has(term, "labelSelector") {
            errors.forbidden(&path, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in texts(term, field).into_iter().enumerate() {
            qualified_name(errors, &path.index(index), key);
        }
    }
    let mismatched = texts(term, "mismatchLabelKeys");
    for (index, key) in texts(term, "matchLabelKeys").into_iter().enumerate() {
        if mismatched.contains(&key) {
            let path = path.element("matchLabelKeys", index);
            errors.invalid(&path, key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
    if text(term, "topologyKey").is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    qualified_name(errors, (path, "topologyKey"), text(term, "topologyKey"));
}

/// `ValidateTolerations`.
pub fn tolerations(errors: &mut ErrorList, spec: &Value, path: &Path) {
    for (path, toleration) in indexed(spec, "tolerations", path) {
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, effect) = (text(toleration, "value"), text(toleration, "effect"));
        if key.is_empty() {
            if operator != "Exists" {
                errors.invalid(
                    &path.child("operator"),
                    operator,
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                );
            }
        } else {
            qualified_name(errors, (&path, "key"), key);
        }
        if has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        match operator {
            "" | "Equal" => {
                let why = names::is_valid_label_value(value);
                if !why.is_empty() {
                    errors.invalid(&path.child("operator"), value, why.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.invalid(&path.child("operator"), toleration.clone(), detail);
                }
            }
            other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, EFFECTS);
        }
    }
}

/// Tolerations of a pod that runs may only be added (`validateOnlyAddedTolerations`).
pub fn only_added_tolerations(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path) {
    let without_seconds = |one: &Value| {
        let mut one = one.clone();
        if let Some(map) = one.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        one
    };
    let now: Vec<_> = list(new, "tolerations").iter().map(without_seconds).collect();
    let kept = list(old, "tolerations").iter().all(|one| now.contains(&without_seconds(one)));
    if !kept {
        errors.forbidden(
            &path.child("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
        return;
    }
    tolerations(errors, new, path);
}

/// `validateNodeTaints`.
pub fn taints(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let mut seen = HashSet::new();
    for (path, taint) in indexed(spec, "taints", path) {
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        qualified_name(errors, (&path, "key"), key);
        let why = names::is_valid_label_value(value);
        if !why.is_empty() {
            errors.invalid(&path.child("value"), value, why.join(";"));
        }
        if effect.is_empty() {
            errors.required(&path.child("effect"), "");
        } else if !EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, EFFECTS);
        }
        if !seen.insert((key, effect)) {
            let detail = "taints must be unique by key and effect pair";
            errors.push(ErrorKind::Duplicate, &path, Some(internal::shown("Taint", taint)), detail);
        }
    }
}

/// `validateTopologySpreadConstraints`.
pub fn topology_spread(errors: &mut ErrorList, spec: &Value, path: &Path) {
    let all = list(spec, "topologySpreadConstraints");
    for (index, (path, constraint)) in indexed(spec, "topologySpreadConstraints", path).enumerate() {
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if int(constraint, "maxSkew") <= 0 {
            errors.invalid(&path.child("maxSkew"), int(constraint, "maxSkew"), NOT_POSITIVE);
        }
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let supported = &["DoNotSchedule", "ScheduleAnyway"];
            errors.not_supported(&path.child("whenUnsatisfiable"), action, supported);
        }
        let repeats =
            |other: &Value| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
        if all[index + 1..].iter().any(repeats) {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        min_domains(errors, constraint, action, &path);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if has(constraint, field) && !matches!(text(constraint, field), "Honor" | "Ignore") {
                errors.not_supported(&path.child(field), text(constraint, field), &["Honor", "Ignore"]);
            }
        }
        match_label_keys(errors, constraint, &path);
        label_selector(errors, get(constraint, "labelSelector"), &path.child("labelSelector"));
    }
}

fn min_domains(errors: &mut ErrorList, constraint: &Value, action: &str, path: &Path) {
    let Some(least) = get(constraint, "minDomains").as_i64() else { return };
    let path = path.child("minDomains");
    if least <= 0 {
        errors.invalid(&path, least, NOT_POSITIVE);
    }
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(&path, least, detail);
    }
}

fn match_label_keys(errors: &mut ErrorList, constraint: &Value, path: &Path) {
    let keys = texts(constraint, "matchLabelKeys");
    if keys.is_empty() {
        return;
    }
    let path = path.child("matchLabelKeys");
    let selector = get(constraint, "labelSelector");
    if !has(constraint, "labelSelector") {
        errors.forbidden(&path, "must not be specified when labelSelector is not set");
    }
    let selected: HashSet<&str> = entries(selector, "matchLabels")
        .map(|(key, _)| &key[..])
        .chain(list(selector, "matchExpressions").iter().map(|one| text(one, "key")))
        .collect();
    for (index, key) in keys.into_iter().enumerate() {
        qualified_name(errors, &path.index(index), key);
        if selected.contains(key) {
            errors.invalid(&path.index(index), key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations_and_taints() {
        let mut errors = ErrorList::default();
        let value = json!({"tolerations": [{"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "x"},
            {"key": "b", "operator": "In", "effect": "Run"}, {"key": "ok", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]});
        tolerations(&mut errors, &value, &Path::new("spec"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""
        );
        assert_eq!(
            texts[2],
            "spec.tolerations[2].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\""
        );
        assert_eq!(
            texts[3],
            "spec.tolerations[2].effect: Unsupported value: \"Run\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
        );
        assert_eq!(texts.len(), 4);
        let mut errors = ErrorList::default();
        taints(
            &mut errors,
            &json!({"taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "k", "effect": "NoSchedule"}]}),
            &Path::new("metadata"),
        );
        assert_eq!(
            errors.aggregate(),
            "metadata.taints[1]: Duplicate value: {\"Key\":\"k\",\"Value\":\"\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair"
        );
    }

    #[test]
    fn affinity_terms() {
        let mut errors = ErrorList::default();
        let value = json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]},
                PREFERRED: [{"weight": 101, "preference": {}}]},
            "podAntiAffinity": {REQUIRED: [{"labelSelector": {}}]}});
        affinity(&mut errors, &value, &Path::new("spec.affinity"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            format!(
                "spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )
        );
        assert_eq!(
            texts[1],
            format!(
                "spec.affinity.nodeAffinity.{PREFERRED}[0].weight: Invalid value: 101: must be in the range 1-100"
            )
        );
        assert_eq!(
            texts[2],
            format!(
                "spec.affinity.podAntiAffinity.{REQUIRED}[0].topologyKey: Required value: can not be empty"
            )
        );
    }
}
