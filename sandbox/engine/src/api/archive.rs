//! Endpoints of archive.

use crate::engine::Engine;
use axum::Router;
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
}
