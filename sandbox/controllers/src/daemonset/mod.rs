//! DaemonSets: a pod on each node that it fits (k8s.io/kubernetes/pkg/controller/daemon). `nodes` says on which nodes a pod belongs and what it
//! looks like, `plan` which to make and to delete, `control` asks the API server.

pub mod control;
pub mod nodes;
pub mod plan;
#[cfg(test)]
mod tests;
