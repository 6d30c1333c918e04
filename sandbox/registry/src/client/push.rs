//! `docker push`: from an image in somebody's store to a registry.
//!
//! Layers first, some at a time, top first as Docker lists them; then the configuration, then a manifest of Docker's schema 2
//! (of OCI, if a layer is packed in a way that schema 2 has no name for).

use super::{Client, download::pause, repository::Repository};
use crate::{AuthConfig, Descriptor, Error, Event, Events, Result, digest::short, media_type};
use bytes::Bytes;
use drydock_images::{Digest, Reference};
use hyper::{
    Method,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use std::{
    collections::HashMap,
    io::{self, Read},
    sync::Arc,
};
use tokio::task::JoinHandle;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// With a tag.
    pub reference: Reference,
    /// Who asks.
    pub auth: AuthConfig,
}

/// The image that goes.
#[derive(Debug, Clone)]
pub struct PushImage {
    /// Its configuration, byte by byte.
    pub config: Bytes,
    /// Its layers, bottom first.
    pub layers: Vec<PushLayer>,
}

/// A layer of it.
#[derive(Debug, Clone)]
pub struct PushLayer {
    /// The digest of its tar file.
    pub diff_id: Digest,
    /// How much [`ImageSource::open`] will give, for the bar.
    pub size: u64,
    /// The blobs that it is known to be in some registry, the likeliest first.
    pub known: Vec<KnownBlob>,
}

/// A layer as some registry has it.
#[derive(Debug, Clone)]
pub struct KnownBlob {
    /// The blob's digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// How it is packed.
    pub media_type: String,
    /// The full name (with the domain) of a repository that has it.
    pub repository: Option<String>,
}

/// What a layer is read as.
pub enum LayerContent {
    /// A tar file, which is packed on the way.
    Tar(Box<dyn Read + Send>),
    /// A blob that is packed already.
    Blob {
        /// Its bytes.
        reader: Box<dyn Read + Send>,
        /// How many they are, for the bar.
        size: u64,
        /// How it is packed.
        media_type: String,
    },
}

/// Where the layers come from. Both calls come from threads that may block.
pub trait ImageSource: Send + Sync + 'static {
    /// Opens a layer; it may be opened again if an upload fails.
    fn open(&self, layer: &PushLayer) -> io::Result<LayerContent>;

    /// A layer is in the registry as this blob: worth remembering for the next push.
    fn pushed(&self, _layer: &PushLayer, _blob: &KnownBlob) {}
}

/// What came of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PushOutcome {
    /// The tag.
    pub tag: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// The manifest.
    #[serde(skip)]
    pub manifest: Bytes,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

