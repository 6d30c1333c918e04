//! Nodes: whether they are alive (k8s.io/kubernetes/pkg/controller/nodelifecycle), which pods must leave them (pkg/controller/tainteviction),
//! which addresses their pods have (pkg/controller/nodeipam), and pods that are left over (pkg/controller/podgc).

pub mod eviction;
pub mod health;
pub mod ipam;
pub mod lifecycle;
pub mod pod_gc;
pub mod taints;
