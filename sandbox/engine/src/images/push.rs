//! `docker push`.

use super::blocking;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Lines, lines as told};
use drydock_images::Reference;
use drydock_images::local::{Image, LocalStore};
use drydock_registry::{AuthConfig, Client, PushRequest, StoreSource};
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
    let pushed: Vec<_> =
        named.iter().map(|(reference, image)| (reference.clone(), image.id.clone())).collect();
    let (images, source) = blocking(engine, move |store| {
        let mut source = StoreSource::new(store.clone());
        let mut images = vec![];
        for (reference, image) in named {
            let parts = source.add(&image.id, &reference)?;
            images.push((PushRequest { reference, auth: auth.clone() }, parts));
        }
        Ok::<_, Error>((images, Arc::new(source)))
    })
    .await?;
    let work = async move |client: Client, events| Ok(client.push_all(images, &source, &events).await?);
    let outcomes = engine.registries.with_lines(lines, work).await?;
    // From now on the image is known by its digest in this repository too.
    for (outcome, (reference, image)) in outcomes.into_iter().zip(pushed) {
        blocking(engine, move |store| store.pushed(&image, &reference, &outcome.manifest)).await?;
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
