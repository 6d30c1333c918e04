//! `Endpoints` of a Service, with all its addresses in one object (k8s.io/kubernetes/pkg/controller/endpoint).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, errors};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::control::{queue, selected, selector};
use super::pods::{HEADLESS, Port, TRIGGER, address, belongs, hostname, is_headless, ports, serves, target};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::{Error, text};
use crate::shared::meta::{Labels, Meta};
use crate::shared::pods::node;

/// So many addresses are kept at most (`maxCapacity`).
const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

struct Controller {
    client: Client,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    pods: Informer<Pod>,
    recorder: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue = queue(context);
    let endpoints = context.informer::<Endpoints>();
    let to_queue = queue.clone();
    endpoints.subscribe(move |event| {
        if let Event::Deleted(endpoints) = event {
            to_queue.add(endpoints.key());
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        services: context.informer(),
        endpoints,
        pods: context.informer(),
        recorder: context.recorder("endpoint-controller"),
    };
    work(Arc::new(controller), queue, 5)
}

/// The subsets of a Service with these pods: addresses with the same ports are in one (`RepackSubsets`).
pub fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let mut grouped: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let has_ports =
        service.spec.as_ref().is_some_and(|spec| spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()));
    for pod in pods.iter().filter(|pod| belongs(pod, false)) {
        let ports = ports(service, pod);
        if ports.is_empty() && (has_ports || !is_headless(service)) {
            continue;
        }
        let one = EndpointAddress {
            ip: address(pod).into(),
            node_name: Some(node(pod).to_owned()).filter(|node| !node.is_empty()),
            target_ref: Some(target(pod)),
            hostname: hostname(service, pod),
        };
        let (ready, not_ready) = grouped.entry(ports).or_default();
        if serves(service, pod) { ready.push(one) } else { not_ready.push(one) }
    }
    let port = |port: Port| EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    };
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        Some(addresses).filter(|addresses| !addresses.is_empty())
    };
    grouped
        .into_iter()
        .map(|(ports, (ready, not_ready))| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(not_ready),
            ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        })
        .collect()
}

/// Cuts addresses off that are too many, those that are not ready first; whether there were any.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let count = |all: Option<&Vec<EndpointAddress>>| all.map_or(0, Vec::len);
    let total: usize = subsets
        .iter()
        .map(|one| count(one.addresses.as_ref()) + count(one.not_ready_addresses.as_ref()))
        .sum();
    let mut extra = total.saturating_sub(CAPACITY);
    let cut = extra > 0;
    let shorten = |list: &mut Option<Vec<EndpointAddress>>, extra: &mut usize| {
        if let Some(all) = list {
            let keep = all.len().saturating_sub(*extra);
            *extra -= all.len() - keep;
            all.truncate(keep);
            if all.is_empty() {
                *list = None;
            }
        }
    };
    for one in subsets.iter_mut() {
        shorten(&mut one.not_ready_addresses, &mut extra);
    }
    for one in subsets.iter_mut().rev() {
        shorten(&mut one.addresses, &mut extra);
    }
    subsets.retain(|one| one.addresses.is_some() || one.not_ready_addresses.is_some());
    cut
}

/// The labels of a Service's `Endpoints`.
fn labels(service: &Service) -> Labels {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    labels
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(service) = self.services.get(key) else {
            if self.endpoints.get(key).is_some() {
                errors::unless_gone(api.delete(&key.name, &DeleteParams::default()).await)?;
            }
            return Ok(None);
        };
        let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        if selector(&service).is_none() || external {
            return Ok(None);
        }
        let mut subsets = subsets(&service, &selected(&self.pods, &service));
        let cut = truncate(&mut subsets);
        let current = self.endpoints.get(key);
        let labels = labels(&service);
        let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
        if current.as_ref().is_some_and(|current| {
            current.subsets == subsets
                && *current.labels() == labels
                && (current.annotation(OVER_CAPACITY).is_some() == cut)
        }) {
            return Ok(None);
        }
        let new = written(current.as_deref(), &service, labels, subsets, cut);
        let result = if current.is_some() {
            api.replace(&key.name, &PostParams::default(), &new).await
        } else {
            api.create(&PostParams::default(), &new).await
        };
        match result {
            Ok(_) => Ok(None),
            Err(error) if errors::is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let (reason, verb) = if current.is_some() {
                    ("FailedToUpdateEndpoint", "update")
                } else {
                    ("FailedToCreateEndpoint", "create")
                };
                let message = format!("Failed to {verb} endpoint {key}: {}", text(&error));
                self.recorder.event(&new, EventType::Warning, reason, message);
                Err(error.into())
            }
        }
    }
}

/// The object to write.
fn written(
    current: Option<&Endpoints>,
    service: &Service,
    labels: Labels,
    subsets: Option<Vec<EndpointSubset>>,
    cut: bool,
) -> Endpoints {
    let mut new = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    new.subsets = subsets;
    new.metadata.labels = Some(labels);
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.insert(TRIGGER.into(), rfc3339(Timestamp::now()));
    if cut {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    new
}

/// A time in whole seconds, as annotations write it.
pub fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    use super::super::pods::tests::{service, with_address};
    use super::*;

    #[test]
    fn addresses_follow_readiness() {
        let pods: Vec<_> = [
            with_address("b", "10.244.1.3", true),
            with_address("a", "10.244.1.2", true),
            with_address("c", "10.244.2.2", false),
            with_address("starting", "", false),
        ]
        .map(Arc::new)
        .to_vec();
        let of = subsets(&service("web", Some(IntOrString::Int(8080))), &pods);
        assert_eq!(of.len(), 1);
        let ips = |all: &Option<Vec<EndpointAddress>>| {
            all.iter().flatten().map(|one| one.ip.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ips(&of[0].addresses), ["10.244.1.2", "10.244.1.3"]);
        assert_eq!(ips(&of[0].not_ready_addresses), ["10.244.2.2"]);
        assert_eq!(of[0].ports.as_ref().unwrap()[0].port, 8080);
    }

    #[test]
    fn no_more_than_a_thousand() {
        let pods: Vec<_> = (0..1200)
            .map(|n| {
                Arc::new(with_address(&format!("p{n}"), &format!("10.1.{}.{}", n / 250, n % 250), n >= 300))
            })
            .collect();
        let mut of = subsets(&service("web", None), &pods);
        assert!(truncate(&mut of));
        assert_eq!(of[0].addresses.as_ref().unwrap().len(), 900);
        assert_eq!(of[0].not_ready_addresses.as_ref().unwrap().len(), 100);
    }
}
