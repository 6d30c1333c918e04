//! Images as the Engine API shows and changes them: the node's store (the images crate) with the host's catalogue, the
//! registry client, and the events that tell of changes. `api/images.rs` holds the endpoints.

mod archive;
mod filter;
mod parts;
pub mod platform;
mod prepare;
mod pull;
mod push;
mod show;

pub use archive::{changed, from_builder, import, load};
pub use filter::select;
pub use parts::{layers, outline};
pub use pull::{Registries, SITE_REGISTRY, inspect_remote, pull};
pub use push::push;
pub use show::{chains, inspect, layers_size, removed, shared_sizes, summary};

use crate::engine::Engine;
use crate::error::{Error, Result};
use axum::http::StatusCode;
use drydock_images::local::{Image, ImageUser, LocalStore};
use drydock_images::{Digest, Reference, ReferenceError};
use std::collections::BTreeMap;
use std::sync::Arc;

impl From<ReferenceError> for Error {
    fn from(error: ReferenceError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<drydock_registry::Error> for Error {
    fn from(error: drydock_registry::Error) -> Self {
        use drydock_registry::Kind;
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

/// Does work on the store in a thread that may block.
pub async fn blocking<T, E>(
    engine: &Engine,
    work: impl FnOnce(&LocalStore) -> Result<T, E> + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    E: Into<Error> + Send + 'static,
{
    let store = engine.images.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|error| Error::internal(error.to_string()))?.map_err(Into::into)
}

/// All images, those that others are built on among them, as `docker info` counts.
pub fn count(engine: &Engine) -> usize {
    engine.images.images().len()
}

/// How many containers were made from an image.
pub fn made_from(engine: &Engine, image: &Digest) -> i64 {
    let image = image.to_string();
    let made = engine.containers.using(|record| record.image == image);
    i64::try_from(made.len()).unwrap_or(i64::MAX)
}

/// The containers that were made from an image, or mount it (moby `daemon/images/image_delete.go`).
pub fn users(engine: &Engine, image: &Digest) -> Vec<ImageUser> {
    let image = image.to_string();
    let of_image = |container: &Arc<crate::containers::Container>| {
        let record = container.record();
        let fits = record.image == image || record.mount_points.iter().any(|mounted| mounted.image == image);
        drop(record);
        fits.then(|| ImageUser { container: container.id.clone(), running: container.phase().running() })
    };
    engine.containers.all().iter().filter_map(of_image).collect()
}

/// Tells of something that happened to an image; its labels go along while it is still there.
pub fn emit(engine: &Engine, action: &str, id: &str, name: &str) {
    let image = id.parse::<Digest>().ok().and_then(|id| engine.images.get(&id).ok());
    emit_of(engine, action, id, name, image);
}

/// Tells of something that happened under a name, with the labels of the image that has it.
fn emit_named(engine: &Engine, action: &str, name: &Reference) {
    let image = engine.images.find(&name.to_string()).ok();
    emit_of(engine, action, &name.familiar(), &name.familiar_name(), image);
}

fn emit_of(engine: &Engine, action: &str, id: &str, name: &str, image: Option<Image>) {
    let labels = image.and_then(|image| image.config.config.labels.clone());
    let mut attributes: BTreeMap<String, String> = labels.unwrap_or_default().into_iter().collect();
    attributes.insert("name".to_owned(), name.to_owned());
    engine.events.emit("image", action, id, attributes);
}

/// A name with a tag, from the `repo` and `tag` of a query; `None` without a repository.
pub fn tagged(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse(repo)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    let reference = if tag.is_empty() { reference.with_default_tag() } else { reference.with_tag(tag)? };
    Ok(Some(reference))
}

/// Gives an image a name, and tells of it.
pub async fn tag(engine: &Engine, id: &Digest, name: &Reference) -> Result<()> {
    if name.familiar_name() == "sha256" {
        let text = "refusing to create an ambiguous tag using digest algorithm as name";
        return Err(Error::invalid(text));
    }
    let (image, reference) = (id.clone(), name.clone());
    blocking(engine, move |store| store.tag(&image, &reference)).await?;
    emit(engine, "tag", &id.to_string(), &name.familiar());
    Ok(())
}
