//! BuildKit's two ways in: connections that become HTTP/2 (`Upgrade: h2c`). On `/grpc` the client calls, on `/session` it is called.

use crate::build::Builder;
use crate::engine::Engine;
use crate::error::Error;
use crate::http::{Answer, Connection, upgrade};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::routing::post;
use drydock_buildkit::BuildKit;
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/grpc", post(grpc)).route("/session", post(session))
}

fn buildkit(engine: &Arc<Engine>) -> BuildKit {
    engine.buildkit.get_or_init(|| BuildKit::new(Arc::new(Builder(engine.clone())))).clone()
}

async fn grpc(State(engine): State<Arc<Engine>>, request: Request) -> Answer {
    let buildkit = buildkit(&engine);
    serve(request, async move |connection, _| buildkit.serve_grpc(connection).await)
}

async fn session(State(engine): State<Arc<Engine>>, request: Request) -> Answer {
    let buildkit = buildkit(&engine);
    serve(request, async move |connection, headers| buildkit.serve_session(connection, &headers).await)
}

fn serve<W, F>(request: Request, work: W) -> Answer
where
    W: FnOnce(Connection, axum::http::HeaderMap) -> F + Send + 'static,
    F: Future<Output = Result<(), drydock_buildkit::ConnectionError>> + Send,
{
    let (mut parts, _) = request.into_parts();
    match parts.headers.get(header::UPGRADE).map(|protocol| String::from_utf8_lossy(protocol.as_bytes())) {
        None => return Err(Error::invalid("no upgrade proto in request")),
        Some(protocol) if protocol != "h2c" => {
            return Err(Error::invalid(format!("protocol {protocol} not supported")));
        }
        Some(_) => {}
    }
    let (response, pending) =
        upgrade(&mut parts, "h2c").ok_or_else(|| Error::invalid("the connection must be upgraded to h2c"))?;
    tokio::spawn(async move {
        let Ok(connection) = pending.open().await else { return };
        if let Err(error) = work(connection, parts.headers).await {
            tracing::debug!(%error, "a build's connection");
        }
    });
    Ok(response)
}
