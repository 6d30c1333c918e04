//! Claims and volumes (k8s.io/kubernetes/pkg/controller/volume): binding one to the other, making volumes on a node's disk for the class
//! `standard`, making those larger whose claims grow, protecting what is in use, and claims of ephemeral volumes. `matching` and `provision` are pure.

pub mod binder;
pub mod ephemeral;
pub mod expand;
pub mod matching;
pub mod phase;
pub mod protection;
pub mod provision;
pub mod reclaim;
pub mod recycle;
