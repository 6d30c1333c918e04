//! Which step has made which image: an index beside the images, so that a cached step costs one look. Images of `--cache-from` and
//! those that lost their entry are found by their configuration, as the classic builder finds all of them.

use crate::engine::Engine;
use crate::error::{Error, Result};
use drydock_dockerfile::build::{CacheKey, Config};
use drydock_images::Digest;
use drydock_images::local::{Image, LocalStore};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// One index for all builds of the process; builds run beside each other.
static INDEX: Mutex<Option<BTreeMap<String, String>>> = Mutex::new(None);

/// Entries that are kept. One more empties it: the images are still found, only more slowly.
const MAX_ENTRIES: usize = 20_000;

fn path(store: &LocalStore) -> PathBuf {
    store.root().join("image/overlay2/steps.json")
}

fn name(parent: &str, key: &CacheKey) -> String {
    format!("{parent}/{}", key.digest())
}

/// The image that a step has made of a parent before.
pub fn find(engine: &Engine, parent: &str, key: &CacheKey, cache_from: &[String]) -> Result<Option<Image>> {
    let store = &engine.images;
    let fits = |image: &Image| image.parent.as_ref().map(ToString::to_string).unwrap_or_default() == parent;
    let known = {
        let mut index = INDEX.lock().unwrap_or_else(PoisonError::into_inner);
        let index = index.get_or_insert_with(|| {
            let text = crate::volumes::read_small(&path(store));
            text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
        });
        index.get(&name(parent, key)).and_then(|id| id.parse::<Digest>().ok())
    };
    let wanted: Vec<_> = cache_from.iter().filter_map(|name| store.find(name).ok()).collect();
    // With `--cache-from` only those images and their parents count.
    let counts = |image: &Image| {
        cache_from.is_empty() || wanted.iter().any(|wanted| is_ancestor(store, image, wanted))
    };
    let known = known.and_then(|id| store.get(&id).ok());
    if let Some(image) = known.filter(|image| fits(image) && counts(image)) {
        return Ok(Some(image));
    }
    let made_by = |image: &Image| {
        let config = image.config.other.get("container_config").cloned();
        config
            .and_then(|config| serde_json::from_value::<Config>(config).ok())
            .is_some_and(|config| key.is_of(&config))
    };
    let found = store.images().into_iter().filter(|image| fits(image) && made_by(image)).find(counts);
    Ok(found)
}

fn is_ancestor(store: &LocalStore, image: &Image, of: &Image) -> bool {
    let mut at = Some(of.clone());
    while let Some(current) = at {
        if current.id == image.id {
            return true;
        }
        at = current.parent.as_ref().and_then(|parent| store.get(parent).ok());
    }
    false
}

/// Notes what a step has made.
pub fn note(engine: &Engine, parent: &str, key: &CacheKey, image: &str) -> Result<()> {
    let store = &engine.images;
    let mut index = INDEX.lock().unwrap_or_else(PoisonError::into_inner);
    let index = index.get_or_insert_default();
    if index.len() >= MAX_ENTRIES {
        index.clear();
    }
    index.insert(name(parent, key), image.to_owned());
    let text = serde_json::to_vec(index).map_err(|error| Error::internal(error.to_string()))?;
    let (path, draft) = (path(store), path(store).with_extension("new"));
    let write = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
    // Without the index a later build is slower, not wrong.
    if let Err(error) = write {
        tracing::warn!(%error, "steps of a build are not noted");
    }
    Ok(())
}
