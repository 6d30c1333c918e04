//! The endpoints, a file per subject; each file has `routes()`.

pub mod archive;
pub mod containers;
pub mod exec;
