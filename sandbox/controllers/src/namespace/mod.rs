//! Deletes namespaces with everything in them (k8s.io/kubernetes/pkg/controller/namespace). `conditions` tells what is left and why;
//! `control` asks the API server.

pub mod conditions;
pub mod control;
