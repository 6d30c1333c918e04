//! The command line's way to a running server: HTTP over the Unix socket in the state directory, with the operator's
//! rights. Called by `commands`.

use anyhow::{Context, anyhow, bail};
use axum::body::Body;
use bytes::Bytes;
use drydock_protocol::api::ApiError;
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;

/// Largest JSON answer that is read, in bytes.
const MAX_JSON: usize = 16 * 1024 * 1024;

/// A server, by its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    state_dir: PathBuf,
}

impl Client {
    /// The server of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { socket: state_dir.join("web/api.sock"), state_dir: state_dir.to_owned() }
    }

    /// Whether a server answers. An error if that cannot be seen.
    pub async fn is_there(&self) -> anyhow::Result<bool> {
        match UnixStream::connect(&self.socket).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(self.refused()),
            Err(_) => Ok(false),
        }
    }

    fn refused(&self) -> anyhow::Error {
        anyhow!("only root may do this: {} belongs to the server", self.socket.display())
    }

    async fn connect(&self) -> anyhow::Result<UnixStream> {
        UnixStream::connect(&self.socket).await.map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => self.refused(),
            _ => anyhow!(
                "no drydock server answers for {dir} ({e}). Start one with `drydock serve --state-dir {dir}`, or name the right \
                 directory with --state-dir",
                dir = self.state_dir.display()
            ),
        })
    }

    /// Sends a request; any status is an answer.
    pub async fn send(&self, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await.context("the server broke off")
    }

    /// A request below `/api/v1` with an optional JSON body.
    pub fn request<B: Serialize>(
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<Request<Body>> {
        let request =
            Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", "localhost");
        Ok(match body {
            Some(body) => {
                request.header("content-type", "application/json").body(serde_json::to_vec(body)?.into())?
            }
            None => request.body(Body::empty())?,
        })
    }

    /// Sends a request; the status and the JSON of a good answer, or the server's words as the error.
    pub async fn json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<(StatusCode, T)> {
        let (status, bytes) = self.bytes(method, path, body).await?;
        Ok((status, serde_json::from_slice(&bytes).context("the server's answer makes no sense")?))
    }

    /// `GET` of JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self.json::<(), T>(Method::GET, path, None).await?.1)
    }

    /// Sends a request whose good answer has no body that matters.
    pub async fn done<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<()> {
        self.bytes(method, path, body).await.map(drop)
    }

    async fn bytes<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let is_get = method == Method::GET;
        let response = self.send(Self::request(method, path, body)?).await?;
        let status = response.status();
        let bytes = collect(response).await?;
        let shows_ended = is_get && status == StatusCode::GONE && is_session(path);
        if status.is_success() || shows_ended { Ok((status, bytes)) } else { Err(failure(status, &bytes)) }
    }

    /// Opens a WebSocket below `/api/v1`.
    pub async fn websocket(&self, path: &str) -> anyhow::Result<WebSocketStream<UnixStream>> {
        use tokio_tungstenite::tungstenite::Error;
        let stream = self.connect().await?;
        match tokio_tungstenite::client_async(format!("ws://localhost/api/v1{path}"), stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                Err(failure(response.status(), response.body().as_deref().unwrap_or_default()))
            }
            Err(e) => Err(e).context("the server broke off"),
        }
    }
}

/// An ended session is told with status 410 and is what `session show` wants.
fn is_session(path: &str) -> bool {
    path.strip_prefix("/sessions/").is_some_and(|rest| !rest.contains('/'))
}

/// The whole body of an answer.
pub async fn collect(response: Response<Incoming>) -> anyhow::Result<Bytes> {
    let body = http_body_util::Limited::new(response.into_body(), MAX_JSON);
    Ok(body.collect().await.map_err(|e| anyhow!("the server's answer broke off: {e}"))?.to_bytes())
}

/// The server's words for a refusal.
pub fn failure(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) => anyhow!("{}", error.message),
        Err(_) => anyhow!("the server answered {status}"),
    }
}

/// The server's words if it refused.
pub async fn check(response: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = collect(response).await.unwrap_or_default();
    bail!(failure(status, &body))
}
