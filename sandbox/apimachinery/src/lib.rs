//! What all of Kubernetes' objects share, whatever their kind: how they are decoded, described, selected, changed and refused.
//! Pure functions over JSON trees; nothing in here knows of a store, a connection or a particular kind.
//!
//! What the API server calls, in the order of a request:
//!
//! | step | built-in kinds | custom resources |
//! |---|---|---|
//! | find the schema | [`schema::find`] | [`crd::Served::of`] when the definition changes |
//! | read a body | [`decode::decode`] | [`decode::decode_untyped`], [`decode::conform_metadata`], [`crd::Served::prune`] |
//! | `PATCH` | [`patch::apply`], [`patch::Patched::conform`] | the same without `conform`, then as a body |
//! | server-side apply | [`managed_fields::Tracker::apply`], then [`decode::conform`] | the same, then as a body |
//! | default | the kind's own defaults | [`crd::Served::fill_defaults`] |
//! | validate | the kind's own validation | [`crd::Served::validate`] |
//! | make it look as Go writes it | [`decode::complete`] | – |
//! | tell who owns what | [`managed_fields::Tracker::update`], [`managed_fields::keep_times`] | the same |
//! | refuse | [`Status`], [`field::ErrorList`] | the same |
//! | select | [`selectors`] | the same, and [`crd::Served::field`] |
//! | a table's row | the kind's own | [`crd::Served::row`] |
//! | write it | [`ordered::write`] | the same |
//! | OpenAPI | [`openapi::v3`], [`openapi::v3_index`], [`openapi::v2`] | with [`crd::Served::openapi`] |

pub mod crd;
pub mod decode;
pub mod duration;
pub(crate) mod expressions;
pub mod field;
pub mod managed_fields;
pub mod names;
pub mod object;
pub mod openapi;
pub mod ordered;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod selectors;
pub mod status;

pub use status::Status;

/// The version that the cluster says it is.
pub const GIT_VERSION: &str = "v1.35.0+drydock";
