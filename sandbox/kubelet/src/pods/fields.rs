//! What `fieldRef` and `resourceFieldRef` name, in variables and in volumes (`pkg/fieldpath`, `pkg/api/v1/resource`).

use super::pod;
use crate::quantity::{self, Resources};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::{collections::BTreeMap, fmt::Write, net::Ipv4Addr};

/// What a pod knows of itself only here.
#[derive(Debug, Clone, Default)]
pub struct Here {
    /// The node.
    pub node: String,
    /// Its address.
    pub host_ip: Option<Ipv4Addr>,
    /// The pod's address.
    pub pod_ip: Option<Ipv4Addr>,
    /// What the node has for pods: stands for limits that are not given.
    pub allocatable: Resources,
}

/// The value of a field of a pod.
pub fn field(pod: &Pod, path: &str, here: &Here) -> Result<String, String> {
    let ip = |ip: Option<Ipv4Addr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some((base, key)) = subscript(path) {
        let map = match base {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(format!("fieldPath \"{path}\" does not support subscript")),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&pod.metadata.name),
        "metadata.namespace" => pod::namespace(pod).to_owned(),
        "metadata.uid" => text(&pod.metadata.uid),
        "metadata.labels" => map(pod.metadata.labels.as_ref()),
        "metadata.annotations" => map(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => here.node.clone(),
        "spec.serviceAccountName" => text(&pod::spec(pod).service_account_name),
        "status.hostIP" | "status.hostIPs" => ip(here.host_ip),
        "status.podIP" | "status.podIPs" => ip(here.pod_ip),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['app']` → (`metadata.labels`, `app`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// Labels as a file: `key="value"` lines by key (`FormatMap`).
fn map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut lines = String::new();
    for (at, (key, value)) in map.into_iter().flatten().enumerate() {
        let separator = if at == 0 { "" } else { "\n" };
        let _always_works = write!(lines, "{separator}{key}={value:?}");
    }
    lines
}

/// The value of a request or a limit.
pub fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    here: &Here,
) -> Result<String, String> {
    let resources = container.resources.clone().unwrap_or_default();
    let wanted = selector.resource.as_str();
    let (kind, name) =
        wanted.split_once('.').ok_or_else(|| format!("unsupported container resource : {wanted}"))?;
    let given = match kind {
        "limits" => quantity::milli_of(resources.limits.as_ref(), name)
            .filter(|v| *v > 0)
            .or_else(|| quantity::milli_of(Some(&here.allocatable), name)),
        "requests" => quantity::milli_of(resources.requests.as_ref(), name),
        _ => return Err(format!("unsupported container resource : {wanted}")),
    };
    let divisor = selector.divisor.as_ref().and_then(|d| quantity::milli(&d.0)).filter(|d| *d > 0);
    let divisor = divisor.unwrap_or(1000);
    let value = given.unwrap_or(0);
    // Rounded up (`convertResourceCPUToString`).
    Ok(((value + divisor - 1).div_euclid(divisor)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "n", "uid": "u", "labels": { "app": "a\"b", "z": "1" } },
            "spec": { "containers": [], "serviceAccountName": "default" }
        }))
        .unwrap();
        let here =
            Here { node: "node2".into(), pod_ip: Some(Ipv4Addr::new(10, 244, 2, 3)), ..Here::default() };
        for (path, wanted) in [
            ("metadata.name", "web"),
            ("metadata.labels['app']", "a\"b"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "app=\"a\\\"b\"\nz=\"1\""),
            ("spec.nodeName", "node2"),
            ("status.podIP", "10.244.2.3"),
        ] {
            assert_eq!(field(&pod, path, &here).unwrap(), wanted, "{path}");
        }
        assert_eq!(field(&pod, "spec.x", &here).unwrap_err(), "unsupported fieldPath: spec.x");
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "resources": { "limits": { "cpu": "250m" }, "requests": { "memory": "33Mi" } }
        }))
        .unwrap();
        let here = Here {
            allocatable: [(
                "memory".to_owned(),
                k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".into()),
            )]
            .into(),
            ..Here::default()
        };
        let of = |resource: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: divisor.map(|d| k8s_openapi::apimachinery::pkg::api::resource::Quantity(d.into())),
                ..ResourceFieldSelector::default()
            };
            super::resource(&container, &selector, &here).unwrap()
        };
        assert_eq!(of("limits.cpu", None), "1");
        assert_eq!(of("limits.cpu", Some("1m")), "250");
        assert_eq!(of("requests.memory", Some("1Mi")), "33");
        assert_eq!(of("limits.memory", Some("1Mi")), "1024");
    }
}
