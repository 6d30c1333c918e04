//! Services (`SetDefaults_Service`, and what the registry's strategy does to them before they are checked and given addresses).

use crate::tree::{
    Object, at, child, default, default_zero, each, flag, get, int, is_zero, list, made, text, texts,
};
use serde_json::{Value, json};

/// What a service gets that it does not say; cluster addresses and node ports are the API server's to give.
pub fn service(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    if let Some(spec) = made(map, "spec") {
        service_spec(spec);
    }
    if let Some(status) = made(map, "status") {
        default(status, "loadBalancer", json!({}));
        if let Some(balancer) = child(status, "loadBalancer") {
            each(balancer, "ingress", |ingress| {
                if ingress.get("ip").is_some_and(|ip| !is_zero(ip)) {
                    default(ingress, "ipMode", "VIP");
                }
            });
        }
    }
}

fn service_spec(spec: &mut Object) {
    default_zero(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => {
            spec.remove("sessionAffinityConfig");
        }
        Some("ClientIP") => {
            if let Some(config) =
                made(spec, "sessionAffinityConfig").and_then(|config| made(config, "clientIP"))
            {
                default(config, "timeoutSeconds", 10_800);
            }
        }
        _ => {}
    }
    default_zero(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        default_zero(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            default_zero(port, "targetPort", number);
        }
    });
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_string();
    let external_ips = spec.get("externalIPs").is_some_and(|ips| !is_zero(ips));
    if matches!(&kind[..], "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips) {
        default_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(&kind[..], "NodePort" | "LoadBalancer" | "ClusterIP") {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Before a service is checked: what its type has no use for goes, what the old one was given stays, families of addresses are told.
pub fn prepare(new: &mut Value, old: Option<&Value>) {
    super::others::keep_status(new, old, json!({"loadBalancer": {}}));
    if let Some(old) = old {
        keep_allocated(new, old);
    }
    if let Some(spec) = new.as_object_mut().and_then(|map| child(map, "spec")) {
        match_addresses(spec, old.map(|old| get(old, "spec")));
    }
    if let Some(old) = old {
        drop_of_other_type(new, old);
    }
    if let Some(spec) = new.as_object_mut().and_then(|map| child(map, "spec")) {
        families(spec);
    }
}

fn needs_address(spec: &Value) -> bool {
    matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(spec: &Value) -> bool {
    let kind = text(spec, "type");
    kind == "NodePort"
        || (kind == "LoadBalancer" && get(spec, "allocateLoadBalancerNodePorts") != &Value::Bool(false))
}

/// `patchAllocatedValues`: an update that does not say what was given leaves it.
fn keep_allocated(new: &mut Value, old: &Value) {
    let (before, after) = (get(old, "spec"), get(new, "spec").clone());
    let address = needs_address(before) && needs_address(&after);
    let node_ports = needs_node_port(before) && needs_node_port(&after);
    let Some(spec) = new.as_object_mut().and_then(|map| child(map, "spec")) else { return };
    if address && text(&after, "clusterIP").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = before.get(field) {
                default_zero(spec, field, value.clone());
            }
        }
    }
    if address {
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = before.get(field) {
                default(spec, field, value.clone());
            }
        }
    }
    if node_ports {
        let mut used: Vec<i64> = list(&after, "ports").iter().map(|port| int(port, "nodePort")).collect();
        each(spec, "ports", |port| {
            let same = list(before, "ports").iter().find(|one| {
                let same_protocol = get(one, "protocol") == port.get("protocol").unwrap_or(&Value::Null);
                let same_port = get(one, "port") == port.get("port").unwrap_or(&Value::Null);
                same_protocol && same_port && !used.contains(&int(one, "nodePort"))
            });
            if let Some(one) = same
                && port.get("nodePort").is_none_or(is_zero)
            {
                used.push(int(one, "nodePort"));
                default_zero(port, "nodePort", int(one, "nodePort"));
            }
        });
    }
    if health_check(before)
        && health_check(&after)
        && let Some(port) = before.get("healthCheckNodePort")
    {
        default_zero(spec, "healthCheckNodePort", port.clone());
    }
}

fn health_check(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// `dropTypeDependentFields`: values that were given for the old type and were not changed go with it.
fn drop_of_other_type(new: &mut Value, old: &Value) {
    let (before, after) = (get(old, "spec"), get(new, "spec").clone());
    let same = |field: &str| get(before, field) == get(&after, field);
    let Some(spec) = new.as_object_mut().and_then(|map| child(map, "spec")) else { return };
    if needs_address(before) && !needs_address(&after) {
        if same("clusterIPs") || list(&after, "clusterIPs").is_empty() {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(field) {
                spec.remove(field);
            }
        }
    }
    if needs_node_port(before) && !needs_node_port(&after) {
        let ports = list(before, "ports");
        each(spec, "ports", |port| {
            let number = port.get("nodePort").and_then(Value::as_i64).unwrap_or_default();
            if ports.iter().any(|one| int(one, "nodePort") == number) {
                port.remove("nodePort");
            }
        });
    }
    if health_check(before) && !health_check(&after) && same("healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
    if text(before, "type") == "LoadBalancer" && text(&after, "type") != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(field) {
                spec.remove(field);
            }
        }
    }
    let external = |spec: &Value| {
        matches!(text(spec, "type"), "NodePort" | "LoadBalancer") || !list(spec, "externalIPs").is_empty()
    };
    if external(before) && !external(&after) && same("externalTrafficPolicy") {
        spec.remove("externalTrafficPolicy");
    }
}

