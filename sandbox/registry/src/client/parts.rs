//! Parts of an image at a registry, without the image: its configuration, its lowest layers. A build takes from an image of
//! `--cache-from` no more than it has use for.

use super::{
    Client, PullRequest,
    pull::{ImageSink, PullLayer, choose, find, match_layers},
    repository::{Endpoint, Repository},
};
use crate::{Events, Result};
use bytes::Bytes;
use drydock_images::Digest;
use std::sync::Arc;

/// What an image is, without its layers.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The digest of its manifest, which is no index.
    pub manifest: Digest,
    /// Its configuration.
    pub config: Bytes,
}

/// An image whose layers can be asked for.
struct Found {
    repository: Arc<Repository>,
    outline: Outline,
    layers: Vec<PullLayer>,
}

impl Client {
    /// Asks what an image is.
    pub async fn outline(&self, request: &PullRequest) -> Result<Outline> {
        Ok(self.found(request).await?.outline)
    }

    /// Pulls the lowest layers of an image: `count` of them, or all that it has.
    pub async fn pull_layers<S: ImageSink>(
        &self,
        request: &PullRequest,
        count: usize,
        sink: &S,
        events: &Events,
    ) -> Result<()> {
        let Found { repository, layers, .. } = self.found(request).await?;
        let wanted = layers.get(..count).unwrap_or(&layers);
        self.collect_layers(repository, wanted, sink, events).await
    }

    async fn found(&self, request: &PullRequest) -> Result<Found> {
        let mut ways = self.ways(&request.reference, true).await;
        while let Some(endpoint) = ways.next() {
            let found = self.found_at(&endpoint, request).await;
            if let Some(outcome) = ways.judge(&endpoint, found) {
                return outcome;
            }
        }
        Err(ways.last())
    }

    async fn found_at(&self, endpoint: &Endpoint, request: &PullRequest) -> Result<Found> {
        let reference = &request.reference;
        let repository = Arc::new(self.open(endpoint, reference.path(), "pull", &request.auth).await?);
        let top = find(&repository, reference).await?;
        let chosen = choose(&repository, reference, top, request.platform.as_ref()).await?;
        let config = repository.config(&chosen.config.digest).await?;
        let layers = match_layers(&config, chosen.layers)?;
        Ok(Found { repository, outline: Outline { manifest: chosen.manifest.digest, config }, layers })
    }
}
