//! Sessions: connections on which the client is the gRPC server. A client opens one with `POST /session` and names it in its
//! build requests; over it the engine asks for files, secrets, the SSH agent and credentials, and sends results.

mod receive;
mod send;
mod ssh;
mod transfer;
mod writer;

pub use receive::{Download, Limits};
pub use send::FileTree;
pub use ssh::Agent;

use crate::error::failed;
use crate::proto::{filesync, secrets};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::{Code, Status};

/// Sessions at once.
const MAX_SESSIONS: usize = 256;
/// Methods that a client may announce.
const MAX_METHODS: usize = 100;
/// Bytes of a session's id.
const MAX_ID: usize = 256;
/// How long a build waits for its session.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Answers to simple questions (a secret may be behind a prompt).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a message, as clients send them.
const MAX_MESSAGE: usize = 16 << 20;

/// All sessions of an engine.
#[derive(Debug, Default)]
pub struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    changed: watch::Sender<u64>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    methods: HashSet<String>,
    channel: Channel,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection until it ends. `headers` are those of the request.
    ///
    /// # Errors
    /// If there are too many, the session has no name, or the client does not speak HTTP/2.
    pub async fn serve<I>(&self, io: I, headers: &HeaderMap) -> Result<(), Status>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = header("x-docker-expose-session-uuid").unwrap_or_default().to_owned();
        if id.is_empty() || id.len() > MAX_ID {
            return Err(Status::invalid_argument("a session needs an id"));
        }
        let methods = headers.get_all("x-docker-expose-session-grpc-method").iter().take(MAX_METHODS);
        let methods = methods.filter_map(|m| m.to_str().ok()).map(str::to_lowercase).collect();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| Status::unavailable(format!("session: {e}")))?;
        let session = Arc::new(Session { methods, channel: Channel(sender) });
        {
            let mut open = self.lock();
            if open.len() >= MAX_SESSIONS {
                return Err(Status::resource_exhausted("too many sessions"));
            }
            open.insert(id.clone(), Arc::clone(&session));
        }
        let _open = Open { sessions: self, id, session: Arc::downgrade(&session) };
        drop(session);
        self.changed.send_modify(|version| *version += 1);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "session ended");
        }
        Ok(())
    }

    /// A session by its id; waits a little for one that is about to be opened.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, id: &str) -> Result<Arc<Session>, Status> {
        // A prefix distinguishes contexts of one session.
        let id = id.split_once(':').map_or(id, |(_, id)| id);
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(session) = self.lock().get(id) {
                    return Arc::clone(session);
                }
                // The sender is `self`, so it lives.
                _ = changed.changed().await;
            }
        };
        tokio::time::timeout(ATTACH_TIMEOUT, found)
            .await
            .map_err(|_| failed(format!("no active session for {id}: context deadline exceeded")))
    }
}

/// Takes a session out of the table when its connection ends.
struct Open<'a> {
    sessions: &'a Sessions,
    id: String,
    session: std::sync::Weak<Session>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut open = self.sessions.lock();
        // Another of the same id may have taken its place.
        if open.get(&self.id).is_some_and(|session| std::ptr::eq(Arc::as_ptr(session), self.session.as_ptr()))
        {
            open.remove(&self.id);
        }
    }
}

impl Session {
    /// Whether the client offers a method, `/moby.filesync.v1.FileSync/DiffCopy`.
    pub fn supports(&self, method: &str) -> bool {
        self.methods.contains(&method.to_lowercase())
    }

    /// A secret; `None`: the client has none of this name.
    ///
    /// # Errors
    /// If the client can't be asked.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, Status> {
        let mut client = secrets::secrets_client::SecretsClient::new(self.channel.clone());
        let request = secrets::GetSecretRequest { id: id.to_owned(), ..Default::default() };
        match timeout(client.get_secret(request)).await {
            Ok(answer) => Ok(Some(answer.into_inner().data)),
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// User and password for a registry; `None`: the client has none, so it is asked anonymously.
    ///
    /// # Errors
    /// If the client can't be asked.
    pub async fn credentials(&self, host: &str) -> Result<Option<(String, String)>, Status> {
        let mut client = filesync::auth_client::AuthClient::new(self.channel.clone());
        let request = filesync::CredentialsRequest { host: host.to_owned() };
        match timeout(client.credentials(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Ok((!answer.secret.is_empty()).then_some((answer.username, answer.secret)))
            }
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(None),
            Err(status) => Err(status),
        }
    }
}

async fn timeout<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded("the client did not answer");
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(late)?
}

/// The client's end of a session, as tonic's clients want it.
#[derive(Debug, Clone)]
pub struct Channel(http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<UnsyncBoxBody<Bytes, Status>>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        // HTTP/2 wants scheme and authority; Go's server looks at neither.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = http::Uri::builder().scheme("http").authority("localhost").path_and_query(path).build();
        if let Ok(uri) = uri {
            *request.uri_mut() = uri;
        }
        let answer = self.0.send_request(request);
        Box::pin(async move {
            let body = |body: hyper::body::Incoming| {
                body.map_err(|e| Status::unavailable(e.to_string())).boxed_unsync()
            };
            Ok(answer.await?.map(body))
        })
    }
}
