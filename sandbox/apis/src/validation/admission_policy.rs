//! Validating admission policies (k8s.io/kubernetes/pkg/apis/admissionregistration/validation): their expressions above all.

use super::{indexed, one_of, reasons, spec};
use crate::tree::{get, has, list, text};
use drydock_apimachinery::crd::policy::{Gives, Written};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::object;
use serde_json::Value;
use std::collections::HashSet;

/// Most conditions of a policy or webhook.
const MOST_CONDITIONS: usize = 64;
/// Most audit annotations of a policy.
const MOST_ANNOTATIONS: usize = 20;
/// Longest expression that makes the value of one.
const LONGEST_VALUE: usize = 5 * 1024;
const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];

/// A validating admission policy.
pub fn validate(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    one_of(
        &mut errors,
        text(given, "failurePolicy"),
        &path.child("failurePolicy"),
        &["Fail", "Ignore"],
        true,
    );
    if has(given, "paramKind") {
        param_kind(&mut errors, get(given, "paramKind"), &path.child("paramKind"));
    }
    if list(get(given, "matchConstraints"), "resourceRules").is_empty() {
        let at = path.child("matchConstraints");
        if has(given, "matchConstraints") {
            errors.required(&at.child("resourceRules"), "");
        } else {
            errors.required(&at, "");
        }
    }
    let mut written = Written::new(has(given, "paramKind"));
    match_conditions(&mut errors, given, &written, &path);
    for (path, variable) in indexed(given, "variables", &path) {
        written.with_variables();
        self::variable(&mut errors, variable, &mut written, &path);
    }
    if list(given, "validations").is_empty() && list(given, "auditAnnotations").is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), detail);
        errors.required(&path.child("auditAnnotations"), detail);
    }
    for (path, validation) in indexed(given, "validations", &path) {
        self::validation(&mut errors, validation, &written, &path);
    }
    annotations(&mut errors, object, &written, &path);
    errors
}

fn param_kind(errors: &mut ErrorList, kind: &Value, path: &Path) {
    let (at, version) = (path.child("apiVersion"), text(kind, "apiVersion"));
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.required(&at, ""),
        [version] => reasons(errors, &at, version, names::is_dns1035_label(version)),
        [group, version] => {
            reasons(errors, &at, group, names::is_dns1123_subdomain(group));
            reasons(errors, &at, version, names::is_dns1035_label(version));
        }
        _ => errors.invalid(&at, version, format!("unexpected GroupVersion string: {version}")),
    }
    let (at, kind) = (path.child("kind"), text(kind, "kind"));
    if kind.is_empty() {
        return errors.required(&at, "");
    }
    for why in names::is_dns1035_label(&kind.to_lowercase()) {
        errors.invalid(&at, kind, format!("may have mixed case, but should otherwise match: {why}"));
    }
}

/// Conditions of a policy or a webhook, which may name no variables.
pub fn match_conditions(errors: &mut ErrorList, of: &Value, written: &Written, path: &Path) {
    let count = list(of, "matchConditions").len();
    if count > MOST_CONDITIONS {
        errors.too_many(&path.child("matchConditions"), count, MOST_CONDITIONS);
    }
    let mut seen = HashSet::new();
    for (path, condition) in indexed(of, "matchConditions", path) {
        let (at, expression) = (path.child("expression"), text(condition, "expression").trim());
        if expression.is_empty() {
            errors.required(&at, "");
        } else {
            check(errors, written, expression, Gives::Bool, &at);
        }
        let (at, name) = (path.child("name"), text(condition, "name"));
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        reasons(errors, &at, name, names::is_qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
}

fn check(errors: &mut ErrorList, written: &Written, expression: &str, gives: Gives, path: &Path) {
    if let Err(detail) = written.check(expression, gives, gives != Gives::Text) {
        errors.invalid(path, expression, detail);
    }
}

fn variable(errors: &mut ErrorList, variable: &Value, written: &mut Written, path: &Path) {
    let (name, expression) = (text(variable, "name"), text(variable, "expression"));
    if name.trim().is_empty() {
        errors.required(&path.child("name"), "name is not specified");
    } else if !is_identifier(name) {
        errors.invalid(&path.child("name"), name, "name is not a valid CEL identifier");
    }
    let at = path.child("expression");
    if expression.trim().is_empty() {
        errors.required(&at, "expression is not specified");
    } else if let Err(detail) = written.add_variable(name, expression) {
        errors.invalid(&at, expression, detail);
    }
}

fn is_identifier(name: &str) -> bool {
    let fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fine && !name.starts_with(|c: char| c.is_ascii_digit())
        && !drydock_apimachinery::crd::is_reserved_word(name)
}

fn validation(errors: &mut ErrorList, validation: &Value, written: &Written, path: &Path) {
    let (expression, made) = (text(validation, "expression"), text(validation, "messageExpression"));
    if expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    } else {
        check(errors, written, expression, Gives::Bool, &path.child("expression"));
    }
    let at = path.child("messageExpression");
    if !made.is_empty() && made.trim().is_empty() {
        errors.invalid(&at, made, "must be non-empty if specified");
    } else if !made.is_empty() {
        check(errors, written, made, Gives::Text, &at);
    }
    let (at, message) = (path.child("message"), text(validation, "message"));
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&at, message, "message must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&at, message, "message must not contain line breaks");
    }
    if has(validation, "reason") {
        one_of(errors, text(validation, "reason"), &path.child("reason"), &REASONS, true);
    }
}

