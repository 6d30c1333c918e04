//! What extends the API: webhooks and policies of admission, aggregated services, custom resource definitions.

use super::admission_policy::match_conditions;
use super::{dns_subdomain, immutable, indexed, label_selector, one_of, reasons, spec};
use crate::tree::{at, get, has, int, is_zero, list, text, texts};
use drydock_apimachinery::crd::policy::Written;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::object;
use serde_json::Value;
use std::collections::HashSet;

/// Webhook configurations of both kinds.
pub fn validate_webhooks(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let mut seen = HashSet::new();
    for (path, hook) in indexed(object, "webhooks", &Path::default()) {
        let name = text(hook, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        reasons(&mut errors, &path.child("name"), name, names::is_fully_qualified_name(name, 3));
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        webhook(&mut errors, hook, &path);
    }
    errors
}

fn webhook(errors: &mut ErrorList, hook: &Value, path: &Path) {
    let versions = texts(hook, "admissionReviewVersions");
    let at = path.child("admissionReviewVersions");
    if versions.is_empty() {
        errors.required(&at, "must specify one of v1, v1beta1");
    } else if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        let shown = get(hook, "admissionReviewVersions").clone();
        errors.invalid(&at, shown, "must include at least one of v1, v1beta1");
    }
    for (path, rule) in indexed(hook, "rules", path) {
        for field in ["apiGroups", "apiVersions", "resources", "operations"] {
            if list(rule, field).is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        one_of(errors, text(rule, "scope"), (&path, "scope"), &["*", "Cluster", "Namespaced"], true);
    }
    one_of(errors, text(hook, "failurePolicy"), (path, "failurePolicy"), &["Fail", "Ignore"], true);
    one_of(errors, text(hook, "matchPolicy"), (path, "matchPolicy"), &["Equivalent", "Exact"], true);
    let effects = text(hook, "sideEffects");
    if effects.is_empty() {
        errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun");
    } else {
        one_of(errors, effects, (path, "sideEffects"), &["None", "NoneOnDryRun"], true);
    }
    let seconds = int(hook, "timeoutSeconds");
    if !(1..=30).contains(&seconds) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        label_selector(errors, get(hook, field), &path.child(field));
    }
    match_conditions(errors, hook, &Written::new(false), path);
    let config = get(hook, "clientConfig");
    let at = path.child("clientConfig");
    if is_zero(get(config, "url")) != has(config, "service") {
        errors.required(&at, "exactly one of url or service is required");
    } else if has(config, "service") {
        for field in ["name", "namespace"] {
            if text(get(config, "service"), field).is_empty() {
                let detail = format!("service {field} is required");
                errors.required(&at.child("service").child(field), &detail);
            }
        }
    } else if !text(config, "url").starts_with("https://") {
        let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
        errors.invalid(&at.child("url"), text(config, "url"), detail);
    }
}

/// A binding of one.
pub fn validate_admission_binding(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let policy = text(given, "policyName");
    if policy.is_empty() {
        errors.required(&path.child("policyName"), "");
    } else {
        dns_subdomain(&mut errors, &path.child("policyName"), policy);
    }
    if list(given, "validationActions").is_empty() {
        errors.required(&path.child("validationActions"), "at least one validation action is required");
    }
    for (path, action) in indexed(given, "validationActions", &path) {
        let action = action.as_str().unwrap_or_default();
        one_of(&mut errors, action, &path, &["Audit", "Deny", "Warn"], true);
    }
    errors
}

