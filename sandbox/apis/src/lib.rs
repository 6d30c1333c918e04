//! The built-in kinds of Kubernetes as one table: how each is named, what it gets by default, what it must be, and what
//! `kubectl get` prints of it. The API server's engine asks [`KINDS`] and knows no kind by name.

mod conversion;
mod groups;
pub mod kind;
pub mod printers;

pub use groups::{KINDS, by_kind, find};
pub use kind::{Cell, Column, Conversion, Generation, Kind, Scope, SelectableField, Subresource};
