//! Accepts connections and serves HTTP/1.1 on them: TCP for browsers, a Unix socket for the operator. Bounds what a
//! stranger can hold: connections, header size, time for headers. Called by `serve` and by tests.

use crate::auth::{self, Via};
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt;

/// Time for the headers of a request, and for a kept-alive connection between two requests.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
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
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
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
                tasks.spawn(serve_one(
                    stream,
                    Via::Web(peer.ip()),
                    router.clone(),
                    (place, counted),
                    closing.clone(),
                ));
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
    _place: impl Send + 'static,
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

#[cfg(test)]
mod tests {
    use super::*;

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
