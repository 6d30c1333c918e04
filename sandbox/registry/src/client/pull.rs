//! `docker pull`: from a reference to an image in somebody's store.
//!
//! Order: the tag's digest, the manifest (of the platform, if there is an index), the configuration, then all missing layers,
//! some at a time. A layer goes to the [`ImageSink`] only when it is whole and its digest is right, bottom first; so a sink
//! never unpacks what nobody vouched for, and a killed pull leaves nothing but whole layers.

use super::{
    Client, download,
    repository::{Endpoint, Fetched, Repository},
};
use crate::{
    AuthConfig, Descriptor, Error, Event, Events, Platform, Result,
    digest::short,
    manifest::{Manifest, ManifestError, RawManifest},
};
use bytes::Bytes;
use drydock_images::{Digest, Reference};
use hyper::Method;
use serde::Deserialize;
use std::{future::Future, sync::Arc};
use tokio::task::JoinHandle;

/// An index may point to an index; not for ever.
const DEPTH_MAX: u32 = 3;
/// More tags than this are not pulled in one go.
const TAGS_MAX: usize = 10_000;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// With a tag or a digest ([`Reference::with_default_tag`]).
    pub reference: Reference,
    /// For which machine; without it for this one.
    pub platform: Option<Platform>,
    /// Who asks.
    pub auth: AuthConfig,
}

/// A layer of an image that is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullLayer {
    /// Its place, 0 is the lowest.
    pub index: usize,
    /// The digest of the blob, compressed as it is.
    pub digest: Digest,
    /// The blob's size.
    pub size: u64,
    /// How it is packed.
    pub media_type: String,
    /// The digest that its tar file must have, unpacked. The sink must check it.
    pub diff_id: Digest,
}

/// A layer's blob, whole, with the right digest. The file has no name and is read from its beginning.
#[derive(Debug)]
pub struct LayerBlob {
    /// The file, at its beginning.
    pub file: std::fs::File,
    /// Its length.
    pub size: u64,
}

/// An image that comes: at [`ImageSink::finish`] all its layers are in the sink.
#[derive(Debug, Clone)]
pub struct PulledImage {
    /// Its name.
    pub reference: Reference,
    /// The digest by which the registry knows the name: of the index if there is one.
    pub digest: Digest,
    /// The manifest of the platform.
    pub manifest: Bytes,
    /// Its digest.
    pub manifest_digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The digest of the configuration, which is the image's id.
    pub config_digest: Digest,
    /// The configuration.
    pub config: Bytes,
    /// The layers, bottom first.
    pub layers: Vec<PullLayer>,
}

/// What came of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOutcome {
    /// The name with the tag or the digest.
    pub reference: Reference,
    /// The digest by which the registry knows it.
    pub digest: Digest,
    /// The image's id.
    pub config_digest: Digest,
    /// Whether the name meant something else before.
    pub updated: bool,
}

/// Why the store refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Where a pulled image goes. The calls of one pull come one after another.
pub trait ImageSink: Send + Sync {
    /// Tells what is coming: all of the image but the content of its layers.
    fn begin(&self, image: &PulledImage) -> impl Future<Output = std::result::Result<(), SinkError>> + Send {
        let _ = image;
        std::future::ready(Ok(()))
    }

    /// Whether the image is there: then only the name is new.
    fn has_image(&self, config: &Digest) -> impl Future<Output = bool> + Send;

    /// Whether a stack of layers is there (`Already exists`); the digests are unpacked ones, bottom first.
    fn has_layers(&self, diff_ids: &[Digest]) -> impl Future<Output = bool> + Send;

    /// Takes the next layer. It reports `Extracting` itself; `Pull complete` is told when it returns.
    fn layer(
        &self,
        layer: PullLayer,
        blob: LayerBlob,
        events: Events,
    ) -> impl Future<Output = std::result::Result<(), SinkError>> + Send;

    /// Registers the image and its name; true if the name meant another image before or none.
    fn finish(&self, image: PulledImage)
    -> impl Future<Output = std::result::Result<bool, SinkError>> + Send;
}

/// The parts of a configuration that say what its layers are.
#[derive(Deserialize)]
struct Config {
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

/// The manifest for the platform, and what it names.
pub(super) struct Chosen {
    pub(super) manifest: Fetched,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// A task that ends with the one who waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Pulls one image.
    pub async fn pull<S: ImageSink>(
        &self,
        request: &PullRequest,
        sink: &S,
        events: &Events,
    ) -> Result<PullOutcome> {
        let outcome = self.pull_quietly(request, sink, events).await?;
        tell_status(events, &request.reference, outcome.updated);
        Ok(outcome)
    }