/// `NormalizeClusterIPs`: what a client that knows one of `clusterIP` and `clusterIPs` alone means for the other. What contradicts itself
/// is left to validation.
fn match_addresses(spec: &mut Object, old: Option<&Value>) {
    let one = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_string();
    let all = spec.get("clusterIPs").cloned().filter(|all| !is_zero(all));
    let Some(old) = old else {
        if !one.is_empty() && all.is_none() {
            spec.insert("clusterIPs".into(), json!([one]));
        }
        return;
    };
    let before = Some(get(old, "clusterIPs").clone()).filter(|all| !is_zero(all));
    let same_all = all == before;
    if one == text(old, "clusterIP") {
        if let (None, Some(before)) = (all, before) {
            spec.insert("clusterIPs".into(), before);
        }
    } else if same_all && one.is_empty() {
        spec.remove("clusterIPs");
    } else if same_all {
        spec.insert("clusterIPs".into(), json!([one]));
    }
}

/// Families of addresses on a cluster that has IPv4 alone (`initIPFamilyFields`).
fn families(spec: &mut Object) {
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        return;
    }
    let headless = spec.get("clusterIP").and_then(Value::as_str) == Some("None");
    let selects = spec.get("selector").is_some_and(|selector| !is_zero(selector));
    if headless && !selects {
        default(spec, "ipFamilyPolicy", "RequireDualStack");
        let single = spec.get("ipFamilyPolicy").and_then(Value::as_str) == Some("SingleStack");
        default_zero(spec, "ipFamilies", if single { json!(["IPv4"]) } else { json!(["IPv4", "IPv6"]) });
        return;
    }
    default(spec, "ipFamilyPolicy", "SingleStack");
    default_zero(spec, "ipFamilies", json!(["IPv4"]));
}

/// True if the service has an address of its own to be given.
pub fn wants_cluster_ip(service: &Value) -> bool {
    let spec = get(service, "spec");
    needs_address(spec) && text(spec, "clusterIP").is_empty()
}

/// True if its ports are to be given node ports.
pub fn wants_node_ports(service: &Value) -> bool {
    needs_node_port(get(service, "spec"))
}

/// True if it is published without an address of its own.
pub fn is_headless(service: &Value) -> bool {
    text(get(service, "spec"), "clusterIP") == "None"
}

/// All cluster addresses that it has.
pub fn cluster_ips(service: &Value) -> Vec<&str> {
    let all = texts(get(service, "spec"), "clusterIPs");
    if all.is_empty() {
        let one = at(service, &["spec", "clusterIP"]).as_str().unwrap_or_default();
        if one.is_empty() { Vec::new() } else { vec![one] }
    } else {
        all
    }
}

/// True if changes of it must not be answered by a load balancer's health check.
pub fn publishes_not_ready(service: &Value) -> bool {
    flag(get(service, "spec"), "publishNotReadyAddresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_service_as_the_server_shows_it() {
        let mut object = json!({"spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}});
        service(&mut object);
        prepare(&mut object, None);
        assert_eq!(
            object,
            json!({"spec": {"selector": {"app": "x"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}, "status": {"loadBalancer": {}}})
        );
    }

    #[test]
    fn a_changed_address_changes_both_fields() {
        let old =
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}});
        let mut new = old.clone();
        new["spec"]["clusterIP"] = "10.96.9.9".into();
        prepare(&mut new, Some(&old));
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.9.9"]));
        let mut both = old.clone();
        both["spec"]["clusterIP"] = "10.96.9.9".into();
        both["spec"]["clusterIPs"] = json!(["10.96.9.8"]);
        prepare(&mut both, Some(&old));
        assert_eq!(both["spec"]["clusterIPs"], json!(["10.96.9.8"]), "validation tells");
        let mut named = old.clone();
        named["spec"]["type"] = "ExternalName".into();
        named["spec"]["clusterIP"] = "".into();
        prepare(&mut named, Some(&old));
        assert_eq!(named["spec"].get("clusterIPs"), None);
    }

    #[test]
    fn what_was_given_stays_and_goes_with_its_type() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}], "externalTrafficPolicy": "Cluster"}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        prepare(&mut new, Some(&old));
        assert_eq!(new["spec"]["clusterIP"], "10.96.0.9");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
        let mut plain = old.clone();
        plain["spec"]["type"] = json!("ClusterIP");
        prepare(&mut plain, Some(&old));
        assert_eq!(plain["spec"]["ports"][0], json!({"port": 80, "protocol": "TCP"}));
        assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
        let mut named = old.clone();
        named["spec"]["type"] = json!("ExternalName");
        prepare(&mut named, Some(&old));
        assert_eq!(named["spec"].get("clusterIP"), None);
    }
}
