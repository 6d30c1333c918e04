//! `docker system df`: what takes room on the node.

use crate::build;
use crate::clock::Timestamp;
use crate::containers::list::{Wanted, list};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Answer, ApiVersion, Json, Query, answer, ordered};
use axum::extract::State;
use axum::http::StatusCode;
use drydock_buildkit::CacheRecord;
use std::sync::Arc;
use std::time::SystemTime;

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
    let cache = match wants("build-cache") {
        true => Some(build_cache(&engine).await?),
        false => None,
    };
    let value = ordered! {
        "LayersSize": layers.unwrap_or(0),
        "Images": images,
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": cache,
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

/// What BuildKit's builds keep. Steps of a classic build are images.
async fn build_cache(engine: &Arc<Engine>) -> Result<Vec<Json>> {
    let engine = engine.clone();
    let records = tokio::task::spawn_blocking(move || build::records(&engine)).await;
    let records = records.map_err(|error| Error::internal(error.to_string()))?;
    let time = |time: Option<SystemTime>| time.map(|time| Timestamp::from(time).to_string());
    let shown = |record: CacheRecord| {
        ordered! {
            "ID": record.id,
            // The space is dockerd's (api/types/build/cache.go).
            " Parents"?: Some(record.parents).filter(|parents| !parents.is_empty()),
            "Type": record.kind,
            "Description": record.description,
            "InUse": record.in_use,
            "Shared": record.shared,
            "Size": record.size,
            "CreatedAt": time(record.created),
            "LastUsedAt": time(record.last_used),
            "UsageCount": record.usage_count,
        }
    };
    Ok(records.into_iter().map(shown).collect())
}