/// An aggregated service.
pub fn validate_api_service(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let (group, version) = (text(given, "group"), text(given, "version"));
    let wanted = format!("{version}.{group}");
    if object::name(object) != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.invalid(&Path::new("metadata.name"), object::name(object), detail);
    }
    if group.is_empty() && version != "v1" {
        errors.required(&path.child("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        dns_subdomain(&mut errors, &path.child("group"), group);
    }
    reasons(&mut errors, &path.child("version"), version, names::is_dns1035_label(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = int(given, field);
        if number <= 0 || number > most {
            let detail = format!("must be positive and less than {most}");
            errors.invalid(&path.child(field), number, detail);
        }
    }
    errors
}

/// A custom resource definition: its name says what it defines. The schemas are checked by who serves them.
pub fn validate_definition(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let plural = at(given, &["names", "plural"]).as_str().unwrap_or_default();
    let group = text(given, "group");
    let wanted = format!("{plural}.{group}");
    if object::name(object) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.invalid(&Path::new("metadata.name"), object::name(object), detail);
    }
    if group.is_empty() {
        errors.required(&path.child("group"), "");
    } else {
        dns_subdomain(&mut errors, &path.child("group"), group);
        if !group.contains('.') {
            errors.invalid(&path.child("group"), group, "should be a domain with at least one dot");
        }
    }
    one_of(&mut errors, text(given, "scope"), &path.child("scope"), &["Cluster", "Namespaced"], true);
    definition_versions(&mut errors, given, &path);
    definition_names(&mut errors, get(given, "names"), &path.child("names"));
    if let Some(old) = old {
        let before = get(old, "spec");
        for field in ["group", "scope"] {
            immutable(&mut errors, get(given, field), get(before, field), &path.child(field));
        }
        for field in ["kind", "plural"] {
            let (new, old) = (at(given, &["names", field]), at(before, &["names", field]));
            immutable(&mut errors, new, old, &path.child("names").child(field));
        }
        stored_versions(&mut errors, object);
    }
    errors
}

fn definition_versions(errors: &mut ErrorList, given: &Value, path: &Path) {
    let versions = list(given, "versions");
    let stored = versions.iter().filter(|version| crate::tree::flag(version, "storage")).count();
    let at = path.child("versions");
    if versions.is_empty() {
        errors.required(&at, "must have at least one version");
    } else if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(&at, get(given, "versions").clone(), detail);
    }
    let mut seen = HashSet::new();
    for (path, version) in indexed(given, "versions", path) {
        let name = text(version, "name");
        reasons(errors, (&path, "name"), name, names::is_dns1035_label(name));
        if !seen.insert(name) {
            let detail = "must contain unique version names";
            errors.invalid(&at, get(given, "versions").clone(), detail);
        }
        if !has(get(version, "schema"), "openAPIV3Schema") {
            errors.required(&path.child("schema").child("openAPIV3Schema"), "schemas are required");
        }
    }
}

fn definition_names(errors: &mut ErrorList, given: &Value, path: &Path) {
    for field in ["plural", "singular"] {
        let name = text(given, field);
        if name.is_empty() && field == "plural" {
            errors.required(&path.child(field), "");
        } else if !name.is_empty() {
            reasons(errors, (path, field), name, names::is_dns1035_label(name));
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(given, field);
        if name.is_empty() {
            errors.required(&path.child(field), "");
            continue;
        }
        for why in names::is_dns1035_label(&name.to_lowercase()) {
            let detail = format!("may have mixed case, but should otherwise match: {why}");
            errors.invalid(&path.child(field), name, detail);
        }
    }
    if !text(given, "kind").is_empty() && text(given, "kind") == text(given, "listKind") {
        errors.invalid(
            &path.child("listKind"),
            text(given, "listKind"),
            "kind and listKind may not be the same",
        );
    }
    for field in ["shortNames", "categories"] {
        for (path, name) in indexed(given, field, path) {
            let name = name.as_str().unwrap_or_default();
            reasons(errors, &path, name, names::is_dns1035_label(name));
        }
    }
}

/// Versions that objects may still be stored in can't be taken away.
fn stored_versions(errors: &mut ErrorList, object: &Value) {
    let known: Vec<&str> =
        list(get(object, "spec"), "versions").iter().map(|version| text(version, "name")).collect();
    for (path, version) in indexed(get(object, "status"), "storedVersions", &Path::new("status")) {
        let version = version.as_str().unwrap_or_default();
        if !known.contains(&version) {
            let detail = "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions";
            errors.invalid(&path, version, detail.replace("v1", version));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts_of(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn definitions_and_webhooks() {
        let definition = json!({"metadata": {"name": "x.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        assert_eq!(
            texts_of(validate_definition(&definition, None)),
            ["metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group"]
        );
        let hook = json!({"webhooks": [{"name": "a.b", "sideEffects": "Some"}]});
        let mut hook = hook;
        crate::defaults::extension::validating_webhooks(&mut hook);
        assert_eq!(
            texts_of(validate_webhooks(&hook, None)),
            [
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ]
        );
        let service = json!({"metadata": {"name": "v1.a"}, "spec": {"group": "a.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100}});
        assert_eq!(
            texts_of(validate_api_service(&service, None)),
            [
                "metadata.name: Invalid value: \"v1.a\": must be `spec.version+\".\"+spec.group`: \"v1.a.example.com\""
            ]
        );
    }
}
