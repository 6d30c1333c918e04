//! The Docker Engine API of a node: what the official `docker`, Compose and the client libraries speak to.
//!
//! One engine process per node, forked by the node's init when somebody connects to `/run/docker.sock`. It makes no process
//! itself: it describes containers ([`drydock_runtime::container`]) and the init clones them. What happens on `docker run`
//! reads in this order: `api/containers.rs` → `containers/create.rs` → `containers/start.rs` → `init.rs` → the runtime crate.

mod api;
mod build;
mod cgroup;
mod clock;
mod config;
mod containers;
mod engine;
mod error;
mod events;
mod exec;
mod filters;
mod http;
mod images;
mod init;
mod journal;
mod picture;
mod ready;
mod rootfs;
mod volumes;
mod wasm;

pub use engine::run;
