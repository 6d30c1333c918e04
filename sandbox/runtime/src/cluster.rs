//! What a session's processes are told of the Kubernetes cluster that its nodes make up. All of its keys follow from one seed, so
//! every node can make its own certificates and none needs to ask another; the seed never reaches a file of a node.

use drydock_protocol::NodeName;
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr};

/// What the keys of a cluster are derived from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSeed(pub [u8; 32]);

impl fmt::Debug for ClusterSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is the key to everything; no log shall have it.
        f.write_str("ClusterSeed(…)")
    }
}

/// A cluster that a session is born with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterWish {
    /// Where its keys come from.
    pub seed: ClusterSeed,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// How many nodes the session begins with: with one, its control plane takes ordinary pods too.
    pub nodes: u8,
}

/// What the kubelet of a node is born with: a fork of the node's init, in all of the node's namespaces.
#[derive(Debug, Clone)]
pub struct KubeletBoot {
    /// Which node.
    pub node: NodeName,
    /// Its address.
    pub address: Ipv4Addr,
    /// The address of the node with the control plane.
    pub control_plane: Ipv4Addr,
    /// The cluster.
    pub cluster: ClusterWish,
}

impl KubeletBoot {
    /// Whether this node has the control plane.
    pub fn is_control_plane(&self) -> bool {
        self.address == self.control_plane
    }
}
