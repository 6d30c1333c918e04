//! Accepts connections and serves HTTP/1.1 on them: TCP for browsers, a Unix socket for the operator. Bounds what a
//! stranger can hold: connections, header size, time for headers. Called by `serve` and by tests.
//!
//! A connection's place is held by its stream, not by the task that serves HTTP on it: an upgrade (WebSocket, SPDY) takes the stream
//! away from that task and still counts until it is closed.

use crate::auth::{self, Via};
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::HashMap,
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt;
use tower_http::timeout::TimeoutBody;

/// Time for the headers of a request, and for a kept-alive connection between two requests.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// A request's body of which nothing comes for so long is given up, wherever it goes.
const BODY_SILENCE: Duration = Duration::from_secs(60);
/// The part of all connections that one address may have: a school behind one address has room, and nobody takes it all.
const SHARE: usize = 4;
/// Time for requests under way when the server ends.
const FINISH_WITHIN: Duration = Duration::from_secs(3);

/// Connections by client address.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// A connection of an address, counted until this is dropped.
struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more, unless the address has `most` already.
    fn count(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
        let address = auth::group(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { addresses: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// A stream with what counts it. Dropped together, wherever an upgrade has carried them.
struct Placed<S, P> {
    stream: S,
    _place: P,
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Placed<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Placed<S, P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A place for the next connection; absent: the server ends first. (Connections that were upgraded may hold all places, and not all
/// of them end before the server does.)
async fn place(places: &Arc<Semaphore>, closing: &mut watch::Receiver<bool>) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        place = places.clone().acquire_owned() => place.ok(),
        _ = closing.wait_for(|c| *c) => None,
    }
}

/// Serves browsers until `closing` is true, with `most` connections at a time. With `shared` all come from one address, a proxy's.
pub async fn serve_web(
    listener: TcpListener,
    router: Router,
    most: usize,
    shared: bool,
    mut closing: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(most));
    let addresses = Arc::new(Addresses::default());
    let of_one = if shared { most } else { (most / SHARE).max(1) };
    let mut tasks = JoinSet::new();
    while let Some(place) = place(&places, &mut closing).await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|c| *c) => break,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(counted) = addresses.count(peer.ip(), of_one) else {
                    tracing::debug!(address = %peer.ip(), "too many connections");
                    continue;
                };
                // Keystrokes must not wait for more of them.
                if let Err(e) = stream.set_nodelay(true) {
                    tracing::debug!(error = %e, "TCP_NODELAY");
                }
                let stream = Placed { stream, _place: (place, counted) };
                tasks.spawn(serve_one(stream, Via::Web(peer.ip()), router.clone(), closing.clone()));
            }
            Err(e) => pause_after(&e).await,
        }
    }
    finish(tasks).await;
}

/// Serves the operator until `closing` is true.
pub async fn serve_operator(listener: UnixListener, router: Router, mut closing: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(1000));
    let mut tasks = JoinSet::new();
    while let Some(place) = place(&places, &mut closing).await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|c| *c) => break,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let stream = Placed { stream, _place: place };
                tasks.spawn(serve_one(stream, Via::Operator, router.clone(), closing.clone()));
            }
            Err(e) => pause_after(&e).await,
        }
    }
    finish(tasks).await;
}

/// Out of descriptors or memory: connections that end make room, but nothing tells when.
async fn pause_after(e: &io::Error) {
    tracing::error!(error = %e, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn finish(mut tasks: JoinSet<()>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_WITHIN, all).await.is_err() {
        tracing::info!("some requests were cut off");
    }
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    via: Via,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    let service = router.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Body::new(TimeoutBody::new(BODY_SILENCE, body)));
        request.extensions_mut().insert(via);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(e) = done { tracing::debug!(error = %e, "connection") }
                return;
            }
            _ = closing.wait_for(|c| *c), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_whose_places_are_all_taken_can_end() {
        let (close, mut closing) = watch::channel(false);
        let places = Arc::new(Semaphore::new(1));
        let taken = place(&places, &mut closing).await;
        assert!(taken.is_some());
        close.send_replace(true);
        assert!(place(&places, &mut closing).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let read = |body: Body| async move { axum::body::to_bytes(body, 100).await.is_ok().to_string() };
        let router = Router::new().route("/", axum::routing::post(read));
        let (mut client, server) = tokio::io::duplex(1000);
        let (_close, closing) = watch::channel(false);
        tokio::spawn(serve_one(server, Via::Operator, router, closing));
        let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
        tokio::io::AsyncWriteExt::write_all(&mut client, request).await.unwrap();
        let mut answer = vec![0; 1000];
        let n = tokio::io::AsyncReadExt::read(&mut client, &mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer[..n]).ends_with("false"));
    }

    #[test]
    fn an_address_has_its_share_of_connections() {
        let addresses = Arc::new(Addresses::default());
        let v6 = |host: &str| format!("2001:db8:0:1::{host}").parse().unwrap();
        let first = addresses.count(v6("1"), 2).unwrap();
        let _second = addresses.count(v6("2"), 2).unwrap();
        assert!(addresses.count(v6("3"), 2).is_none(), "one customer has the whole network");
        assert!(addresses.count("192.0.2.1".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(addresses.count(v6("3"), 2).is_some());
        assert_eq!(addresses.0.lock().unwrap().len(), 1);
    }
}
