//! Endpoints of swarm mode, as a node answers that is in no swarm.

use crate::engine::Engine;
use crate::error::Error;
use crate::http::Answer;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get, post};
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    let mut routes = Router::new()
        .route("/swarm", get(refuse))
        .route("/swarm/unlockkey", get(refuse))
        .route("/swarm/update", post(refuse))
        .route("/swarm/unlock", post(refuse))
        .route("/swarm/leave", post(not_part))
        .route("/swarm/init", post(not_here))
        .route("/swarm/join", post(not_here));
    for kind in ["services", "nodes", "tasks", "secrets", "configs"] {
        routes =
            routes.route(&format!("/{kind}"), get(refuse)).route(&format!("/{kind}/{{*rest}}"), any(refuse));
    }
    routes
}

/// What all that needs a manager is refused with.
pub fn no_manager() -> Error {
    unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    )
}

async fn refuse() -> Answer {
    Err(no_manager())
}

async fn not_part() -> Answer {
    Err(unavailable("This node is not part of a swarm"))
}

async fn not_here() -> Answer {
    Err(Error::not_implemented("swarm mode is not available on this node"))
}

fn unavailable(message: &str) -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, message)
}
