//! Services (`ValidateService`). Addresses and node ports themselves are given, and refused, by who keeps them.

use super::{
    dns_label, dns_subdomain, indexed, internal, is_valid_ip, labels, non_special_ip, one_of,
    port_number_or_name, protocol, qualified_name, reasons, spec,
};
use crate::tree::{at, get, has, int, list, text, texts};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::names;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A service, new or changed.
pub fn validate(service: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    if let Some(old) = old {
        addresses_stay(&mut errors, get(service, "spec"), get(old, "spec"));
        class_stays(&mut errors, get(service, "spec"), get(old, "spec"));
        health_port_stays(&mut errors, get(service, "spec"), get(old, "spec"));
    }
    whole(&mut errors, get(service, "spec"), &spec());
    errors
}

fn is_headless(service: &Value) -> bool {
    texts(service, "clusterIPs").first() == Some(&"None") || text(service, "clusterIP") == "None"
}

fn whole(errors: &mut ErrorList, service: &Value, path: &Path) {
    let kind = text(service, "type");
    if list(service, "ports").is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    by_type(errors, service, path);
    ports(errors, service, path);
    labels(errors, get(service, "selector"), (path, "selector"));
    let affinity = text(service, "sessionAffinity");
    one_of(errors, affinity, (path, "sessionAffinity"), &["ClientIP", "None"], true);
    session_affinity(errors, service, affinity, path);
    cluster_ips(errors, service, path);
    for (path, ip) in indexed(service, "externalIPs", path) {
        let ip = ip.as_str().unwrap_or_default();
        let why = is_valid_ip(ip);
        if why.is_empty() {
            non_special_ip(errors, ip, &path);
        } else {
            reasons(errors, &path, ip, why);
        }
    }
    one_of(
        errors,
        kind,
        &path.child("type"),
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        true,
    );
    if kind == "ClusterIP" {
        for (path, port) in indexed(service, "ports", path) {
            if int(port, "nodePort") != 0 {
                errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
        }
    }
    duplicates(errors, service, path);
    balancer(errors, service, kind, path);
    traffic(errors, service, kind, path);
}

fn by_type(errors: &mut ErrorList, service: &Value, path: &Path) {
    let kind = text(service, "type");
    match kind {
        "LoadBalancer" | "NodePort" => {
            for (path, port) in indexed(service, "ports", path) {
                if kind == "LoadBalancer" && int(port, "port") == 10250 {
                    let detail = "may not expose port 10250 externally since it is used by kubelet";
                    errors.invalid(&path, 10250, detail);
                }
            }
            if is_headless(service) {
                let detail = format!("may not be set to 'None' for {kind} services");
                errors.invalid(&path.element("clusterIPs", 0), "None", detail);
            }
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies"] {
                if !list(service, field).is_empty() {
                    errors.forbidden(&path.child(field), "may not be set for ExternalName services");
                }
            }
            if has(service, "ipFamilyPolicy") {
                errors.forbidden(&path.child("ipFamilyPolicy"), "may not be set for ExternalName services");
            }
            let name = text(service, "externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&path.child("externalName"), "");
            } else {
                dns_subdomain(errors, (path, "externalName"), name);
            }
        }
        _ => {}
    }
}

fn ports(errors: &mut ErrorList, service: &Value, path: &Path) {
    let several = list(service, "ports").len() > 1;
    let mut seen = HashSet::new();
    for (path, port) in indexed(service, "ports", path) {
        let name = text(port, "name");
        if several && name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            dns_label(errors, (&path, "name"), name);
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        for why in names::is_valid_port_num(int(port, "port")) {
            errors.invalid(&path.child("port"), int(port, "port"), why);
        }
        protocol(errors, port, &path);
        port_number_or_name(errors, get(port, "targetPort"), &path.child("targetPort"));
        if let Some(application) = get(port, "appProtocol").as_str() {
            qualified_name(errors, (&path, "appProtocol"), application);
        }
    }
}

fn duplicates(errors: &mut ErrorList, service: &Value, path: &Path) {
    let (mut node_ports, mut own) = (HashSet::new(), HashSet::new());
    for (path, port) in indexed(service, "ports", path) {
        let number = int(port, "nodePort");
        if number != 0 && !node_ports.insert((text(port, "protocol"), number)) {
            errors.duplicate(&path.child("nodePort"), number);
        }
    }
    for (path, port) in indexed(service, "ports", path) {
        let (protocol, number) = (text(port, "protocol"), int(port, "port"));
        if !own.insert((protocol, number)) {
            let key = json!({"protocol": protocol, "port": number});
            errors.duplicate(&path, internal::shown("ServicePort", &key));
        }
    }
}