fn annotations(errors: &mut ErrorList, object: &Value, written: &Written, path: &Path) {
    let given = get(object, "spec");
    let count = list(given, "auditAnnotations").len();
    if count > MOST_ANNOTATIONS {
        let detail = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.invalid(&path.child("auditAnnotations"), get(given, "auditAnnotations").clone(), detail);
    }
    let mut seen = HashSet::new();
    for (path, annotation) in indexed(given, "auditAnnotations", path) {
        let (at, key) = (path.child("key"), text(annotation, "key"));
        let whole = format!("{}/{key}", object::name(object));
        reasons(errors, &at, &whole, names::is_qualified_name(&whole));
        let (value_at, value) = (path.child("valueExpression"), text(annotation, "valueExpression"));
        if value.trim().is_empty() {
            errors.required(&value_at, "valueExpression is not specified");
        } else if value.trim().len() > LONGEST_VALUE {
            errors.required(&value_at, &format!("must not exceed {LONGEST_VALUE} bytes in length"));
        } else if let Err(detail) = written.check(value.trim(), Gives::TextOrNull, true) {
            errors.invalid(&value_at, value, detail);
        }
        if !seen.insert(key) {
            errors.duplicate(&at, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(mut spec: Value) -> Vec<String> {
        let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]});
        spec["matchConstraints"] = json!({"resourceRules": [rule]});
        let mut policy = json!({"metadata": {"name": "p.example.com"}, "spec": spec});
        crate::defaults::extension::admission_policy(&mut policy);
        validate(&policy, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn expressions_are_checked_in_upstreams_words() {
        let failed = "compilation failed: ERROR: <input>:1:";
        assert_eq!(
            told(json!({"validations": [
                {"expression": "object.spec.replicas <= 5", "messageExpression": "'too many: ' + string(object.spec.replicas)", "reason": "Forbidden"},
                {"expression": "request.nope == ''"},
                {"expression": "object.spec.replicas"},
                {"expression": "object.spec.replicas <= params.most"},
                {"expression": " ", "message": "a\nb", "reason": "Whim"},
                {"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"},
                {"expression": "true", "messageExpression": "1"},
            ]})),
            [
                format!("spec.validations[1].expression: Invalid value: \"request.nope == ''\": {failed}8: undefined field 'nope'\n | request.nope == \
                         ''\n | .......^"),
                "spec.validations[2].expression: Invalid value: \"object.spec.replicas\": must evaluate to bool but got dyn".into(),
                format!("spec.validations[3].expression: Invalid value: \"object.spec.replicas <= params.most\": {failed}25: undeclared reference to \
                         'params' (in container '')\n | object.spec.replicas <= params.most\n | ........................^"),
                "spec.validations[4].expression: Required value: expression is not specified".into(),
                "spec.validations[4].message: Invalid value: \"a\\nb\": message must not contain line breaks".into(),
                "spec.validations[4].reason: Unsupported value: \"Whim\": supported values: \"Forbidden\", \"Invalid\", \
                 \"RequestEntityTooLarge\", \"Unauthorized\"".into(),
                format!("spec.validations[5].messageExpression: Invalid value: \"authorizer.path('/').check('get').reason()\": {failed}1: undeclared \
                         reference to 'authorizer' (in container '')\n | authorizer.path('/').check('get').reason()\n | ^"),
                "spec.validations[6].messageExpression: Invalid value: \"1\": must evaluate to string but got int".into(),
            ]
        );
    }

    #[test]
    fn variables_conditions_and_annotations_are_checked() {
        let told = told(json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [{"name": "a", "expression": "variables.many"}, {"name": "a", "expression": "params.data.size() > 0"}],
            "variables": [{"name": "many", "expression": "object.spec.replicas > 5"}, {"name": "in", "expression": "nope"}],
            "validations": [{"expression": "!variables.many"}, {"expression": "variables.many == 'a'"}, {"expression": "variables.none"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "1"}, {"key": "k", "valueExpression": "variables.many ? 'many' : 'few'"}],
        }));
        let starts: Vec<_> = told
            .iter()
            .map(|error| {
                error.split(" (in").next().unwrap_or_default().split("\n").next().unwrap_or_default()
            })
            .collect();
        assert_eq!(
            starts,
            [
                "spec.matchConditions[0].expression: Invalid value: \"variables.many\": compilation failed: ERROR: <input>:1:1: undeclared reference to \
                 'variables'",
                "spec.matchConditions[1].name: Duplicate value: \"a\"",
                "spec.variables[1].name: Invalid value: \"in\": name is not a valid CEL identifier",
                "spec.variables[1].expression: Invalid value: \"nope\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nope'",
                "spec.validations[1].expression: Invalid value: \"variables.many == 'a'\": compilation failed: ERROR: <input>:1:16: found no \
                 matching overload for '_==_' applied to '(bool, string)'",
                "spec.validations[2].expression: Invalid value: \"variables.none\": compilation failed: ERROR: <input>:1:10: undefined field 'none'",
                "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int",
                "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
            ]
        );
    }
}
