//! Which process is at the other end of a connection.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;

/// Its process id as the node has it; 0 if that can't be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peer(pub i32);

impl Peer {
    /// Of a connection (unix(7), `SO_PEERCRED`).
    pub(super) fn of(stream: &tokio::net::UnixStream) -> Self {
        Self(stream.peer_cred().ok().and_then(|cred| cred.pid()).unwrap_or(0))
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_default())
    }
}
