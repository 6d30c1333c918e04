//! Ingresses, their classes, network policies and endpoint slices.

use super::{
    dns_label, dns_subdomain, immutable, indexed, is_valid_ip, label_selector, non_special_ip, one_of,
    protocol, qualified_name, reasons, spec,
};
use crate::tree::{at, get, has, int, is_zero, list, text, texts};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::Value;
use std::collections::HashSet;

const NOT_ONE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An ingress, new or changed.
pub fn validate_ingress(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let rules = list(given, "rules");
    if rules.is_empty() && !has(given, "defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, get(given, "rules").clone(), detail);
    }
    if has(given, "defaultBackend") {
        backend(&mut errors, get(given, "defaultBackend"), &path.child("defaultBackend"));
    }
    for (path, rule) in indexed(given, "rules", &path) {
        host(&mut errors, text(rule, "host"), &path.child("host"));
        if has(rule, "http") {
            let at = path.child("http");
            if list(get(rule, "http"), "paths").is_empty() {
                errors.required(&at.child("paths"), "");
            }
            for (path, one) in indexed(get(rule, "http"), "paths", &at) {
                http_path(&mut errors, one, &path);
            }
        }
    }
    for (path, tls) in indexed(given, "tls", &path) {
        for (path, name) in indexed(tls, "hosts", &path) {
            let name = name.as_str().unwrap_or_default();
            let why = if name.contains('*') {
                names::is_wildcard_dns1123_subdomain(name)
            } else {
                names::is_dns1123_subdomain(name)
            };
            reasons(&mut errors, &path, name, why);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            dns_subdomain(&mut errors, &path.child("secretName"), secret);
        }
    }
    if let Some(class) = get(given, "ingressClassName").as_str() {
        dns_subdomain(&mut errors, &path.child("ingressClassName"), class);
    }
    let annotation = at(object, &["metadata", "annotations", "kubernetes.io/ingress.class"]).as_str();
    if let (None, Some(annotation), Some(class)) = (old, annotation, get(given, "ingressClassName").as_str())
        && annotation != class
    {
        let at = Path::new("annotations.kubernetes.io/ingress.class");
        errors.invalid(&at, annotation, "must match `ingressClassName` when both are specified");
    }
    errors
}

fn host(errors: &mut ErrorList, host: &str, path: &Path) {
    if host.is_empty() {
        return;
    }
    if is_valid_ip(host).is_empty() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
    let why = if host.contains('*') {
        names::is_wildcard_dns1123_subdomain(host)
    } else {
        names::is_dns1123_subdomain(host)
    };
    reasons(errors, path, host, why);
}