    /// Pulls all tags of a repository (`docker pull --all-tags`).
    pub async fn pull_all<S: ImageSink>(
        &self,
        request: &PullRequest,
        sink: &S,
        events: &Events,
    ) -> Result<Vec<PullOutcome>> {
        let mut outcomes = Vec::new();
        for tag in self.tags(&request.reference, &request.auth).await? {
            let Ok(reference) = request.reference.name_only().with_tag(&tag) else { continue };
            let one = PullRequest { reference, ..request.clone() };
            outcomes.push(self.pull_quietly(&one, sink, events).await?);
        }
        let updated = outcomes.iter().any(|o: &PullOutcome| o.updated);
        tell_status(events, &request.reference.name_only(), updated);
        Ok(outcomes)
    }

    async fn pull_quietly<S: ImageSink>(
        &self,
        request: &PullRequest,
        sink: &S,
        events: &Events,
    ) -> Result<PullOutcome> {
        let reference = &request.reference;
        if reference.familiar_name() == "scratch" {
            return Err(Error::Invalid("'scratch' is a reserved name".into()));
        }
        let mut ways = self.ways(reference, true).await;
        while let Some(endpoint) = ways.next() {
            let pulled = self.pull_at(&endpoint, request, sink, events).await;
            if let Some(outcome) = ways.judge(&endpoint, pulled) {
                return outcome;
            }
        }
        Err(ways.last())
    }

    async fn pull_at<S: ImageSink>(
        &self,
        endpoint: &Endpoint,
        request: &PullRequest,
        sink: &S,
        events: &Events,
    ) -> Result<PullOutcome> {
        let repository = self.open(endpoint, request.reference.path(), "pull", &request.auth).await?;
        self.pull_from(Arc::new(repository), request, sink, events).await
    }

