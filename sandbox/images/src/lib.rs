//! Node images: what the nodes of a session have as their file system.
//!
//! An operator builds an image from Debian packages ([`Store::build`]) or imports one that another machine exported
//! ([`Store::import`], [`Store::export`]); the warden asks where its layers lie ([`Store::resolve`]) and mounts them.
//! The crate runs as root on the host. What it reads (an image file) may come from anywhere: names, sizes, owners and
//! digests are checked before anything becomes visible under its final name.

mod changes;
pub mod config;
mod debian;
mod digest;
mod entries;
mod error;
mod inflate;
pub mod local;
mod oci;
mod pack;
mod reference;
mod split;
mod store;
mod transfer;
mod unpack;

pub use changes::{Change, ChangeKind, changes};
pub use debian::BuildOptions;
pub use digest::Digest;
pub use error::Error;
pub use pack::write_tar;
pub use reference::{AnyReference, DEFAULT_DOMAIN, DEFAULT_TAG, Reference, ReferenceError};
pub use store::{Image, Listing, Progress, Store};

/// What everything in this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