fn http_path(errors: &mut ErrorList, one: &Value, path: &Path) {
    let value = text(one, "path");
    let at = path.child("path");
    match get(one, "pathType").as_str() {
        None => {
            errors.required(&path.child("pathType"), "pathType must be specified");
            return;
        }
        Some("Exact" | "Prefix") => {
            if !value.starts_with('/') {
                errors.invalid(&at, value, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if value.contains(sequence) {
                    errors.invalid(&at, value, format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if value.ends_with(suffix) {
                    errors.invalid(&at, value, format!("cannot end with '{suffix}'"));
                }
            }
        }
        Some("ImplementationSpecific") => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.invalid(&at, value, "must be an absolute path");
            }
        }
        Some(other) => {
            let supported = &["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&path.child("pathType"), other, supported);
        }
    }
    backend(errors, get(one, "backend"), &path.child("backend"));
}

fn backend(errors: &mut ErrorList, backend: &Value, path: &Path) {
    match (has(backend, "resource"), has(backend, "service")) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (true, false) => typed_reference(errors, get(backend, "resource"), &path.child("resource")),
        (false, true) => service_backend(errors, get(backend, "service"), path),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn service_backend(errors: &mut ErrorList, service: &Value, path: &Path) {
    let at = path.child("service");
    let name = text(service, "name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        reasons(errors, (&at, "name"), name, names::is_dns1035_label(name));
    }
    let port = get(service, "port");
    match (text(port, "name"), int(port, "number")) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => {
            for why in names::is_valid_port_num(number) {
                errors.invalid(&at.child("port.number"), number, why);
            }
        }
        (name, 0) => reasons(errors, (&at.child("port"), "name"), name, names::is_valid_port_name(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn typed_reference(errors: &mut ErrorList, reference: &Value, path: &Path) {
    if let Some(group) = get(reference, "apiGroup").as_str() {
        dns_subdomain(errors, (path, "apiGroup"), group);
    }
    for (field, detail) in [("kind", "kind is required"), ("name", "name is required")] {
        let value = text(reference, field);
        if value.is_empty() {
            errors.required(&path.child(field), detail);
        } else {
            reasons(errors, (path, field), value, names::is_valid_path_segment_name(value));
        }
    }
}

/// An ingress class, new or changed.
pub fn validate_ingress_class(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    let controller = text(given, "controller");
    if let Some(old) = old {
        let before = at(old, &["spec", "controller"]);
        immutable(&mut errors, get(given, "controller"), before, &path.child("controller"));
    }
    if controller.len() > 250 {
        errors.too_long(&path.child("controller"), 250);
    }
    domain_prefixed_path(&mut errors, controller, &path.child("controller"));
    if has(given, "parameters") {
        let (parameters, path) = (get(given, "parameters"), path.child("parameters"));
        typed_reference(&mut errors, parameters, &path);
        let scope = text(parameters, "scope");
        one_of(&mut errors, scope, &path.child("scope"), &["Cluster", "Namespace"], true);
        match (scope, get(parameters, "namespace").as_str()) {
            ("Namespace", None) => {
                errors.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'");
            }
            ("Namespace", Some(namespace)) => dns_label(&mut errors, &path.child("namespace"), namespace),
            ("Cluster", Some(_)) => {
                errors.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'");
            }
            _ => {}
        }
    }
    errors
}

/// A range of addresses of services, new or changed.
pub fn validate_service_cidr(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), Path::new("spec.cidrs"));
    let ranges = list(given, "cidrs");
    if let Some(old) = old {
        immutable(&mut errors, get(given, "cidrs"), at(old, &["spec", "cidrs"]), &path);
        return errors;
    }
    if ranges.is_empty() {
        errors.required(&path, "at least one CIDR required");
    }
    if ranges.len() > 2 {
        errors.invalid(&path, get(given, "cidrs").clone(), "may only hold up to 2 values");
    }
    let mut families = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        let text = range.as_str().unwrap_or_default();
        match super::cidr(text) {
            Some((address, _)) => families.push(address.is_ipv4()),
            None => errors.invalid(&path.index(index), text, NOT_ONE),
        }
    }
    if matches!(families[..], [first, second] if first == second) {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, get(given, "cidrs").clone(), detail);
    }
    errors
}

/// `IsDomainPrefixedPath`.
fn domain_prefixed_path(errors: &mut ErrorList, value: &str, path: &Path) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) =
        value.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    reasons(errors, path, domain, names::is_dns1123_subdomain(domain));
    let fine = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte));
    if !fine {
        let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.invalid(path, rest, detail);
    }
}

/// A network policy.
pub fn validate_network_policy(object: &Value, _old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (given, path) = (get(object, "spec"), spec());
    label_selector(&mut errors, get(given, "podSelector"), &path.child("podSelector"));
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (path, rule) in indexed(given, rules, &path) {
            for (path, port) in indexed(rule, "ports", &path) {
                policy_port(&mut errors, port, &path);
            }
            for (path, peer) in indexed(rule, peers, &path) {
                policy_peer(&mut errors, peer, &path);
            }
        }
    }
    let types = texts(given, "policyTypes");
    if types.len() > 2 {
        let shown = get(given, "policyTypes").clone();
        errors.invalid(&path.child("policyTypes"), shown, "may not specify more than two policyTypes");
        return errors;
    }
    for (index, kind) in types.into_iter().enumerate() {
        one_of(&mut errors, kind, &path.element("policyTypes", index), &["Ingress", "Egress"], true);
    }
    errors
}

