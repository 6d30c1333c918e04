//! ReplicaSets and ReplicationControllers: so many pods of a template (k8s.io/kubernetes/pkg/controller/replicaset, which serves both kinds
//! too). `scaled` is what both have in common, `plan` decides which pods to make and to delete, `status` tells what is, `control` asks the API server.

pub mod control;
pub mod plan;
pub mod scaled;
pub mod status;
