//! Flow schemas and priority levels (`pkg/apis/flowcontrol/validation`).

use super::{dns_label, dns_subdomain, indexed, reasons, same, spec};
use crate::tree::{at, flag, get, has, int, list, text, texts};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::{names, object};
use serde_json::{Value, json};
use std::collections::HashSet;

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Most queues of a level.
const MOST_QUEUES: i64 = 10_000_000;

/// Bits of the hash by which requests are dealt to queues.
const HASH_BITS: i64 = 60;

/// The rule that everything is under.
pub fn everything(subjects: &Value) -> Value {
    let resources = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
    json!({
        "subjects": subjects,
        "resourceRules": [resources],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

/// The schema that no cluster is without, if it is one (`MandatoryFlowSchemas`).
pub fn mandatory_schema(name: &str) -> Option<Value> {
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    match name {
        EXEMPT => Some(json!({
            "priorityLevelConfiguration": {"name": EXEMPT},
            "matchingPrecedence": 1,
            "rules": [everything(&json!([group("system:masters")]))],
        })),
        CATCH_ALL => Some(json!({
            "priorityLevelConfiguration": {"name": CATCH_ALL},
            "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [everything(&json!([group("system:unauthenticated"), group("system:authenticated")]))],
        })),
        _ => None,
    }
}

/// The same for levels (`MandatoryPriorityLevelConfigurations`).
pub fn mandatory_level(name: &str) -> Option<Value> {
    match name {
        EXEMPT => Some(json!({
            "type": "Exempt",
            "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
        })),
        CATCH_ALL => Some(json!({
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
        })),
        _ => None,
    }
}

/// A flow schema, new or changed.
pub fn validate_flow_schema(tree: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path, name) = (get(tree, "spec"), spec(), object::name(tree));
    let precedence = int(given, "matchingPrecedence");
    let mut wrong = |why: &str| errors.invalid(&path.child("matchingPrecedence"), precedence, why);
    if precedence <= 0 {
        wrong("must be a positive value");
    }
    if precedence > 10_000 {
        wrong("must not be greater than 10000");
    }
    if precedence == 1 && name != EXEMPT {
        wrong("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = get(given, "distinguisherMethod");
    if has(given, "distinguisherMethod") && !matches!(text(method, "type"), "ByUser" | "ByNamespace") {
        let at = path.child("distinguisherMethod.type");
        errors.not_supported(&at, method.clone(), &["ByNamespace", "ByUser"]);
    }
    let at = path.child("priorityLevelConfiguration.name");
    match text(get(given, "priorityLevelConfiguration"), "name") {
        "" => errors.required(&at, "must reference a priority level"),
        level => dns_subdomain(&mut errors, &at, level),
    }
    for (path, rule) in indexed(given, "rules", &path) {
        rules(&mut errors, rule, &path);
    }
    if mandatory_schema(name).is_some_and(|fixed| !same(given, &fixed)) {
        errors.invalid(&path, given.clone(), format!("spec of '{name}' must equal the fixed value"));
    }
    errors.extend(conditions(tree));
    errors
}

fn rules(errors: &mut ErrorList, rule: &Value, path: &Path) {
    if list(rule, "subjects").is_empty() {
        errors.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    for (path, one) in indexed(rule, "subjects", path) {
        subject(errors, one, &path);
    }
    if list(rule, "resourceRules").is_empty() && list(rule, "nonResourceRules").is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (path, one) in indexed(rule, "resourceRules", path) {
        verbs(errors, one, &path);
        some(
            errors,
            one,
            &path,
            "apiGroups",
            "resource rules must supply at least one api group",
            "api groups",
        );
        some(
            errors,
            one,
            &path,
            "resources",
            "resource rules must supply at least one resource",
            "resources",
        );
        namespaces(errors, one, &path);
    }
    for (path, one) in indexed(rule, "nonResourceRules", path) {
        verbs(errors, one, &path);
        let why = "nonResourceURLs must contain at least one value";
        if some(errors, one, &path, "nonResourceURLs", why, "non-resource URLs") {
            continue;
        }
        for (path, url) in indexed(one, "nonResourceURLs", &path) {
            non_resource(errors, url.as_str().unwrap_or_default(), &path);
        }
    }
}

fn subject(errors: &mut ErrorList, subject: &Value, path: &Path) {
    const PARTS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    let Some((_, own)) = PARTS.iter().find(|(name, _)| *name == kind) else {
        return errors.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
    };
    let (part, at) = (get(subject, own), path.child(own));
    if !has(subject, own) {
        errors.required(&at, &format!("{own} is required when subject kind is '{kind}'"));
    } else {
        match text(part, "name") {
            "" => errors.required(&at.child("name"), ""),
            name if kind == "ServiceAccount" && name != "*" => dns_subdomain(errors, (&at, "name"), name),
            _ => {}
        }
        if kind == "ServiceAccount" {
            match text(part, "namespace") {
                "" => errors.required(&at.child("namespace"), "must specify namespace for service account"),
                namespace => dns_label(errors, (&at, "namespace"), namespace),
            }
        }
    }
    for (of, other) in PARTS.iter().filter(|(name, other)| *name != kind && has(subject, other)) {
        let why = format!("{other} is forbidden when subject kind is not '{of}'");
        errors.forbidden(&path.child(other), why);
    }
}

/// A list that must hold something, and nothing else if it holds a `*`. Whether it does hold one.
fn some(errors: &mut ErrorList, rule: &Value, path: &Path, field: &str, none: &str, called: &str) -> bool {
    let (given, path) = (texts(rule, field), path.child(field));
    let is_all = given.contains(&"*");
    if given.is_empty() {
        errors.required(&path, none);
    } else if is_all && given.len() > 1 {
        let why = format!("if '*' is present, must not specify other {called}");
        errors.invalid(&path, get(rule, field).clone(), why);
    }
    is_all
}

fn verbs(errors: &mut ErrorList, rule: &Value, path: &Path) {
    let is_all = some(errors, rule, path, "verbs", "verbs must contain at least one value", "verbs");
    if !is_all && texts(rule, "verbs").iter().any(|verb| !VERBS.contains(verb)) {
        errors.not_supported(&path.child("verbs"), get(rule, "verbs").clone(), VERBS);
    }
}

fn namespaces(errors: &mut ErrorList, rule: &Value, path: &Path) {
    let given = texts(rule, "namespaces");
    if given.is_empty() && flag(rule, "clusterScope") {
        return;
    }
    let why = "resource rules that are not cluster scoped must supply at least one namespace";
    if some(errors, rule, path, "namespaces", why, "namespaces") {
        return;
    }
    for (path, namespace) in indexed(rule, "namespaces", path) {
        let namespace = namespace.as_str().unwrap_or_default();
        let why = names::is_dns1123_label(namespace);
        let why =
            why.iter().map(|why| format!("each member of this list must be '*' or a DNS-1123 label; {why}"));
        reasons(errors, &path, namespace, why.collect());
    }
}

fn non_resource(errors: &mut ErrorList, url: &str, path: &Path) {
    let stars = url.matches('*').count();
    let why = match url {
        "" => "must not be empty",
        "/" => return,
        _ if !url.starts_with('/') => "must start with slash",
        _ if url.contains(' ') => "must not contain white-space",
        _ if url.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return,
    };
    errors.invalid(path, url, why);
}

/// A priority level, new or changed.
pub fn validate_priority_level(tree: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path, name) = (get(tree, "spec"), spec(), object::name(tree));
    let type_ = text(given, "type");
    if (name == EXEMPT) != (type_ == "Exempt") {
        let why = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.invalid(&path.child("type"), type_, why);
    }
    match type_ {
        "Exempt" => {
            if has(given, "limited") {
                errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited");
            }
            shares(&mut errors, get(given, "exempt"), &path.child("exempt"));
        }
        "Limited" => {
            if has(given, "exempt") {
                errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            if has(given, "limited") {
                limited(&mut errors, get(given, "limited"), &path.child("limited"));
            } else {
                errors.required(&path.child("limited"), "must not be empty when type is Limited");
            }
        }
        other => errors.not_supported(&path.child("type"), other, &["Exempt", "Limited"]),
    }
    if let Some(mut fixed) = mandatory_level(name) {
        let mut why = format!("spec of '{name}' must equal the fixed value");
        if name == EXEMPT {
            // What others may borrow of it is for the cluster's owner to say.
            fixed["exempt"] = get(given, "exempt").clone();
            why = format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
        }
        if !same(given, &fixed) {
            errors.invalid(&path, given.clone(), why);
        }
    }
    errors.extend(conditions(tree));
    errors
}

/// What both types of levels say of their shares.
fn shares(errors: &mut ErrorList, level: &Value, path: &Path) {
    let nominal = int(level, "nominalConcurrencyShares");
    if nominal < 0 {
        errors.invalid(&path.child("nominalConcurrencyShares"), nominal, "must be a non-negative integer");
    }
    let lendable = int(level, "lendablePercent");
    if !(0..=100).contains(&lendable) {
        errors.invalid(&path.child("lendablePercent"), lendable, "must be between 0 and 100, inclusive");
    }
}

fn limited(errors: &mut ErrorList, limited: &Value, path: &Path) {
    shares(errors, limited, path);
    if let Some(most) = get(limited, "borrowingLimitPercent").as_i64().filter(|most| *most < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), most, why);
    }
    let (answer, path) = (get(limited, "limitResponse"), path.child("limitResponse"));
    let at = path.child("queuing");
    match text(answer, "type") {
        "Reject" if has(answer, "queuing") => {
            errors.forbidden(&at, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if has(answer, "queuing") => queuing(errors, get(answer, "queuing"), &at),
        "Queue" => errors.required(&at, "must not be empty if limited.limitResponse.type is Limited"),
        other => errors.not_supported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn queuing(errors: &mut ErrorList, queuing: &Value, path: &Path) {
    let [length, queues, hand] = ["queueLengthLimit", "queues", "handSize"].map(|field| int(queuing, field));
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > MOST_QUEUES {
        errors.invalid(&path.child("queues"), queues, format!("must not be greater than {MOST_QUEUES}"));
    }
    let why = if hand <= 0 {
        "must be positive".to_string()
    } else if hand > queues {
        format!("should not be greater than queues ({queues})")
    } else if entropy(queues, hand) > HASH_BITS {
        format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        )
    } else {
        return;
    };
    errors.invalid(&path.child("handSize"), hand, why);
}

/// Bits that it takes to tell which hand somebody has (`RequiredEntropyBits` of apiserver's `shufflesharding`).
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "both are far below 2^53")]
fn entropy(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}

/// A new status of either.
pub fn validate_status(tree: &Value, _old: &Value) -> ErrorList {
    conditions(tree)
}

fn conditions(tree: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let mut seen = HashSet::new();
    for (path, condition) in indexed(at(tree, &["status"]), "conditions", &Path::new("status")) {
        let type_ = text(condition, "type");
        if !seen.insert(type_) {
            errors.duplicate(&path.child("type"), type_);
        }
        if type_.is_empty() {
            errors.required(&path.child("type"), "must not be empty");
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_cluster_is_without_stays_as_it_is() {
        let schema = |name: &str, spec: Value| {
            validate_flow_schema(&json!({"metadata": {"name": name}, "spec": spec}), None).aggregate()
        };
        for name in [EXEMPT, CATCH_ALL] {
            let fixed = mandatory_schema(name).unwrap();
            assert_eq!(schema(name, fixed.clone()), "[]");
            let mut other = fixed;
            other["rules"][0]["subjects"][0]["group"]["name"] = "developers".into();
            let why = schema(name, other);
            assert!(why.ends_with(&format!("spec of '{name}' must equal the fixed value")), "{why}");
        }
        let level = |name: &str, spec: Value| {
            validate_priority_level(&json!({"metadata": {"name": name}, "spec": spec}), None).aggregate()
        };
        assert_eq!(level(EXEMPT, mandatory_level(EXEMPT).unwrap()), "[]");
        assert_eq!(level(EXEMPT, json!({"type": "Exempt", "exempt": {"lendablePercent": 50}})), "[]");
        assert_eq!(level(CATCH_ALL, mandatory_level(CATCH_ALL).unwrap()), "[]");
    }

    #[test]
    fn slips_are_told_in_upstreams_words() {
        let level = |limited: Value| {
            let tree = json!({"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": limited}});
            validate_priority_level(&tree, None).aggregate()
        };
        let queue = |queues: i64, hand: i64| {
            let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
            json!({"nominalConcurrencyShares": 5, "limitResponse": {"type": "Queue", "queuing": queuing}})
        };
        assert_eq!(level(queue(128, 6)), "[]");
        let at = "spec.limited.limitResponse.queuing.handSize";
        assert_eq!(
            level(queue(4, 6)),
            format!("{at}: Invalid value: 6: should not be greater than queues (4)")
        );
        assert_eq!(
            level(queue(128, 10)),
            format!(
                "{at}: Invalid value: 10: required entropy bits of deckSize 128 and handSize 10 should not be greater than 60"
            )
        );
        let rule = json!({"subjects": [{"kind": "User", "group": {"name": "g"}}], "resourceRules": [
            {"verbs": ["eat"], "apiGroups": ["*"], "resources": ["*"]}]});
        let tree = json!({"metadata": {"name": "mine"}, "spec": {"matchingPrecedence": 1, "rules": [rule],
            "priorityLevelConfiguration": {"name": "exempt"}}});
        let told = validate_flow_schema(&tree, None);
        let fields: Vec<_> = told.iter().map(|error| error.to_string()).collect();
        assert_eq!(
            fields,
            [
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"eat\"]: supported values: \"create\", \"delete\", \
                 \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must \
                 supply at least one namespace",
            ]
        );
    }
}
