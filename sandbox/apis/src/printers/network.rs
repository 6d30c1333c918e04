//! Rows of services, endpoints, ingresses and network policies.

use super::{NONE, UNSET, age, labels, name, or, with_more};
use crate::kind::{Cell, Column};
use crate::tree::{at, get, has, int, list, text, texts};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Columns of services.
pub const SERVICE: &[Column] = &[
    Column::NAME,
    Column::text("Type", "type determines how the Service is exposed."),
    Column::text(
        "Cluster-IP",
        "clusterIP is the IP address of the service and is usually assigned randomly.",
    ),
    Column::text(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
    ),
    Column::text("Port(s)", "The list of ports that are exposed by this service."),
    Column::AGE,
    Column::text(
        "Selector",
        "Route service traffic to pods with label keys and values matching this selector.",
    )
    .wide(),
];

/// A service.
pub fn service(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let first = texts(spec, "clusterIPs").first().copied().unwrap_or_else(|| text(spec, "clusterIP"));
    let ports: Vec<_> = list(spec, "ports").iter().map(service_port).collect();
    vec![
        name(object),
        json!(text(spec, "type")),
        json!(or(first, NONE)),
        json!(external_ip(object)),
        json!(or(&ports.join(","), NONE)),
        age(object, now),
        json!(labels::format(get(spec, "selector"))),
    ]
}

fn service_port(port: &Value) -> String {
    match int(port, "nodePort") {
        node if node > 0 => format!("{}:{node}/{}", int(port, "port"), text(port, "protocol")),
        _ => format!("{}/{}", int(port, "port"), text(port, "protocol")),
    }
}

