//! Commands in nodes, for the command line.

use super::{App, node_name};
use crate::{auth::Caller, error::Error, relay::Relay};
use axum::{
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use drydock_protocol::{
    NodeName,
    api::ApiError,
    frame::Size,
    pipe::{Argument, ErrorKind, Open, Reply},
    state::Role,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The first message of an exec WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    /// Program and arguments; empty: the login shell.
    #[serde(default)]
    pub argv: Vec<Argument>,
    /// Added to the environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Working directory; absent: the home directory.
    #[serde(default)]
    pub cwd: Option<String>,
    /// A pty of this size; absent: three pipes.
    #[serde(default)]
    pub tty: Option<Size>,
}

/// Run a command: a WebSocket whose first text message is ExecStart, then binary messages whose first byte is a
/// kind (0 stdin, 1 stdout, 2 stderr, 3 end of stdin, 4 size, 5 signal), at last a text message with the result.
#[utoipa::path(get, path = "/sessions/{id}/nodes/{node}/exec", operation_id = "exec",
    params(("id" = String, Path), ("node" = String, Path, pattern = "^node[1-9][0-9]?$")), responses(
    (status = 101, description = "It is open"),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 410, body = crate::error::Ended),
    (status = 426, description = "Not a WebSocket request", body = ApiError),
))]
pub async fn connect(
    State(app): State<App>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    let upgrade = super::ws::accept(upgrade)?;
    caller.may_open_socket(&app.sessions)?;
    let right = caller.right(&app.sessions, &id, Role::Type)?;
    let node = node_name(&node)?;
    let active = app.sessions.enter(&right.live, right.counts_for()).await?;
    Ok(upgrade.on_upgrade(move |mut socket| async move {
        match start(&app, &right, node, &mut socket).await {
            Ok((reader, writer)) => {
                let relay =
                    Relay { sessions: app.sessions.clone(), right, active, reader, writer, is_page: false };
                relay.run(socket).await;
            }
            Err(error) => {
                let reply = Reply::Error { kind: ErrorKind::Failed, message: error.message };
                // Who has gone does not get it.
                drop(
                    socket
                        .send(Message::Text(serde_json::to_string(&reply).unwrap_or_default().into()))
                        .await,
                );
                drop(socket.send(Message::Close(None)).await);
            }
        }
    }))
}

async fn start(
    app: &App,
    right: &crate::auth::Right,
    node: NodeName,
    socket: &mut WebSocket,
) -> Result<(crate::pipe::FrameReader, crate::pipe::FrameWriter), Error> {
    let bad = || {
        Error::invalid(
            "bad_start",
            "The first message must be a text with argv, env, cwd and tty, within 10 seconds.",
        )
    };
    let first = tokio::time::timeout(Duration::from_secs(10), socket.recv()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else { return Err(bad()) };
    let ExecStart { argv, env, cwd, tty } = serde_json::from_str(&text).map_err(|_| bad())?;
    let open = Open::Exec { node, argv, env, cwd, tty: tty.map(Size::clamped) };
    Ok(app.sessions.sockets.open(&right.live.id, &open).await?)
}
