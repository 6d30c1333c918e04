//! `--cache-from` for the classic builder: an image that came from elsewhere has no parents here, but its history says what was done,
//! and its layers are what came of it (moby's `image/cache`).

use super::cache::Cache;
use crate::error::{Error, Result};
use crate::images;
use drydock_dockerfile::build::{CacheKey, Config};
use drydock_images::{
    config::ImageConfig,
    local::{ChainId, Image, LayerRef, LocalStore, NewImage, Origin},
};

impl Cache {
    /// The image that a step makes of a parent (an id, empty for scratch), out of the first of these that was made so.
    pub(super) fn restore(&self, parent: &str, key: &CacheKey, sources: &[Image]) -> Option<Image> {
        let store = self.store();
        let parent = match parent {
            "" => None,
            id => Some(store.get(&id.parse().ok()?).ok()?),
        };
        let steps = parent.as_ref().map_or(0, |parent| parent.config.history.len());
        let done = key.config.cmd.as_deref().unwrap_or_default().join(" ");
        let source = sources.iter().filter(|_| key.extra.is_empty()).find(|source| {
            let next = source.config.history.get(steps);
            next.is_some_and(|step| step.created_by.as_ref() == Some(&done))
                && parent.as_ref().is_none_or(|parent| begins_with(&source.config, &parent.config))
        })?;
        if source.config.history.len() == steps + 1 {
            return Some(source.clone());
        }
        restored(store, source, parent.as_ref(), key, steps + 1)
            .inspect_err(|error| tracing::debug!(%error, "a step of --cache-from"))
            .ok()
    }
}

/// Whether an image began as another one.
pub(super) fn begins_with(image: &ImageConfig, first: &ImageConfig) -> bool {
    image.history.starts_with(&first.history) && image.rootfs.diff_ids.starts_with(&first.rootfs.diff_ids)
}

/// What an image's configuration was after so many steps; `run` is how containers run then.
pub(super) fn after(image: &ImageConfig, steps: usize, run: &Config) -> Result<ImageConfig> {
    let mut config = image.clone();
    config.history.truncate(steps);
    config.rootfs.diff_ids.truncate(config.history.iter().filter(|step| !step.empty_layer).count());
    config.created = config.history.last().and_then(|step| step.created.clone());
    config.config = images::from_builder(run)?;
    for of_container in ["container", "container_config"] {
        config.other.remove(of_container);
    }
    Ok(config)
}

/// The image that another one was after so many steps.
fn restored(
    store: &LocalStore,
    source: &Image,
    parent: Option<&Image>,
    key: &CacheKey,
    steps: usize,
) -> Result<Image> {
    let config = after(&source.config, steps, &key.config)?;
    let bytes = serde_json::to_vec(&config).map_err(|e| Error::internal(e.to_string()))?;
    let top: Option<LayerRef> =
        ChainId::of_all(&config.rootfs.diff_ids).and_then(|chain| store.layer(&chain));
    let parent = parent.map(|parent| &parent.id);
    let id = store.create(&NewImage { config: &bytes, top: top.as_ref(), parent, origin: Origin::Built })?;
    Ok(store.get(&id)?)
}