fn policy_port(errors: &mut ErrorList, port: &Value, path: &Path) {
    one_of(errors, text(port, "protocol"), (path, "protocol"), &["TCP", "UDP", "SCTP"], false);
    let end = get(port, "endPort").as_i64();
    let at_end = path.child("endPort");
    match get(port, "port") {
        Value::Null => {
            if let Some(end) = end {
                errors.invalid(&at_end, end, "may not be specified when `port` is not specified");
            }
        }
        Value::String(name) => {
            if let Some(end) = end {
                errors.invalid(&at_end, end, "may not be specified when `port` is non-numeric");
            }
            reasons(errors, (path, "port"), name, names::is_valid_port_name(name));
        }
        number => {
            let number = number.as_i64().unwrap_or_default();
            for why in names::is_valid_port_num(number) {
                errors.invalid(&path.child("port"), number, why);
            }
            if let Some(end) = end {
                if end < number {
                    errors.invalid(&at_end, number, "must be greater than or equal to `port`");
                }
                for why in names::is_valid_port_num(end) {
                    errors.invalid(&at_end, end, why);
                }
            }
        }
    }
}

fn policy_peer(errors: &mut ErrorList, peer: &Value, path: &Path) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if has(peer, field) {
            count += 1;
            label_selector(errors, get(peer, field), &path.child(field));
        }
    }
    if has(peer, "ipBlock") {
        count += 1;
        ip_block(errors, get(peer, "ipBlock"), &path.child("ipBlock"));
    }
    if count == 0 {
        errors.required(path, "must specify a peer");
    } else if count > 1 && has(peer, "ipBlock") {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(errors: &mut ErrorList, block: &Value, path: &Path) {
    let whole = text(block, "cidr");
    if whole.is_empty() {
        errors.required(&path.child("cidr"), "");
        return;
    }
    let Some(whole) = super::cidr(whole) else {
        errors.invalid(&path.child("cidr"), whole, NOT_ONE);
        return;
    };
    for (path, except) in indexed(block, "except", path) {
        let except = except.as_str().unwrap_or_default();
        match super::cidr(except) {
            None => errors.invalid(&path, except, NOT_ONE),
            Some(part) if whole.1 >= part.1 || !contains(whole, part.0) => {
                errors.invalid(&path, except, "must be a strict subset of `cidr`");
            }
            Some(_) => {}
        }
    }
}

fn contains(network: (std::net::IpAddr, u8), ip: std::net::IpAddr) -> bool {
    let bits = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 4),
        std::net::IpAddr::V6(ip) => (u128::from(ip), 6),
    };
    let ((a, family_a), (b, family_b)) = (bits(network.0), bits(ip));
    let mask = if network.1 == 0 { 0 } else { u128::MAX << (128 - u32::from(network.1)) };
    family_a == family_b && a & mask == b & mask
}

/// An address of a service, new or changed.
pub fn validate_ip_address(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let (parent, path) = (at(object, &["spec", "parentRef"]), Path::new("spec.parentRef"));
    if let Some(old) = old {
        immutable(&mut errors, parent, at(old, &["spec", "parentRef"]), &path);
        return errors;
    }
    if parent.is_null() {
        errors.required(&path, "");
        return errors;
    }
    let group = text(parent, "group");
    if !group.is_empty() {
        dns_subdomain(&mut errors, (&path, "group"), group);
    }
    for (field, is_required) in [("resource", true), ("name", true), ("namespace", false)] {
        match text(parent, field) {
            "" if is_required => errors.required(&path.child(field), ""),
            "" => {}
            value => reasons(&mut errors, (&path, field), value, names::is_valid_path_segment_name(value)),
        }
    }
    errors
}

/// An address is named by itself, as it is always written (`ValidateIPAddressName`).
pub fn ip_address_name(name: &str, _prefix: bool) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be a canonical format IP address".into()],
        Err(_) => vec![format!("ParseAddr({name:?}): unable to parse IP")],
    }
}

