//! Routes to the pods of other nodes: one for each node of the cluster, over the network that all nodes are on (host-gw).

use crate::kubelet::Kubelet;
use drydock_kubeclient::{Event, Informer};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};
use tokio::sync::Notify;

type Part = (Ipv4Addr, u8);

/// (pods, node's address) of a node.
fn of(node: &Node) -> Option<(Part, Ipv4Addr)> {
    let cidr = node.spec.as_ref()?.pod_cidr.as_deref()?;
    let (network, prefix) = cidr.split_once('/')?;
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    let address = addresses.iter().find(|a| a.type_ == "InternalIP")?;
    Some(((network.parse().ok()?, prefix.parse().ok()?), address.address.parse().ok()?))
}

/// Leaves of a node what is looked at here.
pub fn strip(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        *status = NodeStatus { addresses: status.addresses.take(), ..NodeStatus::default() };
    }
}

/// Keeps the routes as the nodes are, for ever.
pub async fn keep(kubelet: Arc<Kubelet>, nodes: Informer<Node>) {
    let changed = Arc::new(Notify::new());
    let told = changed.clone();
    nodes.subscribe(move |event| {
        // The heartbeats of a node change nothing.
        let same = matches!(event, Event::Updated { old, new } if of(old) == of(new));
        if !same {
            told.notify_one();
        }
    });
    nodes.start();
    let mut there: BTreeMap<Part, Ipv4Addr> = BTreeMap::new();
    loop {
        changed.notified().await;
        let all = nodes.all();
        let others = all.iter().filter_map(|n| of(n)).filter(|(_, address)| *address != kubelet.host_ip);
        let wanted: BTreeMap<Part, Ipv4Addr> = others.collect();
        for (part, address) in &wanted {
            if there.get(part) != Some(address)
                && let Err(error) = kubelet.network.route(*part, *address)
            {
                tracing::error!(%error, "no route to another node's pods");
            }
        }
        for part in there.keys().filter(|part| !wanted.contains_key(part)) {
            let _gone_already = kubelet.network.unroute(*part);
        }
        there = wanted;
    }
}
