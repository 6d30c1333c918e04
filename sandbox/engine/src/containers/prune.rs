//! `docker container prune`.

use super::{
    record::Phase,
    remove::{Options, remove},
};
use crate::{
    clock::Timestamp,
    engine::Engine,
    error::{Error, Result},
    filters::Filters,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Removes all containers that do not run.
pub async fn prune(engine: &Arc<Engine>, filters: &Filters) -> Result<Value> {
    filters.validate(&["label", "label!", "until"])?;
    let until = match filters.get("until").next() {
        None => None,
        Some(text) => Some(
            Timestamp::from_query(text)
                .ok_or_else(|| Error::invalid(format!("failed to parse until filter: {text}")))?,
        ),
    };
    let mut removed = Vec::new();
    let mut space = 0;
    for container in engine.containers.all() {
        let fits = {
            let record = container.record();
            let labels = record.config.labels.clone().unwrap_or_default();
            matches!(record.state.phase, Phase::Created | Phase::Exited | Phase::Dead)
                && until.is_none_or(|until| record.created < until)
                && filters.prune_labels(&labels)
        };
        if !fits {
            continue;
        }
        let bytes = engine.roots.changed_bytes(&container.id);
        match remove(engine, &container, Options::default()).await {
            Ok(()) => {
                space += bytes;
                removed.push(container.id.clone());
            }
            Err(error) => tracing::warn!(container = container.id, %error, "not pruned"),
        }
    }
    let attributes = [("reclaimed".to_string(), space.to_string())];
    engine.events.emit("container", "prune", "", attributes.into());
    let removed = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(json!({"ContainersDeleted": removed, "SpaceReclaimed": space}))
}
