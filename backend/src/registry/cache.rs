//! The cache of other registries (`drydock_registry::Cache`), below `/drydock/cache/` at the registry's address: engines of nodes ask it
//! before they ask a registry. There is one only where the operator has opened a way out, and it goes nowhere that the rules of that
//! way do not allow: a session gets nothing by it that it could not fetch itself, only sooner and once.

use crate::config::Config;
use axum::{body::Body, response::Response};
use drydock_registry::{Allow, Cache, CacheLimits, ClientOptions};
use drydock_runtime::uplink;
use hyper::{Request, StatusCode, Uri, body::Incoming};
use std::{io, net::SocketAddr, path::Path, sync::Arc};
use tower::ServiceExt;

/// Where it is.
pub const PATH: &str = "/drydock/cache";

/// Opens it below the state directory's `web`, if the operator wants one.
pub fn open(web: &Path, config: &Config) -> io::Result<Option<Cache>> {
    let limits = CacheLimits {
        registries: config.registry_cache.clone(),
        bytes: config.registry_cache_bytes.0,
        ..CacheLimits::default()
    };
    if config.egress.is_empty() || limits.bytes == 0 || limits.registries.is_empty() {
        return Ok(None);
    }
    let egress = config.egress();
    let allow: Allow = Arc::new(move |address: SocketAddr| {
        // The host may have moved to another network since the last time.
        uplink::connected().is_ok_and(|connected| egress.permits(address, &connected))
    });
    let options = ClientOptions { allow: Some(allow), ..ClientOptions::default() };
    Cache::open(&web.join("registry-cache"), options, limits).map(Some)
}

/// Answers a request below [`PATH`].
pub async fn answer(cache: Option<&Cache>, request: Request<Incoming>) -> Response {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let inner = path.strip_prefix(PATH).and_then(|path| path.parse::<Uri>().ok());
    let (Some(cache), Some(inner)) = (cache, inner) else {
        let mut none = Response::new(Body::from("there is no cache of other registries\n"));
        *none.status_mut() = StatusCode::NOT_FOUND;
        return none;
    };
    let mut request = request.map(Body::new);
    *request.uri_mut() = inner;
    let Ok(response) = cache.router().oneshot(request).await;
    response
}
