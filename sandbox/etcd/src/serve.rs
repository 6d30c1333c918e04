//! The store as a process: what the etcd component of a cluster runs. Opens the journal, feeds the API server's copy, ends leases, and
//! serves etcd's API to clients that show a certificate; and, without one, whether it is well.

use crate::grpc::{Api, Member, VERSION};
use crate::tls::{self, FlagError};
use crate::{Error, Store, replication};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// Calls at once on one of them.
const MAX_STREAMS: u32 = 256;
/// For saying hello, and for answering a ping.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to serve. Fields are named as etcd's flags.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The member's name.
    pub name: String,
    /// Where the journal is.
    pub data_dir: PathBuf,
    /// Where clients connect: `https://ADDRESS:PORT` or `http://…`.
    pub listen_client_urls: Vec<String>,
    /// What clients are told to connect to.
    pub advertise_client_urls: Vec<String>,
    /// What other members would be told; nothing listens there.
    pub initial_advertise_peer_urls: Vec<String>,
    /// Where `/health`, `/livez`, `/readyz` and `/metrics` are, without TLS.
    pub listen_metrics_urls: Vec<String>,
    /// The server's certificate, in PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Who signs certificates of clients.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether clients must show one.
    pub client_cert_auth: bool,
    /// Whether an acknowledged write survives the machine and not only this process.
    pub fsync: bool,
}

/// Why it can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] Error),
    /// A flag makes no sense.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// An address or a file can't be used.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Serves until `shutdown` is done. Boxed, so that it is compiled here and not once more in whatever runs it.
///
/// # Errors
/// If the store, an address or a certificate can't be used.
pub fn serve(
    options: Options,
    shutdown: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<(), ServeError>> {
    Box::pin(listen(options, shutdown))
}

async fn listen(options: Options, shutdown: BoxFuture<'static, ()>) -> Result<(), ServeError> {
    let store = Store::open(&options.data_dir, options.fsync)?;
    let clients = urls("listen-client-urls", &options.listen_client_urls)?;
    let metrics = urls("listen-metrics-urls", &options.listen_metrics_urls)?;
    let acceptor = match clients.iter().any(|url| url.is_tls) {
        true => Some(tls::acceptor(&options)?),
        false => None,
    };
    let mut tasks = JoinSet::new();
    let member = Member {
        name: options.name.clone(),
        peer_urls: options.initial_advertise_peer_urls.clone(),
        client_urls: options.advertise_client_urls.clone(),
    };
    let api = Api::new(store.clone(), member);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for url in clients {
        let listener = bind(url.address).await?;
        let acceptor = acceptor.clone().filter(|_| url.is_tls);
        let protocol = Protocol::Client { store: store.clone(), api: api.clone(), acceptor };
        tasks.spawn(accept(listener, Arc::clone(&permits), protocol));
    }
    for url in metrics {
        let listener = bind(url.address).await?;
        tasks.spawn(accept(listener, Arc::clone(&permits), Protocol::Health(store.clone())));
    }
    tracing::info!(
        name = options.name,
        data_dir = %options.data_dir.display(),
        version = VERSION,
        revision = store.revision(),
        "ready to serve client requests"
    );
    tokio::select! {
        () = store.run_leases() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Ok(error) => Err(error),
            Err(error) => Err(fail("a listener", std::io::Error::other(error))),
        },
        () = shutdown => {
            tracing::info!(revision = store.revision(), "shutting down");
            Ok(())
        }
    }
}

fn fail(what: impl Into<String>, error: std::io::Error) -> ServeError {
    ServeError::Io { what: what.into(), error }
}

struct Url {
    address: SocketAddr,
    is_tls: bool,
}

fn urls(flag: &'static str, urls: &[String]) -> Result<Vec<Url>, FlagError> {
    let parse = |url: &String| {
        let wrong = |why: &str| FlagError { flag, why: format!("{url:?}: {why}") };
        let (scheme, address) =
            url.split_once("://").ok_or_else(|| wrong("URL scheme must be http or https"))?;
        let is_tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("URL scheme must be http or https")),
        };
        let address = address.trim_end_matches('/').replace("localhost:", "127.0.0.1:");
        let address =
            address.parse().map_err(|_| wrong("URL address does not have the form \"host:port\""))?;
        Ok(Url { address, is_tls })
    };
    urls.iter().map(parse).collect()
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| fail(format!("listen on {address}"), error))
}

/// What is spoken at a port.
#[derive(Clone)]
enum Protocol {
    /// etcd's API, and what feeds copies.
    Client {
        store: Store,
        api: Api,
        acceptor: Option<TlsAcceptor>,
    },
    Health(Store),
}

async fn accept(listener: TcpListener, permits: Arc<Semaphore>, protocol: Protocol) -> ServeError {
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return fail("connections", std::io::Error::other("closed"));
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and awaited; without this they might wait for more to send.
                let _may_fail = stream.set_nodelay(true);
                let protocol = protocol.clone();
                tokio::spawn(async move {
                    protocol.serve(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                // Out of descriptors, mostly: let go of some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Protocol {
    async fn serve(self, stream: tokio::net::TcpStream) {
        match self {
            Self::Client { store, api, acceptor: None } => {
                let mut first = [0];
                match tokio::time::timeout(PATIENCE, stream.peek(&mut first)).await {
                    Ok(Ok(1)) if replication::is_hello(first[0]) => feed(store, stream).await,
                    Ok(Ok(1)) => serve_api(api, stream).await,
                    _ => tracing::debug!("a client said nothing"),
                }
            }
            Self::Client { store, api, acceptor: Some(acceptor) } => {
                match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tls::REPLICA) => {
                        feed(store, stream).await;
                    }
                    Ok(Ok(stream)) => serve_api(api, stream).await,
                    Ok(Err(error)) => tracing::warn!(%error, "rejected connection"),
                    Err(_) => tracing::debug!("a client did not finish its handshake"),
                }
            }
            Self::Health(store) => {
                let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                    let answer = health(&store, request.uri().path());
                    std::future::ready(Ok::<_, std::convert::Infallible>(answer))
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended");
                }
            }
        }
    }
}

async fn feed(store: Store, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    if let Err(error) = store.serve_replica(io).await {
        tracing::info!(%error, "a copy of the store has left");
    }
}

async fn serve_api(api: Api, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(api.call(request.map(Body::new)).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended");
    }
}

/// As etcd's etcdhttp/health.go and metrics.go.
fn health(store: &Store, path: &str) -> http::Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/health" => (200, "application/json", r#"{"health":"true","reason":""}"#.to_string()),
        "/livez" | "/readyz" => (200, "text/plain; charset=utf-8", "ok\n".to_string()),
        "/version" => {
            let body = format!(r#"{{"etcdserver":"{VERSION}","etcdcluster":"3.6.0","storage":"3.6.0"}}"#);
            (200, "application/json", body)
        }
        "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", metrics(store)),
        _ => (404, "text/plain; charset=utf-8", "404 page not found\n".to_string()),
    };
    let mut response = http::Response::new(Full::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn metrics(store: &Store) -> String {
    let keys = store
        .range(&crate::KeyRange::prefix(""), &crate::Query { count_only: true, ..Default::default() })
        .map_or(0, |found| found.count);
    let revision = store.revision().unsigned_abs();
    let compacted = store.compacted().unsigned_abs();
    let figures = [
        ("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", 1),
        ("etcd_debugging_mvcc_current_revision", "The current revision of store.", revision),
        ("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.", compacted),
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", keys as u64),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.",
            store.size_on_disk(),
        ),
    ];
    let mut out = String::new();
    for (name, help, value) in figures {
        let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    out
}
