//! Which slices are to be created, changed and deleted so that they tell the endpoints of a Service, with as few writes as upstream's
//! reconciler (k8s.io/endpointslice/reconciler.go). Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::pods::{
    HEADLESS, Port, address, belongs, hostname, is_headless, ports, publishes_not_ready, target,
};
use crate::shared::meta::{Labels, Meta, controller_ref};
use crate::shared::pods::{is_ready, node};

/// The label that says whose a slice is.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that says who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of that label for slices of Services with a selector.
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// `--max-endpoints-per-slice`.
pub const MOST: usize = 100;

/// Endpoints by the ports that they have.
pub type Wanted = BTreeMap<Vec<Port>, Vec<Endpoint>>;

/// The endpoints of a Service with these pods. `zone` tells the zone of a node.
pub fn wanted(service: &Service, pods: &[Arc<Pod>], zone: impl Fn(&str) -> Option<String>) -> Wanted {
    let mut all = Wanted::new();
    for pod in pods.iter().filter(|pod| belongs(pod, true)) {
        let serving = is_ready(pod);
        let terminating = pod.deleting();
        let endpoint = Endpoint {
            addresses: vec![address(pod).to_owned()],
            conditions: Some(EndpointConditions {
                ready: Some(publishes_not_ready(service) || (serving && !terminating)),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: hostname(service, pod),
            node_name: Some(node(pod).to_owned()).filter(|node| !node.is_empty()),
            target_ref: Some(target(pod)),
            zone: zone(node(pod)),
            ..Endpoint::default()
        };
        all.entry(ports(service, pod)).or_default().push(endpoint);
    }
    for endpoints in all.values_mut() {
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    }
    all
}

/// What is to be written.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// New slices.
    pub create: Vec<EndpointSlice>,
    /// Slices with other content.
    pub update: Vec<EndpointSlice>,
    /// Slices that nobody needs.
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// What is to be written so that the slices tell what is wanted.
pub fn changes(service: &Service, wanted: Wanted, existing: &[Arc<EndpointSlice>]) -> Changes {
    let mut changes = Changes::default();
    let mut by_ports: HashMap<Vec<Port>, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in existing {
        if slice.address_type == "IPv4" && slice.controlled_by(service.uid()) {
            by_ports.entry(ports_of(slice)).or_default().push(slice);
        } else {
            changes.delete.push(slice.clone());
        }
    }
    for (ports, endpoints) in wanted {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        fill(service, &ports, endpoints, &slices, &mut changes);
    }
    changes.delete.extend(by_ports.into_values().flatten().cloned());
    // A Service always has a slice, so that one can tell that nobody has looked from that there is nothing. A slice that would go stays.
    if changes.create.is_empty() && changes.update.is_empty() && changes.delete.len() == existing.len() {
        match existing.iter().position(|slice| slice.endpoints.is_empty() && ports_of(slice).is_empty()) {
            Some(placeholder) => {
                let keep = changes.delete.iter().position(|slice| Arc::ptr_eq(slice, &existing[placeholder]));
                keep.map(|index| changes.delete.remove(index));
            }
            None => changes.create.push(slice(service, &[], Vec::new())),
        }
    }
    changes
}

/// Puts endpoints of the same ports into slices: those that are in one stay there, the others fill up what is open.
fn fill(
    service: &Service,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    slices: &[&Arc<EndpointSlice>],
    changes: &mut Changes,
) {
    let mut left: BTreeMap<String, Endpoint> =
        endpoints.into_iter().map(|one| (identity(&one), one)).collect();
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::with_capacity(slices.len());
    for slice in slices {
        let stay = slice.endpoints.iter().filter_map(|old| left.remove(&identity(old))).collect();
        kept.push((slice, stay));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    // Slices that are written anyway take new ones first, then others with room.
    kept.sort_by_key(|(slice, stay)| slice.endpoints == *stay);
    for (_, stay) in &mut kept {
        let room = MOST.saturating_sub(stay.len()).min(left.len());
        if room < left.len() && stay.len() + room < MOST {
            continue;
        }
        stay.extend(left.drain(..room));
    }
    for (old, stay) in kept {
        if stay.is_empty() {
            changes.delete.push(old.clone());
        } else if stay != old.endpoints || *old.labels() != labels(service) {
            let mut new = EndpointSlice::clone(old);
            new.endpoints = stay;
            new.metadata.labels = Some(labels(service));
            changes.update.push(new);
        }
    }
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(MOST));
        changes.create.push(slice(service, ports, std::mem::replace(&mut left, rest)));
    }
}

/// By what an endpoint is known in old and new slices.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{}/{uid}", endpoint.addresses.first().map_or("", String::as_str))
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let port = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        app_protocol: port.app_protocol.clone(),
    };
    slice.ports.iter().flatten().map(port).collect()
}

