//! The connection under a `kube::Client`: HTTP/2 over TLS, one connection for all requests and watches, made when first needed and
//! made anew when it breaks. A second one is opened only while the first has as many streams as the server allows, as Go's transport
//! does. It must never lose a request that was not yet sent, and never send one twice that was.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::config::{ClientConfig, ConfigError};

/// client-go's `ReadIdleTimeout` and `PingTimeout`.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Windows are what a peer may send unread, not memory that is set aside; informers read at once, so these never stall.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot connect to {server}: {source}")]
    Dial {
        /// The server.
        server: Uri,
        /// What went wrong.
        source: std::io::Error,
    },
    /// TLS was refused, by them or by us.
    #[error("TLS with {server} failed: {source}")]
    Tls {
        /// The server.
        server: Uri,
        /// What went wrong.
        source: std::io::Error,
    },
    /// No HTTP/2.
    #[error("{server} does not speak HTTP/2: {source}")]
    Handshake {
        /// The server.
        server: Uri,
        /// What went wrong.
        source: hyper::Error,
    },
}

/// A client for the kubeconfig at `path`, speaking as `component`. Nothing is dialled before the first request.
pub fn connect(path: &Path, component: &str) -> Result<kube::Client, ConfigError> {
    Ok(client(ClientConfig::from_file(path, component)?))
}

/// A client for a configuration. Nothing is dialled before the first request.
pub fn client(config: ClientConfig) -> kube::Client {
    let namespace = config.namespace.clone();
    kube::Client::new(
        Transport { shared: Arc::new(Shared { config, links: Mutex::new(Vec::new()) }) },
        namespace,
    )
}

#[derive(Clone)]
struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    links: Mutex<Vec<Link>>,
}

/// One HTTP/2 connection.
#[derive(Clone)]
struct Link {
    sender: SendRequest<Body>,
    streams: Arc<AtomicUsize>,
    /// As many streams as the server allows at a time.
    allowed: Arc<AtomicUsize>,
}

/// Counts a stream of a link until its response body is gone.
struct Stream(Arc<AtomicUsize>);

impl Link {
    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.allowed.load(Ordering::Relaxed)
    }

    fn open(&self) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Stream(self.streams.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Counted>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move { shared.send(request).await })
    }
}

impl Shared {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Counted>, BoxError> {
        self.address(&mut request)?;
        // A connection may turn out to be dead only when it is used; the request then comes back unsent and gets a new connection.
        let mut attempts = 0;
        loop {
            let (mut link, stream) = self.link().await?;
            match link.sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(|body| Counted { body, _stream: stream })),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if attempts < 2 => {
                        attempts += 1;
                        request = unsent;
                    }
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    /// Puts server, agent and token into a request whose URI is only a path.
    fn address(&self, request: &mut Request<Body>) -> Result<(), BoxError> {
        let mut parts = self.config.server.clone().into_parts();
        let base = self.config.server.path().trim_end_matches('/');
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        parts.path_and_query =
            Some(if base.is_empty() { path.parse()? } else { format!("{base}{path}").parse()? });
        *request.uri_mut() = Uri::from_parts(parts)?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_str(&self.config.user_agent)?);
        if let Some(token) = &self.config.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    /// A live connection with room for a stream. Whoever comes while one is being made waits for it instead of making another.
    async fn link(&self) -> Result<(Link, Stream), ConnectError> {
        let mut links = self.links.lock().await;
        links.retain(|link| !link.sender.is_closed());
        if let Some(link) = links.iter().find(|link| link.has_room()) {
            return Ok((link.clone(), link.open()));
        }
        let link = dial(&self.config).await?;
        links.push(link.clone());
        let stream = link.open();
        Ok((link, stream))
    }
}

async fn dial(config: &ClientConfig) -> Result<Link, ConnectError> {
    let server = || config.server.clone();
    let host = config.server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = config.server.port_u16().unwrap_or(if config.tls.is_some() { 443 } else { 80 });
    let tcp = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect((host, port))).await;
    let tcp = tcp.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let tcp = tcp.map_err(|source| ConnectError::Dial { server: server(), source })?;
    // Requests are small and wait for their answers; a failure to set this only costs time.
    let _ = tcp.set_nodelay(true);
    match (&config.tls, &config.server_name) {
        (Some(tls), Some(name)) => {
            let handshake = TlsConnector::from(tls.clone()).connect(name.clone(), tcp);
            let tls = tokio::time::timeout(DIAL_TIMEOUT, handshake).await;
            let tls = tls.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            handshake_http2(
                config,
                TokioIo::new(tls.map_err(|source| ConnectError::Tls { server: server(), source })?),
            )
            .await
        }
        _ => handshake_http2(config, TokioIo::new(tcp)).await,
    }
}

