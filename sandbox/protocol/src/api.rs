//! Bodies of the REST interface under `/api/v1`.

use crate::{
    NodeName, SessionId,
    pipe::{Entry, Step},
    state::{Role, SessionState},
};
use serde::{Deserialize, Serialize};

/// `POST /api/v1/sessions`: what the learner wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateSession {
    /// Name of a playground from `GET /api/v1/playgrounds`, such as `linux`.
    pub playground: String,
    /// Number of nodes; absent: the playground's own.
    #[serde(default)]
    pub nodes: Option<u8>,
    /// Life in seconds; absent: the operator's default.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// A node of a session just made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeAddress {
    /// Name and host name.
    pub name: NodeName,
    /// IPv4 address on the session's bridge.
    pub address: String,
}

/// `201` of `POST /api/v1/sessions`: a session that is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Created {
    /// The session's id.
    pub id: SessionId,
    /// The owner's link: opens the session in a browser. A secret.
    pub url: String,
    /// The owner's token, for `Authorization: Bearer`. A secret.
    pub token: String,
    /// Its nodes.
    pub nodes: Vec<NodeAddress>,
    /// Milliseconds from the request's arrival to the first prompt.
    pub ready_ms: f64,
    /// When it ends, seconds since 1970.
    pub expires_at: u64,
}

/// `202` of `POST /api/v1/sessions` when the host is full: a place in the queue. Ask again with
/// `GET /api/v1/queue/{ticket}`, which answers the same until it answers `201` with [`Created`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Queued {
    /// Opens the place in the queue; lost if not asked about for a minute. A secret.
    pub ticket: String,
    /// 1: next.
    pub place: u32,
    /// Estimated seconds until it is this one's turn.
    pub estimate_seconds: u64,
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Status {
    /// Being made.
    Starting,
    /// In use.
    Running,
    /// Frozen because nobody used it; the next visitor wakes it.
    Asleep,
    /// Over.
    Ended,
}

/// `GET /api/v1/sessions/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// The session's id.
    pub id: SessionId,
    /// Its playground.
    pub playground: String,
    /// How it stands.
    pub status: Status,
    /// Why it ended, as a sentence, once it has.
    pub ended_because: Option<String>,
    /// What the asker may do.
    pub role: Role,
    /// When it was made, seconds since 1970.
    pub created_at: u64,
    /// When it ends or ended, seconds since 1970.
    pub expires_at: u64,
    /// Seconds by which its owner may still extend it.
    pub can_extend: u64,
    /// Most nodes that it may have.
    pub max_nodes: u8,
    /// What all its nodes may use together.
    pub limits: SessionLimits,
    /// Nodes, terminals and viewers; absent when it has ended.
    pub state: Option<SessionState>,
    /// Steps of its start (and stop) with their times.
    pub trace: Vec<Step>,
}

/// What all nodes of a session may use together. The kernel sees to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionLimits {
    /// CPU time, in thousandths of one CPU.
    pub cpu_millis: u32,
    /// Memory, in bytes.
    pub memory: u64,
    /// Disk space, in bytes.
    pub disk: u64,
    /// Processes and threads.
    pub processes: u32,
}

/// One line of `GET /api/v1/sessions` (operator only).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionLine {
    /// The session's id.
    pub id: SessionId,
    /// Its playground.
    pub playground: String,
    /// How it stands.
    pub status: Status,
    /// Number of nodes.
    pub nodes: u8,
    /// When it was made, seconds since 1970.
    pub created_at: u64,
    /// When it ends, seconds since 1970.
    pub expires_at: u64,
    /// What it uses; absent where that can't be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<SessionUsage>,
}

/// What all nodes of a session use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionUsage {
    /// Memory in use, in bytes, without page cache that can be dropped.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u32,
    /// CPU time since the start, in seconds.
    pub cpu_seconds: u64,
}

/// `POST /api/v1/sessions/{id}/extend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Extend {
    /// By how many seconds.
    pub seconds: u64,
}

/// `POST /api/v1/sessions/{id}/nodes/{node}/power`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetPower {
    /// True: on.
    pub on: bool,
}

/// `POST /api/v1/sessions/{id}/links`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateLink {
    /// What its holder may do.
    pub role: Role,
    /// Seconds until the link opens nothing any more; absent: as long as the session lives.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// A link that was made; `url` is told only in the answer to its making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Link {
    /// Number by which it is revoked.
    pub id: u64,
    /// What its holder may do.
    pub role: Role,
    /// When it stops to open anything, seconds since 1970.
    pub expires_at: u64,
    /// True once it was revoked.
    pub revoked: bool,
    /// True if it is the one by which who asks is here. It can't be revoked with itself.
    #[serde(default)]
    pub yours: bool,
    /// The link itself, a secret; only in the answer to its making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The link as a QR code (SVG); only in the answer to its making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr_svg: Option<String>,
}

/// `POST /api/v1/sessions/{id}/ports/{node}/{port}`: where a browser opens a port of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortLink {
    /// The address, with its capability in it. A secret.
    pub url: String,
}

/// `GET /api/v1/sessions/{id}/nodes/{node}/files?path=…` for a directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Listing {
    /// The directory's path.
    pub path: String,
    /// What is in it, by name.
    pub entries: Vec<Entry>,
    /// True if there was more than is told.
    pub cut: bool,
}

/// One of `GET /api/v1/playgrounds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Playground {
    /// Its name, for [`CreateSession`].
    pub name: String,
    /// Its title for people.
    pub title: String,
    /// One sentence.
    pub description: String,
    /// Nodes if the learner does not say.
    pub nodes: u8,
    /// Most nodes.
    pub max_nodes: u8,
}

/// `GET /api/v1/host`: what a newcomer should know before Start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Host {
    /// Version of the server.
    pub version: String,
    /// Sessions that run.
    pub running: u32,
    /// Sessions that fit.
    pub capacity: u32,
    /// Newcomers waiting.
    pub queued: u32,
    /// Default life of a session in seconds.
    pub default_ttl_seconds: u64,
    /// Longest life of a session in seconds.
    pub max_ttl_seconds: u64,
}

/// Body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiError {
    /// Short name for programs, such as `session_not_found`.
    pub code: String,
    /// One or two sentences for people: what was wrong and what to do.
    pub message: String,
}

/// Who may log in (`docker login registry:5000`) at the site's image registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Logins {
    /// Anybody: the first login of a name makes the account.
    Open,
    /// Accounts that are listed.
    List,
    /// Nobody.
    Closed,
}

/// An account at the site's image registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistryAccount {
    /// Its name: 1 to 64 bytes without a colon.
    pub name: String,
    /// Its password: 1 to 72 bytes. A secret.
    pub password: String,
}

/// `PUT /api/v1/sessions/{id}/registry`: replaces a session's rules and accounts at the site's image registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetRegistryRules {
    /// Who may log in; absent: as the operator has it for all sessions.
    #[serde(default)]
    pub logins: Option<Logins>,
    /// The session's accounts, in place of those that it had; at most 50.
    #[serde(default)]
    pub accounts: Vec<RegistryAccount>,
}

/// `GET /api/v1/sessions/{id}/registry`: how a session stands at the site's image registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistryRules {
    /// Who may log in.
    pub logins: Logins,
    /// Names of its accounts, those of all sessions among them.
    pub accounts: Vec<String>,
}
