//! Claims of devices, their classes, and what drivers offer (`pkg/apis/resource/validation/validation.go`). Expressions are not compiled:
//! nothing here chooses devices by them.

use super::{
    dns_label, dns_subdomain, immutable, immutable_struct, indexed, is_extended_resource, one_of, scheduling,
    spec, volumes,
};
use crate::seen::Seen;
use crate::tree::{get, has, int, list, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;

/// Most requests, constraints, configurations and selectors of one holder.
const MOST: usize = 32;
/// Most alternatives of a request.
const MOST_ALTERNATIVES: usize = 8;
/// Most who may use a claim.
const MOST_CONSUMERS: usize = 256;
/// Most devices of a slice, and if they have taints or share counters.
const MOST_DEVICES: (usize, usize) = (128, 64);
const LONGEST_EXPRESSION: usize = 10 * 1024;
const LONGEST_PARAMETERS: usize = 10 * 1024;
const LONGEST_POOL_NAME: usize = 253;
const REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Elements of a list that may not have more than so many (`validateSlice`).
fn slice(
    errors: &mut ErrorList,
    holder: &Value,
    (path, field): (&Path, &str),
    most: usize,
    mut check: impl FnMut(&mut ErrorList, &Value, &Path),
) {
    let count = list(holder, field).len();
    if count > most {
        errors.too_many(&path.child(field), count, most);
    }
    for (path, one) in indexed(holder, field, path) {
        check(errors, one, &path);
    }
}

/// The same, where each is there once (`validateSet`).
fn set(
    errors: &mut ErrorList,
    holder: &Value,
    (path, field): (&Path, &str),
    most: usize,
    key: fn(&Value) -> &str,
    check: impl FnMut(&mut ErrorList, &Value, &Path),
) {
    slice(errors, holder, (path, field), most, check);
    let mut seen = Seen::default();
    for (path, one) in indexed(holder, field, path) {
        if !seen.insert(key(one)) {
            errors.duplicate(&path, key(one));
        }
    }
}

fn by_name(one: &Value) -> &str {
    text(one, "name")
}

fn itself(one: &Value) -> &str {
    one.as_str().unwrap_or_default()
}

fn required_subdomain(errors: &mut ErrorList, path: &Path, value: &str) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        dns_subdomain(errors, path, value);
    }
}

/// A claim, new or changed.
pub fn validate_claim(claim: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    match old {
        None => devices(&mut errors, get(get(claim, "spec"), "devices"), &Path::new("spec.devices")),
        Some(old) => {
            immutable_struct(&mut errors, "ResourceClaimSpec", get(claim, "spec"), get(old, "spec"), &spec());
        }
    }
    errors
}

/// A template of claims, new or changed.
pub fn validate_template(template: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let given = get(template, "spec");
    match old {
        None => {
            let path = Path::new("spec.spec.devices");
            devices(&mut errors, get(get(given, "spec"), "devices"), &path);
        }
        Some(old) => {
            let kind = "ResourceClaimTemplateSpec";
            immutable_struct(&mut errors, kind, given, get(old, "spec"), &spec());
        }
    }
    errors
}

/// What a claim asks for (`validateDeviceClaim`).
fn devices(errors: &mut ErrorList, claim: &Value, path: &Path) {
    set(errors, claim, (path, "requests"), MOST, by_name, request);
    slice(errors, claim, (path, "constraints"), MOST, |errors, constraint, path| {
        set(errors, constraint, (path, "requests"), MOST, itself, |errors, name, path| {
            reference(errors, claim, itself(name), path);
        });
        let attributes = ["matchAttribute", "distinctAttribute"];
        match attributes.into_iter().find(|field| has(constraint, field)) {
            Some(field) => qualified(errors, text(constraint, field), &path.child(field)),
            None => errors.required(&path.child("matchAttribute"), ""),
        }
    });
    slice(errors, claim, (path, "config"), MOST, |errors, config, path| {
        set(errors, config, (path, "requests"), MOST, itself, |errors, name, path| {
            reference(errors, claim, itself(name), path);
        });
        configuration(errors, config, path);
    });
}

