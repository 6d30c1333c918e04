//! Rows of the small groups: access control, certificates, leases, classes, admission, aggregation.

use super::{NONE, UNSET, age, name, or};
use crate::kind::{Cell, Column};
use crate::tree::{at, flag, get, has, int, list, text};
use drydock_apimachinery::duration;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of role bindings of both scopes.
pub const ROLE_BINDING: &[Column] = &[
    Column::NAME,
    Column::text(
        "Role",
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace.",
    ),
    Column::AGE,
    Column::text("Users", "Users in the roleBinding").wide(),
    Column::text("Groups", "Groups in the roleBinding").wide(),
    Column::text("ServiceAccounts", "ServiceAccounts in the roleBinding").wide(),
];

/// A role binding.
pub fn role_binding(object: &Value, now: Timestamp) -> Vec<Cell> {
    let role = get(object, "roleRef");
    let subjects = |kind: &str| {
        let all: Vec<_> = list(object, "subjects")
            .iter()
            .filter(|one| text(one, "kind") == kind)
            .map(|one| match (kind, text(one, "namespace")) {
                ("ServiceAccount", namespace) => format!("{namespace}/{}", text(one, "name")),
                _ => text(one, "name").to_string(),
            })
            .collect();
        json!(all.join(", "))
    };
    vec![
        name(object),
        json!(format!("{}/{}", text(role, "kind"), text(role, "name"))),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

/// Columns of certificate signing requests.
pub const SIGNING_REQUEST: &[Column] = &[
    Column::NAME,
    Column::AGE,
    Column::text("SignerName", "signerName indicates the requested signer, and is a qualified name."),
    Column::text(
        "Requestor",
        "username contains the name of the user that created the CertificateSigningRequest.",
    ),
    Column::text(
        "RequestedDuration",
        "expirationSeconds is the requested duration of validity of the issued certificate.",
    ),
    Column::text("Condition", "conditions applied to the request."),
];

/// A certificate signing request.
pub fn signing_request(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let asked =
        get(spec, "expirationSeconds").as_i64().map_or_else(|| NONE.to_string(), duration::human_duration);
    vec![
        name(object),
        age(object, now),
        json!(or(text(spec, "signerName"), NONE)),
        json!(text(spec, "username")),
        json!(asked),
        json!(signing_status(get(object, "status"))),
    ]
}

fn signing_status(status: &Value) -> String {
    let holds = |kind: &str| list(status, "conditions").iter().any(|one| text(one, "type") == kind);
    let mut words = if holds("Denied") {
        "Denied"
    } else if holds("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_string();
    if holds("Failed") {
        words.push_str(",Failed");
    }
    if !text(status, "certificate").is_empty() {
        words.push_str(",Issued");
    }
    words
}

/// Columns of leases.
pub const LEASE: &[Column] = &[
    Column::NAME,
    Column::text("Holder", "holderIdentity contains the identity of the holder of a current lease."),
    Column::AGE,
];

/// A lease.
pub fn lease(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(get(object, "spec"), "holderIdentity")), age(object, now)]
}

/// Columns of priority classes.
pub const PRIORITY_CLASS: &[Column] = &[
    Column::NAME,
    Column::integer("Value", "value represents the integer value of this priority class."),
    Column {
        type_: "boolean",
        ..Column::text(
            "Global-Default",
            "globalDefault specifies whether this PriorityClass should be considered as the default priority for pods that do not have any priority class.",
        )
    },
    Column::AGE,
    Column::text(
        "PreemptionPolicy",
        "preemptionPolicy is the Policy for preempting pods with lower priority.",
    ),
];

/// A priority class.
pub fn priority_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![
        name(object),
        json!(int(object, "value")),
        json!(flag(object, "globalDefault")),
        age(object, now),
        json!(get(object, "preemptionPolicy").as_str().unwrap_or("PreemptLowerPriority")),
    ]
}

