//! Dockerfiles: the language and the builder.
//!
//! [`language::parse`] reads a Dockerfile, [`build::build`] makes an image of it. The builder knows instructions, order, cache
//! rules, variables and files; what only an engine has (images, running containers, the network) it asks of a
//! [`build::Backend`], and what happens it tells an [`build::Output`]. It is synchronous: run it in a thread that may block.
//!
//! Everything that this crate reads (Dockerfile, context, base images) comes from strangers. Work and memory are bounded, and file
//! work never leaves the tree that it was given, whatever links are in it ([`files::Tree`]).

pub mod build;
pub mod files;
mod glob;
pub mod ignore;
pub mod language;