/// A request of the claim, or one of its alternatives (`validateRequestNameRef`).
fn reference(errors: &mut ErrorList, claim: &Value, name: &str, path: &Path) {
    let mut segments = name.split('/');
    let (first, second) = (segments.next().unwrap_or_default(), segments.next());
    if segments.next().is_some() {
        return errors.invalid(path, name, REQUEST);
    }
    for segment in [Some(first), second].into_iter().flatten() {
        dns_label(errors, path, segment);
    }
    let request = list(claim, "requests").iter().find(|request| text(request, "name") == first);
    let is_there = |request: &Value| {
        second.is_none_or(|second| {
            list(request, "firstAvailable").iter().any(|alternative| text(alternative, "name") == second)
        })
    };
    if !request.is_some_and(is_there) {
        errors.invalid(path, name, REQUEST);
    }
}

/// `DOMAIN/NAME` of an attribute (`validateFullyQualifiedName`).
fn qualified(errors: &mut ErrorList, name: &str, path: &Path) {
    match name.split_once('/') {
        _ if name.is_empty() => errors.required(path, "name required"),
        None => errors.invalid(path, name, "must include a domain"),
        Some(("", _)) => errors.required(path, "must include a domain"),
        Some((_, "")) => errors.required(path, "must include a name"),
        Some((domain, id)) => {
            dns_subdomain(errors, path, domain);
            for reason in names::is_c_identifier(id) {
                errors.invalid(path, id, reason);
            }
        }
    }
}

fn request(errors: &mut ErrorList, request: &Value, path: &Path) {
    dns_label(errors, (path, "name"), text(request, "name"));
    let alternatives = !list(request, "firstAvailable").is_empty();
    match (has(request, "exactly"), alternatives) {
        (false, false) => {
            errors.required(path, "exactly one of `exactly` or `firstAvailable` is required");
        }
        (true, true) => errors.invalid_without_value(
            path,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, false) => exactly(errors, get(request, "exactly"), &path.child("exactly")),
        (false, true) => {
            let at = (path, "firstAvailable");
            set(errors, request, at, MOST_ALTERNATIVES, by_name, |errors, alternative, path| {
                dns_label(errors, (path, "name"), text(alternative, "name"));
                exactly(errors, alternative, path);
            });
        }
    }
}