fn session_affinity(errors: &mut ErrorList, service: &Value, affinity: &str, path: &Path) {
    const MOST: i64 = 86_400;
    let path = path.child("sessionAffinityConfig");
    match affinity {
        "ClientIP" => {
            let seconds = at(service, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).as_i64();
            let at = path.child("clientIP.timeoutSeconds");
            match seconds {
                None => errors.required(&at, "when session affinity type is ClientIP"),
                Some(seconds) if seconds <= 0 || seconds > MOST => {
                    errors.invalid(&at, seconds, format!("must be greater than 0 and less than {MOST}"));
                }
                Some(_) => {}
            }
        }
        "None" if has(service, "sessionAffinityConfig") => {
            errors.forbidden(&path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// `ValidateServiceClusterIPsRelatedFields`.
fn cluster_ips(errors: &mut ErrorList, service: &Value, path: &Path) {
    if text(service, "type") == "ExternalName" {
        return;
    }
    let all = texts(service, "clusterIPs");
    let shown = get(service, "clusterIPs").clone();
    let at = path.child("clusterIPs");
    match (text(service, "clusterIP"), all.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            errors.invalid(&at, shown.clone(), "must be empty when `clusterIP` is not specified")
        }
        (_, None) => errors.required(&at, ""),
        (one, Some(first)) if one != *first => {
            errors.invalid(&at, shown.clone(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    let mut seen = HashSet::new();
    for (path, family) in indexed(service, "ipFamilies", path) {
        let family = family.as_str().unwrap_or_default();
        one_of(errors, family, &path, &["IPv4", "IPv6"], true);
        if !seen.insert(family) {
            errors.duplicate(&path, family);
        }
    }
    let policies = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(errors, text(service, "ipFamilyPolicy"), (path, "ipFamilyPolicy"), policies, false);
    let before = errors.len();
    for (index, ip) in all.iter().enumerate() {
        if index == 0 && *ip == "None" {
            if all.len() > 1 {
                errors.invalid(&at, shown.clone(), "'None' must be the first and only value");
            }
            continue;
        }
        reasons(errors, &at.index(index), ip, is_valid_ip(ip));
    }
    if all.len() > 2 {
        errors.invalid(&at, shown, "may only hold up to 2 values");
    }
    if errors.len() > before || is_headless(service) {
        return;
    }
    for (index, (ip, family)) in all.iter().zip(texts(service, "ipFamilies")).enumerate() {
        let is_v6 = ip.contains(':');
        if is_v6 != (family == "IPv6") {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&at.index(index), *ip, detail);
        }
    }
}

fn balancer(errors: &mut ErrorList, service: &Value, kind: &str, path: &Path) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let ranges = texts(service, "loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            errors.forbidden(&path, ONLY);
        }
        for (index, range) in ranges.iter().enumerate() {
            if super::cidr(range.trim()).is_none() {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.invalid(&path.index(index), *range, detail);
            }
        }
    }
    let allocate = path.child("allocateLoadBalancerNodePorts");
    match (kind, has(service, "allocateLoadBalancerNodePorts")) {
        ("LoadBalancer", false) => errors.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        ("LoadBalancer", true) | (_, false) => {}
        (_, true) => errors.forbidden(&allocate, ONLY),
    }
    if has(service, "loadBalancerClass") {
        let path = path.child("loadBalancerClass");
        if kind == "LoadBalancer" {
            qualified_name(errors, &path, text(service, "loadBalancerClass"));
        } else {
            errors.forbidden(&path, ONLY);
        }
    }
}

fn traffic(errors: &mut ErrorList, service: &Value, kind: &str, path: &Path) {
    let external = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !list(service, "externalIPs").is_empty());
    let policy = text(service, "externalTrafficPolicy");
    let at = path.child("externalTrafficPolicy");
    if external {
        one_of(errors, policy, &at, &["Cluster", "Local"], true);
    } else if !policy.is_empty() {
        errors.invalid(&at, policy, "may only be set for externally-accessible services");
    }
    let port = int(service, "healthCheckNodePort");
    if port != 0 && !(kind == "LoadBalancer" && policy == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path.child("healthCheckNodePort"), port, detail);
    }
    let internal = text(service, "internalTrafficPolicy");
    let required = matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP");
    one_of(errors, internal, (path, "internalTrafficPolicy"), &["Cluster", "Local"], required);
    let distribution = text(service, "trafficDistribution");
    let supported = &["PreferClose", "PreferSameNode", "PreferSameZone"];
    one_of(errors, distribution, (path, "trafficDistribution"), supported, false);
}

/// `validateUpgradeDowngradeClusterIPs` and `…IPFamilies`.
fn addresses_stay(errors: &mut ErrorList, new: &Value, old: &Value) {
    if [new, old].iter().any(|one| text(one, "type") == "ExternalName") {
        return;
    }
    for (field, unset) in [
        ("clusterIPs", "primary clusterIP can not be unset"),
        ("ipFamilies", "primary ipFamily can not be unset"),
    ] {
        if field == "clusterIPs" && is_headless(new) && is_headless(old) {
            continue;
        }
        let (after, before) = (texts(new, field), texts(old, field));
        let path = spec();
        let path = path.child(field);
        let shown = get(new, field).clone();
        if after.is_empty() && !before.is_empty() {
            errors.invalid(&path.index(0), shown, unset);
            continue;
        }
        let compared = if after.len() == before.len() { after.len() } else { 1 };
        for (index, (now, then)) in after.iter().zip(&before).enumerate().take(compared) {
            if now != then {
                errors.invalid(&path.index(index), shown.clone(), "may not change once set");
            }
        }
    }
}

fn class_stays(errors: &mut ErrorList, new: &Value, old: &Value) {
    let both = [new, old].iter().all(|one| text(one, "type") == "LoadBalancer");
    if both && get(new, "loadBalancerClass") != get(old, "loadBalancerClass") {
        let path = Path::new("spec.loadBalancerClass");
        errors.invalid(&path, get(new, "loadBalancerClass").clone(), "may not change once set");
    }
}

fn health_port_stays(errors: &mut ErrorList, new: &Value, old: &Value) {
    let needs =
        |one: &Value| text(one, "type") == "LoadBalancer" && text(one, "externalTrafficPolicy") == "Local";
    if needs(new) && needs(old) && int(new, "healthCheckNodePort") != int(old, "healthCheckNodePort") {
        errors.forbidden(&Path::new("spec.healthCheckNodePort"), super::IMMUTABLE);
    }
}

/// What a load balancer may say of a service, and of an ingress (`ValidateLoadBalancerStatus`).
pub fn validate_status(object: &Value, _old: &Value) -> ErrorList {
    let mut errors = ErrorList::default();
    let path = Path::new("status.loadBalancer");
    for (path, ingress) in indexed(at(object, &["status", "loadBalancer"]), "ingress", &path) {
        let (ip, host) = (text(ingress, "ip"), text(ingress, "hostname"));
        if !ip.is_empty() && !is_valid_ip(ip).is_empty() {
            errors.invalid(&path.child("ip"), ip, "must be a valid IP address");
        }
        if !host.is_empty() {
            dns_subdomain(&mut errors, &path.child("hostname"), host);
            if is_valid_ip(host).is_empty() {
                errors.invalid(&path.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(spec: Value, old: Option<Value>) -> Vec<String> {
        let mut service = json!({"metadata": {"name": "s"}, "spec": spec});
        crate::defaults::service::service(&mut service);
        let old = old.map(|spec| json!({"spec": spec}));
        crate::defaults::service::prepare(&mut service, old.as_ref());
        validate(&service, old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_learners_get_wrong() {
        assert_eq!(errors(json!({"ports": [{"port": 80}]}), None), Vec::<String>::new());
        assert_eq!(errors(json!({"clusterIP": "None"}), None), Vec::<String>::new());
        assert_eq!(
            errors(json!({"type": "ExternalName", "externalName": "a.b"}), None),
            Vec::<String>::new()
        );
        for (spec, want) in [
            (json!({}), "spec.ports: Required value"),
            (json!({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports[0].name: Required value"),
            (
                json!({"ports": [{"port": 0}]}),
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"ports": [{"port": 80, "nodePort": 30080}]}),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            (
                json!({"type": "Loadbalancer", "ports": [{"port": 80}]}),
                "spec.type: Unsupported value: \"Loadbalancer\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ),
            (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
            (
                json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}),
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ),
            (
                json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}),
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ),
            (
                json!({"clusterIP": "10.0.0", "ports": [{"port": 80}]}),
                "spec.clusterIPs[0]: Invalid value: \"10.0.0\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"externalIPs": ["127.0.0.1"], "ports": [{"port": 80}]}),
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
        ] {
            let errors = errors(spec.clone(), None);
            assert!(errors.iter().any(|error| error == want), "{spec}: {errors:#?}\nwant {want}");
        }
    }

    #[test]
    fn addresses_do_not_change() {
        let old = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]});
        assert_eq!(errors(json!({"ports": [{"port": 81}]}), Some(old.clone())), Vec::<String>::new());
        assert_eq!(
            errors(
                json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80}]}),
                Some(old)
            ),
            ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"]
        );
    }
}
