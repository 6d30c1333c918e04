//! What is wrong with an object, in the words of upstream's `pkg/apis/*/validation` (of 1.35): clients show these texts, and learners
//! search for them. Called by the engine with the new object and, on updates, the old one; after defaults and `prepare`. Metadata is
//! the engine's to check. Nothing in here changes anything.

pub mod admission_policy;
pub mod apps;
pub mod autoscaling;
pub mod batch;
mod container;
pub mod core;
mod cron;
mod diff;
pub mod events;
pub mod extension;
pub mod flowcontrol;
mod internal;
pub mod networking;
pub mod others;
pub mod pod;
pub mod pod_update;
pub mod resource;
mod restart;
mod scheduling;
pub mod service;
pub mod storage;
mod volumes;

use crate::tree::{entries, get, is_zero, list, text};
use drydock_apimachinery::field::{At, ErrorList, Path};
use drydock_apimachinery::names;
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;
use std::net::IpAddr;

const NEGATIVE: &str = "must be greater than or equal to 0";
const NOT_POSITIVE: &str = "must be greater than zero";
const IMMUTABLE: &str = "field is immutable";

fn spec() -> Path<'static> {
    Path::new("spec")
}

/// Each reason against a text.
fn reasons(errors: &mut ErrorList, at: impl At, value: &str, reasons: Vec<String>) {
    for reason in reasons {
        errors.invalid(&at.path(), value, reason);
    }
}

/// `ValidateDNS1123Label`.
fn dns_label(errors: &mut ErrorList, at: impl At, value: &str) {
    reasons(errors, at, value, names::is_dns1123_label(value));
}

/// `ValidateDNS1123Subdomain`, and names of most objects.
fn dns_subdomain(errors: &mut ErrorList, at: impl At, value: &str) {
    reasons(errors, at, value, names::is_dns1123_subdomain(value));
}

/// `ValidateQualifiedName`, `ValidateLabelName`.
fn qualified_name(errors: &mut ErrorList, at: impl At, value: &str) {
    reasons(errors, at, value, names::is_qualified_name(value));
}

/// A number that is there must not be negative (`ValidateNonnegativeField`).
fn nonnegative(errors: &mut ErrorList, holder: &Value, field: &str, path: &Path) {
    if let Some(number) = get(holder, field).as_i64().filter(|number| *number < 0) {
        errors.invalid(&path.child(field), number, NEGATIVE);
    }
}

/// `ValidateImmutableField`.
fn immutable(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path) {
    if !same(new, old) {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// The same for a struct, of which `kind` is the name.
fn immutable_struct(errors: &mut ErrorList, kind: &str, new: &Value, old: &Value, path: &Path) {
    if !same(new, old) {
        errors.invalid(path, internal::shown(kind, new), IMMUTABLE);
    }
}

/// `apiequality.Semantic.DeepEqual`: what is absent equals what is empty; numbers do not.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let missing_here = b.keys().filter(|key| !a.contains_key(*key));
            a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&Value::Null)))
                && missing_here.map(|key| &b[key]).all(|value| same(value, &Value::Null))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a == b,
        (Value::Number(_), _) | (_, Value::Number(_)) => false,
        (a, b) => a == b || (is_zero(a) && is_zero(b)),
    }
}

/// `ValidateLabels`.
fn labels(errors: &mut ErrorList, labels: &Value, at: impl At) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        let path = at.path();
        qualified_name(errors, &path, key);
        let value = value.as_str().unwrap_or_default();
        reasons(errors, &path, value, names::is_valid_label_value(value));
    }
}

/// `ValidateAnnotations`.
fn annotations(errors: &mut ErrorList, annotations: &Value, path: &Path) {
    const MOST: usize = 256 * 1024;
    let mut total = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        // Keys may be written in capitals.
        reasons(errors, path, key, names::is_qualified_name(&key.to_lowercase()));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MOST {
        errors.too_long(path, MOST);
    }
}

