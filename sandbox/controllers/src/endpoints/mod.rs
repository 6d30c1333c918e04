//! Which pods are behind a Service: as `Endpoints` (k8s.io/kubernetes/pkg/controller/endpoint), as EndpointSlices
//! (k8s.io/endpointslice), and slices for `Endpoints` that somebody wrote by hand (pkg/controller/endpointslicemirroring). `pods` and
//! `slices` are pure; the others ask the API server.

pub mod control;
pub mod legacy;
pub mod mirror;
pub mod pods;
pub mod slice_control;
pub mod slices;
