//! Gives each node a range of addresses for its pods (k8s.io/kubernetes/pkg/controller/nodeipam, range allocator).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

/// Ranges of equal size within a larger one, the lowest free one first.
#[derive(Debug)]
pub struct Ranges {
    base: u32,
    count: u32,
    bits: u32,
    taken: BTreeSet<u32>,
}

impl Ranges {
    /// Ranges of `/bits` within `network` (`10.244.0.0/16`); `None`: that is no such network.
    pub fn new(network: &str, bits: u32) -> Option<Self> {
        let (address, length) = network.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let length: u32 = length.parse().ok()?;
        if length > bits || !(1..=30).contains(&bits) || length == 0 || bits - length > 16 {
            return None;
        }
        let base = u32::from(address) & (u32::MAX << (32 - length));
        Some(Self { base, count: 1 << (bits - length), bits, taken: BTreeSet::new() })
    }

    /// Notes that a range is taken.
    pub fn take(&mut self, range: &str) {
        if let Some(index) = self.index(range) {
            self.taken.insert(index);
        }
    }

    /// Gives a range back.
    pub fn free(&mut self, range: &str) {
        if let Some(index) = self.index(range) {
            self.taken.remove(&index);
        }
    }

    /// Takes the lowest free range; `None`: there is none left.
    pub fn take_next(&mut self) -> Option<String> {
        let index = (0..self.count).find(|index| !self.taken.contains(index))?;
        self.taken.insert(index);
        let address = Ipv4Addr::from(self.base + (index << (32 - self.bits)));
        Some(format!("{address}/{}", self.bits))
    }

    fn index(&self, range: &str) -> Option<u32> {
        let (address, length) = range.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let offset = u32::from(address).checked_sub(self.base)? >> (32 - self.bits);
        (length.parse() == Ok(self.bits) && offset < self.count).then_some(offset)
    }
}

struct Controller {
    client: Client,
    nodes: Informer<Node>,
    recorder: Recorder,
    ranges: Arc<Mutex<Ranges>>,
}

fn range(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|range| !range.is_empty())
}

/// Sets the controller up, if the command line says from which network.
pub fn start(context: &Context) -> Option<Running> {
    let settings = &context.settings;
    let network = settings.cluster_cidr.as_deref().filter(|_| settings.allocate_node_cidrs)?;
    // Of several families the IPv4 one is served.
    let network = network.split(',').find(|network| !network.contains(':'))?;
    let Some(ranges) = Ranges::new(network, settings.node_cidr_mask_size) else {
        tracing::error!(
            network,
            "--cluster-cidr is no network that can be divided: nodes get no ranges for pods"
        );
        return None;
    };
    let ranges = Arc::new(Mutex::new(ranges));
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let nodes = context.informer::<Node>();
    let (noted, to_queue) = (ranges.clone(), queue.clone());
    nodes.subscribe(move |event| {
        let mut ranges = noted.lock().unwrap_or_else(PoisonError::into_inner);
        match (event, range(event.object())) {
            (Event::Deleted(_), Some(range)) => ranges.free(range),
            (Event::Deleted(_), None) => {}
            (_, Some(range)) => ranges.take(range),
            (_, None) => to_queue.add(event.object().key()),
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        nodes,
        recorder: context.recorder("cidrAllocator"),
        ranges,
    };
    Some(work(Arc::new(controller), queue, 1))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(node) = self.nodes.get(key).filter(|node| range(node).is_none()) else { return Ok(None) };
        let ranges = || self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(range) = ranges().take_next() else {
            let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
            self.recorder.event(&*node, EventType::Normal, "CIDRNotAvailable", message);
            return Err(Error::NotYet(
                "CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range"
                    .into(),
            ));
        };
        let patch = json!({
            "metadata": {"uid": node.uid()},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        });
        let api: Api<Node> = Api::all(self.client.clone());
        match api.patch(node.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => Ok(None),
            Err(error) => {
                ranges().free(&range);
                if errors::is_not_found(&error) { Ok(None) } else { Err(error.into()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_range_comes_next() {
        let mut ranges = Ranges::new("10.244.0.0/16", 24).unwrap();
        assert_eq!(ranges.take_next().unwrap(), "10.244.0.0/24");
        ranges.take("10.244.1.0/24");
        assert_eq!(ranges.take_next().unwrap(), "10.244.2.0/24");
        ranges.free("10.244.0.0/24");
        ranges.free("192.168.0.0/24");
        assert_eq!(ranges.take_next().unwrap(), "10.244.0.0/24");
        for _ in 0..253 {
            assert!(ranges.take_next().is_some());
        }
        assert_eq!(ranges.take_next(), None);
    }

    #[test]
    fn networks_that_cannot_be_divided() {
        for network in ["10.244.0.0", "10.244.0.0/25", "fd00::/48", "10.0.0.0/4", "x/16", "0.0.0.0/0"] {
            assert!(Ranges::new(network, 24).is_none(), "{network}");
        }
    }
}
