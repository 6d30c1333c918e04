//! Endpoints of builds and of the build cache.

use crate::build::{self, Request};
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::http::{Answer, Query, answer, ordered, reader, stream};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use drydock_buildkit::Prune;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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

/// Removes from the build cache. Steps of classic builds are images, which `docker image prune` removes.
async fn prune(State(engine): State<Arc<Engine>>, query: Query) -> Answer {
    let prune = wanted(&query)?;
    let held = engine.clone();
    let removed = tokio::task::spawn_blocking(move || build::prune(&held, &prune)).await;
    let removed = removed.map_err(|error| Error::internal(error.to_string()))??;
    let reclaimed: u64 = removed.iter().map(|record| record.size).sum();
    let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
    engine.events.emit("builder", "prune", "", attributes);
    let ids: Vec<_> = removed.iter().map(|record| record.id.as_str()).collect();
    let deleted = if ids.is_empty() { Value::Null } else { json!(ids) };
    Ok(answer(StatusCode::OK, &ordered! { "CachesDeleted": deleted, "SpaceReclaimed": reclaimed, }))
}

/// What to remove. (moby `daemon/internal/builder-next/builder.go`, `toBuildkitPruneInfo`)
fn wanted(query: &Query) -> Result<Prune> {
    let filters = Filters::of(query)?;
    const FIELDS: [&str; 8] =
        ["id", "parent", "type", "description", "inuse", "shared", "private", "unused-for"];
    // Labels are accepted and mean nothing, for `docker system prune --filter label=…` sends one filter to all its requests.
    filters.validate(&[&FIELDS[..], &["until", "label", "label!"]].concat())?;
    let bytes = |name: &str| match query.text(name) {
        None => Ok(0),
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| Error::invalid(format!("{name} is in bytes and expects an integer, got {text}"))),
    };
    let reserved_space = bytes(if query.has("reserved-space") { "reserved-space" } else { "keep-storage" })?;
    let mut conditions = vec![];
    for field in &FIELDS[..7] {
        let mut values = filters.get(field);
        match (filters.has(field), values.next(), values.next()) {
            (false, ..) => {}
            (true, None, _) => conditions.push((*field).to_owned()),
            (true, Some(value), None) if *field == "id" => conditions.push(format!("id~={value}")),
            (true, Some(value), None) => conditions.push(format!("{field}=={value}")),
            _ => return Err(Error::invalid("filters expect only one value")),
        }
    }
    Ok(Prune {
        filters: vec![conditions.join(",")],
        all: query.flag("all"),
        keep_duration: unused_for(&filters)?,
        reserved_space,
        max_used_space: bytes("max-used-space")?,
        min_free_space: bytes("min-free-space")?,
    })
}

/// `until` and `unused-for` mean the same: how long ago something must have been used last.
fn unused_for(filters: &Filters) -> Result<Duration> {
    let mut values = filters.get("until").chain(filters.get("unused-for"));
    match (values.next(), values.next()) {
        (None, _) => Ok(Duration::ZERO),
        (Some(text), None) => {
            let since = Timestamp::from_query(text);
            let since = since.ok_or_else(|| {
                Error::invalid(format!(
                    "\"until\" filter expects a duration (e.g., '24h') or a timestamp: {text}"
                ))
            })?;
            Ok(Timestamp::now().since(since))
        }
        _ => Err(Error::invalid("filters expect only one value")),
    }
}

/// A classic build is cancelled by closing its connection; there are no others.
async fn cancel(query: Query) -> Answer {
    if query.get("id").is_empty() {
        return Err(Error::invalid("build ID not provided"));
    }
    Ok(StatusCode::OK.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_accepted_and_mean_nothing() {
        let query = |filters: &str| Query::parse(&format!("filters={filters}"));
        let prune = wanted(&query(r#"{"label":{"x":true},"label!":{"y":true}}"#)).unwrap();
        assert_eq!(prune.filters, [""]);
        let unknown = wanted(&query(r#"{"color":{"red":true}}"#)).unwrap_err();
        assert_eq!(unknown.message, "invalid filter 'color'");
    }
}
