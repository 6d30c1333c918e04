//! Small groups: rbac, policy, scheduling, coordination, node, certificates.

use super::{
    at_most_all, dns_label, dns_subdomain, immutable, indexed, int_or_percent, internal, label_selector,
    nonnegative, one_of, reasons, same, spec,
};
use crate::tree::{at, get, has, int, is_zero, list, text};
use base64::Engine;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::object;
use serde_json::Value;
use std::collections::HashSet;

const RBAC: &str = "rbac.authorization.k8s.io";

fn rules(errors: &mut ErrorList, role: &Value, namespaced: bool) {
    for (path, rule) in indexed(role, "rules", &Path::default()) {
        if list(rule, "verbs").is_empty() {
            errors.required(&path.child("verbs"), "verbs must contain at least one value");
        }
        let regular =
            ["apiGroups", "resources", "resourceNames"].iter().any(|field| !is_zero(get(rule, field)));
        if !list(rule, "nonResourceURLs").is_empty() {
            let (urls, at) = (get(rule, "nonResourceURLs").clone(), path.child("nonResourceURLs"));
            if namespaced {
                errors.invalid(&at, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
            }
            if regular {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at, urls, detail);
            }
            continue;
        }
        if list(rule, "apiGroups").is_empty() {
            errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if list(rule, "resources").is_empty() {
            errors.required(&path.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

/// A role.
pub fn validate_role(role: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    rules(&mut errors, role, true);
    errors
}

/// A cluster role.
pub fn validate_cluster_role(role: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    rules(&mut errors, role, false);
    let path = Path::new("aggregationRule");
    let selectors = list(get(role, "aggregationRule"), "clusterRoleSelectors");
    if has(role, "aggregationRule") && selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path.child("clusterRoleSelectors"), detail);
    }
    for (path, selector) in indexed(get(role, "aggregationRule"), "clusterRoleSelectors", &path) {
        label_selector(&mut errors, selector, &path.child("clusterRoleSelectors"));
    }
    errors
}

fn binding(object: &Value, old: Option<&Value>, namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::default();
    let (role, path) = (get(object, "roleRef"), Path::new("roleRef"));
    if text(role, "apiGroup") != RBAC {
        errors.not_supported(&path.child("apiGroup"), text(role, "apiGroup"), &[RBAC]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.not_supported(&path.child("kind"), text(role, "kind"), kinds);
    }
    let name = text(role, "name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        reasons(&mut errors, &path.child("name"), name, names::is_valid_path_segment_name(name));
    }
    for (path, subject) in indexed(object, "subjects", &Path::default()) {
        subject_of(&mut errors, subject, namespaced, &path);
    }
    if let Some(old) = old
        && !same(role, get(old, "roleRef"))
    {
        errors.invalid(&path, internal::shown("RoleRef", role), "cannot change roleRef");
    }
    errors
}

fn subject_of(errors: &mut ErrorList, subject: &Value, namespaced: bool, path: &Path) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                dns_subdomain(errors, (path, "name"), name);
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != RBAC {
                errors.not_supported(&path.child("apiGroup"), group, &[RBAC]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

/// A role binding, new or changed.
pub fn validate_role_binding(object: &Value, old: Option<&Value>) -> ErrorList {
    binding(object, old, true)
}

/// A cluster role binding, new or changed.
pub fn validate_cluster_role_binding(object: &Value, old: Option<&Value>) -> ErrorList {
    binding(object, old, false)
}

/// A pod disruption budget.
pub fn validate_budget(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    if has(given, "minAvailable") && has(given, "maxUnavailable") {
        let shown = internal::shown("PodDisruptionBudgetSpec", given);
        errors.invalid(&path, shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        int_or_percent(&mut errors, get(given, field), &path.child(field));
        at_most_all(&mut errors, get(given, field), &path.child(field));
    }
    label_selector(&mut errors, get(given, "selector"), &path.child("selector"));
    let policies = &["AlwaysAllow", "IfHealthyBudget"];
    let policy = text(given, "unhealthyPodEvictionPolicy");
    one_of(&mut errors, policy, &path.child("unhealthyPodEvictionPolicy"), policies, false);
    errors
}

/// What the disruption controller says.
pub fn validate_budget_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        nonnegative(&mut errors, get(object, "status"), field, &Path::new("status"));
    }
    errors
}

/// A priority class, new or changed.
pub fn validate_priority_class(object: &Value, old: Option<&Value>) -> ErrorList {
    const MOST: i64 = 1_000_000_000;
    const SYSTEM: [(&str, i64); 2] =
        [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
    let mut errors = ErrorList::default();
    let (name, value) = (object::name(object), int(object, "value"));
    if let Some(old) = old {
        for field in ["value", "preemptionPolicy"] {
            if get(object, field) != get(old, field) {
                errors.forbidden(&Path::new(field), "may not be changed in an update.");
            }
        }
        return errors;
    }
    if name.starts_with("system-") {
        if !SYSTEM.contains(&(name, value)) {
            let why = if SYSTEM.iter().any(|(known, _)| *known == name) {
                format!(
                    "value of {name} PriorityClass must be {}",
                    SYSTEM.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
                )
            } else {
                format!("{name} is not a known system priority class")
            };
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.forbidden(&Path::new("metadata.name"), detail);
        }
    } else if value > MOST {
        let detail = format!("maximum allowed value of a user defined priority is {MOST}");
        errors.forbidden(&Path::new("value"), detail);
    }
    let policies = &["PreemptLowerPriority", "Never"];
    one_of(&mut errors, text(object, "preemptionPolicy"), &Path::new("preemptionPolicy"), policies, false);
    errors
}

/// A lease.
pub fn validate_lease(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let given = get(object, "spec");
    if let Some(seconds) = get(given, "leaseDurationSeconds").as_i64().filter(|seconds| *seconds <= 0) {
        errors.invalid(&Path::new("spec.leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    nonnegative(&mut errors, given, "leaseTransitions", &spec());
    errors
}

/// A runtime class, new or changed.
pub fn validate_runtime_class(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    dns_label(&mut errors, &Path::new("handler"), text(object, "handler"));
    let overhead = at(object, &["overhead", "podFixed"]);
    for (name, amount) in overhead.as_object().into_iter().flatten() {
        let path = Path::new("overhead.podFixed");
        let path = path.key(name);
        super::container_resource_name(&mut errors, name, &path);
        super::resource_quantity(&mut errors, name, amount, &path);
    }
    super::labels(
        &mut errors,
        at(object, &["scheduling", "nodeSelector"]),
        &Path::new("scheduling.nodeSelector"),
    );
    if let Some(old) = old {
        immutable(&mut errors, get(object, "handler"), get(old, "handler"), &Path::new("handler"));
    }
    errors
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// A certificate signing request.
pub fn validate_signing_request(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    if let Err(why) = check_request(text(given, "request")) {
        errors.invalid(&path.child("request"), text(given, "request"), why);
    }
    if list(given, "usages").is_empty() {
        errors.required(&path.child("usages"), "");
    }
    let mut seen = HashSet::new();
    for (path, usage) in indexed(given, "usages", &path) {
        let usage = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&usage) {
            errors.not_supported(&path, usage, USAGES);
        }
        if !seen.insert(usage) {
            errors.duplicate(&path, usage);
        }
    }
    signer_name(&mut errors, text(given, "signerName"), &path.child("signerName"));
    if let Some(seconds) = get(given, "expirationSeconds").as_i64().filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    errors
}

/// The outside of a request: base64 of PEM. What is inside is for the signer.
fn check_request(encoded: &str) -> Result<(), String> {
    const WRONG: &str = "PEM block type must be CERTIFICATE REQUEST";
    let engine = base64::engine::general_purpose::STANDARD;
    let pem = engine.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pem = pem.ok_or_else(|| WRONG.to_string())?;
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN CERTIFICATE REQUEST-----")
        .and_then(|rest| rest.strip_suffix("-----END CERTIFICATE REQUEST-----"))
        .ok_or_else(|| WRONG.to_string())?;
    let body: String = body.split_whitespace().collect();
    match engine.decode(body) {
        Ok(der) if der.first() == Some(&0x30) => Ok(()),
        _ => Err("asn1: structure error: tags don't match".into()),
    }
}

/// `ValidateSignerName`.
fn signer_name(errors: &mut ErrorList, name: &str, path: &Path) {
    const FORM: &str = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts: Vec<_> = name.split('/').collect();
    let [domain, rest] = parts[..] else {
        errors.invalid(path, name, FORM);
        return;
    };
    for why in names::is_dns1123_subdomain(domain) {
        errors.invalid(path, domain, format!("validating label {domain:?}: {why}"));
    }
    if domain.split('.').count() < 2 {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    for part in rest.split('.') {
        for why in names::is_dns1123_label(part) {
            errors.invalid(path, part, format!("validating label {part:?}: {why}"));
        }
    }
}

/// Approvals are final, and a request is never both approved and denied.
pub fn validate_signing_status(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let path = Path::new("status.conditions");
    let holds = |one: &Value, kind: &str| {
        list(get(one, "status"), "conditions").iter().any(|one| text(one, "type") == kind)
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if holds(old, kind) && !holds(object, kind) {
            errors.forbidden(&path, format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    if holds(object, "Approved") && holds(object, "Denied") {
        let index = list(get(object, "status"), "conditions").len().saturating_sub(1);
        let kind = text(&list(get(object, "status"), "conditions")[index], "type").to_string();
        errors.invalid(
            &path.index(index).child("type"),
            kind,
            "Approved and Denied conditions are mutually exclusive",
        );
    }
    for (index, condition) in list(get(object, "status"), "conditions").iter().enumerate() {
        if text(condition, "type").is_empty() {
            errors.required(&path.index(index).child("type"), "");
        }
        if matches!(text(condition, "type"), "Approved" | "Denied" | "Failed")
            && text(condition, "status") != "True"
        {
            errors.not_supported(&path.index(index).child("status"), text(condition, "status"), &["True"]);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts_of(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn roles_and_bindings() {
        assert_eq!(
            texts_of(validate_role(
                &json!({"rules": [{"verbs": ["get"]}, {"nonResourceURLs": ["/x"], "verbs": ["get"]}]}),
                None
            )),
            [
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ]
        );
        let mut good = json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]});
        crate::defaults::others::role_binding(&mut good);
        assert!(validate_role_binding(&good, None).is_empty());
        let mut other = good.clone();
        other["roleRef"]["name"] = json!("s");
        assert_eq!(
            texts_of(validate_role_binding(&other, Some(&good))),
            [
                "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"ClusterRole\",\"Name\":\"s\"}: cannot change roleRef"
            ]
        );
        assert_eq!(
            texts_of(validate_cluster_role_binding(
                &json!({"roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "r"}}),
                None
            )),
            ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
        );
    }

    #[test]
    fn classes_and_budgets() {
        assert_eq!(
            texts_of(validate_priority_class(
                &json!({"metadata": {"name": "high"}, "value": 2_000_000_000}),
                None
            )),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        assert!(
            validate_priority_class(
                &json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}),
                None
            )
            .is_empty()
        );
        assert_eq!(
            texts_of(validate_budget(&json!({"spec": {"minAvailable": "110%"}}), None)),
            ["spec.minAvailable: Invalid value: \"110%\": must not be greater than 100%"]
        );
    }

    #[test]
    fn signing_requests() {
        let engine = base64::engine::general_purpose::STANDARD;
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            engine.encode([0x30, 0x00])
        );
        let good = json!({"spec": {"request": engine.encode(pem), "usages": ["client auth"], "signerName": "kubernetes.io/kube-apiserver-client"}});
        assert_eq!(texts_of(validate_signing_request(&good, None)), Vec::<String>::new());
        let bad =
            json!({"spec": {"request": "eA==", "usages": ["x"], "signerName": "a", "expirationSeconds": 5}});
        let texts = texts_of(validate_signing_request(&bad, None));
        assert_eq!(
            texts[0],
            "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST"
        );
        assert_eq!(texts.len(), 4);
    }
}
