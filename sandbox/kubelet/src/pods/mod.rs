//! Pods as the kubelet runs them. A task for each pod ([`worker`]) asks whether the node takes it ([`admission`]), looks at what there is
//! ([`observed`]), does what is missing ([`sync`], [`start`], [`stop`]; [`memory`] is what it remembers) and tells how it is ([`status`]); [`manager`] knows which pods
//! there shall be.

pub mod admission;
pub mod backoff;
pub mod config;
pub mod env;
pub mod env_file;
pub mod eviction;
pub mod expand;
pub mod fields;
pub mod files;
pub mod identity;
pub mod labels;
pub mod manager;
pub mod memory;
pub mod observed;
pub mod phase;
pub mod pod;
pub mod qos;
pub mod resize;
pub mod seccomp;
pub mod service_env;
pub mod start;
pub mod static_pods;
pub mod status;
pub mod stop;
pub mod sync;
pub mod worker;
