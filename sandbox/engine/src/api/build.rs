//! Endpoints of builds. BuildKit's `/session` and `/grpc` will be files of their own beside this one.

use crate::build::{self, Request};
use crate::engine::Engine;
use crate::error::Error;
use crate::filters::Filters;
use crate::http::{Answer, Query, answer, reader, stream};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::json;
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/build", post(build))
        .route("/build/prune", post(prune))
        .route("/build/cancel", post(cancel))
}

async fn build(State(engine): State<Arc<Engine>>, headers: HeaderMap, query: Query, body: Body) -> Answer {
    let request = Request::read(&query, &headers)?;
    let context = reader(body);
    stream(move |lines| build::build(engine, request, context, lines)).await
}

/// The steps of BuildKit's builds that no image needs, and the directories of cache mounts. Steps of classic builds are images, which
/// `docker image prune` removes.
async fn prune(State(engine): State<Arc<Engine>>, query: Query) -> Answer {
    Filters::of(&query)?;
    let root = engine.root.join("buildcache");
    let work = move || {
        let mut deleted = vec![];
        let mut reclaimed = i64::try_from(build::steps(&engine)).unwrap_or(0);
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let size = crate::volumes::size(&entry.path());
            // One that a build uses at this moment is locked or may lose files, as BuildKit's shared caches may.
            if drydock_runtime::clear::tree(&entry.path()).is_ok() {
                deleted.push(entry.file_name().to_string_lossy().into_owned());
                reclaimed += size;
            }
        }
        (deleted, reclaimed)
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (deleted, reclaimed) = done.map_err(|error| Error::internal(error.to_string()))?;
    let deleted = if deleted.is_empty() { serde_json::Value::Null } else { json!(deleted) };
    Ok(answer(StatusCode::OK, &json!({ "CachesDeleted": deleted, "SpaceReclaimed": reclaimed })))
}

/// A classic build is cancelled by closing its connection; there are no others.
async fn cancel(query: Query) -> Answer {
    if query.get("id").is_empty() {
        return Err(Error::invalid("build ID not provided"));
    }
    Ok(StatusCode::OK.into_response())
}
