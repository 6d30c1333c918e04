//! Variables that tell a container of Services, as Docker's links once did (`pkg/kubelet/envvars`).

use k8s_openapi::api::core::v1::Service;
use std::{collections::BTreeMap, sync::Arc};

/// Whether a Service has an address to tell of.
fn has_address(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    !matches!(address, None | Some("" | "None"))
}

/// Variables of a pod's containers: those of the API server always, those of the pod's namespace if it wants them.
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    // Those of the namespace win over those of `default`.
    for own in [false, true] {
        for service in services.iter().filter(|s| has_address(s)) {
            let of = service.metadata.namespace.as_deref().unwrap_or_default();
            let master = of == "default" && service.metadata.name.as_deref() == Some("kubernetes");
            let wanted = if own { links && of == namespace } else { master };
            if wanted {
                add(&mut variables, service);
            }
        }
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, service: &Service) {
    let (Some(name), Some(spec)) = (&service.metadata.name, &service.spec) else { return };
    let prefix = name.to_uppercase().replace('-', "_");
    let host = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let mut set = |key: String, value: String| drop(variables.insert(key, value));
    set(format!("{prefix}_SERVICE_HOST"), host.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let name = name.to_uppercase().replace('-', "_");
            set(format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string());
        }
    }
    for (at, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if at == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        set(port_prefix.clone(), url);
        set(format!("{port_prefix}_PROTO"), protocol.to_lowercase());
        set(format!("{port_prefix}_PORT"), port.port.to_string());
        set(format!("{port_prefix}_ADDR"), host.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        let value = json!({
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "clusterIP": ip, "ports": [
                { "name": "u-d-p", "port": 8080, "protocol": "UDP" }, { "name": "t", "port": 80, "protocol": "TCP" } ] }
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn services_are_told_as_links_were() {
        let all = [
            service("default", "kubernetes", "10.96.0.1"),
            service("test", "super-duper", "9.8.7.6"),
            service("test", "headless", "None"),
            service("other", "far", "1.2.3.4"),
        ];
        let got = variables(&all, "test", true);
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("SUPER_DUPER_SERVICE_HOST", "9.8.7.6"),
            ("SUPER_DUPER_SERVICE_PORT", "8080"),
            ("SUPER_DUPER_SERVICE_PORT_U_D_P", "8080"),
            ("SUPER_DUPER_PORT", "udp://9.8.7.6:8080"),
            ("SUPER_DUPER_PORT_80_TCP", "tcp://9.8.7.6:80"),
            ("SUPER_DUPER_PORT_80_TCP_PROTO", "tcp"),
            ("SUPER_DUPER_PORT_80_TCP_ADDR", "9.8.7.6"),
        ] {
            assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!got.keys().any(|k| k.starts_with("FAR") || k.starts_with("HEADLESS")));
        let without = variables(&all, "test", false);
        assert!(without.keys().all(|k| k.starts_with("KUBERNETES")) && !without.is_empty());
    }
}
