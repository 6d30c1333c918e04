//! Requests for certificates (k8s.io/kubernetes/pkg/controller/certificates): `approve` approves those of kubelets, `sign` signs what is
//! approved, `clean` deletes old ones. `request` reads what is asked for and says what its signer allows.

pub mod approve;
pub mod clean;
pub mod request;
pub mod sign;
