//! Tokens that lie in secrets: of service accounts (k8s.io/kubernetes/pkg/controller/serviceaccount/tokens_controller.go), and of nodes that want
//! to join (pkg/controller/bootstrap): those are signed for, and deleted when their time is over.

pub mod bootstrap;
pub mod jwt;
pub mod service_accounts;
