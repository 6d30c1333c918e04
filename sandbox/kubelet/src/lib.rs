//! The kubelet of a node: pods as containers of the node's engine. A process per node, forked without exec by the node's init, in all of
//! the node's namespaces and with no more rights than root there. It sets the node up as kubeadm would ([`drydock_cluster`]), runs
//! the static pods, tells the API server about the node, and runs the pods that are bound to it. It keeps nothing in memory that it
//! could not read again from the engine, so it may be killed at any time.
//!
//! To follow a pod: `pods/manager.rs` → `pods/worker.rs` → `pods/sync.rs` → `pods/start.rs` → `docker/client.rs`.

mod bootstrap;
mod command_line;
mod docker;
mod early;
mod host_ports;
mod images;
mod kubelet;
mod logs;
mod network;
mod node;
mod objects;
mod paths;
mod pods;
mod probes;
mod pull_secrets;
mod quantity;
mod routes;
mod run;
mod server;
mod settings;
mod statuses;
mod text;
mod volumes;

pub use run::run;
