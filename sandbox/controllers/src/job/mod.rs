//! Jobs: pods that run to an end (k8s.io/kubernetes/pkg/controller/job). `assess` counts what ended and judges whether the Job did;
//! `plan` says which pods to make and to delete; `indexes`, `policy` and `backoff` are parts of both; `control` asks the API server.

pub mod assess;
pub mod backoff;
pub mod control;
pub mod indexes;
pub mod plan;
pub mod pods;
pub mod policy;
#[cfg(test)]
mod tests;
pub mod ttl;
