//! What all of Kubernetes' objects share, whatever their kind: how they are decoded, described, selected, changed and refused.
//! Pure functions over JSON trees; nothing in here knows of a store, a connection or a particular kind.

pub mod crd;
pub mod decode;
pub mod duration;
pub mod field;
pub mod managed_fields;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod selectors;
pub mod status;

pub use status::Status;

/// The version that the cluster says it is.
pub const GIT_VERSION: &str = "v1.35.0+drydock";