/// `ValidateLabelSelector`.
fn label_selector(errors: &mut ErrorList, selector: &Value, path: &Path) {
    labels(errors, get(selector, "matchLabels"), (path, "matchLabels"));
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let path = path.element("matchExpressions", index);
        let values = list(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'")
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        qualified_name(errors, (&path, "key"), text(expression, "key"));
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            reasons(errors, &path.element("values", index), value, names::is_valid_label_value(value));
        }
    }
}

/// True if a selector has neither labels nor expressions.
fn is_empty_selector(selector: &Value) -> bool {
    is_zero(get(selector, "matchLabels")) && is_zero(get(selector, "matchExpressions"))
}

fn is_valid_ip(value: &str) -> Vec<String> {
    if value.parse::<IpAddr>().is_ok() {
        Vec::new()
    } else {
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()]
    }
}

/// `ValidateNonSpecialIP`.
fn non_special_ip(errors: &mut ErrorList, value: &str, path: &Path) {
    let Ok(ip) = value.parse::<IpAddr>() else {
        errors.invalid(path, value, "must be a valid IP address");
        return;
    };
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(path, value, format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// An address and the length of its prefix.
fn cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = value.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, length))
}

/// `ValidatePortNumOrName`.
fn port_number_or_name(errors: &mut ErrorList, port: &Value, at: impl At) {
    match port {
        Value::String(name) => reasons(errors, at, name, names::is_valid_port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or_default();
            for reason in names::is_valid_port_num(number) {
                errors.invalid(&at.path(), number, reason);
            }
        }
    }
}

/// A protocol of ports, which must be there.
fn protocol(errors: &mut ErrorList, port: &Value, path: &Path) {
    match text(port, "protocol") {
        "" => errors.required(&path.child("protocol"), ""),
        "TCP" | "UDP" | "SCTP" => {}
        other => errors.not_supported(&path.child("protocol"), other, &["SCTP", "TCP", "UDP"]),
    }
}

/// A text that must be one of a few; `required`: not even empty.
fn one_of(errors: &mut ErrorList, value: &str, at: impl At, supported: &[&str], required: bool) {
    if value.is_empty() && required {
        errors.required(&at.path(), "");
    } else if !supported.contains(&value) && (required || !value.is_empty()) {
        errors.not_supported(&at.path(), value, supported);
    }
}

/// `ValidatePositiveIntOrPercent`.
fn int_or_percent(errors: &mut ErrorList, value: &Value, path: &Path) {
    match value {
        Value::String(text) if percent(text).is_none() => errors.invalid(
            path,
            text.clone(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
             for validation is '[0-9]+%')",
        ),
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.invalid(path, value.clone(), NEGATIVE);
        }
        _ => {}
    }
}

fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    // Numbers beyond all are more than anything they are compared with.
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().unwrap_or(u64::MAX))
}

/// `getIntOrPercentValue`: the number alone.
fn int_or_percent_value(value: &Value) -> i64 {
    match value {
        Value::String(text) => percent(text).map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX)),
        other => other.as_i64().unwrap_or_default(),
    }
}

