//! `docker push`: the node's layers as blobs for a registry. A layer of the catalogue goes as it is, one of the node's own is packed
//! once and always to the same bytes, so that a registry that has it is not sent it again.

use super::blocking;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Lines, lines as told};
use bytes::Bytes;
use drydock_images::Reference;
use drydock_images::local::{ChainId, Image, LocalStore};
use drydock_registry::{
    AuthConfig, Client, ImageSource, KnownBlob, LayerContent, PushImage, PushLayer, PushRequest,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Pushes a name with a tag, or all tags of a name that has none.
pub async fn push(engine: &Engine, name: &Reference, auth: AuthConfig, lines: &Lines) -> Result<()> {
    let lines = &lines.shown(engine.activities.begin(&format!("push {}", name.familiar())));
    let wanted = name.clone();
    let named = blocking(engine, move |store| choose(store, &wanted)).await;
    if named.is_err() && name.digest().is_none() {
        // dockerd says where it would push to before it looks for the image.
        let repository = name.name_only();
        lines
            .send(&told::status("", &format!("The push refers to repository [{}]", repository.name())))
            .await?;
    }
    let named = named?;
    let (mut images, mut chains, mut pushed) = (vec![], BTreeMap::new(), vec![]);
    for (reference, image) in named {
        pushed.push((reference.clone(), image.id.clone()));
        let (parts, places) = blocking(engine, move |store| prepare(store, &image)).await?;
        chains.extend(places);
        images.push((PushRequest { reference, auth: auth.clone() }, parts));
    }
    let source = Arc::new(Source { store: engine.images.clone(), chains });
    let work = async move |client: Client, events| Ok(client.push_all(images, &source, &events).await?);
    let outcomes = engine.registries.with_lines(lines, work).await?;
    // From now on the image is known by its digest in this repository too.
    for (outcome, (reference, image)) in outcomes.iter().zip(pushed) {
        let digest = outcome.digest.clone();
        blocking(engine, move |store| store.note_digest(&image, &reference, &digest)).await?;
    }
    super::emit_named(engine, "push", name);
    Ok(())
}

/// The names that go, with their images.
fn choose(store: &LocalStore, wanted: &Reference) -> Result<Vec<(Reference, Image)>> {
    if wanted.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference"));
    }
    let tags =
        store.names().into_iter().filter(|(name, _)| name.digest().is_none() && name.name() == wanted.name());
    let tags: Vec<_> = tags.collect();
    if tags.is_empty() {
        let name = wanted.familiar_name();
        return Err(Error::internal(format!("An image does not exist locally with the tag: {name}")));
    }
    let chosen = tags.into_iter().filter(|(name, _)| wanted.tag().is_none_or(|tag| name.tag() == Some(tag)));
    let chosen: Vec<_> = chosen.collect();
    if chosen.is_empty() {
        return Err(Error::not_found(format!("tag does not exist: {}", wanted.familiar())));
    }
    chosen.into_iter().map(|(name, id)| Ok((name, store.get(&id)?))).collect()
}

/// What the registry client must know, and where each layer is found again.
fn prepare(store: &LocalStore, image: &Image) -> Result<(PushImage, BTreeMap<String, ChainId>)> {
    let config = Bytes::from(store.config_bytes(&image.id)?);
    let mut below: Option<ChainId> = None;
    let (mut layers, mut chains) = (vec![], BTreeMap::new());
    for diff_id in &image.config.rootfs.diff_ids {
        let chain = ChainId::of(below.as_ref(), diff_id);
        let layer = store.layer(&chain);
        let layer =
            layer.ok_or_else(|| Error::internal(format!("layer does not exist: {}", chain.digest())))?;
        let known = store.known_blob(&chain).map(|(media_type, digest, size)| KnownBlob {
            digest,
            size,
            media_type,
            repository: None,
        });
        let size = known.as_ref().map_or(layer.size(), |known| known.size);
        layers.push(PushLayer { diff_id: diff_id.clone(), size, known: known.into_iter().collect() });
        chains.insert(diff_id.to_string(), chain.clone());
        below = Some(chain);
    }
    Ok((PushImage { config, layers }, chains))
}

/// Opens layers for the registry client.
struct Source {
    store: LocalStore,
    chains: BTreeMap<String, ChainId>,
}

impl ImageSource for Source {
    fn open(&self, layer: &PushLayer) -> io::Result<LayerContent> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("layer does not exist: {}", layer.diff_id));
        let chain = self.chains.get(&layer.diff_id.to_string()).ok_or_else(missing)?;
        let blob = self.store.layer_blob(chain).map_err(io::Error::other)?;
        let reader = Box::new(blob.open().map_err(io::Error::other)?);
        Ok(LayerContent::Blob { reader, size: blob.size, media_type: blob.media_type.clone() })
    }
}