async fn handshake_http2<I>(config: &ClientConfig, io: I) -> Result<Link, ConnectError>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let made = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await;
    let (sender, mut connection) =
        made.map_err(|source| ConnectError::Handshake { server: config.server.clone(), source })?;
    let server = config.server.clone();
    let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let link = Link { sender, streams: Arc::default(), allowed: allowed.clone() };
    tokio::spawn(async move {
        // The server says and changes its limit while the connection runs.
        let ended = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%server, %error, "connection to the API server ended");
        }
    });
    Ok(link)
}

/// A response body that counts as a stream of its connection.
pub struct Counted {
    body: Incoming,
    _stream: Stream,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use kube::Api;
    use kube::api::{ListParams, PostParams, WatchParams};
    use serde_json::json;

    use super::*;
    use crate::testing::{Server, json as answer, lines};

    #[tokio::test]
    async fn requests_carry_agent_and_path_and_errors_their_status() {
        let server = Server::start(|method, path, _| {
            Box::pin(async move {
                assert_eq!((method.as_str(), path.as_str()), ("GET", "/api/v1/namespaces/ns/configmaps/none"));
                answer(404, &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
                    "message": "configmaps \"none\" not found"}))
            })
        })
        .await;
        let maps: Api<ConfigMap> = Api::namespaced(client(server.config.clone()), "ns");
        let error = maps.get("none").await.unwrap_err();
        assert!(crate::errors::is_not_found(&error), "{error}");
        assert!(crate::errors::is_answer(&error));
    }

    #[tokio::test]
    async fn a_broken_connection_is_made_anew_for_the_next_request() {
        let server = Server::start(|_, _, body| {
            Box::pin(async move { answer(201, &serde_json::from_slice(&body).unwrap()) })
        })
        .await;
        let maps: Api<ConfigMap> = Api::namespaced(client(server.config.clone()), "ns");
        for round in 0..5 {
            let mut map = ConfigMap::default();
            map.metadata.name = Some(format!("m{round}"));
            let created = maps.create(&PostParams::default(), &map).await.unwrap();
            assert_eq!(created.metadata.name, map.metadata.name);
            server.cut();
            // The client's side must have seen the end: a request sent into a dying connection is rightly an error.
            while maps.list(&ListParams::default()).await.is_ok() {}
        }
    }

    #[tokio::test]
    async fn requests_pass_while_more_watches_run_than_one_connection_carries() {
        // hyper's server allows 200 streams on a connection.
        let server = Server::start(|_, path, _| {
            Box::pin(async move {
                if path.contains("watch=true") {
                    let (sender, response) = lines();
                    tokio::spawn(async move { sender.closed().await });
                    return response;
                }
                answer(200, &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}))
            })
        })
        .await;
        let pods: Api<Pod> = Api::all(client(server.config.clone()));
        let mut watches = Vec::new();
        for _ in 0..450 {
            watches.push(pods.watch(&WatchParams::default(), "1").await.unwrap());
        }
        assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    }
}
