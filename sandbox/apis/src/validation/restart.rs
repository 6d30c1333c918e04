//! When a container is started again by its own word (`validateContainerRestartPolicy`).

use super::{indexed, one_of};
use crate::tree::{get, has, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use serde_json::Value;

/// Most rules of a container, and most exit codes of a rule.
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

/// A container's own policy and its rules.
pub fn policy_and_rules(errors: &mut ErrorList, container: &Value, path: &Path) {
    let rules = list(container, "restartPolicyRules");
    if has(container, "restartPolicy") {
        let (policy, at) = (text(container, "restartPolicy"), (path, "restartPolicy"));
        one_of(errors, policy, at, &["Always", "Never", "OnFailure"], true);
    } else if !rules.is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.required(&path.child("restartPolicy"), why);
    }
    if rules.len() > MAX_RULES {
        errors.too_many(&path.child("restartPolicyRules"), rules.len(), MAX_RULES);
    }
    for (path, rule) in indexed(container, "restartPolicyRules", path) {
        let action = text(rule, "action");
        if action != "Restart" {
            errors.not_supported(&path.child("action"), action, &["Restart"]);
        }
        let (codes, path) = (get(rule, "exitCodes"), path.child("exitCodes"));
        if codes.is_null() {
            errors.required(&path, "must be specified");
            continue;
        }
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.not_supported(&path.child("operator"), operator, &["In", "NotIn"]);
        }
        let values = list(codes, "values").len();
        if values > MAX_CODES {
            errors.too_many(&path.child("values"), values, MAX_CODES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_need_a_policy_an_action_and_codes() {
        let of = |container: Value| {
            let mut errors = ErrorList::default();
            policy_and_rules(&mut errors, &container, &Path::new("c"));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let rule = |action: &str, codes: Value| json!([{"action": action, "exitCodes": codes}]);
        let codes = json!({"operator": "In", "values": [42]});
        let good = json!({"restartPolicy": "Never", "restartPolicyRules": rule("Restart", codes.clone())});
        assert_eq!(of(good), Vec::<String>::new());
        for (container, said) in [
            (
                json!({"restartPolicyRules": rule("Restart", codes.clone())}),
                "c.restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": rule("Stop", codes)}),
                "c.restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\"",
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": rule("Restart", Value::Null)}),
                "c.restartPolicyRules[0].exitCodes: Required value: must be specified",
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": rule("Restart", json!({"values": [1]}))}),
                "c.restartPolicyRules[0].exitCodes.operator: Unsupported value: \"\": supported values: \"In\", \"NotIn\"",
            ),
        ] {
            assert_eq!(of(container), [said]);
        }
    }
}
