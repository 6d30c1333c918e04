//! Ranges of addresses for Services are ready as soon as they are made, and stay while a Service has one of their addresses
//! (k8s.io/kubernetes/pkg/controller/servicecidrs).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

struct Controller {
    client: Client,
    ranges: Informer<ServiceCIDR>,
    services: Informer<Service>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let (ranges, services) = (context.informer::<ServiceCIDR>(), context.informer::<Service>());
    let (all, to_queue) = (ranges.clone(), queue.clone());
    ranges.subscribe(move |_| all.all().iter().for_each(|range| to_queue.add(range.key())));
    let (all, to_queue) = (ranges.clone(), queue.clone());
    services.subscribe(move |event| {
        if matches!(event, Event::Deleted(_)) {
            let waiting = all.all().into_iter().filter(|range| range.deleting());
            waiting.for_each(|range| to_queue.add(range.key()));
        }
    });
    work(Arc::new(Controller { client: context.client.clone(), ranges, services }), queue, 1)
}

/// Address and length of a range.
fn parse(range: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = range.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

fn contains(range: (IpAddr, u32), address: IpAddr) -> bool {
    let shifted = |number: u128, of: u32| number.checked_shr(of.saturating_sub(range.1)).unwrap_or(0);
    match (range.0, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            shifted(u32::from(first).into(), 32) == shifted(u32::from(address).into(), 32)
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            shifted(first.into(), 128) == shifted(address.into(), 128)
        }
        _ => false,
    }
}

fn ranges_of(range: &ServiceCIDR) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
    range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()).filter_map(|text| parse(text))
}

/// Whether a Service has an address that no other range would hold.
fn is_needed(range: &ServiceCIDR, others: &[Arc<ServiceCIDR>], services: &[Arc<Service>]) -> bool {
    let others = others.iter().filter(|other| other.name() != range.name() && !other.deleting());
    let others: Vec<_> = others.flat_map(|other| ranges_of(other)).collect();
    let own: Vec<_> = ranges_of(range).collect();
    let addresses = services.iter().flat_map(|service| {
        service
            .spec
            .iter()
            .flat_map(|spec| spec.cluster_ips.iter().flatten())
            .filter_map(|ip| ip.parse().ok())
    });
    let held = |ranges: &[(IpAddr, u32)], address| ranges.iter().any(|range| contains(*range, address));
    addresses.into_iter().any(|address: IpAddr| held(&own, address) && !held(&others, address))
}

/// Whether it is told already that it is ready or not.
fn is_told(range: &ServiceCIDR, status: &str) -> bool {
    let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == status)
}

impl Controller {
    async fn tell(
        &self,
        range: &ServiceCIDR,
        status: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Error> {
        if is_told(range, status) {
            return Ok(());
        }
        let condition = json!({
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": Timestamp::now().round(k8s_openapi::jiff::Unit::Second).unwrap_or_default().to_string(),
        });
        let patch = json!({"status": {"conditions": [condition]}});
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let done = api.patch_status(range.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        errors::unless_gone(done)?;
        Ok(())
    }

    async fn set_finalizers(&self, range: &ServiceCIDR, finalizers: Vec<String>) -> Result<(), Error> {
        let version: Value = json!(range.metadata.resource_version);
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let done = api.patch(range.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        errors::unless_gone(done)?;
        Ok(())
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(range) = self.ranges.get(key) else { return Ok(None) };
        let mut finalizers = range.metadata.finalizers.clone().unwrap_or_default();
        let is_held = finalizers.iter().any(|one| one == FINALIZER);
        if range.deleting() {
            if is_needed(&range, &self.ranges.all(), &self.services.all()) {
                self.tell(&range, "False", "Terminating", IN_USE).await?;
            } else if is_held {
                finalizers.retain(|one| one != FINALIZER);
                self.set_finalizers(&range, finalizers).await?;
            }
            return Ok(None);
        }
        if !is_held {
            finalizers.push(FINALIZER.into());
            self.set_finalizers(&range, finalizers).await?;
        }
        self.tell(&range, "True", "", READY).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_needed_while_it_alone_holds_an_address() {
        let range = |name: &str, cidr: &str| {
            let tree = json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}});
            Arc::new(serde_json::from_value::<ServiceCIDR>(tree).unwrap())
        };
        let service = json!({"spec": {"clusterIP": "172.30.0.9", "clusterIPs": ["172.30.0.9"]}});
        let services = [Arc::new(serde_json::from_value::<Service>(service).unwrap())];
        let (own, wide, other) =
            (range("a", "172.30.0.0/24"), range("b", "172.16.0.0/12"), range("c", "fd00::/108"));
        assert!(is_needed(&own, &[own.clone(), other.clone()], &services));
        assert!(!is_needed(&own, &[own.clone(), wide], &services));
        assert!(!is_needed(&own, std::slice::from_ref(&own), &[]));
        assert!(!is_needed(&other, &[own, other.clone()], &services));
    }
}
