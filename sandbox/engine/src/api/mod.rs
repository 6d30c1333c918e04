//! The endpoints, a file per subject; each file has `routes()`.

pub mod archive;
mod build;
mod buildkit;
pub mod containers;
pub mod exec;
mod images;
mod networks;
mod plugins;
mod swarm;
pub(crate) mod system;
mod volumes;

#[cfg(test)]
mod tests;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::http::whole::to_its_end;
use axum::{Router, middleware};
use std::sync::Arc;

/// All endpoints.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(exec::routes())
        .merge(archive::routes())
        .merge(images::routes())
        .merge(build::routes())
        .merge(buildkit::routes())
        .merge(volumes::routes().merge(networks::routes()).route_layer(middleware::from_fn(to_its_end)))
        .merge(swarm::routes())
        .merge(plugins::routes())
}

/// The `until` of a prune: what is younger stays.
fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let values: Vec<_> = filters.get("until").collect();
    match values[..] {
        [] => Ok(None),
        [text] => {
            let wrong = || Error::invalid(format!("failed to parse value as time or duration: \"{text}\""));
            Timestamp::from_query(text).map(Some).ok_or_else(wrong)
        }
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}