    async fn pull_from<S: ImageSink>(
        &self,
        repository: Arc<Repository>,
        request: &PullRequest,
        sink: &S,
        events: &Events,
    ) -> Result<PullOutcome> {
        let reference = &request.reference;
        let top = find(&repository, reference).await?;
        let shown = match (reference.digest(), reference.tag()) {
            (Some(_), _) => reference.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let chosen = choose(&repository, reference, top.clone(), request.platform.as_ref()).await?;
        events(Event::message(shown, format!("Pulling from {}", reference.path())));
        let image = self.collect(repository, reference, &top.digest, chosen, sink, events).await?;
        events(Event::message("", format!("Digest: {}", top.digest)));
        let config_digest = image.config_digest.clone();
        let updated = sink.finish(image).await.map_err(|e| Error::Sink(e.0))?;
        Ok(PullOutcome { reference: reference.clone(), digest: top.digest, config_digest, updated })
    }

    /// Brings configuration and layers.
    async fn collect<S: ImageSink>(
        &self,
        repository: Arc<Repository>,
        reference: &Reference,
        digest: &Digest,
        chosen: Chosen,
        sink: &S,
        events: &Events,
    ) -> Result<PulledImage> {
        let config = repository.config(&chosen.config.digest).await?;
        let layers = match_layers(&config, chosen.layers)?;
        let image = PulledImage {
            reference: reference.clone(),
            digest: digest.clone(),
            manifest: chosen.manifest.bytes,
            manifest_digest: chosen.manifest.digest,
            media_type: chosen.manifest.media_type,
            config_digest: chosen.config.digest,
            config,
            layers,
        };
        sink.begin(&image).await.map_err(|e| Error::Sink(e.0))?;
        if !sink.has_image(&image.config_digest).await {
            self.collect_layers(repository, &image.layers, sink, events).await?;
        }
        Ok(image)
    }

    pub(super) async fn collect_layers<S: ImageSink>(
        &self,
        repository: Arc<Repository>,
        layers: &[PullLayer],
        sink: &S,
        events: &Events,
    ) -> Result<()> {
        let diff_ids: Vec<Digest> = layers.iter().map(|l| l.diff_id.clone()).collect();
        let mut there = 0;
        while there < layers.len() && sink.has_layers(&diff_ids[..=there]).await {
            events(Event::layer(short(&layers[there].digest), "Already exists"));
            there += 1;
        }
        let missing = &layers[there..];
        for layer in missing {
            events(Event::layer(short(&layer.digest), "Pulling fs layer"));
        }
        let tasks: Vec<_> = missing
            .iter()
            .map(|layer| {
                let turns = Arc::clone(&self.downloads);
                let work = download::layer(Arc::clone(&repository), layer.clone(), Arc::clone(events), turns);
                Task(tokio::spawn(work))
            })
            .collect();
        for (layer, mut task) in missing.iter().zip(tasks) {
            let blob =
                (&mut task.0).await.map_err(|e| Error::Broken(format!("download cancelled: {e}")))??;
            sink.layer(layer.clone(), blob, Arc::clone(events))
                .await
                .map_err(|e| Error::Sink(format!("failed to register layer: {e}")))?;
            events(Event::layer(short(&layer.digest), "Pull complete"));
        }
        Ok(())
    }

    /// All tags of a repository.
    pub async fn tags(&self, reference: &Reference, auth: &AuthConfig) -> Result<Vec<String>> {
        let mut ways = self.ways(reference, false).await;
        while let Some(endpoint) = ways.next() {
            let listed = self.tags_at(&endpoint, reference, auth).await;
            if let Some(outcome) = ways.judge(&endpoint, listed) {
                return outcome;
            }
        }
        Err(ways.last())
    }

    async fn tags_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        auth: &AuthConfig,
    ) -> Result<Vec<String>> {
        let repository = self.open(endpoint, reference.path(), "pull", auth).await?;
        let mut tags = Vec::new();
        repository
            .pages(&repository.url("tags/list"), |page: TagPage| {
                tags.extend(page.tags.unwrap_or_default());
                tags.len() < TAGS_MAX
            })
            .await?;
        Ok(tags)
    }
}

impl Repository {
    /// Reads a list page after page, as the `Link` headers say, while `take` wants more.
    pub(super) async fn pages<P: for<'a> Deserialize<'a>>(
        &self,
        first: &str,
        mut take: impl FnMut(P) -> bool,
    ) -> Result<()> {
        let mut url = first.to_owned();
        for _ in 0..1000 {
            let answer = self.fetch(Method::GET, &url, Vec::new()).await?;
            if !answer.status().is_success() {
                return Err(self.http.refusal(answer).await);
            }
            let link =
                answer.headers().get(hyper::header::LINK).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let body = self.http.read(answer, crate::MANIFEST_MAX, "the list").await?;
            let page: P = serde_json::from_slice(&body).map_err(|e| Error::Content(e.to_string()))?;
            let more = take(page);
            let target =
                link.as_deref().and_then(|l| l.split_once('<')?.1.split_once('>')).map(|(url, _)| url);
            match target.and_then(|target| super::http::join(&url, target)) {
                Some(next) if more => url = next,
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

fn tell_status(events: &Events, reference: &Reference, updated: bool) {
    let what = if updated { "Downloaded newer image for" } else { "Image is up to date for" };
    events(Event::message("", format!("Status: {what} {}", reference.familiar())));
}

/// The manifest or index that the name means.
pub(super) async fn find(repository: &Repository, reference: &Reference) -> Result<Fetched> {
    if let Some(text) = reference.digest() {
        let digest =
            text.parse().map_err(|_| Error::Invalid(format!("unsupported digest algorithm: {text}")))?;
        return repository.manifest(text, Some(&digest)).await;
    }
    let tag = reference.tag().unwrap_or(drydock_images::DEFAULT_TAG);
    match repository.resolve(tag).await? {
        Some(digest) => repository.manifest(&digest.to_string(), Some(&digest)).await,
        // The refusal's text comes only with a GET, as does everything from old registries.
        None => repository.manifest(tag, None).await,
    }
}

/// Goes from an index to the manifest for the platform.
pub(super) async fn choose(
    repository: &Repository,
    reference: &Reference,
    mut fetched: Fetched,
    wanted: Option<&Platform>,
) -> Result<Chosen> {
    let platform = wanted.cloned().unwrap_or_else(Platform::host).normalised();
    for _ in 0..DEPTH_MAX {
        match understand(&fetched, reference)? {
            Manifest::Image { config, layers } => {
                check_config_type(&config.media_type)?;
                for layer in &layers {
                    check_media_type(&layer.media_type)?;
                }
                return Ok(Chosen { manifest: fetched, config: *config, layers });
            }
            Manifest::Index(entries) => {
                let best =
                    best(&entries, &platform).ok_or_else(|| Error::NoPlatform(platform.to_string()))?;
                fetched = repository.manifest(&best.digest.to_string(), Some(&best.digest)).await?;
            }
        }
    }
    Err(Error::Content("unsupported manifest format".into()))
}

pub(super) fn understand(fetched: &Fetched, reference: &Reference) -> Result<Manifest> {
    RawManifest::parse(&fetched.bytes).and_then(|raw| raw.understand(&fetched.media_type)).map_err(|e| match e {
        ManifestError::Schema1 => Error::Invalid(format!(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the \
             author of {reference} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More \
             information at https://docs.docker.com/go/deprecated-image-specs/"
        )),
        ManifestError::Invalid(why) => Error::Content(why),
    })
}

/// The entry that runs best; entries without a platform run anywhere but come last.
fn best<'a>(entries: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    entries
        .iter()
        .filter_map(|entry| {
            let rank = match &entry.platform {
                Some(other) => platform.rank(other)?,
                None => usize::MAX,
            };
            Some((rank, entry))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry)
}

fn check_config_type(kind: &str) -> Result<()> {
    let image = matches!(
        kind,
        crate::media_type::DOCKER_CONFIG
            | crate::media_type::OCI_CONFIG
            | crate::media_type::BINARY
            | "application/json"
            | "text/html"
            | ""
    );
    if image {
        return Ok(());
    }
    if kind.to_lowercase().starts_with("application/vnd.docker.ai.") {
        return check_media_type(kind);
    }
    let class = if kind == "application/vnd.docker.plugin.v1+json" { "plugin" } else { "unknown" };
    Err(Error::Invalid(format!("Encountered remote {kind:?}({class}) when fetching")))
}

fn check_media_type(kind: &str) -> Result<()> {
    let lower = kind.to_lowercase();
    if lower.starts_with("application/vnd.docker.ai.") {
        let text =
            "AI models are not yet supported by the Engine, please use \"docker model pull/run\" instead";
        return Err(Error::Invalid(text.into()));
    }
    let families = ["application/vnd.oci.image.", "application/vnd.docker.", "application/octet-stream"];
    if families.iter().any(|family| lower.starts_with(family)) {
        Ok(())
    } else {
        Err(Error::Invalid(format!("unsupported media type {kind}")))
    }
}

/// The layers of the manifest with the digests of the configuration.
pub(super) fn match_layers(config: &[u8], layers: Vec<Descriptor>) -> Result<Vec<PullLayer>> {
    let config: Config = serde_json::from_slice(config).map_err(|e| Error::Content(e.to_string()))?;
    let rootfs =
        config.rootfs.ok_or_else(|| Error::Content("invalid rootfs in image configuration".into()))?;
    if rootfs.diff_ids.len() != layers.len() {
        return Err(Error::Content("layers from manifest don't match image configuration".into()));
    }
    let pairs = layers.into_iter().zip(rootfs.diff_ids).enumerate();
    Ok(pairs
        .map(|(index, (layer, diff_id))| PullLayer {
            index,
            digest: layer.digest,
            size: layer.size,
            media_type: layer.media_type,
            diff_id,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: Option<&str>) -> Descriptor {
        let text = platform.unwrap_or("none");
        Descriptor {
            media_type: String::new(),
            size: 1,
            digest: Digest::of(text.as_bytes()),
            platform: platform.map(|p| p.parse().unwrap()),
            annotations: None,
            artifact_type: None,
        }
    }

    #[test]
    fn the_right_image_of_an_index_is_chosen() {
        let all: Vec<_> =
            [None, Some("linux/arm64"), Some("linux/386"), Some("linux/amd64"), Some("wasi/wasm")]
                .into_iter()
                .map(entry)
                .collect();
        let choice = |platform: &str| best(&all, &platform.parse().unwrap()).unwrap().digest.clone();
        assert_eq!(choice("linux/amd64"), Digest::of(b"linux/amd64"));
        assert_eq!(choice("linux/arm64"), Digest::of(b"linux/arm64"));
        assert_eq!(choice("wasi/wasm"), Digest::of(b"wasi/wasm"));
        assert_eq!(choice("linux/s390x"), Digest::of(b"none"), "one without a platform is better than none");
        assert!(best(&all[1..], &"linux/s390x".parse().unwrap()).is_none());
    }

    #[test]
    fn configurations_that_do_not_fit_are_refused() {
        let layer =
            || Descriptor { media_type: "application/vnd.oci.image.layer.v1.tar".into(), ..entry(None) };
        let text =
            |config: &str, n| match_layers(config.as_bytes(), vec![layer(); n]).unwrap_err().to_string();
        assert_eq!(text("{}", 1), "invalid rootfs in image configuration");
        assert_eq!(
            text(r#"{"rootfs":{"diff_ids":[]}}"#, 1),
            "layers from manifest don't match image configuration"
        );
        assert!(match_layers(br#"{"rootfs":{}}"#, vec![]).unwrap().is_empty());
    }

    #[test]
    fn only_images_are_pulled() {
        assert!(
            check_config_type("application/vnd.docker.plugin.v1+json")
                .unwrap_err()
                .to_string()
                .contains("(plugin)")
        );
        assert!(check_config_type("application/vnd.cncf.helm.config.v1+json").is_err());
        assert!(
            check_config_type("application/vnd.docker.ai.model.config.v0.1+json")
                .unwrap_err()
                .to_string()
                .contains("AI")
        );
        assert!(check_media_type("text/plain").is_err());
        assert!(check_media_type(crate::media_type::OCI_LAYER_ZSTD).is_ok());
    }
}
