//! The server: accepts on the node's socket, a task per connection, so that nobody waits for another's request.

use super::bytes::Drained;
use super::peer::Peer;
use super::version::{self, Asked, MAX_API, VERSION};
use super::whole::ConnectionPlace;
use crate::engine::Engine;
use crate::error::Error;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tower_service::Service;

/// Connections at once. Further ones wait in the socket's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Time for a request's head, which is also how long a connection may idle; as dockerd has it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest head of a request; as Go's server has it.
const MAX_HEAD: usize = 1 << 20;
/// Pause after an accept that failed (no descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers connections to the engine's socket for ever.
pub async fn serve(engine: Arc<Engine>, listener: OwnedFd) {
    let listener = std::os::unix::net::UnixListener::from(listener);
    let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    match listener {
        Ok(listener) => accept(listener, crate::api::routes().with_state(engine)).await,
        Err(error) => tracing::error!(%error, "the engine's socket can't be listened on"),
    }
}

/// Serves `routes` on a socket for ever.
pub async fn accept(listener: UnixListener, routes: Router) {
    let app = application(routes);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                let place: ConnectionPlace = Arc::new(place);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, app, place).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Routes with what is true for all of them.
fn application(routes: Router) -> Router {
    routes
        .route_layer(middleware::from_fn(refuse_version))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
}

async fn converse(stream: UnixStream, app: Router, place: ConnectionPlace) -> hyper::Result<()> {
    let peer = Peer::of(&stream);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let app = app.clone();
        request.extensions_mut().insert(place.clone());
        request.extensions_mut().insert(peer);
        async move { Ok::<_, Infallible>(handle(app, request.map(|body| Body::new(Drained::new(body)))).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        // `Api-Version`: so Go writes them, and there are clients that look for just that.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
}

/// One request: its path loses the version, its answer gets the headers that all answers have.
async fn handle(mut app: Router, mut request: Request) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else {
        let (asked, path) = version::split(request.uri().path());
        let rewritten = rewrite(request.uri(), path);
        match rewritten {
            Err(_) => Error::invalid("invalid request target").into_response(),
            Ok(uri) => {
                *request.uri_mut() = uri;
                match asked {
                    Asked::Spoken(version) => drop(request.extensions_mut().insert(version)),
                    refused @ Asked::Refused { .. } => drop(request.extensions_mut().insert(refused)),
                }
                // A router is always ready.
                app.call(request).await.unwrap_or_else(|never| match never {})
            }
        }
    };
    common_headers(response.headers_mut());
    response
}

fn rewrite(uri: &Uri, path: &str) -> Result<Uri, axum::http::Error> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    Uri::builder().path_and_query(target).build()
}

fn common_headers(headers: &mut HeaderMap) {
    // What `_ping` knows better stays.
    headers.entry("docker-experimental").or_insert(HeaderValue::from_static("false"));
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("api-version", MAX_API.to_string());
    set("ostype", "linux".to_owned());
    set("server", format!("Docker/{VERSION} (linux)"));
}

/// Refuses a version that is not spoken, once it is clear that there is something at the path (Docker's order).
async fn refuse_version(request: Request, next: Next) -> Response {
    match request.extensions().get::<Asked>() {
        Some(Asked::Refused { message, plain: true }) => {
            (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response()
        }
        Some(Asked::Refused { message, plain: false }) => Error::invalid(message.as_str()).into_response(),
        _ => next.run(request).await,
    }
}

async fn nothing_here() -> Error {
    Error::not_found("page not found")
}
