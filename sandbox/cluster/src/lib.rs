//! What `kubeadm` writes when it makes a cluster or joins one: certificates, kubeconfigs and the manifests of the control plane's
//! static pods. The kubelet of a node calls [`set_up`] when it starts. All keys but one follow from the cluster's seed, so
//! the nodes agree on the authorities without a word between them. Nothing here talks to anybody, and nothing that is there is
//! overwritten: a node that was switched off keeps what its learner made of it.

mod files;
mod keys;
mod kubeconfig;
mod kubelet;
mod manifests;
mod pki;

pub use files::{Paths, set_up};
pub use kubelet::{RUNTIME_ENDPOINT, kubelet_configuration};
pub use pki::{Authority, Certificate, Identity};

use std::{io, net::Ipv4Addr, path::PathBuf};

/// The version of Kubernetes that a cluster has.
pub const VERSION: &str = "v1.35.0";
/// Where the API server listens.
pub const API_PORT: u16 = 6443;
/// Where a kubelet listens.
pub const KUBELET_PORT: u16 = 10250;
/// Addresses of Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/12";
/// The address of the Service `kubernetes`: the first one of [`SERVICE_CIDR`].
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The address of the cluster's DNS, which kubeadm puts in every kubelet's configuration.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The domain of the cluster's names.
pub const DOMAIN: &str = "cluster.local";
/// As whom the pod network of a node asks for the other nodes (as a CNI plugin has an account of its own: a kubelet may not).
pub const NETWORK_USER: &str = "drydock:pod-network";
/// Addresses of pods; each node has a /24 of them.
pub const POD_CIDR: &str = "10.244.0.0/16";

/// A cluster, as one of its nodes sees it.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// What the keys follow from.
    pub seed: &'a [u8; 32],
    /// When it was made, in seconds since 1970: certificates are valid from here on.
    pub created: u64,
    /// This node's name.
    pub node: &'a str,
    /// This node's address.
    pub address: Ipv4Addr,
    /// The address of the node with the control plane.
    pub control_plane: Ipv4Addr,
}

impl Cluster<'_> {
    /// Whether this node has the control plane.
    pub fn is_control_plane(&self) -> bool {
        self.address == self.control_plane
    }

    /// Where clients find the API server.
    pub fn server(&self) -> String {
        format!("https://{}:{API_PORT}", self.control_plane)
    }
}

/// The cluster can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or a certificate could not be made.
    #[error("{what}: {source}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The creation time is out of range.
    #[error("the cluster's time of creation is out of range")]
    Time,
    /// A file could not be written.
    #[error("write {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