/// `IsNotMoreThan100Percent`.
fn at_most_all(errors: &mut ErrorList, value: &Value, path: &Path) {
    if value.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// Names of resources that Kubernetes itself knows, by where they may stand.
fn is_standard_resource(name: &str) -> bool {
    matches!(
        name,
        "cpu" | "memory" | "ephemeral-storage" | "storage" | "pods" | "services" | "secrets" | "configmaps"
    ) || is_standard_quota_resource(name)
}

fn is_standard_quota_resource(name: &str) -> bool {
    const MORE: [&str; 13] = [
        "requests.cpu",
        "requests.memory",
        "requests.storage",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "resourcequotas",
        "replicationcontrollers",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
        "pods",
    ];
    MORE.contains(&name)
        || matches!(name, "cpu" | "memory" | "ephemeral-storage" | "services" | "secrets" | "configmaps")
        || is_huge_page(name)
        || name.starts_with("requests.hugepages-")
}

fn is_integer_resource(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended_resource(name)
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Without a prefix, or with one of Kubernetes' own.
fn is_native_resource(name: &str) -> bool {
    match name.split_once('/') {
        None => true,
        Some((prefix, _)) => prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io"),
    }
}

fn is_extended_resource(name: &str) -> bool {
    !is_native_resource(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

/// More may be promised than there is.
fn may_be_overcommitted(name: &str) -> bool {
    is_native_resource(name) && !is_huge_page(name)
}

/// `validateResourceName`.
fn resource_name(errors: &mut ErrorList, name: &str, path: &Path) -> bool {
    let before = errors.len();
    qualified_name(errors, path, name);
    if errors.len() == before && !name.contains('/') && !is_standard_resource(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    errors.len() == before
}

/// `validateContainerResourceName`.
fn container_resource_name(errors: &mut ErrorList, name: &str, path: &Path) {
    resource_name(errors, name, path);
    if !name.contains('/') {
        let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name);
        if !standard {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native_resource(name) && !is_extended_resource(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// `ValidateResourceQuantityValue`.
fn resource_quantity(errors: &mut ErrorList, name: &str, value: &Value, path: &Path) {
    let Some(quantity) = Quantity::of(value) else { return };
    if quantity.is_negative() {
        errors.invalid(path, quantity.to_string(), NEGATIVE);
    }
    if is_integer_resource(name) && !quantity.round_up_to_millis().is_whole() {
        errors.invalid(path, quantity.to_string(), "must be an integer");
    }
}

/// A path below some directory: relative, without `..`.
fn descending_path(errors: &mut ErrorList, value: &str, at: impl At + Copy) {
    if value.starts_with('/') {
        errors.invalid(&at.path(), value, "must be a relative path");
    }
    no_backsteps(errors, value, at);
}

fn no_backsteps(errors: &mut ErrorList, value: &str, at: impl At) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(&at.path(), value, "must not contain '..'");
    }
}

/// Items of an object in order of their keys, with the path of each.
fn keyed<'a>(
    holder: &'a Value,
    field: &'a str,
    path: &'a Path<'a>,
) -> impl Iterator<Item = (&'a str, &'a Value, Path<'a>)> {
    entries(holder, field).map(move |(key, value)| (&key[..], value, path.entry(field, key)))
}

/// Elements of a list, with the path of each.
fn indexed<'a, 'p>(
    holder: &'a Value,
    field: &'p str,
    path: &'p Path<'p>,
) -> impl Iterator<Item = (Path<'p>, &'a Value)> + use<'a, 'p> {
    list(holder, field).iter().enumerate().map(move |(index, value)| (path.element(field, index), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_absent_equals_what_is_empty() {
        for (one, other, want) in [
            (json!({"a": {}}), json!({}), true),
            (json!({"a": []}), json!({"a": null}), true),
            (json!({"a": 0}), json!({}), false),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
            (json!({"a": false}), json!({}), true),
            (json!({"a": "x"}), json!({"a": "x", "b": {"c": {}}}), false),
        ] {
            assert_eq!(same(&one, &other), want, "{one} {other}");
        }
    }

    #[test]
    fn percentages_and_networks() {
        let mut errors = ErrorList::default();
        int_or_percent(&mut errors, &json!("5"), &spec());
        int_or_percent(&mut errors, &json!(-1), &spec());
        at_most_all(&mut errors, &json!("101%"), &spec());
        assert_eq!(errors.len(), 3);
        assert_eq!(cidr("10.0.0.0/33"), None);
        assert!(cidr("10.0.0.0/8").is_some());
        assert_eq!(int_or_percent_value(&json!("25%")), 25);
    }
}
