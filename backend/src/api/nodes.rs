//! Nodes of a session.

use super::{App, Body, node_name};
use crate::{auth::Caller, error::Error};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use drydock_protocol::{
    api::{ApiError, NodeAddress, SetPower},
    state::Role,
};

/// Add a node; it gets the lowest free number.
#[utoipa::path(post, path = "/sessions/{id}/nodes", operation_id = "add_node", params(("id" = String, Path)), responses(
    (status = 201, description = "It runs", body = NodeAddress),
    (status = 403, body = ApiError), (status = 409, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<NodeAddress>), Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let _active = app.sessions.enter(&right.live, right.counts_for()).await?;
    Ok((StatusCode::CREATED, Json(app.sessions.add_node(&right.live).await?)))
}

/// Remove a node and its disk.
#[utoipa::path(delete, path = "/sessions/{id}/nodes/{node}", operation_id = "remove_node",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$")), responses(
    (status = 204, description = "Nothing of it is left"),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let node = node_name(&node)?;
    let _active = app.sessions.enter(&right.live, right.counts_for()).await?;
    app.sessions.remove_node(&right.live, node).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Switch a node on or off; its disk stays.
#[utoipa::path(post, path = "/sessions/{id}/nodes/{node}/power", operation_id = "switch_node",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$")), request_body = SetPower, responses(
    (status = 204, description = "It is"),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 410, body = crate::error::Ended),
))]
pub async fn power(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Body(set): Body<SetPower>,
) -> Result<StatusCode, Error> {
    let right = caller.right(&app.sessions, &id, Role::Own)?;
    let node = node_name(&node)?;
    let _active = app.sessions.enter(&right.live, right.counts_for()).await?;
    app.sessions.power(&right.live, node, set.on).await?;
    Ok(StatusCode::NO_CONTENT)
}
