//! The endpoints, a file per subject; each file has `routes()`.

pub mod archive;
pub mod containers;
pub mod exec;

use crate::engine::Engine;
use axum::Router;
use std::sync::Arc;

/// All endpoints.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().merge(archive::routes()).merge(containers::routes()).merge(exec::routes())
}
