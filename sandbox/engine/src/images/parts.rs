//! Parts of images at registries, for builds: what an image is, and its lowest layers, without the image.

use super::blocking;
use super::pull::{CATALOGUE_DOMAINS, has_way_out, not_in_catalogue};
use crate::engine::Engine;
use crate::error::{Error, Result};
use drydock_images::Reference;
use drydock_images::local::LayerRef;
use drydock_registry::{AuthConfig, Client, Events, PullRequest, StoreSink};
use std::sync::Arc;

/// What an image is that is not here.
pub struct Outline {
    /// Its name with the digest of its manifest; `None`: the catalogue has it.
    pub at: Option<Reference>,
    /// Its configuration.
    pub config: Vec<u8>,
}

/// Asks the catalogue or a registry what an image is.
///
/// # Errors
/// In BuildKit's words if there is none.
pub async fn outline(engine: &Engine, name: &Reference, auth: AuthConfig) -> Result<Outline> {
    if CATALOGUE_DOMAINS.contains(&name.domain()) {
        let wanted = name.clone();
        let found = blocking(engine, move |store| Ok::<_, Error>(store.in_catalogue(&wanted))).await?;
        if let Some(image) = found {
            let config = serde_json::to_vec(&image.config).map_err(|e| Error::internal(e.to_string()))?;
            return Ok(Outline { at: None, config });
        }
        if !has_way_out() {
            return Err(not_in_catalogue(engine, name, None).await);
        }
    }
    let request = PullRequest { reference: name.clone(), platform: None, auth };
    let work = async move |client: Client| {
        let found = client.outline(&request).await;
        found.map_err(|error| match error {
            drydock_registry::Error::NotFound { .. } => {
                Error::not_found(format!("{}: not found", request.reference))
            }
            other => other.into(),
        })
    };
    let found = engine.registries.with(work).await?;
    let at = name.name_only().with_digest(&found.manifest.to_string()).map_err(Error::from)?;
    Ok(Outline { at: Some(at), config: found.config.to_vec() })
}

/// Pulls the lowest layers of an image, those that are not here; tells the topmost of them.
///
/// # Errors
/// Those of registries.
pub async fn layers(
    engine: &Engine,
    name: &Reference,
    count: usize,
    auth: AuthConfig,
) -> Result<Option<LayerRef>> {
    let request = PullRequest { reference: name.clone(), platform: None, auth };
    let sink = StoreSink::new(engine.images.clone());
    let work = async move |client: Client| {
        let unheard: Events = Arc::new(drop);
        client.pull_layers(&request, count, &sink, &unheard).await?;
        Ok(sink.top())
    };
    engine.registries.with(work).await
}
