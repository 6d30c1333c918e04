//! The rest of the core group.

use super::{
    dns_label, dns_subdomain, immutable, indexed, internal, is_native_resource, is_standard_quota_resource,
    is_valid_ip, keyed, may_be_overcommitted, non_special_ip, nonnegative, protocol, qualified_name, reasons,
    resource_name, resource_quantity, same, scheduling, spec,
};
use crate::tree::{at, entries, flag, get, has, int, list, text, texts};
use base64::Engine;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::object;
use drydock_apimachinery::quantity::{Format, Quantity};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const MOST_DATA: usize = 1024 * 1024;

fn sealed(errors: &mut ErrorList, new: &Value, old: &Value, fields: &[&str]) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errors.forbidden(&Path::new("immutable"), DETAIL);
    }
    for field in fields {
        if !same(get(new, field), get(old, field)) {
            errors.forbidden(&Path::new(field), DETAIL);
        }
    }
}

/// A config map, new or changed.
pub fn validate_config_map(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    if let Some(old) = old {
        sealed(&mut errors, object, old, &["data", "binaryData"]);
    }
    let root = Path::default();
    let mut size = 0;
    for (key, value, path) in keyed(object, "data", &root) {
        reasons(&mut errors, &path, key, names::is_config_map_key(key));
        if has(get(object, "binaryData"), key) {
            errors.invalid(&path, key, "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value, path) in keyed(object, "binaryData", &root) {
        reasons(&mut errors, &path, key, names::is_config_map_key(key));
        size += decoded_length(value);
    }
    if size > MOST_DATA {
        // The whole object is meant: `field.NewPath("")`, which prints so.
        errors.too_long(&Path::new("[]"), MOST_DATA);
    }
    errors
}

fn decoded_length(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4)
}

/// A secret, new or changed.
pub fn validate_secret(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    if let Some(old) = old {
        immutable(&mut errors, get(object, "type"), get(old, "type"), &Path::new("type"));
        sealed(&mut errors, object, old, &["data"]);
    }
    let root = Path::default();
    let mut size = 0;
    for (key, value, path) in keyed(object, "data", &root) {
        reasons(&mut errors, &path, key, names::is_config_map_key(key));
        size += decoded_length(value);
    }
    if size > MOST_DATA {
        errors.too_long(&Path::new("data"), MOST_DATA);
    }
    secret_type(&mut errors, object);
    errors
}

fn secret_type(errors: &mut ErrorList, object: &Value) {
    let (data, path) = (get(object, "data"), Path::new("data"));
    let needed = |errors: &mut ErrorList, keys: &[&str]| {
        for key in keys {
            if !has(data, key) {
                errors.required(&path.key(key), "");
            }
        }
    };
    match text(object, "type") {
        "kubernetes.io/service-account-token" => {
            const KEY: &str = "kubernetes.io/service-account.name";
            if at(object, &["metadata", "annotations", KEY]).as_str().is_none_or(str::is_empty) {
                errors.required(&Path::new("metadata").entry("annotations", KEY), "");
            }
        }
        "kubernetes.io/dockercfg" => docker_config(errors, data, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => docker_config(errors, data, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has(data, "username") && !has(data, "password") => {
            needed(errors, &["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => needed(errors, &["tls.crt", "tls.key"]),
        _ => {}
    }
}

fn docker_config(errors: &mut ErrorList, data: &Value, key: &str) {
    let data_path = Path::new("data");
    let path = data_path.key(key);
    let Some(encoded) = get(data, key).as_str() else {
        errors.required(&path, "");
        return;
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    if let Err(error) = drydock_apimachinery::decode::json_object(&decoded) {
        errors.invalid(&path, "<secret contents redacted>", error);
    }
}

/// A namespace.
pub fn validate_namespace(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    if old.is_none() {
        finalizers(&mut errors, object);
    }
    errors
}

/// `namespaces/NAME/finalize`.
pub fn validate_finalize(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    finalizers(&mut errors, object);
    errors
}

fn finalizers(errors: &mut ErrorList, object: &Value) {
    for (path, finalizer) in indexed(get(object, "spec"), "finalizers", &spec()) {
        let finalizer = finalizer.as_str().unwrap_or_default();
        qualified_name(errors, &path, finalizer);
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path, finalizer, detail);
        }
    }
}

/// A namespace's phase follows from whether it is being deleted.
pub fn validate_namespace_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let phase = text(get(object, "status"), "phase");
    let (wanted, when) = if object::is_deleting(object) {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase != wanted {
        errors.invalid(&Path::new("status.Phase"), phase, when);
    }
    errors
}

/// A node, new or changed.
pub fn validate_node(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let metadata = Path::new("metadata");
    scheduling::taints(&mut errors, get(object, "spec"), &metadata);
    node_resources(&mut errors, object);
    let (given, path) = (get(object, "spec"), spec());
    for (index, network) in texts(given, "podCIDRs").into_iter().enumerate() {
        if super::cidr(network).is_none() {
            let at = path.element("podCIDRs", index);
            errors.invalid(&at, network, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
    let Some(old) = old else { return errors };
    let before = get(old, "spec");
    if !list(before, "podCIDRs").is_empty() && get(before, "podCIDRs") != get(given, "podCIDRs") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.forbidden(&path.child("podCIDRs"), detail);
    }
    if !text(before, "providerID").is_empty() && text(before, "providerID") != text(given, "providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&path.child("providerID"), detail);
    }
    errors
}

/// What a kubelet says of its node.
pub fn validate_node_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    node_resources(&mut errors, object);
    let mut seen = HashSet::new();
    for (path, address) in indexed(get(object, "status"), "addresses", &Path::new("status")) {
        if !seen.insert((text(address, "type"), text(address, "address"))) {
            errors.duplicate(&path, internal::shown("NodeAddress", address));
        }
    }
    errors
}

fn node_resources(errors: &mut ErrorList, object: &Value) {
    for field in ["capacity", "allocatable"] {
        for (name, amount) in entries(get(object, "status"), field) {
            resource_quantity(errors, name, amount, &Path::new("status").child(field).child(name));
        }
    }
}

/// A limit range.
pub fn validate_limit_range(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let mut kinds = HashSet::new();
    for (path, item) in indexed(get(object, "spec"), "limits", &spec()) {
        limit(&mut errors, item, &path, &mut kinds);
    }
    errors
}

fn limit<'a>(errors: &mut ErrorList, item: &'a Value, path: &Path, kinds: &mut HashSet<&'a str>) {
    let kind = text(item, "type");
    let before = errors.len();
    qualified_name(errors, (path, "type"), kind);
    let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if errors.len() == before && !kind.contains('/') && !standard {
        errors.invalid(&path.child("type"), kind, "must be a standard limit type or fully qualified");
    }
    if !kinds.insert(kind) {
        errors.duplicate(&path.child("type"), kind);
    }
    let mut amounts: BTreeMap<&str, BTreeMap<&str, Quantity>> = BTreeMap::new();
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if kind == "Pod" && field.starts_with("default") {
            if entries(item, field).next().is_some() {
                errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount, path) in keyed(item, field, path) {
            if matches!(kind, "Pod" | "Container") {
                super::container_resource_name(errors, name, &path);
            } else {
                resource_name(errors, name, &path);
            }
            if let Some(amount) = Quantity::of(amount) {
                amounts.entry(field).or_default().insert(name, amount);
            }
        }
    }
    let storage = |field: &str| amounts.get(field).is_some_and(|all| all.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    let names: BTreeSet<&str> = amounts.values().flat_map(BTreeMap::keys).copied().collect();
    for name in names {
        let of = |field: &str| amounts.get(field).and_then(|all| all.get(name)).copied();
        limit_order(errors, name, &of, path);
    }
}

fn limit_order(errors: &mut ErrorList, name: &str, of: &dyn Fn(&str) -> Option<Quantity>, path: &Path) {
    // Field of the error, smaller and larger of two, and how they are called.
    const ORDER: [(&str, &str, &str, &str, &str, bool); 6] = [
        ("min", "min", "max", "min value", "max value", false),
        ("defaultRequest", "min", "defaultRequest", "min value", "default request value", true),
        ("defaultRequest", "defaultRequest", "max", "default request value", "max value", false),
        (
            "defaultRequest",
            "defaultRequest",
            "default",
            "default request value",
            "default limit value",
            false,
        ),
        ("default", "min", "default", "min value", "default value", false),
        ("default", "default", "max", "default value", "max value", true),
    ];
    for (field, small, large, small_name, large_name, show_large) in ORDER {
        let (Some(smaller), Some(larger)) = (of(small), of(large)) else { continue };
        if smaller > larger {
            let detail = format!("{small_name} {smaller} is greater than {large_name} {larger}");
            let shown = if show_large { larger } else { smaller };
            errors.invalid(&path.entry(field, name), shown.to_string(), detail);
        }
    }
    let ratio_path = path.entry("maxLimitRequestRatio", name);
    if let Some(ratio) = of("maxLimitRequestRatio") {
        if ratio < Quantity::new(1, Format::DecimalSi) {
            errors.invalid(&ratio_path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(least), Some(most)) = (of("min"), of("max"))
            && !least.is_zero()
        {
            let possible = most.as_f64() / least.as_f64();
            if ratio.as_f64() > possible {
                let detail = format!("ratio {ratio} is greater than max/min = {possible:.6}");
                errors.invalid(&ratio_path, ratio.to_string(), detail);
            }
        }
    }
    if !may_be_overcommitted(name)
        && let (Some(limit), Some(request)) = (of("default"), of("defaultRequest"))
        && limit != request
    {
        let detail = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&path.entry("defaultRequest", name), request.to_string(), detail);
    }
}

/// A resource quota, new or changed.
pub fn validate_quota(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    quota_amounts(&mut errors, get(object, "spec"), "hard", &spec());
    quota_scopes(&mut errors, get(object, "spec"));
    if let Some(old) = old {
        let scopes = |one: &Value| -> BTreeSet<String> {
            texts(get(one, "spec"), "scopes").into_iter().map(str::to_string).collect()
        };
        if scopes(object) != scopes(old) {
            let path = Path::new("spec.scopes");
            errors.invalid(&path, at(object, &["spec", "scopes"]).clone(), super::IMMUTABLE);
        }
    }
    errors
}

/// What the quota controller says.
pub fn validate_quota_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    for field in ["hard", "used"] {
        quota_amounts(&mut errors, get(object, "status"), field, &Path::new("status"));
    }
    errors
}

fn quota_amounts(errors: &mut ErrorList, holder: &Value, field: &str, path: &Path) {
    for (name, amount, path) in keyed(holder, field, path) {
        resource_name_of_quota(errors, name, &path);
        resource_quantity(errors, name, amount, &path);
    }
}

fn resource_name_of_quota(errors: &mut ErrorList, name: &str, path: &Path) {
    // `count/RESOURCE.GROUP` and `requests.VENDOR/…` are qualified names like any.
    resource_name(errors, name, path);
    if !name.contains('/') && !is_standard_quota_resource(name) && is_native_resource(name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

fn quota_scopes(errors: &mut ErrorList, given: &Value) {
    const SCOPES: [&str; 7] = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];
    let scopes = texts(given, "scopes");
    let path = Path::new("spec.scopes");
    let shown = get(given, "scopes").clone();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&path, shown.clone(), "unsupported scope");
        }
        for (name, _) in entries(given, "hard") {
            let fits = match *scope {
                "BestEffort" => name == "pods" || name == "count/pods",
                _ => !matches!(&name[..], "services" | "secrets" | "configmaps" | "persistentvolumeclaims"),
            };
            if !fits {
                errors.invalid(&path, shown.clone(), "unsupported scope applied to resource");
            }
        }
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&one) && scopes.contains(&other) {
            errors.invalid(&path, shown.clone(), "conflicting scopes");
        }
    }
    for expression in list(get(given, "scopeSelector"), "matchExpressions") {
        let path = Path::new("spec.scopeSelector.matchExpressions");
        let scope = text(expression, "scopeName");
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        let values = list(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                &path.child("values"),
                get(expression, "values").clone(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
    }
}

/// Endpoints.
pub fn validate_endpoints(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    for (path, subset) in indexed(object, "subsets", &Path::default()) {
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (path, address) in indexed(subset, field, &path) {
                let ip = text(address, "ip");
                reasons(&mut errors, &path.child("ip"), ip, is_valid_ip(ip));
                if !text(address, "hostname").is_empty() {
                    dns_label(&mut errors, &path.child("hostname"), text(address, "hostname"));
                }
                if let Some(node) = get(address, "nodeName").as_str() {
                    dns_subdomain(&mut errors, &path.child("nodeName"), node);
                }
                non_special_ip(&mut errors, ip, &path.child("ip"));
            }
        }
        let several = list(subset, "ports").len() > 1;
        for (path, port) in indexed(subset, "ports", &path) {
            let name = text(port, "name");
            if several && name.is_empty() {
                errors.required(&path.child("name"), "");
            } else if !name.is_empty() {
                dns_label(&mut errors, &path.child("name"), name);
            }
            for why in names::is_valid_port_num(int(port, "port")) {
                errors.invalid(&path.child("port"), int(port, "port"), why);
            }
            protocol(&mut errors, port, &path);
        }
    }
    errors
}

/// What only controllers tell of how many pods there are, each at most as many as there are in all.
pub fn replica_counts(object: &Value, fields: &[&str]) -> ErrorList {
    let mut errors = ErrorList::default();
    let (status, path) = (get(object, "status"), Path::new("status"));
    let all = int(status, "replicas");
    nonnegative(&mut errors, status, "replicas", &path);
    for field in fields {
        nonnegative(&mut errors, status, field, &path);
        if int(status, field) > all {
            errors.invalid(&path.child(field), int(status, field), "cannot be greater than status.replicas");
        }
    }
    if int(status, "availableReplicas") > int(status, "readyReplicas") {
        let at = path.child("availableReplicas");
        errors.invalid(&at, int(status, "availableReplicas"), "cannot be greater than readyReplicas");
    }
    nonnegative(&mut errors, status, "observedGeneration", &path);
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
    fn data() {
        assert_eq!(
            texts_of(validate_config_map(&json!({"data": {"a b": "x"}}), None)),
            [
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            ]
        );
        let old = json!({"immutable": true, "data": {"a": "1"}});
        assert_eq!(
            texts_of(validate_config_map(&json!({"immutable": true, "data": {"a": "2"}}), Some(&old))),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
        assert_eq!(
            texts_of(validate_secret(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), None)),
            ["data[tls.key]: Required value"]
        );
        for (config, why) in [
            ("", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ] {
            let data = json!({".dockerconfigjson": base64::engine::general_purpose::STANDARD.encode(config)});
            let secret = json!({"type": "kubernetes.io/dockerconfigjson", "data": data});
            let told =
                format!("data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": {why}");
            assert_eq!(texts_of(validate_secret(&secret, None)), [told]);
        }
        assert_eq!(
            texts_of(validate_secret(&json!({"type": "b"}), Some(&json!({"type": "a"})))),
            ["type: Invalid value: \"b\": field is immutable"]
        );
        let large = "x".repeat(MOST_DATA + 1);
        assert_eq!(
            texts_of(validate_config_map(&json!({"data": {"a": large}}), None)),
            ["[]: Too long: may not be more than 1048576 bytes"]
        );
    }

    #[test]
    fn limits_and_quotas() {
        let object = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "1"}}]}});
        assert_eq!(
            texts_of(validate_limit_range(&object, None)),
            [
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1"
            ]
        );
        let quota = |hard: Value| texts_of(validate_quota(&json!({"spec": {"hard": hard}}), None));
        assert_eq!(
            quota(
                json!({"pods": "4", "requests.cpu": "1", "limits.memory": "2Gi", "count/deployments.apps": "2", "services": "5"})
            ),
            Vec::<String>::new()
        );
        assert_eq!(
            quota(json!({"pods": "1.5"})),
            ["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"]
        );
        assert_eq!(
            quota(json!({"cpus": "1"}))[0],
            "spec.hard[cpus]: Invalid value: \"cpus\": must be a standard resource type or fully qualified"
        );
    }

    #[test]
    fn nodes() {
        let node = json!({"spec": {"providerID": "x"}});
        assert_eq!(
            texts_of(validate_node(&json!({"spec": {"providerID": "y"}}), Some(&node))),
            ["spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"]
        );
        assert_eq!(
            replica_counts(&json!({"status": {"replicas": 1, "readyReplicas": 2}}), &["readyReplicas"]).len(),
            1
        );
    }
}
