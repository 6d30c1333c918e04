//! HTTP: the listener, versions in paths, errors, upgraded connections.

use crate::engine::Engine;
use std::{os::fd::OwnedFd, sync::Arc};

/// Answers connections to the socket for ever.
pub async fn serve(_engine: Arc<Engine>, _listener: OwnedFd) {
    std::future::pending().await
}
