//! Deployments: a ReplicaSet for each template, scaled against each other (k8s.io/kubernetes/pkg/controller/deployment). `plan` decides from
//! what there is; `status` tells what is; `control` asks the API server.

pub mod control;
pub mod plan;
pub mod replica_sets;
pub mod status;
#[cfg(test)]
mod tests;
