//! The picture of a session that the page, the CLI and the API show. It is made by the session process (its
//! nodes, terminals and ports) and pushed whole over a tab's WebSocket whenever it changes.

use crate::{NodeName, TerminalId, docker::Docker, frame::Size};
use serde::{Deserialize, Serialize};

/// Everything that a session process knows about its session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionState {
    /// The nodes, by number.
    pub nodes: Vec<Node>,
    /// The open terminals, oldest first.
    pub terminals: Vec<Terminal>,
    /// Who looks at the session now.
    pub viewers: Vec<Viewer>,
}

/// One Linux node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// Name and host name.
    pub name: NodeName,
    /// IPv4 address on the session's bridge.
    pub address: String,
    /// Whether it runs.
    pub power: Power,
    /// What it uses; absent while it is off.
    pub usage: Option<Usage>,
    /// TCP ports that something listens on, reachable from other nodes, ascending.
    pub ports: Vec<Port>,
    /// Its Docker engine, once that has been used.
    #[serde(default)]
    pub docker: Option<Docker>,
}

/// Whether a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Power {
    /// It is being made or switched on.
    Starting,
    /// Its init runs.
    On,
    /// Switched off; its disk stays.
    Off,
}

/// Figures from a node's control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// CPU use since the last figure, in thousandths of one CPU.
    pub cpu_millis: u32,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
}

/// A TCP port that something listens on in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Port {
    /// The port's number.
    pub port: u16,
    /// True if it listens on the loopback address only: it can't be opened from outside the node.
    pub loopback_only: bool,
}

/// One terminal: a shell with a pty on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Terminal {
    /// Its number.
    pub id: TerminalId,
    /// The node it runs on.
    pub node: NodeName,
    /// Window title that the program inside set (OSC 0 or 2), at most 200 characters.
    pub title: String,
    /// The size that everybody shows.
    pub size: Size,
    /// The exit status, once its process has ended.
    pub exited: Option<i32>,
}

/// Somebody who has the session open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Viewer {
    /// Number of the connection, unique within the session process.
    pub id: u64,
    /// What they may do.
    pub role: Role,
    /// The terminal that they look at.
    pub focus: Option<TerminalId>,
}

/// What a link lets its holder do. Each role may do all that the ones below it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// Look, and nothing else: keystrokes go nowhere.
    View,
    /// Type, open terminals, move files, open ports.
    Type,
    /// Add and remove nodes, extend and end the session, make and revoke links.
    Own,
}
