//! BuildKit's control API and session: what `docker build`, `docker buildx` and `docker compose build` speak with an engine.
//!
//! A client opens two connections by upgrade: on `POST /grpc` it calls `moby.buildkit.v1.Control` and the gateway
//! ([`BuildKit::serve_grpc`]); on `POST /session` the roles are swapped and the engine calls the client for files, secrets and the
//! SSH agent ([`BuildKit::serve_session`]). A build goes: `control` (Solve) → `gateway` (Solve) → `frontend` (fetches and reads the
//! Dockerfile) → `job` (Reference::evaluate) → [`BuildEngine::build`] → `export`. What the builder tells becomes steps in `vertices`
//! and messages in `progress`.
//!
//! The crate knows HTTP/2 and protobuf; images and containers are the [`BuildEngine`]'s. All that comes from clients is bounded.

mod client;
mod control;
mod engine;
mod error;
mod export;
mod frontend;
mod gateway;
mod history;
mod job;
mod lint;
mod progress;
mod proto;
mod scratch;
mod services;
mod session;
mod subrequests;
mod tunnel;
mod vertices;

pub use client::BuildClient;
pub use engine::{
    BaseImage, BuildEngine, BuildRequest, CacheRecord, ImageOutline, NetworkMode, OutlineRequest, Prune,
    Settings, Ulimit, Worker,
};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;

/// Requests at once on one connection.
const MAX_STREAMS: u32 = 256;
/// A client that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves BuildKit's API for one engine. Clones are the same.
#[derive(Clone)]
pub struct BuildKit {
    engine: Arc<dyn BuildEngine>,
    sessions: Arc<session::Sessions>,
    jobs: Arc<job::Jobs>,
}

impl std::fmt::Debug for BuildKit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildKit").finish_non_exhaustive()
    }
}

/// A connection ended badly.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectionError(String);

impl BuildKit {
    /// For this engine.
    pub fn new(engine: Arc<dyn BuildEngine>) -> Self {
        Self { engine, sessions: Arc::default(), jobs: Arc::default() }
    }

    /// Serves a connection that `POST /grpc` was upgraded to, until it ends. Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// If the client does not speak HTTP/2, or the connection breaks.
    pub async fn serve_grpc<I>(&self, io: I) -> Result<(), ConnectionError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(services::all(self));
        let ended = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .serve_connection(TokioIo::new(io), service)
            .await;
        match ended {
            // Clients just close the connection when they are done.
            Err(error) if !error.is_timeout() && !error.is_closed() && error.is_user() => {
                Err(ConnectionError(error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Serves a connection that `POST /session` was upgraded to, until it ends. `headers` are those of the request.
    ///
    /// # Errors
    /// If the headers name no session, there are too many, or the client does not speak HTTP/2.
    pub async fn serve_session<I>(&self, io: I, headers: &http::HeaderMap) -> Result<(), ConnectionError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.sessions.serve(io, headers).await.map_err(|status| ConnectionError(status.message().to_owned()))
    }
}

/// LLB is BuildKit's own language for build graphs; only frontends make it, and the one here does not.
fn no_llb() -> Status {
    Status::unimplemented("building LLB definitions is not supported; use the dockerfile frontend")
}
