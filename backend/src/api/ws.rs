//! A page's WebSocket.

use super::{App, Query};
use crate::{auth::Caller, error::Error, relay::Relay};
use axum::{
    extract::{
        Path, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use drydock_protocol::{
    api::ApiError,
    control::{SUBPROTOCOL, close},
    frame::MAX_MESSAGE,
    pipe::Open,
    state::Role,
};
use futures_util::StreamExt;
use serde::Deserialize;

/// What a page says about itself.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    client: String,
}

/// A page's WebSocket (subprotocol `drydock.v1`). Close codes: 4401 no right, 4404 gone, 4408 time over,
/// 4429 too many connections, 1012 reconnect.
#[utoipa::path(get, path = "/sessions/{id}/ws", operation_id = "open_page", params(
    ("id" = String, Path),
    ("client" = String, Query, description = "The page's own random name", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"),
), responses(
    (status = 101, description = "It is open"),
    (status = 400, body = ApiError), (status = 403, description = "From another site's page", body = ApiError),
    (status = 426, description = "Not a WebSocket request", body = ApiError),
))]
pub async fn connect(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<PageQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    let upgrade = accept(upgrade)?.protocols([SUBPROTOCOL]);
    caller.may_open_socket(&app.sessions)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if query.client.is_empty() || query.client.len() > 64 || !query.client.bytes().all(plain) {
        return Err(Error::invalid("bad_client", "'client' is 1 to 64 letters, digits, - and _."));
    }
    Ok(match open(&app, &caller, &id, &query.client).await {
        Ok(relay) => upgrade.on_upgrade(|socket| relay.run(socket)),
        // A browser's script sees no status of a refused upgrade, only close codes.
        Err(error) => refuse(upgrade, error),
    })
}

async fn open(app: &App, caller: &Caller, id: &str, client: &str) -> Result<Relay, Error> {
    let right = caller.right(&app.sessions, id, Role::View)?;
    let active = app.sessions.enter(&right.live, right.counts_for()).await?;
    // One link's holder cannot take another's name.
    let client = format!("{}-{client}", right.link.unwrap_or(0));
    let open = Open::Viewer { role: right.role, client };
    let (reader, writer) = app.sessions.sockets.open(&right.live.id, &open).await?;
    Ok(Relay { sessions: app.sessions.clone(), right, active, reader, writer, is_page: true })
}

/// The upgrade, with our limits.
pub fn accept(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Error> {
    let upgrade = upgrade.map_err(|e| {
        Error::new(
            StatusCode::UPGRADE_REQUIRED,
            "not_a_websocket",
            format!("This address takes WebSockets only: {}.", e.body_text()),
        )
    })?;
    // Frames are written out by `relay` as they come; the bound is for a browser that does not read.
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .max_write_buffer_size(4 * MAX_MESSAGE))
}

/// Opens the WebSocket only to close it with the code that tells the error.
pub fn refuse(upgrade: WebSocketUpgrade, error: Error) -> Response {
    let code = match error.status {
        StatusCode::FORBIDDEN => close::FORBIDDEN,
        StatusCode::NOT_FOUND | StatusCode::GONE => close::GONE,
        StatusCode::TOO_MANY_REQUESTS => close::LIMIT,
        _ => close::RESTART,
    };
    upgrade.on_upgrade(move |socket| async move {
        let (sink, stream) = socket.split();
        crate::relay::say_goodbye(sink, stream, code, &error.message).await;
    })
}
