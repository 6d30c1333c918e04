//! `docker system df`: what takes room on the node.

use crate::containers::list::{Wanted, list};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Answer, ApiVersion, Query, answer};
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
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
    let mut value = json!({
        "LayersSize": 0, "Images": null, "Containers": null, "Volumes": null, "BuildCache": null,
    });
    if wants("image") {
        let images = super::super::images::usage(&engine).await?;
        value["LayersSize"] = images["LayersSize"].clone();
        value["Images"] = images["Images"].clone();
    }
    if wants("container") {
        value["Containers"] = containers(&engine).await?;
    }
    if wants("volume") {
        value["Volumes"] = Value::Array(super::super::volumes::usage(&engine).await);
    }
    if wants("build-cache") {
        // Steps of a classic build are images; there is no cache beside them.
        value["BuildCache"] = json!([]);
    }
    Ok(answer(StatusCode::OK, &value))
}

/// All of them with their sizes, which takes reading what they have changed.
async fn containers(engine: &Arc<Engine>) -> Result<Value> {
    let engine = engine.clone();
    let wanted = Wanted { all: true, size: true, ..Wanted::default() };
    let done = tokio::task::spawn_blocking(move || list(&engine, &wanted)).await;
    Ok(Value::Array(done.map_err(|error| Error::internal(error.to_string()))??))
}
