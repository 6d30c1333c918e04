//! The built-in kinds of Kubernetes as one table: how each is named, what it gets by default, what it must be, and what
//! `kubectl get` prints of it. The API server's engine asks [`KINDS`] and knows no kind by name.
//!
//! What the engine calls when, for a kind's main resource (subresources keep everything else of the old object):
//! 1. decode; a kind with [`Kind::stored_as`] is converted only when it is stored or read from the store, all below speaks of the
//!    version in which it is served;
//! 2. [`Kind::defaults`];
//! 3. on creation `metadata.name`, `uid`, `creationTimestamp`; then [`Kind::prepare`] (it also takes away a `status` that a writer of
//!    the main resource has no say in), after admission;
//! 4. [`Kind::validate`] (not the metadata, but for names that the kind restricts), [`Kind::warnings`].

mod conversion;
pub mod defaults;
mod groups;
mod kind;
pub mod prepare;
pub mod printers;
mod quantity;
mod seen;
pub mod tree;
pub mod validation;
pub mod warnings;

pub use groups::{KINDS, by_kind, find};
pub use kind::{ALL_VERBS, Cell, Column, Conversion, Generation, Kind, Scope, SelectableField, Subresource};
