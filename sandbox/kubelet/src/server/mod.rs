//! The kubelet's API on port 10250 (`pkg/kubelet/server/server.go`): logs, exec, attach, port-forward, figures. Only who comes with a
//! certificate of the cluster's authority and may do everything is served: the API server, which has asked its own rules before.

mod logs;
mod remote;
mod stats;
mod system;
mod tls;

pub use stats::Figures;

use crate::kubelet::Kubelet;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

const MAX_HEALTH_CONNECTIONS: usize = 16;
/// Connections at once.
const MAX_CONNECTIONS: usize = 512;
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for TLS.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest query that is looked at.
const MAX_QUERY: usize = 64 << 10;
/// Most arguments of a query.
const MAX_ARGUMENTS: usize = 2048;
/// After a failure to accept or to listen.
const PAUSE: Duration = Duration::from_millis(100);

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Answer = Response<Body>;

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An answer of text.
pub fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(full(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// An answer of JSON.
pub fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut answer = Response::new(full(bytes));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// Tells who asks on the node itself that the kubelet is well (`curl http://localhost:10248/healthz`), for ever; not at port 0.
pub async fn serve_health(port: u16) {
    if port == 0 {
        return;
    }
    let listener = listen(Ipv4Addr::LOCALHOST, port).await;
    let places = Arc::new(Semaphore::new(MAX_HEALTH_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                let parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
                Ok::<_, Infallible>(match parts[..] {
                    ["healthz"] => system::health(None, Query::of(&request).get("verbose").is_some()),
                    ["healthz", check] => system::health(Some(check), false),
                    _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                })
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
}

async fn listen(address: Ipv4Addr, port: u16) -> TcpListener {
    loop {
        match TcpListener::bind((address, port)).await {
            Ok(listener) => return listener,
            Err(error) => {
                tracing::error!(%error, "Failed to listen and serve");
                tokio::time::sleep(PAUSE * 10).await;
            }
        }
    }
}

/// Serves for ever.
pub async fn serve(kubelet: Arc<Kubelet>, certificate: &Path, key: &Path, authority: &Path) {
    let config = loop {
        match tls::config(certificate, key, authority) {
            Ok(config) => break Arc::new(config),
            Err(error) => {
                tracing::error!(error, "the kubelet's API can't be served");
                tokio::time::sleep(PAUSE * 50).await;
            }
        }
    };
    let listener = listen(Ipv4Addr::UNSPECIFIED, drydock_cluster::KUBELET_PORT).await;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (kubelet, acceptor) = (kubelet.clone(), TlsAcceptor::from(config.clone()));
                tokio::spawn(async move {
                    converse(kubelet, acceptor, stream).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn converse(kubelet: Arc<Kubelet>, acceptor: TlsAcceptor, stream: TcpStream) {
    // Requests are small and wait for their answers.
    let _only_slower = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await else { return };
    let caller = Arc::new(tls::caller(stream.get_ref().1));
    let service = service_fn(move |request| {
        let (kubelet, caller) = (kubelet.clone(), caller.clone());
        async move { Ok::<_, Infallible>(answer(kubelet, &caller, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(128 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A request's query, decoded: names and values in their order.
pub struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let query = query.get(..MAX_QUERY).unwrap_or(query);
        let pairs = query.split('&').filter(|p| !p.is_empty()).take(MAX_ARGUMENTS);
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether it says yes.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// A number; the error is the answer's text.
    pub fn number(&self, name: &str) -> Result<Option<i64>, String> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("invalid {name}: \"{text}\"")),
        }
    }
}

/// Decodes `%41` and `+`.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

async fn answer(kubelet: Arc<Kubelet>, caller: &tls::Caller, request: Request<Incoming>) -> Answer {
    let path = decode(request.uri().path());
    let query = Query::of(&request);
    // Also for who has no certificate: the node's own watchers ask.
    if path == "/healthz" {
        return system::health(None, query.get("verbose").is_some());
    }
    match caller {
        tls::Caller::Nobody => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        tls::Caller::Known { name, allowed: false } => {
            let verb = if request.method() == Method::GET { "get" } else { "create" };
            let message =
                format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[proxy])\n");
            return text(StatusCode::FORBIDDEN, message);
        }
        tls::Caller::Known { .. } => {}
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let reads = request.method() == Method::GET;
    match parts[..] {
        ["containerLogs", namespace, pod, container] if reads => {
            logs::serve(&kubelet, namespace, pod, container, &query).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
            remote::exec(&kubelet, namespace, pod, container, &query, request).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
            remote::attach(&kubelet, namespace, pod, container, &query, request).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            remote::forward(&kubelet, namespace, pod, &query, request).await
        }
        ["pods"] if reads => pods(&kubelet),
        ["stats", "summary"] if reads => json(&stats::summary(&kubelet)),
        ["metrics", "resource"] if reads => text(StatusCode::OK, stats::resource(&kubelet)),
        ["metrics", "cadvisor"] if reads => text(StatusCode::OK, stats::cadvisor(&kubelet)),
        ["metrics"] if reads => text(StatusCode::OK, stats::own(&kubelet)),
        ["configz"] if reads => json(&serde_json::json!({ "kubeletconfig": kubelet.settings.all() })),
        ["healthz", check] if reads => system::health(Some(check), false),
        ["runningpods"] if reads => system::running(&kubelet),
        ["logs", ..] if reads => system::logs(path.strip_prefix("/logs/").unwrap_or_default()),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn pods(kubelet: &Kubelet) -> Answer {
    let items: Vec<_> = kubelet
        .pods
        .all()
        .iter()
        .map(|pod| {
            let mut pod = (**pod).clone();
            if let Some(status) = kubelet.status_of(crate::pods::pod::uid(&pod)) {
                pod.status = Some((*status).clone());
            }
            pod
        })
        .collect();
    json(&serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decode("a%20b+c%2F%zz%4"), "a b c/%zz%4");
    }
}
