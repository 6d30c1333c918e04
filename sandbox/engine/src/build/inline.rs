//! The inline cache of BuildKit's builds (`--cache-to type=inline`): an image says in its configuration which steps made it, so that
//! `--cache-from` on another machine finds them, and fetches no more layers than the steps that are the same (moby/buildkit,
//! `cache/remotecache/inline` and `cache/remotecache/v1/spec.go`).
//!
//! The records are in a row: the image that the build began with, then its steps, each with the digest of what it does. A step is
//! found if all before it are the same too.

use super::backend::{Node, digest};
use super::restore;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::images;
use drydock_buildkit::ImageOutline;
use drydock_dockerfile::build::Commit;
use drydock_images::config::ImageConfig;
use drydock_images::local::{ChainId, Image, LayerRef, NewImage, Origin};
use drydock_images::{Digest, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where an image's configuration has them: base64 of JSON.
pub(super) const FIELD: &str = "moby.buildkit.cache.v0";
/// Bytes of records of one image that are read.
const MAX_RECORDS: usize = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct CacheRecord {
    digest: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<CacheInput>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<CacheResult>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CacheInput {
    link: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheResult {
    layer: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

/// An image of `--cache-from`.
#[derive(Debug)]
pub(super) struct Import {
    config: ImageConfig,
    /// Digests of what its last steps do.
    steps: Vec<String>,
    /// Where its layers are; `None`: here.
    at: Option<Reference>,
}

impl Import {
    /// `None`: it says nothing of its steps, or nothing that can be understood.
    pub(super) fn read(from: &ImageOutline) -> Option<Self> {
        use base64::Engine as _;
        let config: ImageConfig = serde_json::from_slice(&from.config).ok()?;
        let text = config.other.get(FIELD)?.as_str().filter(|text| text.len() <= MAX_RECORDS)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let records: Vec<CacheRecord> = serde_json::from_slice(&bytes).ok()?;
        let in_a_row = records.iter().enumerate().skip(1).all(|(number, record)| {
            matches!(record.inputs.as_slice(), [only] if matches!(only.as_slice(), [one] if one.link + 1 == number))
        });
        let steps: Vec<_> = records.into_iter().skip(1).map(|record| record.digest).collect();
        let at = from.registry.as_deref().map(Reference::parse).transpose().ok()?;
        (in_a_row && steps.len() <= config.history.len()).then_some(Self { config, steps, at })
    }

    /// Whether it was made from the same image by the same step; then the image's configuration after that.
    fn after(&self, parent: Option<&ImageConfig>, step: &Commit<'_>) -> Option<Result<ImageConfig>> {
        let done = parent.map_or(0, |parent| parent.history.len());
        let number = done.checked_sub(self.config.history.len() - self.steps.len())?;
        let same = self.steps.get(number).is_some_and(|made_by| *made_by == named(&step.key.digest()))
            && parent.is_none_or(|parent| restore::begins_with(&self.config, parent));
        same.then(|| {
            let mut config = restore::after(&self.config, done + 1, step.config)?;
            let made_with =
                serde_json::to_value(&step.key.config).map_err(|e| Error::internal(e.to_string()))?;
            config.other.remove(FIELD);
            config.other.insert("container_config".to_owned(), made_with);
            Ok(config)
        })
    }
}

fn named(digest: &str) -> String {
    format!("sha256:{digest}")
}

impl Node {
    /// The image that a step makes, out of the first image of `--cache-from` that was made so. Its layer is fetched if it is not here.
    pub(super) fn imported(&self, step: &Commit<'_>) -> Result<Option<Image>> {
        if self.imports.is_empty() {
            return Ok(None);
        }
        let store = &self.engine.images;
        let parent = match step.parent {
            "" => None,
            id => Some(store.get(&digest(id)?)?),
        };
        for import in self.imports.iter() {
            let Some(config) = import.after(parent.as_ref().map(|parent| &*parent.config), step) else {
                continue;
            };
            let taken = config.and_then(|config| self.take(import, &config, parent.as_ref(), step));
            match taken {
                Ok(image) => return Ok(Some(image)),
                // The build can do without.
                Err(error) => tracing::info!(%error, "a step of --cache-from can't be had"),
            }
            if self.cancel.is_set() {
                return Err(Error::internal("context canceled"));
            }
        }
        Ok(None)
    }

    fn take(
        &self,
        import: &Import,
        config: &ImageConfig,
        parent: Option<&Image>,
        step: &Commit<'_>,
    ) -> Result<Image> {
        let store = &self.engine.images;
        let bytes = serde_json::to_vec(config).map_err(|e| Error::internal(e.to_string()))?;
        let top = self.top_layer(import, &config.rootfs.diff_ids)?;
        let parent = parent.map(|parent| &parent.id);
        let new = NewImage { config: &bytes, top: top.as_ref(), parent, origin: Origin::Step };
        let image = store.get(&store.create(&new)?)?;
        let created_by = config.history.last().and_then(|last| last.created_by.as_deref());
        let done = Commit { created_by: created_by.unwrap_or_default(), ..*step };
        self.note(&done, &image.id.to_string());
        Ok(image)
    }

    fn top_layer(&self, import: &Import, diff_ids: &[Digest]) -> Result<Option<LayerRef>> {
        let Some(chain) = ChainId::of_all(diff_ids) else { return Ok(None) };
        let here = self.engine.images.layer(&chain);
        match &import.at {
            Some(name) if here.is_none() => {
                let auth = self.credentials(name.domain())?;
                let fetch = images::layers(&self.engine, name, diff_ids.len(), auth);
                self.unless_cancelled(fetch)
            }
            _ => Ok(here),
        }
    }
}

/// A copy of a built image whose configuration says which steps made it; its id.
///
/// # Errors
/// If it can't be read or written.
pub(super) fn export(engine: &Engine, id: &Digest) -> Result<Digest> {
    use base64::Engine as _;
    let store = &engine.images;
    let image = store.get(id)?;
    let mut config = ImageConfig::clone(&image.config);
    let records = serde_json::to_vec(&records(engine, &image)).map_err(|e| Error::internal(e.to_string()))?;
    let text = base64::engine::general_purpose::STANDARD.encode(records);
    config.other.insert(FIELD.to_owned(), Value::String(text));
    let bytes = serde_json::to_vec(&config).map_err(|e| Error::internal(e.to_string()))?;
    let top = store.top_layer(id)?;
    let parent = image.parent.as_ref();
    Ok(store.create(&NewImage { config: &bytes, top: top.as_ref(), parent, origin: Origin::Built })?)
}

/// What made an image, as far as it is known here.
fn records(engine: &Engine, image: &Image) -> Vec<CacheRecord> {
    let mut steps = vec![];
    let mut at = Some(image.clone());
    let mut base = None;
    while let Some(image) = at {
        at = image.parent.as_ref().and_then(|parent| engine.images.get(parent).ok());
        match engine.build_cache.made_by(&image.id).filter(|_| base.is_none()) {
            Some(digest) => steps.push(digest),
            None => base = base.or(Some(image)),
        }
    }
    steps.reverse();
    let begun = base.map_or(json!([]), |base| json!(base.config.rootfs.diff_ids));
    let mut records = vec![CacheRecord {
        digest: Digest::of(begun.to_string().as_bytes()).to_string(),
        inputs: vec![],
        layers: vec![],
    }];
    let first = image.config.history.len().saturating_sub(steps.len());
    let is_layer = |number: usize| !image.config.history.get(number).is_none_or(|entry| entry.empty_layer);
    for (number, digest) in steps.iter().enumerate() {
        let at = first + number;
        let below = (0..at).filter(|number| is_layer(*number)).count();
        let created_at = image.config.history.get(at).and_then(|entry| entry.created.clone());
        let layers = is_layer(at).then_some(CacheResult { layer: below, created_at });
        records.push(CacheRecord {
            digest: named(digest),
            inputs: vec![vec![CacheInput { link: number }]],
            layers: layers.into_iter().collect(),
        });
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    /// An image with two steps in its history that says this of its steps.
    fn import(records: &Value) -> Option<Import> {
        let text = base64::engine::general_purpose::STANDARD.encode(records.to_string());
        let config = json!({ "history": [{}, { "empty_layer": true }], FIELD: text });
        Import::read(&ImageOutline { registry: None, config: config.to_string().into_bytes() })
    }

    #[test]
    fn steps_are_read_in_their_order() {
        let step = |name: &str, link: usize| json!({ "digest": name, "inputs": [[{ "link": link }]] });
        let read = import(&json!([{ "digest": "base" }, step("one", 0), step("two", 1)])).unwrap();
        assert_eq!(read.steps, ["one", "two"]);
        for (wrong, why) in [
            (json!([{ "digest": "base" }, step("one", 1)]), "it depends on itself"),
            (json!([{ "digest": "base" }, { "digest": "one" }]), "it depends on nothing"),
            (json!([{ "digest": "base" }, step("one", 0), step("two", 0)]), "they are no row"),
            (
                json!([{ "digest": "base" }, step("one", 0), step("two", 1), step("three", 2)]),
                "there are more than were made",
            ),
            (json!({ "layers": [] }), "it is a cache of another kind"),
        ] {
            assert!(import(&wrong).is_none(), "{why}");
        }
    }

    #[test]
    fn what_is_no_cache_is_none() {
        for config in ["{}", "", r#"{"moby.buildkit.cache.v0": "!"}"#, r#"{"moby.buildkit.cache.v0": 5}"#] {
            let from = ImageOutline { registry: None, config: config.as_bytes().to_vec() };
            assert!(Import::read(&from).is_none(), "{config}");
        }
    }
}
