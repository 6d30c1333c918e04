//! Gives Services of type `LoadBalancer` an address: those of the cluster's nodes, whose service proxies serve the Service's ports there. A
//! cloud would make a machine for it; a cluster on one host has its nodes.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, Service};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::node::taints::condition;
use crate::shared::meta::Meta;

/// The label of nodes that are no entrance: kubeadm's control planes have it.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

struct Controller {
    client: Client,
    services: Informer<Service>,
    nodes: Informer<Node>,
    recorder: Recorder,
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    })
}

fn told(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let services = context.informer::<Service>();
    let to_queue = queue.clone();
    services.subscribe(move |event| {
        let service = event.object();
        if !matches!(event, Event::Deleted(_)) && (is_balanced(service) || !told(service).is_empty()) {
            to_queue.add(service.key());
        }
    });
    let nodes = context.informer::<Node>();
    let (of_nodes, to_queue) = (services.clone(), queue.clone());
    nodes.subscribe(move |event| {
        let matters = match event {
            Event::Updated { old, new } => {
                condition(old, "Ready") != condition(new, "Ready")
                    || old.labels() != new.labels()
                    || address(old) != address(new)
            }
            Event::Added(_) | Event::Deleted(_) => true,
        };
        if matters {
            for service in of_nodes.all().into_iter().filter(|service| is_balanced(service)) {
                to_queue.add(service.key());
            }
        }
    });
    let recorder = context.recorder("service-controller");
    work(Arc::new(Controller { client: context.client.clone(), services, nodes, recorder }), queue, 1)
}

fn address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| &*address.address)
}

/// The addresses of a Service: of nodes that are ready, control planes only if there is nothing else.
fn ingress(service: &Service, nodes: &[Arc<Node>]) -> Vec<LoadBalancerIngress> {
    if !is_balanced(service) {
        return Vec::new();
    }
    let ready: Vec<_> = nodes.iter().filter(|node| condition(node, "Ready") == Some("True")).collect();
    let open: Vec<_> = ready.iter().filter(|node| node.label(EXCLUDED).is_none()).copied().collect();
    let chosen = if open.is_empty() { ready } else { open };
    let entry = |address: &str| LoadBalancerIngress {
        ip: Some(address.to_owned()),
        ip_mode: Some("VIP".into()),
        ..LoadBalancerIngress::default()
    };
    chosen.into_iter().filter_map(|node| address(node)).map(entry).collect()
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(service) = self.services.get(key).filter(|service| !service.deleting()) else {
            return Ok(None);
        };
        let wanted = ingress(&service, &self.nodes.all());
        if wanted == told(&service) {
            return Ok(None);
        }
        if is_balanced(&service) && told(&service).is_empty() {
            self.recorder.event(
                &*service,
                EventType::Normal,
                "EnsuringLoadBalancer",
                "Ensuring load balancer",
            );
        }
        let mut copy = Service::clone(&service);
        copy.status.get_or_insert_default().load_balancer =
            Some(LoadBalancerStatus { ingress: Some(wanted).filter(|all| !all.is_empty()) });
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &copy).await {
            Ok(_) => {}
            Err(error) if errors::is_not_found(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if is_balanced(&service) && told(&service).is_empty() {
            self.recorder.event(&*service, EventType::Normal, "EnsuredLoadBalancer", "Ensured load balancer");
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workers_are_the_entrance() {
        let node = |name: &str, address: &str, ready: &str, labels: serde_json::Value| {
            Arc::new(
                serde_json::from_value::<Node>(json!({
                    "metadata": {"name": name, "labels": labels},
                    "status": {
                        "addresses": [{"type": "InternalIP", "address": address}],
                        "conditions": [{"type": "Ready", "status": ready}],
                    },
                }))
                .unwrap(),
            )
        };
        let service: Service = serde_json::from_value(json!({"spec": {"type": "LoadBalancer"}})).unwrap();
        let control = node("n1", "10.0.0.1", "True", json!({EXCLUDED: ""}));
        let worker = node("n2", "10.0.0.2", "True", json!({}));
        let silent = node("n3", "10.0.0.3", "Unknown", json!({}));
        let ips = |nodes: &[Arc<Node>]| {
            ingress(&service, nodes).into_iter().filter_map(|one| one.ip).collect::<Vec<_>>()
        };
        assert_eq!(ips(&[control.clone(), worker.clone(), silent]), ["10.0.0.2"]);
        assert_eq!(ips(std::slice::from_ref(&control)), ["10.0.0.1"]);
        let plain: Service = serde_json::from_value(json!({"spec": {"type": "ClusterIP"}})).unwrap();
        assert!(ingress(&plain, &[worker]).is_empty());
    }
}