/// Columns of runtime classes.
pub const RUNTIME_CLASS: &[Column] = &[
    Column::NAME,
    Column::text(
        "Handler",
        "handler specifies the underlying runtime and configuration that the CRI implementation will use to handle pods of this class.",
    ),
    Column::AGE,
];

/// A runtime class.
pub fn runtime_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(text(object, "handler")), age(object, now)]
}

/// Columns of webhook configurations.
pub const WEBHOOKS: &[Column] = &[
    Column::NAME,
    Column::integer("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"),
    Column::AGE,
];

/// A webhook configuration.
pub fn webhooks(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(list(object, "webhooks").len()), age(object, now)]
}

/// Columns of validating admission policies.
pub const ADMISSION_POLICY: &[Column] = &[
    Column::NAME,
    Column::integer(
        "Validations",
        "Validations indicates the number of validation rules defined in this configuration",
    ),
    Column::text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
    Column::AGE,
];

/// A validating admission policy.
pub fn admission_policy(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let kind = get(spec, "paramKind");
    let kind = if has(spec, "paramKind") {
        format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind"))
    } else {
        UNSET.into()
    };
    vec![name(object), json!(list(spec, "validations").len()), json!(kind), age(object, now)]
}

/// Columns of their bindings.
pub const ADMISSION_BINDING: &[Column] = &[
    Column::NAME,
    Column::text(
        "PolicyName",
        "PolicyName indicates the policy definition which the policy binding binded to",
    ),
    Column::text("ParamRef", "ParamRef indicates the param resource which sets the configration param"),
    Column::AGE,
];

/// A binding of a validating admission policy.
pub fn admission_binding(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let param = get(spec, "paramRef");
    let shown = match (text(param, "name"), text(param, "namespace")) {
        ("", _) if has(param, "selector") => super::labels::format_selector(get(param, "selector")),
        ("", _) => UNSET.into(),
        // Whether the parameter has a namespace can't be told from here.
        (named, "") => format!("*/{named}"),
        (named, namespace) => format!("{namespace}/{named}"),
    };
    vec![name(object), json!(text(spec, "policyName")), json!(shown), age(object, now)]
}

/// Columns of aggregated services.
pub const API_SERVICE: &[Column] = &[
    Column::NAME,
    Column::text("Service", "The reference to the service that hosts this API endpoint."),
    Column::text("Available", "Whether this service is available."),
    Column::AGE,
];

/// An aggregated service.
pub fn api_service(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let service = get(spec, "service");
    let where_ = if has(spec, "service") {
        format!("{}/{}", text(service, "namespace"), text(service, "name"))
    } else {
        "Local".into()
    };
    let available =
        list(at(object, &["status"]), "conditions").iter().find(|one| text(one, "type") == "Available");
    let available = match available {
        None => "Unknown".to_string(),
        Some(condition) if text(condition, "status") == "True" => "True".into(),
        Some(condition) => format!("{} ({})", text(condition, "status"), text(condition, "reason")),
    };
    vec![name(object), json!(where_), json!(available), age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_and_requests() {
        let object = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u1"}, {"kind": "User", "name": "u2"}, {"kind": "Group", "name": "g"},
            {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"}]});
        assert_eq!(
            Value::from(role_binding(&object, Timestamp::UNIX_EPOCH)),
            json!(["b", "Role/r", "<unknown>", "u1, u2", "g", "ns/sa"])
        );
        let words = |status: Value| signing_status(&status);
        let condition = |kind: &str| json!([{"type": kind}]);
        assert_eq!(words(json!({})), "Pending");
        assert_eq!(
            words(json!({"conditions": condition("Approved"), "certificate": "eA=="})),
            "Approved,Issued"
        );
        assert_eq!(words(json!({"conditions": condition("Denied")})), "Denied");
        let object =
            json!({"spec": {"signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 3600}});
        assert_eq!(signing_request(&object, Timestamp::UNIX_EPOCH)[4], "60m");
    }
}
