//! The built-in kinds of Kubernetes as one table: how each is named, what it gets by default, what it must be, and what
//! `kubectl get` prints of it. The API server's engine asks [`KINDS`] and knows no kind by name.

mod kind;

pub use kind::{Cell, Column, Conversion, Generation, Kind, Scope, Subresource};

/// All built-in kinds, in the order in which discovery tells of them.
pub static KINDS: &[Kind] = &[];
