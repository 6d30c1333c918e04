//! Endpoints of plugins: a node has none and takes none, since a plugin runs with all rights of the machine.

use crate::engine::Engine;
use crate::error::Error;
use crate::http::{Answer, answer};
use axum::Router;
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::routing::{any, get};
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/plugins", get(list)).route("/plugins/{*rest}", any(one))
}

async fn list() -> Answer {
    Ok(answer(StatusCode::OK, &[(); 0]))
}

async fn one(method: Method, Path(rest): Path<String>) -> Answer {
    if matches!(rest.as_str(), "pull" | "create" | "privileges") {
        return Err(Error::not_implemented("plugins are not available on this node"));
    }
    let name = match rest.rsplit_once('/') {
        Some((name, "json" | "enable" | "disable" | "push" | "upgrade" | "set"))
            if method != Method::DELETE =>
        {
            name
        }
        _ => &rest,
    };
    Err(Error::not_found(format!("plugin {name:?} not found")))
}
