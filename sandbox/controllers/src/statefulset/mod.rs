//! StatefulSets: pods with an identity, one after the other (k8s.io/kubernetes/pkg/controller/statefulset). `identity` says what the pod and
//! the claims of an ordinal are, `plan` what is next, `control` asks the API server.

pub mod claims;
pub mod control;
pub mod identity;
pub mod plan;
#[cfg(test)]
mod tests;
