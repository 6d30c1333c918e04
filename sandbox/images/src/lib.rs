//! Images: what the nodes of a session have as their file system, and what their containers are made from.
//!
//! [`Store`] is the host's: node images, and a catalogue of images that every node's engine finds. [`local::LocalStore`] is the
//! store of one node's Docker engine, which runs inside the session.
//!
//! An operator builds an image from Debian packages ([`Store::build`]) or imports one that another machine exported
//! ([`Store::import`], [`Store::export`]); the warden asks where its layers lie ([`Store::resolve`]) and mounts them.
//! The host's part runs as root on the host. What it reads (an image file) may come from anywhere: names, sizes, owners and
//! digests are checked before anything becomes visible under its final name.

mod add;
mod changes;
pub mod config;
mod debian;
mod deflate;
mod digest;
mod entries;
mod error;
mod inflate;
pub mod local;
pub mod mmdebstrap;
mod oci;
mod pack;
mod reference;
mod sparse;
mod split;
mod store;
mod transfer;
mod unpack;

pub use add::{NewImage, NewLayer};
pub use changes::{Change, ChangeKind, changes};
pub use debian::{BuildOptions, node_recipe};
pub use digest::Digest;
pub use error::Error;
pub use pack::write_tar;
pub use reference::{AnyReference, DEFAULT_DOMAIN, DEFAULT_TAG, Reference, ReferenceError};
pub use store::{Image, Listing, Progress, Store};

/// What everything in this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
