//! Accepts connections and serves HTTP/1.1 on them: TCP for browsers, a Unix socket for the operator. Bounds what a
//! stranger can hold: connections, header size, time for headers. Called by `serve` and by tests.

use crate::auth::Via;
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt;

/// Time for the headers of a request, and for a kept-alive connection between two requests.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
/// Time for requests under way when the server ends.
const FINISH_WITHIN: Duration = Duration::from_secs(3);

/// Serves browsers until `closing` is true.
pub async fn serve_web(
    listener: TcpListener,
    router: Router,
    most: usize,
    mut closing: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(most));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|c| *c) => break,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Keystrokes must not wait for more of them.
                if let Err(e) = stream.set_nodelay(true) {
                    tracing::debug!(error = %e, "TCP_NODELAY");
                }
                tasks.spawn(serve_one(stream, Via::Web(peer.ip()), router.clone(), place, closing.clone()));
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
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|c| *c) => break,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(serve_one(stream, Via::Operator, router.clone(), place, closing.clone()));
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
    _place: OwnedSemaphorePermit,
    mut closing: watch::Receiver<bool>,
) {
    let service = router.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
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