/// The labels of a Service's slices: its own, but for those that are ours.
pub fn labels(service: &Service) -> Labels {
    let mut labels = service.labels().clone();
    for own in [HEADLESS, SERVICE_NAME, MANAGED_BY] {
        labels.remove(own);
    }
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels
}

fn slice(service: &Service, ports: &[Port], endpoints: Vec<Endpoint>) -> EndpointSlice {
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_ref("v1", "Service", &service.metadata)]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".into(),
        endpoints,
        ports: Some(ports.iter().map(port).collect()).filter(|ports: &Vec<_>| !ports.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pods::tests::{service, with_address};
    use super::*;

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        (0..count)
            .map(|n| Arc::new(with_address(&format!("p{n}"), &format!("10.1.{}.{}", n / 200, n % 200), true)))
            .collect()
    }

    fn apply(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Changes {
        changes(service, wanted(service, pods, |_| None), existing)
    }

    fn stored(slices: Vec<EndpointSlice>) -> Vec<Arc<EndpointSlice>> {
        slices.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn a_service_without_pods_has_an_empty_slice() {
        let service = service("web", None);
        let first = apply(&service, &[], &[]);
        assert_eq!((first.create.len(), first.update.len(), first.delete.len()), (1, 0, 0));
        assert!(first.create[0].endpoints.is_empty());
        assert_eq!(apply(&service, &[], &stored(first.create)), Changes::default());
    }

    #[test]
    fn endpoints_fill_slices_and_stay_where_they_are() {
        let service = service("web", None);
        let first = apply(&service, &pods(250), &[]);
        assert_eq!(
            first.create.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let slices = stored(first.create);
        assert_eq!(apply(&service, &pods(250), &slices), Changes::default(), "nothing changed");
        let more = apply(&service, &pods(260), &slices);
        assert_eq!(
            (more.create.len(), more.update.len(), more.delete.len()),
            (0, 1, 0),
            "there is room in the third"
        );
        assert_eq!(more.update[0].endpoints.len(), 60);
    }

    #[test]
    fn a_slice_whose_endpoints_are_gone_goes() {
        let service = service("web", None);
        let slices = stored(apply(&service, &pods(3), &[]).create);
        let gone = apply(&service, &[], &slices);
        assert_eq!(
            (gone.create.len(), gone.update.len(), gone.delete.len()),
            (1, 0, 1),
            "a placeholder takes its place"
        );
    }

    #[test]
    fn pods_that_go_still_serve() {
        let mut pod = with_address("a", "10.1.0.1", true);
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(crate::shared::pods::tests::at(0)));
        let all = wanted(&service("web", None), &[Arc::new(pod)], |_| Some("z".into()));
        let endpoint = all.values().flatten().next().unwrap();
        let conditions = endpoint.conditions.as_ref().unwrap();
        assert_eq!(
            (conditions.ready, conditions.serving, conditions.terminating),
            (Some(false), Some(true), Some(true))
        );
        assert_eq!(endpoint.zone.as_deref(), Some("z"));
    }
}