/// An endpoint slice, new or changed.
pub fn validate_endpoint_slice(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let root = Path::default();
    let kind = text(object, "addressType");
    one_of(&mut errors, kind, &Path::new("addressType"), &["FQDN", "IPv4", "IPv6"], true);
    if let Some(old) = old {
        let before = get(old, "addressType");
        immutable(&mut errors, get(object, "addressType"), before, &Path::new("addressType"));
    }
    let count = list(object, "endpoints").len();
    if count > 1000 {
        errors.too_many(&Path::new("endpoints"), count, 1000);
        return errors;
    }
    for (path, endpoint) in indexed(object, "endpoints", &root) {
        slice_endpoint(&mut errors, endpoint, kind, &path);
    }
    let ports = list(object, "ports").len();
    if ports > 20_000 {
        errors.too_many(&Path::new("ports"), ports, 20_000);
        return errors;
    }
    let mut seen = HashSet::new();
    for (path, port) in indexed(object, "ports", &root) {
        let name = text(port, "name");
        if !name.is_empty() {
            dns_label(&mut errors, &path.child("name"), name);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        protocol(&mut errors, port, &path);
        if let Some(number) = get(port, "port").as_i64() {
            for why in names::is_valid_port_num(number) {
                errors.invalid(&path.child("port"), number, why);
            }
        }
        if let Some(application) = get(port, "appProtocol").as_str() {
            qualified_name(&mut errors, &path.child("appProtocol"), application);
        }
    }
    errors
}

fn slice_endpoint(errors: &mut ErrorList, endpoint: &Value, kind: &str, path: &Path) {
    let addresses = list(endpoint, "addresses").len();
    if addresses == 0 {
        errors.required(&path.child("addresses"), "must contain at least 1 address");
    } else if addresses > 100 {
        errors.too_many(&path.child("addresses"), addresses, 100);
    }
    for (path, address) in indexed(endpoint, "addresses", path) {
        let address = address.as_str().unwrap_or_default();
        match kind {
            "IPv4" | "IPv6" => {
                let why = match address.parse::<std::net::IpAddr>() {
                    Ok(ip) if ip.is_ipv4() == (kind == "IPv4") => Vec::new(),
                    _ if kind == "IPv4" => vec!["must be a valid IPv4 address".to_string()],
                    _ => vec!["must be a valid IPv6 address".to_string()],
                };
                let fine = why.is_empty();
                reasons(errors, &path, address, why);
                if fine {
                    non_special_ip(errors, address, &path);
                }
            }
            _ => reasons(errors, &path, address, names::is_fully_qualified_name(address, 2)),
        }
    }
    if let Some(node) = get(endpoint, "nodeName").as_str() {
        dns_subdomain(errors, (path, "nodeName"), node);
    }
    if let Some(host) = get(endpoint, "hostname").as_str() {
        dns_label(errors, (path, "hostname"), host);
    }
    super::labels(errors, get(endpoint, "deprecatedTopology"), (path, "deprecatedTopology"));
    if !is_zero(at(endpoint, &["deprecatedTopology", "kubernetes.io/hostname"])) {
        errors.forbidden(&path.entry("deprecatedTopology", "kubernetes.io/hostname"), "may not be set");
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
    fn ingresses() {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let path =
            |path: Value| json!({"spec": {"rules": [{"host": "a.example.com", "http": {"paths": [path]}}]}});
        assert!(
            validate_ingress(&path(json!({"path": "/", "pathType": "Prefix", "backend": backend})), None)
                .is_empty()
        );
        for (object, want) in [
            (
                json!({"spec": {}}),
                "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
            ),
            (
                path(json!({"path": "/", "backend": backend})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                path(json!({"path": "x", "pathType": "Prefix", "backend": backend})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            ),
            (
                path(json!({"path": "/", "pathType": "Exact", "backend": {"service": {"name": "web"}}})),
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
            ),
            (
                path(json!({"path": "/", "pathType": "Exact"})),
                "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                json!({"spec": {"rules": [{"host": "10.0.0.1"}]}}),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ),
        ] {
            assert_eq!(texts_of(validate_ingress(&object, None)), [want], "{object}");
        }
    }

    #[test]
    fn policies_and_slices() {
        let policy = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}}, {}],
            "ports": [{"port": 80, "endPort": 70, "protocol": "TCP"}]}]}});
        assert_eq!(
            texts_of(validate_network_policy(&policy, None)),
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                "spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1]: Required value: must specify a peer",
            ]
        );
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}, {"addresses": []}], "ports": [{"name": "a", "protocol": "TCP"}]});
        assert_eq!(
            texts_of(validate_endpoint_slice(&slice, None)),
            [
                "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ]
        );
    }
}