struct Task(JoinHandle<Result<Descriptor>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Pushes one image.
    pub async fn push<S: ImageSource>(
        &self,
        request: &PushRequest,
        image: PushImage,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<PushOutcome> {
        let mut all = self.push_all(vec![(request.clone(), image)], source, events).await?;
        all.pop().ok_or_else(|| {
            Error::Invalid(format!("no tags to push for {}", request.reference.familiar_name()))
        })
    }

    /// Pushes several tags of one repository (`docker push --all-tags`).
    pub async fn push_all<S: ImageSource>(
        &self,
        images: Vec<(PushRequest, PushImage)>,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<Vec<PushOutcome>> {
        let mut outcomes = Vec::new();
        for (request, image) in &images {
            let reference = &request.reference;
            if reference.digest().is_some() {
                return Err(Error::Invalid("cannot push a digest reference".into()));
            }
            if outcomes.is_empty() {
                let name = reference.name();
                events(Event::message("", format!("The push refers to repository [{name}]")));
            }
            outcomes.push(self.push_one(request, image, source, events).await?);
        }
        Ok(outcomes)
    }

    async fn push_one<S: ImageSource>(
        &self,
        request: &PushRequest,
        image: &PushImage,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<PushOutcome> {
        let reference = &request.reference;
        let mut last = Error::Invalid(format!("no endpoints found for {}", reference.name()));
        for endpoint in self.endpoints(reference.domain(), false).await {
            let repository = match self.open(&endpoint, reference.path(), "push,pull", &request.auth).await {
                Ok(repository) => repository,
                Err(error) if error.is_transport() => {
                    last = error;
                    continue;
                }
                Err(error) => return Err(error),
            };
            return self.push_to(Arc::new(repository), reference, image, source, events).await;
        }
        Err(last)
    }

    async fn push_to<S: ImageSource>(
        &self,
        repository: Arc<Repository>,
        reference: &Reference,
        image: &PushImage,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<PushOutcome> {
        let layers = self.push_layers(&repository, reference, image, source, events).await?;
        let plain = layers.iter().all(|l| {
            matches!(l.media_type.as_str(), media_type::DOCKER_LAYER | media_type::OCI_LAYER_GZIP | "")
        });
        let (kind, config_kind) = if plain {
            (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
        } else {
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
        };
        let config = descriptor(
            config_kind,
            image.config.len() as u64,
            repository.put_bytes(image.config.clone()).await?,
        );
        let layers: Vec<_> = layers.into_iter().map(|l| family(l, plain)).collect();
        let manifest = ManifestOut { schema_version: 2, media_type: kind, config: &config, layers: &layers };
        let bytes = as_docker_writes(&manifest)?;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let tag = reference.tag().unwrap_or(drydock_images::DEFAULT_TAG).to_owned();
        let bytes = Bytes::from(bytes);
        repository.put_manifest(&tag, kind, bytes.clone()).await?;
        events(Event::message("", format!("{tag}: digest: {digest} size: {size}")));
        let outcome = PushOutcome { tag, digest, size, manifest: bytes };
        let aux = serde_json::to_value(&outcome).ok();
        events(Event { aux, ..Event::layer("", "") });
        Ok(outcome)
    }

    /// All layers, bottom first, as the registry has them.
    async fn push_layers<S: ImageSource>(
        &self,
        repository: &Arc<Repository>,
        reference: &Reference,
        image: &PushImage,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<Vec<Descriptor>> {
        let mut tasks = HashMap::new();
        for layer in image.layers.iter().rev() {
            events(Event::layer(short(&layer.diff_id), "Preparing"));
            // The same layer may be there twice; it goes once.
            tasks.entry(layer.diff_id.clone()).or_insert_with(|| {
                let (client, repository, source) = (self.clone(), Arc::clone(repository), Arc::clone(source));
                let (reference, layer, events) = (reference.clone(), layer.clone(), Arc::clone(events));
                Task(tokio::spawn(async move {
                    client.push_layer(&repository, &reference, &layer, &source, &events).await
                }))
            });
        }
        let mut done: HashMap<Digest, Descriptor> = HashMap::new();
        for layer in image.layers.iter().rev() {
            if let Some(mut task) = tasks.remove(&layer.diff_id) {
                let blob =
                    (&mut task.0).await.map_err(|e| Error::Broken(format!("upload cancelled: {e}")))??;
                done.insert(layer.diff_id.clone(), blob);
            }
        }
        Ok(image.layers.iter().filter_map(|layer| done.get(&layer.diff_id).cloned()).collect())
    }

    async fn push_layer<S: ImageSource>(
        &self,
        repository: &Repository,
        reference: &Reference,
        layer: &PushLayer,
        source: &Arc<S>,
        events: &Events,
    ) -> Result<Descriptor> {
        let id = short(&layer.diff_id);
        let _turn = match Arc::clone(&self.uploads).try_acquire_owned() {
            Ok(turn) => Some(turn),
            Err(_) => {
                events(Event::layer(&id, "Waiting"));
                Arc::clone(&self.uploads).acquire_owned().await.ok()
            }
        };
        let mut attempt = 1;
        let blob = loop {
            match repository.put_layer(reference.domain(), reference.path(), layer, source, events).await {
                Ok(blob) => break blob,
                Err(error) if !error.may_retry() || attempt >= self.options.attempts => return Err(error),
                Err(error) => {
                    tracing::info!(layer = %layer.diff_id, attempt, %error, "upload failed, trying again");
                    pause(&self.options, attempt, events, &id).await;
                    attempt += 1;
                }
            }
        };
        let known = KnownBlob {
            digest: blob.digest.clone(),
            size: blob.size,
            media_type: blob.media_type.clone(),
            repository: Some(reference.name()),
        };
        let (source, layer) = (Arc::clone(source), layer.clone());
        let _ = tokio::task::spawn_blocking(move || source.pushed(&layer, &known)).await;
        Ok(blob)
    }
}

impl Repository {
    async fn put_manifest(&self, tag: &str, kind: &'static str, bytes: Bytes) -> Result<()> {
        let url = self.url(&format!("manifests/{tag}"));
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(kind))];
        let limit = Some(self.options.answer_timeout);
        let answer = self.send(Method::PUT, &url, headers, super::http::full(bytes), None, limit).await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.http.refusal(answer).await) }
    }
}

fn descriptor(kind: &str, size: u64, digest: Digest) -> Descriptor {
    Descriptor {
        media_type: kind.into(),
        size,
        digest,
        platform: None,
        annotations: None,
        artifact_type: None,
    }
}

/// The layer's media type in the manifest's own family.
fn family(mut layer: Descriptor, docker: bool) -> Descriptor {
    if docker {
        layer.media_type = media_type::DOCKER_LAYER.to_owned();
    } else if matches!(layer.media_type.as_str(), media_type::DOCKER_LAYER | "") {
        layer.media_type = media_type::OCI_LAYER_GZIP.to_owned();
    }
    layer
}

/// Three spaces of indentation: the digest of an image that was pushed here and by dockerd is the same.
fn as_docker_writes(manifest: &ManifestOut<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    manifest
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, pretty))
        .map_err(|e| Error::Content(e.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_written_as_docker_writes_them() {
        let digest = Digest::of(b"");
        let config = descriptor(media_type::DOCKER_CONFIG, 1456, digest.clone());
        let layers = [descriptor(media_type::DOCKER_LAYER, 772_795, digest)];
        let manifest = ManifestOut {
            schema_version: 2,
            media_type: media_type::DOCKER_MANIFEST,
            config: &config,
            layers: &layers,
        };
        let bytes = as_docker_writes(&manifest).unwrap();
        // What every push of a busybox image has printed for years: `size: 527`.
        assert_eq!(bytes.len(), 527);
        assert!(bytes.starts_with(b"{\n   \"schemaVersion\": 2,\n   \"mediaType\": "));
    }
}
