//! `/etc/hosts` and `/etc/resolv.conf` of a pod's containers (`pkg/kubelet/kubelet_pods.go`, `network/dns`).

use super::pod;
use crate::{kubelet::Kubelet, paths};
use k8s_openapi::api::core::v1::Pod;
use std::{fmt::Write, fs, io, net::Ipv4Addr};

/// Most name servers that the C library asks.
const MAX_SERVERS: usize = 3;
/// Most domains that the kubelet lets be searched.
const MAX_SEARCHES: usize = 32;

/// Writes both.
pub fn write(kubelet: &Kubelet, pod: &Pod, address: Option<Ipv4Addr>) -> io::Result<()> {
    let uid = pod::uid(pod);
    fs::create_dir_all(paths::pod(uid))?;
    let own_hosts;
    let hosts = if pod::is_host_network(pod) {
        own_hosts = node_hosts();
        &own_hosts
    } else {
        own_hosts = pod_hosts(pod, kubelet.settings.cluster_domain(), address);
        &own_hosts
    };
    let hosts = format!("{hosts}{}", aliases(pod));
    update(&paths::hosts(uid), &hosts)?;
    let node = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = if kubelet.has_cluster_dns() { kubelet.settings.cluster_dns() } else { Vec::new() };
    update(&paths::resolv_conf(uid), &resolv_conf(pod, &servers, kubelet.settings.cluster_domain(), &node))
}

/// In place: containers have the file itself mounted.
fn update(path: &std::path::Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) { Ok(()) } else { fs::write(path, text) }
}

fn node_hosts() -> String {
    let node = fs::read_to_string("/etc/hosts").unwrap_or_default();
    format!("# Kubernetes-managed hosts file (host network).\n{node}")
}

fn pod_hosts(pod: &Pod, domain: &str, address: Option<Ipv4Addr>) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if let Some(address) = address {
        let name = pod::hostname(pod);
        let _always_works = match pod::fqdn(pod, domain) {
            Some(full) => writeln!(text, "{address}\t{full}\t{name}"),
            None => writeln!(text, "{address}\t{name}"),
        };
    }
    text
}

fn aliases(pod: &Pod) -> String {
    let list = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if list.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in list {
        let names = alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t");
        let _always_works = writeln!(text, "{}\t{names}", alias.ip);
    }
    text
}

/// What a pod's resolver is told. Without a DNS of the cluster, the node's name servers stand in, as with a kubelet that has none
/// configured.
fn resolv_conf(pod: &Pod, cluster_dns: &[String], domain: &str, node: &str) -> String {
    let spec = pod::spec(pod);
    let mut servers: Vec<String> = Vec::new();
    let mut searches: Vec<String> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let of_cluster = match policy {
        "ClusterFirst" => !pod::is_host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    if policy != "None" {
        for line in node.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
                Some("search") => searches = words.map(str::to_owned).collect(),
                Some("options") => options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        if of_cluster && !cluster_dns.is_empty() {
            let namespace = pod::namespace(pod);
            servers = cluster_dns.to_vec();
            let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches = own.into_iter().chain(searches).collect();
            options = vec!["ndots:5".into()];
        }
    }
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|o| o.split(':').next() != Some(&name));
            options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    render(servers, searches, &options)
}

fn render(mut servers: Vec<String>, mut searches: Vec<String>, options: &[String]) -> String {
    let mut text = String::new();
    for list in [&mut servers, &mut searches] {
        let mut seen = Vec::new();
        list.retain(|item| {
            if seen.contains(item) {
                false
            } else {
                seen.push(item.clone());
                true
            }
        });
    }
    if !searches.is_empty() {
        searches.truncate(MAX_SEARCHES);
        let _always_works = writeln!(text, "search {}", searches.join(" "));
    }
    for server in servers.iter().take(MAX_SERVERS) {
        let _always_works = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _always_works = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let pod = json!({ "metadata": { "name": "web-0", "namespace": "shop" }, "spec": spec });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn resolvers_follow_the_policy() {
        let node = "search example.com\nnameserver 192.168.0.1\n";
        let cluster = pod(json!({ "containers": [] }));
        let dns = ["10.96.0.10".to_owned()];
        let resolv_conf = |pod: &Pod, dns: &[String], node| resolv_conf(pod, dns, "cluster.local", node);
        assert_eq!(
            resolv_conf(&cluster, &dns, node),
            "search shop.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&cluster, &[], node), node);
        assert_eq!(resolv_conf(&pod(json!({ "containers": [], "hostNetwork": true })), &dns, node), node);
        let none = json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "searches": ["x.y"], "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] } });
        assert_eq!(
            resolv_conf(&pod(none), &dns, node),
            "search x.y\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
        );
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let it = pod(
            json!({ "containers": [], "subdomain": "db", "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }] }),
        );
        let text = format!(
            "{}{}",
            pod_hosts(&it, "cluster.local", Some(Ipv4Addr::new(10, 244, 1, 2))),
            aliases(&it)
        );
        assert!(text.contains("10.244.1.2\tweb-0.db.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
