//! From a Service and the pods that it selects to addresses and ports. Pure.

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::shared::meta::Meta;
use crate::shared::pods::{is_ready, is_terminal, phase};

/// The label of what belongs to a Service without an address of its own.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// When the newest change that an object tells happened.
pub const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// Its name in the Service; empty if that has a single one without.
    pub name: String,
    /// Its number in the pod.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// What is spoken there.
    pub app_protocol: Option<String>,
}

/// The first address of a pod; empty: none yet.
pub fn address(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default()
}

/// Whether a Service has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// Whether a Service has endpoints before their pods are ready.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// Whether a pod may be behind a Service. Those that are going are in slices only (`ShouldPodBeInEndpoints`).
pub fn belongs(pod: &Pod, with_going: bool) -> bool {
    !is_terminal(pod) && !address(pod).is_empty() && (with_going || !pod.deleting())
}

/// Whether a pod answers, as far as anybody knows.
pub fn serves(service: &Service, pod: &Pod) -> bool {
    is_ready(pod) || publishes_not_ready(service)
}

/// Whether the second state of a pod says anything else to a Service than the first (`podEndpointsChanged`).
pub fn differs(old: &Pod, new: &Pod) -> bool {
    let place = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        (
            spec.and_then(|spec| spec.node_name.clone()),
            spec.and_then(|spec| spec.hostname.clone()),
            spec.and_then(|spec| spec.subdomain.clone()),
        )
    };
    old.deleting() != new.deleting()
        || is_ready(old) != is_ready(new)
        || phase(old) != phase(new)
        || address(old) != address(new)
        || old.labels() != new.labels()
        || place(old) != place(new)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let sidecars = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .into_iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.map(|spec| &spec.containers).into_iter().flatten().chain(sidecars)
}

/// The number of a Service's port in a pod: as it is, or that of a container's port of that name (`FindPort`).
fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = protocol(port);
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => containers(pod)
            .flat_map(|container| container.ports.iter().flatten())
            .find(|port| {
                port.name.as_ref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
            })
            .map(|port| port.container_port),
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The ports of a Service in a pod; those that it does not have are left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let all = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    all.filter_map(|port| {
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            port: find_port(pod, port)?,
            protocol: protocol(port).to_owned(),
            app_protocol: port.app_protocol.clone(),
        })
    })
    .collect()
}

/// What an endpoint says it is.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().into()),
        name: Some(pod.name().into()),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The name of a pod's own below that of the Service (`ShouldSetHostname`).
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let host = spec.hostname.clone().filter(|host| !host.is_empty())?;
    (spec.subdomain.as_deref() == Some(service.name()) && service.namespace() == pod.namespace())
        .then_some(host)
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::{ContainerPort, PodSpec, ServiceSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::shared::pods::tests::pod;

    /// A pod with an address, ready or not.
    pub(crate) fn with_address(name: &str, address: &str, ready: bool) -> Pod {
        let mut pod = pod(name, "node2", "Running", ready.then_some(0));
        pod.status.as_mut().unwrap().pod_ip = Some(address.into());
        pod
    }

    /// A Service with a port.
    pub(crate) fn service(name: &str, target: Option<IntOrString>) -> Service {
        Service {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                ports: Some(vec![ServicePort { port: 80, target_port: target, ..ServicePort::default() }]),
                selector: Some([("app".to_owned(), "web".to_owned())].into()),
                cluster_ip: Some("10.96.0.9".into()),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    #[test]
    fn ports_by_number_and_name() {
        let mut pod = with_address("a", "10.244.1.2", true);
        pod.spec = Some(PodSpec {
            containers: vec![Container {
                ports: Some(vec![
                    ContainerPort {
                        name: Some("dns".into()),
                        container_port: 53,
                        protocol: Some("UDP".into()),
                        ..ContainerPort::default()
                    },
                    ContainerPort {
                        name: Some("http".into()),
                        container_port: 8080,
                        ..ContainerPort::default()
                    },
                ]),
                ..Container::default()
            }],
            ..PodSpec::default()
        });
        for (target, expected) in [
            (None, Some(80)),
            (Some(IntOrString::Int(9000)), Some(9000)),
            (Some(IntOrString::String("http".into())), Some(8080)),
            (Some(IntOrString::String("dns".into())), None),
            (Some(IntOrString::String("other".into())), None),
        ] {
            let ports = ports(&service("web", target.clone()), &pod);
            assert_eq!(ports.first().map(|port| port.port), expected, "{target:?}");
        }
    }

    #[test]
    fn only_what_a_service_looks_at_is_a_difference() {
        let old = with_address("a", "10.244.1.2", true);
        let mut new = old.clone();
        new.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        assert!(!differs(&old, &new));
        assert!(differs(&old, &with_address("a", "10.244.1.2", false)));
        assert!(differs(&old, &with_address("a", "10.244.1.3", true)));
    }
}
