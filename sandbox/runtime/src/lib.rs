//! The sandbox of a session: one file per kernel mechanism, and the two small processes that use them.
//!
//! Read in this order to follow one session's birth: [`launch`] (the warden's side), [`spawner`] (pid 1 of the session),
//! [`node_init`] (pid 1 of a node). The only crate of the project that holds `unsafe`.

pub mod btrfs;
pub mod caps;
pub mod cgroup;
pub mod channel;
pub mod clear;
pub mod cluster;
pub mod container;
pub mod egress;
mod engine_host;
pub mod files;
pub mod heap;
mod initctl;
pub mod launch;
pub mod limits;
pub mod loopdev;
pub mod messages;
pub mod mounts;
pub mod neighbours;
pub mod netlink;
pub mod node_init;
pub mod node_root;
pub mod outq;
pub mod overlay;
pub mod pidfd;
pub mod process;
pub mod program;
pub mod pty;
pub mod seccomp;
mod service_host;
pub mod session_root;
pub mod spawner;
pub mod stack;
pub mod text;
pub mod trace;
pub mod uplink;
pub mod userns;

mod error;
pub use error::{Error, Result};
