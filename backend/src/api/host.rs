//! What there is to choose, how the host stands, health and figures.

use super::App;
use crate::{auth::Caller, error::Error, playgrounds};
use axum::{Json, extract::State, http::header, response::IntoResponse};
use drydock_protocol::api::{Host, Playground};

/// List the playgrounds.
#[utoipa::path(get, path = "/playgrounds", operation_id = "list_playgrounds", responses((status = 200, body = Vec<Playground>)))]
pub async fn playgrounds(State(app): State<App>) -> Json<Vec<Playground>> {
    let most = app.sessions.config.session_nodes;
    Json(playgrounds::ALL.iter().map(|kind| kind.offer(most)).collect())
}

/// What a newcomer should know.
#[utoipa::path(get, path = "/host", operation_id = "show_host", responses((status = 200, body = Host)))]
pub async fn host(State(app): State<App>) -> Json<Host> {
    Json(app.sessions.host())
}

/// `GET /healthz`: 200 if sessions can be made (or queued), else 503 and why.
pub async fn health(State(app): State<App>) -> Result<&'static str, Error> {
    if !app.sessions.is_healthy() {
        return Err(Error::unavailable("warden_away", "The warden does not run: start drydock serve again."));
    }
    if app.sessions.is_disk_full() {
        let why = "The disk of the state directory is nearly full: make room there.";
        return Err(Error::unavailable("disk_full", why));
    }
    Ok("ok\n")
}

/// `GET /metrics`.
pub async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Error> {
    let text = app.sessions.metrics.text(&app.sessions).map_err(Error::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

/// `POST /api/v1/operator/stop`: ends all sessions, the warden and this server. Over the Unix socket only, for
/// `drydock stop`.
pub async fn stop(State(app): State<App>, caller: Caller) -> Result<Json<serde_json::Value>, Error> {
    caller.must_be_operator()?;
    let ended = app.sessions.stop().await?;
    app.stop.send_replace(true);
    Ok(Json(serde_json::json!({ "ended": ended })))
}
