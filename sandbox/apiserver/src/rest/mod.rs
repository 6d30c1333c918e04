//! Verbs on objects: one engine for all kinds. The router gives a request to the function that its verb names; that function reads
//! options and body, does its work on the store, and answers. What differs between kinds is asked of [`crate::resource::Resource`].

pub mod binding;
pub mod call;
pub mod create;
pub mod delete;
pub mod eviction;
pub mod get;
pub mod list;
pub mod meta;
pub mod options;
pub mod patch;
pub mod scale;
pub mod select;
pub mod subresource;
pub mod table;
pub mod update;
pub mod watch;
pub mod write;

pub use call::Call;
