//! Connections: TLS with an optional client certificate, HTTP/1.1 and HTTP/2 by ALPN, and the limits that keep one client from taking
//! what the others need.

use super::body::Body;
use crate::authn::User;
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Connections that are open at the same time. A cluster of five nodes has some dozens.
const MOST_CONNECTIONS: usize = 4096;

/// Streams of one HTTP/2 connection at the same time: the controllers' and the kubelets' watches all run over one each.
const MOST_STREAMS: u32 = 1000;

/// A client that has not finished its handshake or its head by then is given up.
const SLOWEST_HEAD: Duration = Duration::from_secs(20);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, which is signed by the client CA (the TLS library has checked that), and what was sent with it.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Who that certificate says it is, read once for all requests of the connection.
    pub user: OnceLock<Option<User>>,
}

impl Peer {
    /// Somebody at an address who has shown these certificates.
    pub fn new(address: SocketAddr, certificates: impl Into<Arc<[CertificateDer<'static>]>>) -> Self {
        Self { address, certificates: certificates.into(), user: OnceLock::new() }
    }
}

/// What a connection's requests are given to.
pub type Request = http::Request<Incoming>;

/// Takes connections until `stop` is done.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stop: impl Future<Output = ()>,
    handler: H,
) where
    H: Fn(Request, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: others must close some first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!(%address, "too many connections");
            continue;
        };
        let (tls, handler) = (tls.clone(), handler.clone());
        tokio::spawn(async move {
            let _held_while_open = permit;
            connection(stream, address, tls, handler).await;
        });
    }
}

async fn connection<H, F>(stream: TcpStream, address: SocketAddr, tls: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // A watch's event is smaller than a segment and must not wait for the next.
    let _without_it_only_slower = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = Peer::new(address, []);
        return requests(stream, peer, handler).await;
    };
    match tokio::time::timeout(SLOWEST_HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            let peer = Peer::new(address, certificates);
            requests(stream, peer, handler).await;
        }
        // In the words of Go's server, which people look for.
        Ok(Err(error)) => tracing::info!("http: TLS handshake error from {address}: {error}"),
        Err(_) => tracing::info!("http: TLS handshake error from {address}: timeout"),
    }
}

async fn requests<S, H, F>(stream: S, peer: Peer, handler: H)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let peer = Arc::new(peer);
    let address = peer.address;
    let service = service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SLOWEST_HEAD).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .max_header_list_size(64 * 1024)
        // Clients behind a node that was switched off never say goodbye.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%address, %error, "connection ended");
    }
}