/// `validateExactDeviceRequest`.
fn exactly(errors: &mut ErrorList, request: &Value, path: &Path) {
    required_subdomain(errors, &path.child("deviceClassName"), text(request, "deviceClassName"));
    slice(errors, request, (path, "selectors"), MOST, selector);
    let (mode, count) = (text(request, "allocationMode"), int(request, "count"));
    match mode {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&path.child("count"), count, detail);
        }
        "ExactCount" if count <= 0 => {
            errors.invalid(&path.child("count"), count, "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        _ => errors.not_supported(&path.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
    for (path, toleration) in indexed(request, "tolerations", path) {
        self::toleration(errors, toleration, &path);
    }
}

/// `validateDeviceToleration`.
fn toleration(errors: &mut ErrorList, toleration: &Value, path: &Path) {
    let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
    if !key.is_empty() {
        super::qualified_name(errors, (path, "key"), key);
    }
    match operator {
        "Exists" if !text(toleration, "value").is_empty() => {
            errors.invalid(
                &path.child("value"),
                text(toleration, "value"),
                "must be empty for operator `Exists`",
            );
        }
        "Exists" => {}
        "Equal" if key.is_empty() => errors.required(&path.child("key"), ""),
        "Equal" => {}
        _ => one_of(errors, operator, (path, "operator"), &["Equal", "Exists"], true),
    }
    one_of(errors, text(toleration, "effect"), (path, "effect"), &["NoExecute", "NoSchedule", "None"], false);
}

fn selector(errors: &mut ErrorList, selector: &Value, path: &Path) {
    let path = path.child("cel");
    if !has(selector, "cel") {
        errors.required(&path, "");
    } else if text(get(selector, "cel"), "expression").len() > LONGEST_EXPRESSION {
        errors.too_long(&path.child("expression"), LONGEST_EXPRESSION);
    }
}

/// `validateDeviceConfiguration`.
fn configuration(errors: &mut ErrorList, config: &Value, path: &Path) {
    let (opaque, path) = (get(config, "opaque"), path.child("opaque"));
    if opaque.is_null() {
        return errors.required(&path, "");
    }
    volumes::csi_driver_name(errors, text(opaque, "driver"), &path.child("driver"));
    let (parameters, path) = (get(opaque, "parameters"), path.child("parameters"));
    if parameters.is_null() {
        errors.required(&path, "");
    } else if parameters.to_string().len() > LONGEST_PARAMETERS {
        errors.too_long(&path, LONGEST_PARAMETERS);
    } else if !parameters.is_object() {
        errors.invalid(&path, "<value omitted>", "must be a valid JSON object");
    }
}

/// A status that is written.
pub fn validate_claim_status(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let (status, before) = (get(new, "status"), get(old, "status"));
    let path = Path::new("status");
    let uid = |one: &Value| text(one, "uid").to_owned();
    set(
        &mut errors,
        status,
        (&path, "reservedFor"),
        MOST_CONSUMERS,
        |one| text(one, "uid"),
        |errors, one, path| {
            for field in ["resource", "name", "uid"] {
                if text(one, field).is_empty() {
                    errors.required(&path.child(field), "");
                }
            }
        },
    );
    let reserved = path.child("reservedFor");
    if !list(status, "reservedFor").is_empty() {
        let known: Vec<String> = list(before, "reservedFor").iter().map(uid).collect();
        let is_new = |one: &Value| !known.contains(&uid(one));
        if !has(status, "allocation") {
            errors.forbidden(&reserved, "may not be specified when `allocated` is not set");
        } else if has(get(new, "metadata"), "deletionTimestamp")
            && list(status, "reservedFor").iter().any(is_new)
        {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&reserved, detail);
        }
    }
    let allocation = path.child("allocation");
    let (given, had) = (get(status, "allocation"), get(before, "allocation"));
    if !given.is_null() && !had.is_null() {
        immutable_struct(&mut errors, "AllocationResult", given, had, &allocation);
    } else if !given.is_null() {
        let claim = get(get(new, "spec"), "devices");
        let (devices, path) = (get(given, "devices"), allocation.child("devices"));
        slice(&mut errors, devices, (&path, "results"), MOST, |errors, result, path| {
            reference(errors, claim, text(result, "request"), &path.child("request"));
            volumes::csi_driver_name(errors, text(result, "driver"), &path.child("driver"));
            pool_name(errors, text(result, "pool"), &path.child("pool"));
            dns_label(errors, (path, "device"), text(result, "device"));
        });
        if has(given, "nodeSelector") {
            let path = allocation.child("nodeSelector");
            scheduling::node_selector(&mut errors, get(given, "nodeSelector"), &path);
        }
    }
    errors
}

/// A class of devices, new or changed.
pub fn validate_class(class: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(class, "spec"), spec());
    slice(&mut errors, given, (&path, "selectors"), MOST, selector);
    slice(&mut errors, given, (&path, "config"), MOST, configuration);
    let extended = text(given, "extendedResourceName");
    if has(given, "extendedResourceName") && !is_extended_resource(extended) {
        let detail = "must be a valid extended resource name";
        errors.invalid(&path.child("extendedResourceName"), extended, detail);
    }
    errors
}

fn pool_name(errors: &mut ErrorList, name: &str, path: &Path) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > LONGEST_POOL_NAME {
        errors.too_long(path, LONGEST_POOL_NAME);
    }
    name.split('/').for_each(|part| dns_subdomain(errors, path, part));
}

/// What a driver offers, new or changed.
pub fn validate_slice(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    volumes::csi_driver_name(&mut errors, text(given, "driver"), &path.child("driver"));
    let (pool, pool_path) = (get(given, "pool"), path.child("pool"));
    pool_name(&mut errors, text(pool, "name"), &pool_path.child("name"));
    if int(pool, "resourceSliceCount") <= 0 {
        let count = int(pool, "resourceSliceCount");
        errors.invalid(&pool_path.child("resourceSliceCount"), count, "must be greater than zero");
    }
    if int(pool, "generation") < 0 {
        let generation = int(pool, "generation");
        let detail = "must be greater than or equal to zero";
        errors.invalid(&pool_path.child("generation"), generation, detail);
    }
    if let Some(old) = old.map(|old| get(old, "spec")) {
        immutable(&mut errors, get(pool, "name"), get(get(old, "pool"), "name"), &pool_path.child("name"));
        for field in ["driver", "nodeName"] {
            immutable(&mut errors, get(given, field), get(old, field), &path.child(field));
        }
    }
    nodes(&mut errors, given, &path);
    let has_more =
        |device: &Value| !list(device, "taints").is_empty() || !list(device, "consumesCounters").is_empty();
    let most = if list(given, "devices").iter().any(has_more) { MOST_DEVICES.1 } else { MOST_DEVICES.0 };
    set(&mut errors, given, (&path, "devices"), most, by_name, |errors, device, path| {
        dns_label(errors, (path, "name"), text(device, "name"));
    });
    errors
}

