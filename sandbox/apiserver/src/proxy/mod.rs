//! Requests that are passed on: to a kubelet (`log`, `exec`, `attach`, `portforward`, nodes' `proxy`), or to a pod or a service. The API
//! server looks at the pod, opens a connection of its own for the one request and then carries bytes; what they mean is between client
//! and kubelet.

mod container;
mod forward;
mod object;
mod target;

pub use container::to_container;
pub use object::to_object;
pub use target::{KubeletClient, Target, dial_error, node_target};
