//! What the scheduler knows of a node: what it has, and what the pods on it take (scheduler `framework/types.go`, NodeInfo). Owned by the
//! cache; copied only where preemption asks what would be if.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod::PodInfo;
use crate::resources::{NonZero, Resources};
use crate::terms::Labels;

/// A node and its pods.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node itself.
    pub node: Arc<Node>,
    /// Its name.
    pub name: String,
    /// What pods may take.
    pub allocatable: Resources,
    /// What its pods have asked for.
    pub requested: Resources,
    /// What they count for.
    pub non_zero: NonZero,
    /// Its pods, those that are assumed to come included.
    pub pods: Vec<Arc<PodInfo>>,
    /// Those of them that care which pods are near.
    pub with_affinity: Vec<Arc<PodInfo>>,
    /// Size of each image that it has, by name.
    pub images: HashMap<String, i64>,
    /// How many of its pods each of the cache's counters counts.
    pub counts: Vec<u32>,
    /// Its domain in each of the cache's topologies; [`NO_DOMAIN`] if it lacks the label.
    pub domains: Vec<u32>,
    /// True if it is cordoned.
    pub is_unschedulable: bool,
    /// True if it has any taint: most nodes have none, and are asked by every pod.
    pub is_tainted: bool,
}

/// Not a domain.
pub const NO_DOMAIN: u32 = u32::MAX;

static NO_LABELS: Labels = Labels::new();

impl NodeInfo {
    /// A node without pods.
    pub fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            node: node.clone(),
            allocatable: Resources::default(),
            requested: Resources::default(),
            non_zero: NonZero::default(),
            pods: Vec::new(),
            with_affinity: Vec::new(),
            images: HashMap::new(),
            counts: Vec::new(),
            domains: Vec::new(),
            is_unschedulable: false,
            is_tainted: false,
        };
        info.update(node);
        info
    }

    /// The node has changed.
    pub fn update(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        self.allocatable = Resources::of(status.and_then(|status| status.allocatable.as_ref()));
        self.images.clear();
        for image in status.into_iter().flat_map(|status| status.images.iter().flatten()) {
            for name in image.names.iter().flatten() {
                self.images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        let spec = node.spec.as_ref();
        self.is_unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        self.is_tainted = spec.and_then(|spec| spec.taints.as_ref()).is_some_and(|taints| !taints.is_empty());
        self.node = node;
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        self.node.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
    }

    /// Its domain in a topology of the cache.
    pub fn domain(&self, topology: usize) -> Option<usize> {
        let domain = self.domains.get(topology).copied().filter(|domain| *domain != NO_DOMAIN)?;
        usize::try_from(domain).ok()
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
    }

    /// A pod comes.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.non_zero.milli_cpu = self.non_zero.milli_cpu.saturating_add(pod.non_zero.milli_cpu);
        self.non_zero.memory = self.non_zero.memory.saturating_add(pod.non_zero.memory);
        if pod.has_affinity() {
            self.with_affinity.push(pod.clone());
        }
        self.pods.push(pod);
    }

    /// A pod goes; it is recognised by its uid.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let index = self.pods.iter().position(|pod| pod.uid == uid)?;
        let pod = self.pods.swap_remove(index);
        self.requested.subtract(&pod.requests);
        self.non_zero.milli_cpu = self.non_zero.milli_cpu.saturating_sub(pod.non_zero.milli_cpu);
        self.non_zero.memory = self.non_zero.memory.saturating_sub(pod.non_zero.memory);
        self.with_affinity.retain(|other| other.uid != uid);
        Some(pod)
    }
}
