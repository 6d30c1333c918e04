//! Containers in a node. The engine describes one ([`spec`]), the node's init clones a child for it, and the child builds its
//! root and becomes its program ([`messages`] tells who says what). Follow one: [`EngineToInit::Run`] → `node_init` → `child`.
//!
//! [`EngineToInit::Run`]: messages::EngineToInit::Run

pub mod beforehand;
pub mod child;
mod decision;
mod dev;
mod groups;
pub mod messages;
pub mod net;
pub(crate) mod process;
pub mod profile;
mod reaper;
pub mod rlimits;
mod root;
pub mod seccomp;
pub mod spec;
pub mod users;

use crate::channel::Channel;
use drydock_protocol::NodeName;
use std::os::fd::OwnedFd;

/// Status of an engine that said why it can't start (sysexits' `EX_CONFIG`): it is not tried again before somebody says so.
pub const CANNOT_START: i32 = 78;

/// What the engine of a node is born with: a fork of the node's init, in all of the node's namespaces.
#[derive(Debug)]
pub struct EngineBoot {
    /// Which node.
    pub node: NodeName,
    /// To the node's init: [`messages::EngineToInit`], [`messages::InitToEngine`].
    pub channel: Channel,
    /// Listening Unix stream socket: `/run/docker.sock`. The init keeps it too; what connects while no engine runs waits.
    pub listener: OwnedFd,
    /// To the session process, for what the page shows; closed when that is gone.
    pub pictures: Option<Channel>,
    /// The program of WebAssembly containers, open for reading: a file that belongs to the host's root. Without it there are none.
    pub wasm: Option<OwnedFd>,
}
