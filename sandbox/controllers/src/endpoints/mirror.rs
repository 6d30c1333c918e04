//! Slices for `Endpoints` that somebody wrote by hand for a Service without a selector (pkg/controller/endpointslicemirroring).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{Index, ObjectKey, WorkQueue};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;

use super::control::selector;
use super::slice_control::{by_service, write};
use super::slices::{Changes, MANAGED_BY, MOST, SERVICE_NAME};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::{Labels, Meta, controller_ref};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// `--mirroring-max-endpoints-per-subset`.
const MOST_PER_SUBSET: usize = 1000;

struct Controller {
    client: Client,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Index<EndpointSlice>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let services = context.informer::<Service>();
    let to_queue = queue.clone();
    services.subscribe(move |event| to_queue.add(event.object().key()));
    let endpoints = context.informer::<Endpoints>();
    let to_queue = queue.clone();
    endpoints.subscribe(move |event| to_queue.add(event.object().key()));
    let slices = by_service(&context.informer::<EndpointSlice>(), CONTROLLER);
    let controller = Controller { client: context.client.clone(), services, endpoints, slices };
    work(Arc::new(controller), queue, 1)
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.label(SKIP) != Some("true") && endpoints.annotation(LEADER).is_none()
}

/// The slices that tell what `Endpoints` do; one address family each.
fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: port.protocol.clone(),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let mut families: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(MOST_PER_SUBSET) {
            let family = if address.ip.contains(':') { "IPv6" } else { "IPv4" };
            families.entry(family).or_default().push(endpoint(address, ready));
        }
        for (family, all) in families {
            let part = |part: &[Endpoint]| slice(endpoints, family, ports.clone(), part.to_vec());
            slices.extend(all.chunks(MOST).map(part));
        }
    }
    slices
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(ready),
            terminating: Some(false),
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(of: &Endpoints, family: &str, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels: Labels = of.labels().clone();
    labels.remove("endpoints.kubernetes.io/managed-by");
    labels.insert(SERVICE_NAME.into(), of.name().into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", of.name())),
            namespace: of.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_ref("v1", "Endpoints", &of.metadata)]),
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        endpoints,
        ports: Some(ports),
    }
}

/// What is to be written: slices that tell the same stay, others take on new content.
fn changes(wanted: Vec<EndpointSlice>, existing: &[Arc<EndpointSlice>]) -> Changes {
    let mut changes = Changes::default();
    let mut free: Vec<_> = existing.to_vec();
    let mut new = Vec::new();
    for slice in wanted {
        let same = |old: &Arc<EndpointSlice>| {
            old.address_type == slice.address_type
                && old.endpoints == slice.endpoints
                && old.ports == slice.ports
                && old.labels() == slice.labels()
        };
        match free.iter().position(same) {
            Some(index) => drop(free.swap_remove(index)),
            None => new.push(slice),
        }
    }
    for slice in new {
        match free.iter().position(|old| old.address_type == slice.address_type) {
            Some(index) => {
                let mut old = EndpointSlice::clone(&free.swap_remove(index));
                old.endpoints = slice.endpoints;
                old.ports = slice.ports;
                old.metadata.labels = slice.metadata.labels;
                changes.update.push(old);
            }
            None => changes.create.push(slice),
        }
    }
    changes.delete = free;
    changes
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let existing = self.slices.get(&key.to_string());
        let by_hand = self.services.get(key).is_some_and(|service| selector(&service).is_none());
        let endpoints = self.endpoints.get(key).filter(|endpoints| by_hand && is_mirrored(endpoints));
        let wanted = endpoints.map(|endpoints| wanted(&endpoints)).unwrap_or_default();
        write(&self.client, &key.namespace, changes(wanted, &existing)).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::EndpointSubset;

    use super::*;

    #[test]
    fn families_are_kept_apart_and_nothing_is_written_twice() {
        let address = |ip: &str| EndpointAddress { ip: ip.into(), ..EndpointAddress::default() };
        let endpoints = Endpoints {
            metadata: ObjectMeta {
                name: Some("db".into()),
                namespace: Some("default".into()),
                ..ObjectMeta::default()
            },
            subsets: Some(vec![EndpointSubset {
                addresses: Some(vec![address("192.0.2.1"), address("2001:db8::1")]),
                not_ready_addresses: Some(vec![address("192.0.2.2")]),
                ports: None,
            }]),
        };
        let slices = wanted(&endpoints);
        assert_eq!(
            slices.iter().map(|slice| (&*slice.address_type, slice.endpoints.len())).collect::<Vec<_>>(),
            [("IPv4", 2), ("IPv6", 1)]
        );
        let stored: Vec<_> = slices.iter().cloned().map(Arc::new).collect();
        assert_eq!(changes(slices, &stored), Changes::default());
        assert_eq!(changes(Vec::new(), &stored).delete.len(), 2);
    }
}
