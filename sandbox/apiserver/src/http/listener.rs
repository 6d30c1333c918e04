//! Connections: TLS with an optional client certificate, HTTP/1.1 and HTTP/2 by ALPN, and the limits that keep one client from taking
//! what the others need.

use super::body::Body;
use super::contain::{Streams, contained};
use super::respond;
use crate::authn::User;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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

/// What the client of a request that panicked is told, in upstream's words.
const PANICKED: &str = "This request caused apiserver to panic. Look in the logs for details.\n";

/// What Go's server says to plain HTTP.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

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
            if contained(connection(stream, address, tls, handler)).await.is_none() {
                tracing::error!(%address, "a connection panicked");
            }
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
    let mut stream = stream;
    let begun = tokio::time::timeout(SLOWEST_HEAD, async {
        let head = beginning(&mut stream).await;
        if STARTS.contains(&&*head) {
            // Who mistook the scheme is told so; if not even that arrives, nobody waits for it.
            let _told_or_gone = stream.write_all(NOT_TLS).await;
            return None;
        }
        let (reader, writer) = stream.into_split();
        Some(tls.accept(tokio::io::join(Cursor::new(head).chain(reader), writer)).await)
    });
    match begun.await {
        Ok(None) => {}
        Ok(Some(Ok(stream))) => {
            let certificates: Vec<_> = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            let peer = Peer::new(address, certificates);
            requests(stream, peer, handler).await;
        }
        // In the words of Go's server, which people look for.
        Ok(Some(Err(error))) => tracing::info!("http: TLS handshake error from {address}: {error}"),
        Err(_) => tracing::info!("http: TLS handshake error from {address}: timeout"),
    }
}

/// How HTTP begins where TLS should be (`tlsRecordHeaderLooksLikeHTTP` of Go's `net/http`).
const STARTS: [&[u8]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];

/// The first bytes of a connection: enough to tell HTTP, or less if it is none.
async fn beginning(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::with_capacity(STARTS[0].len());
    let mut rest = stream.take(STARTS[0].len() as u64);
    while STARTS.iter().any(|start| start.starts_with(&head))
        && matches!(rest.read_buf(&mut head).await, Ok(1..))
    {}
    head
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
        let (method, uri) = (request.method().clone(), request.uri().clone());
        // At once, so that what hyper makes of it is small.
        let answer = contained(handler(request, peer.clone()));
        async move {
            let answer = answer.await.unwrap_or_else(|| {
                tracing::error!(%method, %uri, "apiserver panic'd");
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, PANICKED)
            });
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(Streams);
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

#[cfg(test)]
mod tests {
    use super::super::{body, contain};
    use super::*;
    use bytes::Bytes;
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http2;
    use hyper_util::rt::TokioExecutor;

    async fn answer(request: Request) -> Response<Body> {
        assert!(contain::is_contained(), "the process would end");
        match request.uri().path() {
            "/panic" => panic!("a request that panics"),
            "/later" => {
                let pieces = futures_util::stream::iter(["a", "b"]).map(|piece| {
                    assert!(piece == "a", "a body that panics");
                    Bytes::from(piece)
                });
                respond::streamed("text/plain", body::stream(pieces))
            }
            _ => respond::text(StatusCode::OK, "well"),
        }
    }

    #[tokio::test]
    async fn a_request_that_panics_is_told_so_and_hurts_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, None, std::future::pending(), |request, _peer| answer(request)));
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let ask = |path: &str| {
            let request = http::Request::get(format!("http://{address}{path}")).body(Empty::<Bytes>::new());
            let mut client = client.clone();
            async move {
                let answer = client.send_request(request.unwrap()).await.unwrap();
                let status = answer.status();
                (status, answer.into_body().collect().await.map(|body| body.to_bytes()))
            }
        };
        let (status, text) = ask("/panic").await;
        assert_eq!((status, &*text.unwrap()), (StatusCode::INTERNAL_SERVER_ERROR, PANICKED.as_bytes()));
        let (_, cut_off) = ask("/later").await;
        assert!(cut_off.is_err(), "half an answer must not look like a whole one: {cut_off:?}");
        let (status, text) = ask("/").await;
        assert_eq!((status, &*text.unwrap()), (StatusCode::OK, &b"well"[..]), "on the same connection");
        assert!(!contain::is_contained());
    }

    #[tokio::test]
    async fn http_is_told_from_tls_by_its_first_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        for (pieces, wanted) in [
            (&["GE", "T /"][..], &b"GET /"[..]),
            (&["\x16\x03\x01"], b"\x16\x03\x01"),
            (&["GEx"], b"GEx"),
            (&["G"], b"G"),
        ] {
            let mut client = TcpStream::connect(address).await.expect("it listens");
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let sent = async {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.expect("it reads");
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.expect("a connection");
            };
            let (head, ()) = tokio::join!(beginning(&mut stream), sent);
            assert_eq!(head, wanted);
        }
    }
}
