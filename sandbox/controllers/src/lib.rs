//! The controllers of the Kubernetes controller manager. [`manager::run`] is the whole program; each folder or file beside it is one controller:
//! a pure core that decides, and a thin loop that reads informers and asks the API server. Called by `drydock-kube`; nothing in here knows of
//! Drydock's sessions or nodes but through the API server.

pub mod admission_policy;
mod autoscaler;
pub mod certificates;
pub mod cluster_roles;
pub mod context;
mod credentials;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod error;
pub mod garbage;
pub mod job;
pub mod manager;
pub mod namespace;
pub mod node;
pub mod quota;
pub mod replicaset;
mod resource_claim;
pub mod service_account;
pub mod service_cidr;
pub mod service_lb;
pub mod shared;
pub mod statefulset;
pub mod tokens;
pub mod volumes;

pub use error::Error;
