//! How much of a ResourceQuota is used (k8s.io/kubernetes/pkg/controller/resourcequota). The API server's admission refuses what would be too
//! much; here is counted what is, and what was given back. `usage` is pure, `control` asks the API server.

pub mod control;
pub mod usage;
