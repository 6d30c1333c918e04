//! Addresses of ports.

use super::{App, node_name};
use crate::{auth::Caller, error::Error};
use axum::{
    Json,
    extract::{Path, State},
};
use drydock_protocol::{
    api::{ApiError, PortLink},
    state::Role,
};

/// The address at which a browser opens a port of a node.
#[utoipa::path(post, path = "/sessions/{id}/ports/{node}/{port}", operation_id = "open_port",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$"), ("port" = u16, Path, minimum = 1, maximum = 65535)), responses(
    (status = 200, body = PortLink), (status = 400, body = ApiError), (status = 403, body = ApiError), (status = 404, body = ApiError),
    (status = 410, body = crate::error::Ended),
))]
pub async fn link(
    State(app): State<App>,
    caller: Caller,
    Path((id, node, port)): Path<(String, String, String)>,
) -> Result<Json<PortLink>, Error> {
    let right = caller.right(&app.sessions, &id, Role::Type)?;
    let node = node_name(&node)?;
    let port: u16 = port
        .parse()
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| Error::invalid("bad_port", "A port is a number from 1 to 65535."))?;
    // Without an answer of the session's process the page at that address says what is wrong.
    let absent = app
        .sessions
        .state(&right.live.id)
        .await
        .is_ok_and(|(state, _)| state.nodes.iter().all(|n| n.name != node));
    if absent {
        return Err(Error::not_found("node_not_found", format!("There is no {node} in this session.")));
    }
    let url = crate::ports::address(&app, &caller, &right.live, node, port);
    Ok(Json(PortLink { url }))
}