fn balancer_addresses(object: &Value) -> Vec<String> {
    let all: BTreeSet<_> = list(at(object, &["status", "loadBalancer"]), "ingress")
        .iter()
        .map(|ingress| or(text(ingress, "ip"), text(ingress, "hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    all.into_iter().map(str::to_string).collect()
}

fn external_ip(object: &Value) -> String {
    let spec = get(object, "spec");
    let own = texts(spec, "externalIPs").into_iter().map(str::to_string);
    match text(spec, "type") {
        "ClusterIP" | "NodePort" => or(&own.collect::<Vec<_>>().join(","), NONE).into(),
        "LoadBalancer" => {
            let mut all = balancer_addresses(object);
            all.extend(own);
            or(&all.join(","), "<pending>").into()
        }
        "ExternalName" => text(spec, "externalName").into(),
        _ => super::UNKNOWN.into(),
    }
}

/// Columns of endpoints.
pub const ENDPOINTS: &[Column] = &[
    Column::NAME,
    Column::text("Endpoints", "The set of all endpoints is the union of all subsets."),
    Column::AGE,
];

/// Endpoints.
pub fn endpoints(object: &Value, now: Timestamp) -> Vec<Cell> {
    let subsets = list(object, "subsets");
    let mut all = Vec::new();
    for subset in subsets {
        let addresses: Vec<_> = list(subset, "addresses").iter().map(|one| text(one, "ip")).collect();
        let ports = list(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|ip| (*ip).to_string()));
        }
        for port in ports {
            all.extend(addresses.iter().map(|ip| host_port(ip, int(port, "port"))));
        }
    }
    let shown = if subsets.is_empty() { NONE.into() } else { with_more(all, 3) };
    vec![name(object), json!(shown), age(object, now)]
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Columns of endpoint slices.
pub const ENDPOINT_SLICE: &[Column] = &[
    Column::NAME,
    Column::text("AddressType", "addressType specifies the type of address carried by this EndpointSlice."),
    Column::text(
        "Ports",
        "ports specifies the list of network ports exposed by each endpoint in this slice.",
    ),
    Column::text("Endpoints", "endpoints is a list of unique endpoints in this slice."),
    Column::AGE,
];

/// An endpoint slice.
pub fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Cell> {
    let ports = list(object, "ports")
        .iter()
        .map(|port| match get(port, "port").as_i64() {
            Some(number) => number.to_string(),
            None => get(port, "name").as_str().unwrap_or("*").to_string(),
        })
        .collect();
    let addresses = list(object, "endpoints")
        .iter()
        .flat_map(|endpoint| texts(endpoint, "addresses"))
        .map(str::to_string)
        .collect();
    let shown = |all: Vec<String>| json!(or(&with_more(all, 3), UNSET));
    vec![name(object), json!(text(object, "addressType")), shown(ports), shown(addresses), age(object, now)]
}

/// Columns of ingresses.
pub const INGRESS: &[Column] = &[
    Column::NAME,
    Column::text(
        "Class",
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    Column::text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
    Column::text("Address", "Address is a list containing ingress points for the load-balancer"),
    Column::text("Ports", "Ports of TLS configurations that open"),
    Column::AGE,
];

/// An ingress.
pub fn ingress(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    vec![
        name(object),
        json!(get(spec, "ingressClassName").as_str().unwrap_or(NONE)),
        json!(hosts(list(spec, "rules"))),
        json!(balancer_addresses(object).join(",")),
        json!(if list(spec, "tls").is_empty() { "80" } else { "80, 443" }),
        age(object, now),
    ]
}

/// Three hosts; as upstream counts, rules without a host are among those that are "more".
fn hosts(rules: &[Value]) -> String {
    const MOST: usize = 3;
    let mut shown = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == MOST;
        let host = text(rule, "host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".into(),
        (_, false) => shown.join(","),
        (_, true) => format!("{} + {} more...", shown.join(","), rules.len() - MOST),
    }
}

/// Columns of ingress classes.
pub const INGRESS_CLASS: &[Column] = &[
    Column::NAME,
    Column::text("Controller", "Controller that is responsible for handling this class"),
    Column::text("Parameters", "A reference to a resource with additional parameters"),
    Column::AGE,
];

/// An ingress class.
pub fn ingress_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let parameters = get(spec, "parameters");
    let shown = match (has(spec, "parameters"), get(parameters, "apiGroup").as_str()) {
        (false, _) => NONE.into(),
        (_, Some(group)) => format!("{}.{group}/{}", text(parameters, "kind"), text(parameters, "name")),
        (_, None) => format!("{}/{}", text(parameters, "kind"), text(parameters, "name")),
    };
    vec![name(object), json!(text(spec, "controller")), json!(shown), age(object, now)]
}

/// Columns of ranges of services.
pub const SERVICE_CIDR: &[Column] = &[
    Column::NAME,
    Column::text(
        "CIDRs",
        "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
    ),
    Column::AGE,
];

/// A range of services.
pub fn service_cidr(object: &Value, now: Timestamp) -> Vec<Cell> {
    let ranges: Vec<_> = list(get(object, "spec"), "cidrs").iter().filter_map(Value::as_str).collect();
    vec![name(object), json!(ranges.join(",")), age(object, now)]
}

/// Columns of addresses.
pub const IP_ADDRESS: &[Column] = &[
    Column::NAME,
    Column::text(
        "ParentRef",
        "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
    ),
];

/// An address.
pub fn ip_address(object: &Value, _now: Timestamp) -> Vec<Cell> {
    let parent = at(object, &["spec", "parentRef"]);
    if parent.is_null() {
        return vec![name(object), json!(NONE)];
    }
    let mut shown = text(parent, "resource").to_string();
    for (mark, field) in [('.', "group"), ('/', "namespace"), ('/', "name")] {
        let part = text(parent, field);
        if !part.is_empty() || field == "name" {
            shown.push(mark);
            shown.push_str(part);
        }
    }
    vec![name(object), json!(shown)]
}

/// Columns of network policies.
pub const NETWORK_POLICY: &[Column] = &[
    Column::NAME,
    Column::text("Pod-Selector", "podSelector selects the pods to which this NetworkPolicy object applies."),
    Column::AGE,
];

/// A network policy.
pub fn network_policy(object: &Value, now: Timestamp) -> Vec<Cell> {
    let selector = labels::format_selector(at(object, &["spec", "podSelector"]));
    vec![name(object), json!(selector), age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    // Cases of TestPrintService and TestPrintServiceLoadBalancer.
    #[test]
    fn services() {
        let cells = |spec: Value, ingress: Value| {
            let object = json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
            let cells = service(&object, Timestamp::UNIX_EPOCH);
            cells[1..5].iter().map(|one| one.as_str().unwrap().to_string()).collect::<Vec<_>>().join(" ")
        };
        let none = json!(null);
        let port = json!([{"protocol": "tcp", "port": 2233}]);
        assert_eq!(
            cells(
                json!({"type": "ClusterIP", "clusterIP": "10.9.8.7", "clusterIPs": ["10.9.8.7"], "ports": port}),
                none.clone()
            ),
            "ClusterIP 10.9.8.7 <none> 2233/tcp"
        );
        assert_eq!(
            cells(
                json!({"type": "NodePort", "clusterIP": "None", "externalIPs": ["9.9.9.9", "8.8.8.8"],
            "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30080}, {"protocol": "UDP", "port": 53}]}),
                none.clone()
            ),
            "NodePort None 9.9.9.9,8.8.8.8 80:30080/TCP,53/UDP"
        );
        assert_eq!(
            cells(json!({"type": "LoadBalancer", "ports": []}), none.clone()),
            "LoadBalancer <none> <pending> <none>"
        );
        assert_eq!(
            cells(
                json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}),
                json!([{"ip": "2.2.2.2"}, {"hostname": "a.b"}])
            ),
            "LoadBalancer <none> 2.2.2.2,a.b,9.9.9.9 <none>"
        );
        assert_eq!(
            cells(json!({"type": "ExternalName", "externalName": "my.database.example.com"}), none),
            "ExternalName <none> my.database.example.com <none>"
        );
    }

    #[test]
    fn endpoints_and_slices() {
        let shown =
            |subsets: Value| endpoints(&json!({"subsets": subsets}), Timestamp::UNIX_EPOCH)[1].clone();
        assert_eq!(shown(json!([])), "<none>");
        assert_eq!(
            shown(json!([{"addresses": [{"ip": "1.2.3.4"}, {"ip": "5.6.7.8"}], "ports": [{"port": 8001}]}])),
            "1.2.3.4:8001,5.6.7.8:8001"
        );
        assert_eq!(
            shown(
                json!([{"addresses": [{"ip": "1.2.3.4"}, {"ip": "::1"}], "ports": [{"port": 80}, {"port": 81}]}])
            ),
            "1.2.3.4:80,[::1]:80,1.2.3.4:81 + 1 more..."
        );
        assert_eq!(shown(json!([{"addresses": [{"ip": "1.2.3.4"}]}])), "1.2.3.4");
        let slice = json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 80}, {"name": "p"}],
            "endpoints": [{"addresses": ["a", "b"]}, {"addresses": ["c", "d"]}]});
        assert_eq!(
            Value::from(endpoint_slice(&slice, Timestamp::UNIX_EPOCH)[1..].to_vec()),
            json!(["IPv4", "80,p", "a,b,c + 1 more...", "<unknown>"])
        );
        assert_eq!(endpoint_slice(&json!({}), Timestamp::UNIX_EPOCH)[2], "<unset>");
    }

    #[test]
    fn ingresses() {
        let cells =
            |spec: Value| Value::from(ingress(&json!({"spec": spec}), Timestamp::UNIX_EPOCH)[1..].to_vec());
        let hosts: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|host| json!({"host": host})).collect();
        assert_eq!(cells(json!({})), json!(["<none>", "*", "", "80", "<unknown>"]));
        assert_eq!(
            cells(json!({"ingressClassName": "foo", "rules": hosts, "tls": [{}]})),
            json!(["foo", "a,b,c + 2 more...", "", "80, 443", "<unknown>"])
        );
        let class = json!({"spec": {"controller": "example.com/c", "parameters": {"kind": "K", "apiGroup": "g", "name": "n"}}});
        assert_eq!(ingress_class(&class, Timestamp::UNIX_EPOCH)[2], "K.g/n");
    }
}
