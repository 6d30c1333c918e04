//! The REST interface and its OpenAPI document. One file per subject; each handler checks the right, calls `sessions`,
//! and words the answer. The document is made from the handlers; `tests/server/openapi.rs` compares it with the checked-in
//! `openapi.json`.

pub mod body;
mod document;
pub mod exec;
pub mod files;
pub mod host;
pub mod kubeconfig;
pub mod links;
pub mod nodes;
pub mod ports;
pub mod registry;
pub mod sessions;
pub mod ws;

pub use body::{Body, Query};

use crate::{auth::Caller, error::Error, page::Page, sessions::Sessions};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use drydock_protocol::{NodeName, api::ApiError};
use std::{net::SocketAddr, sync::Arc};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Largest JSON body, in bytes.
const MAX_JSON: usize = 64 * 1024;
/// Time for a JSON body to arrive.
const BODY_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// What every handler may use.
#[derive(Debug, Clone)]
pub struct App {
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// The page.
    pub page: Arc<Page>,
    /// Where we really listen.
    pub listen: SocketAddr,
    /// Ends the server, by `drydock stop`.
    pub stop: tokio::sync::watch::Sender<bool>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Drydock",
        description = "Playground sessions: Linux nodes with terminals. A token from a link goes into `Authorization: Bearer TOKEN`, or is exchanged for a cookie at `/sessions/{id}/enter`. Over the Unix socket in the state directory everything is allowed. Errors have the body ApiError.",
    ),
    components(schemas(ApiError, crate::error::Ended, exec::ExecStart)),
    servers((url = "/api/v1")),
)]
struct ApiDoc;

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::show, sessions::delete))
        .routes(routes!(sessions::enter))
        .routes(routes!(sessions::extend))
        .routes(routes!(sessions::queue, sessions::leave))
        .routes(routes!(nodes::add))
        .routes(routes!(nodes::remove))
        .routes(routes!(nodes::power))
        .routes(routes!(links::list, links::create))
        .routes(routes!(links::revoke))
        .routes(routes!(kubeconfig::create))
        .routes(routes!(ports::link))
        .routes(routes!(registry::show, registry::set))
        .routes(routes!(registry::list_shared, registry::delete_shared))
        .routes(routes!(files::list))
        .routes(routes!(files::read, files::write, files::remove))
        .routes(routes!(files::mkdir))
        .routes(routes!(files::link))
        .routes(routes!(files::rename))
        .routes(routes!(ws::connect))
        .routes(routes!(exec::connect))
        .routes(routes!(host::playgrounds))
        .routes(routes!(host::host))
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    document::complete(documented().into_openapi())
}

/// All routes: API, health, metrics and page.
pub fn router(app: App) -> Router {
    let (api, doc) = documented().split_for_parts();
    let doc: Arc<str> = document::complete(doc).to_json().unwrap_or_default().into();
    let api = api
        .route(
            "/openapi.json",
            axum::routing::get(move || async move {
                ([(header::CONTENT_TYPE, "application/json")], doc.to_string())
            }),
        )
        .route("/operator/stop", axum::routing::post(host::stop))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_JSON))
        .layer(axum::middleware::from_fn(never_stored));
    Router::new()
        .nest("/api/v1", api)
        .route("/api", axum::routing::any(unknown_path))
        .route("/api/{*rest}", axum::routing::any(unknown_path))
        .route("/healthz", axum::routing::get(host::health))
        .route("/metrics", axum::routing::get(host::metrics))
        .route("/p/{label}", axum::routing::any(crate::ports::by_path))
        .route("/p/{label}/", axum::routing::any(crate::ports::by_path))
        .route("/p/{label}/{*rest}", axum::routing::any(crate::ports::by_path))
        .route("/k8s/{id}/{token}", axum::routing::any(crate::kubernetes::by_path))
        .route("/k8s/{id}/{token}/", axum::routing::any(crate::kubernetes::by_path))
        .route("/k8s/{id}/{token}/{*rest}", axum::routing::any(crate::kubernetes::by_path))
        .fallback(crate::page::serve)
        .layer(axum::middleware::from_fn_with_state(app.clone(), count))
        .layer(axum::middleware::from_fn_with_state(app.clone(), crate::ports::by_host))
        .layer(axum::middleware::from_fn_with_state(app.clone(), crate::hosts::must_be_ours))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(panicked))
        .with_state(app)
}

async fn unknown_path() -> Error {
    Error::not_found(
        "no_such_path",
        "There is nothing at this address. GET /api/v1/openapi.json tells what there is.",
    )
}

async fn wrong_method() -> Error {
    Error::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        "This address does not take this method. GET /api/v1/openapi.json tells which it takes.",
    )
}

fn panicked(what: Box<dyn std::any::Any + Send>) -> Response {
    let text = what.downcast_ref::<String>().map(String::as_str).or(what.downcast_ref::<&str>().copied());
    Error::internal(format!("panic: {}", text.unwrap_or("?"))).into_response()
}

/// Answers of the API are of the moment and for one asker, and never a document to be shown.
async fn never_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-store"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(header::HeaderValue::from_static("nosniff"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(header::HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"));
    response
}

async fn count(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    app.sessions.metrics.answered(response.status());
    response
}

/// A node's name from a path.
fn node_name(text: &str) -> Result<NodeName, Error> {
    text.parse().map_err(|e| Error::not_found("node_not_found", format!("{e}.")))
}

impl App {
    /// The address that links begin with, as this caller knows us.
    pub fn base(&self, caller: &Caller) -> String {
        if let Some(url) = &self.sessions.config.public_url {
            return url.clone();
        }
        let host = caller.headers().get(header::HOST).and_then(|v| v.to_str().ok()).filter(|h| is_host(h));
        match host {
            Some(host) if !caller.is_operator() => format!("{}://{host}", self.scheme(caller.headers())),
            _ => {
                let mut listen = self.listen;
                if listen.ip().is_unspecified() {
                    listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
                }
                format!("http://{listen}")
            }
        }
    }

    /// `https` if the browser came that way.
    pub fn scheme(&self, headers: &HeaderMap) -> &'static str {
        let config = &self.sessions.config;
        let public = config.public_url.as_deref().is_some_and(|u| u.starts_with("https://"));
        let forwarded = config.behind_proxy && headers.get("x-forwarded-proto").is_some_and(|v| v == "https");
        if public || forwarded { "https" } else { "http" }
    }
}

/// Whether a Host header may be put into a link.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 260
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}