/// Where a slice's devices are: in exactly one way.
fn nodes(errors: &mut ErrorList, given: &Value, path: &Path) {
    let mut ways = Vec::new();
    if has(given, "nodeName") {
        let name = text(given, "nodeName");
        if name.is_empty() {
            let detail = "must be either unset or set to a non-empty string";
            errors.invalid(&path.child("nodeName"), name, detail);
        } else {
            ways.push("`nodeName`");
            dns_subdomain(errors, (path, "nodeName"), name);
        }
    }
    if has(given, "nodeSelector") {
        ways.push("`nodeSelector`");
        let (selector, path) = (get(given, "nodeSelector"), path.child("nodeSelector"));
        scheduling::node_selector(errors, selector, &path);
        if list(selector, "nodeSelectorTerms").len() != 1 {
            let terms = get(selector, "nodeSelectorTerms").clone();
            errors.invalid(
                &path.child("nodeSelectorTerms"),
                terms,
                "must have exactly one node selector term",
            );
        }
    }
    for (field, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match get(given, field) {
            Value::Bool(true) => ways.push(shown),
            Value::Bool(false) => {
                errors.invalid(&path.child(field), false, "must be either unset or set to true");
            }
            _ => {}
        }
    }
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match ways.len() {
        0 => errors.required(path, ONE),
        1 => {}
        _ => {
            let given = format!("{{{}}}", ways.join(", "));
            errors.invalid(path, given, format!("{ONE}, but multiple fields are set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn claims_are_checked_in_upstreams_words() {
        let claim = |devices: Value| {
            let mut claim = json!({"spec": {"devices": devices}});
            crate::defaults::resource::claim(&mut claim);
            said(&validate_claim(&claim, None))
        };
        assert!(
            claim(json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}))
                .is_empty()
        );
        assert_eq!(
            claim(json!({"requests": [{"name": "gpu"}, {"name": "gpu", "exactly": {"count": -1}}],
                "constraints": [{"requests": ["cpu"]}], "config": [{}]})),
            [
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1].exactly.deviceClassName: Required value",
                "spec.devices.requests[1].exactly.count: Invalid value: -1: must be greater than zero",
                "spec.devices.requests[1]: Duplicate value: \"gpu\"",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"cpu\": must be the name of a request in the claim or the \
                 name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].matchAttribute: Required value",
                "spec.devices.config[0].opaque: Required value",
            ]
        );
        let (old, new) = (json!({"spec": {}}), json!({"spec": {"devices": {"requests": [{"name": "a"}]}}}));
        let words = said(&validate_claim(&new, Some(&old))).join("\n");
        assert_eq!(
            words,
            "spec: Invalid value: {\"Devices\":{\"Requests\":[{\"Name\":\"a\",\"Exactly\":null,\"FirstAvailable\":null}],\
             \"Constraints\":null,\"Config\":null}}: field is immutable"
        );
    }

    #[test]
    fn a_slice_is_somewhere() {
        let slice = |more: Value| {
            let mut slice = json!({"spec": {"driver": "gpu.example.com", "pool": {"name": "p", "resourceSliceCount": 1}}});
            slice["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            said(&validate_slice(&slice, None))
        };
        assert!(slice(json!({"nodeName": "n", "devices": [{"name": "d"}]})).is_empty());
        let one =
            "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        assert_eq!(slice(json!({})), [format!("spec: Required value: {one}")]);
        assert_eq!(
            slice(json!({"nodeName": "n", "allNodes": true})),
            [format!(
                "spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one}, but multiple fields are set"
            )]
        );
    }
}
