//! `docker system df`: what takes room on the node.

use crate::containers::list::{Wanted, list};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Answer, ApiVersion, Json, Query, answer, ordered};
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;

pub(super) async fn df(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query) -> Answer {
    let mut wanted: Vec<&str> = query.all("type").collect();
    const ALL: [&str; 4] = ["container", "image", "volume", "build-cache"];
    if wanted.is_empty() || !version.at_least(42) {
        wanted = ALL.to_vec();
    }
    if let Some(unknown) = wanted.iter().find(|kind| !ALL.contains(kind)) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let wants = |kind: &str| wanted.contains(&kind);
    let images = match wants("image") {
        true => Some(super::super::images::usage(&engine).await?),
        false => None,
    };
    let (layers, images) = images.unzip();
    let containers = match wants("container") {
        true => Some(containers(&engine).await?),
        false => None,
    };
    let volumes = match wants("volume") {
        true => Some(super::super::volumes::usage(&engine).await),
        false => None,
    };
    let value = ordered! {
        "LayersSize": layers.unwrap_or(0),
        "Images": images,
        "Containers": containers,
        "Volumes": volumes,
        // Steps of a classic build are images; there is no cache beside them.
        "BuildCache": wants("build-cache").then_some([(); 0]),
    };
    Ok(answer(StatusCode::OK, &value))
}

/// All of them with their sizes, which takes reading what they have changed.
async fn containers(engine: &Arc<Engine>) -> Result<Vec<Json>> {
    let engine = engine.clone();
    let wanted = Wanted { all: true, size: true, ..Wanted::default() };
    let done = tokio::task::spawn_blocking(move || list(&engine, &wanted)).await;
    done.map_err(|error| Error::internal(error.to_string()))?
}
