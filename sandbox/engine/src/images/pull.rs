//! `docker pull`. What the host's catalogue has under a Docker Hub name comes from there: it is on the disk already, and works
//! without Internet. Everything else comes from its registry.

use super::{blocking, prepare};
use crate::config::DaemonConfig;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::{Lines, Progress, lines};
use drydock_images::local::{ChainId, LocalStore, PullStep, Pulled};
use drydock_images::{DEFAULT_DOMAIN, Digest, Reference};
use drydock_registry::{
    AuthConfig, Client, ClientOptions, Descriptor, Event, Events, Inspection, Platform, PullRequest,
    StoreSink,
};
use serde_json::{Value, json};
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// The registry of the site, which speaks plain HTTP: it is reached inside the host only.
pub const SITE_REGISTRY: &str = "registry:5000";
/// The host's cache of other registries, at the same address. Where there is none it says so, and the registries are asked.
const CACHE: &str = "http://registry:5000/drydock/cache";

/// The way to registries.
pub struct Registries(RwLock<Client>);

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registries")
    }
}

impl Registries {
    /// With what `daemon.json` says of insecure registries and mirrors. `root`: `/var/lib/docker`.
    pub fn new(root: &Path, config: &DaemonConfig) -> Self {
        Self(RwLock::new(client(root, config)))
    }

    /// Another configuration, for work that begins from now on.
    pub fn replace(&self, root: &Path, config: &DaemonConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client(root, config);
    }

    fn client(&self) -> Client {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does work with the client in a thread of its own, where unpacking may block; it ends with the one who waits for it.
    pub async fn with<T, F>(&self, work: impl FnOnce(Client) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (client, runtime) = (self.client(), Handle::current());
        let (wanted, unwanted) = oneshot::channel::<()>();
        let task = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    done = work(client) => done,
                    _ = unwanted => Err(Error::internal("context canceled")),
                }
            })
        });
        let done = task.await.map_err(|error| Error::internal(error.to_string()))?;
        drop(wanted);
        done
    }

    /// The same for work whose events become lines in their order. The work never waits for a slow client, so lines may queue; the
    /// client tells them seldom enough for that.
    pub async fn with_lines<T, F>(
        &self,
        lines: &Lines,
        work: impl FnOnce(Client, Events) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Event>();
        let events: Events = Arc::new(move |event| drop(sender.send(event)));
        let mut working = pin!(self.with(move |client| work(client, events)));
        let done = loop {
            tokio::select! {
                biased;
                Some(event) = receiver.recv() => lines.send(&line_of(event)).await?,
                done = &mut working => break done,
            }
        };
        while let Ok(event) = receiver.try_recv() {
            lines.send(&line_of(event)).await?;
        }
        done
    }
}

fn client(root: &Path, config: &DaemonConfig) -> Client {
    let mut insecure = config.insecure_registries.clone();
    insecure.push(SITE_REGISTRY.to_owned());
    let spool = root.join("tmp");
    if let Err(error) = std::fs::create_dir_all(&spool) {
        tracing::warn!(%error, "no directory for downloads");
    }
    Client::new(ClientOptions {
        insecure,
        mirrors: config.registry_mirrors.clone(),
        cache: Some(CACHE.into()),
        spool,
        ..ClientOptions::default()
    })
}

/// Registries whose images the catalogue may have.
pub(super) const CATALOGUE_DOMAINS: [&str; 2] = [DEFAULT_DOMAIN, "registry.k8s.io"];

/// Pulls an image, or all tags of a name that has none.
pub async fn pull(
    engine: &Engine,
    name: &Reference,
    platform: Option<Platform>,
    auth: AuthConfig,
    lines: &Lines,
) -> Result<()> {
    if name.familiar_name() == "scratch" {
        return Err(Error::forbidden("'scratch' is a reserved name"));
    }
    let lines = &lines.shown(engine.activities.begin(&format!("pull {}", name.familiar())));
    let mut found = from_catalogue(engine, name, platform.as_ref(), lines).await?;
    if !found && !is_repository(engine, name).await && prepare::prepare(name, !has_way_out(), lines).await? {
        found = from_catalogue(engine, name, platform.as_ref(), lines).await?;
    }
    if !found {
        if CATALOGUE_DOMAINS.contains(&name.domain()) && !has_way_out() {
            return Err(not_in_catalogue(engine, name, platform.as_ref()).await);
        }
        let request = PullRequest { reference: name.clone(), platform, auth };
        let sink = StoreSink::new(engine.images.clone());
        let work = async move |client: Client, events| {
            if request.reference.is_name_only() {
                client.pull_all(&request, &sink, &events).await?;
            } else {
                client.pull(&request, &sink, &events).await?;
            }
            Ok(())
        };
        engine.registries.with_lines(lines, work).await?;
    }
    emit_pull(engine, name);
    Ok(())
}

/// What a name means at its registry, which the catalogue is as for [`pull`] (`GET /distribution/{name}/json`).
pub async fn inspect_remote(engine: &Engine, name: Reference, auth: AuthConfig) -> Result<Inspection> {
    if CATALOGUE_DOMAINS.contains(&name.domain()) {
        let wanted = name.clone();
        let here = blocking(engine, move |store| Ok::<_, Error>(store.in_catalogue(&wanted))).await?;
        if let Some(image) = here {
            let descriptor = Descriptor {
                media_type: image.media_type,
                size: image.manifest_size,
                digest: image.digest,
                platform: None,
                annotations: None,
                artifact_type: None,
            };
            let platform = Platform::new(&image.config.os, &image.config.architecture);
            return Ok(Inspection { descriptor, platforms: vec![platform] });
        }
        if !has_way_out() {
            return Err(not_in_catalogue(engine, &name, None).await);
        }
    }
    engine.registries.with(async move |client: Client| Ok(client.inspect(&name, &auth).await?)).await
}

/// Whether the catalogue has the name, for whatever platform.
async fn is_known(engine: &Engine, name: &Reference) -> bool {
    let name = name.clone();
    let there = blocking(engine, move |store| Ok::<_, Error>(store.in_catalogue(&name).is_some()));
    there.await.unwrap_or(false)
}

/// Whether the catalogue has an image of this name, whatever its tag.
async fn is_repository(engine: &Engine, name: &Reference) -> bool {
    let name = name.clone();
    let there = blocking(engine, move |store| {
        Ok::<_, Error>(store.catalogue().iter().any(|image| image.name.name() == name.name()))
    });
    there.await.unwrap_or(false)
}

/// Whether this node has a route to the Internet. Without one Docker Hub need not be asked.
pub(super) fn has_way_out() -> bool {
    // proc_pid_net(5), route: the second field is the destination, zero for the default route.
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

/// The refusal of a name that a registry does not know, in Docker's words, with the way on.
pub(super) async fn not_in_catalogue(
    engine: &Engine,
    name: &Reference,
    platform: Option<&Platform>,
) -> Error {
    if let Some(platform) = platform
        && is_known(engine, name).await
    {
        return Error::not_found(format!("no matching manifest for {platform} in the manifest list entries"));
    }
    let list = blocking(engine, |store| {
        let names = store.catalogue().into_iter().map(|image| image.name.clone());
        Ok::<_, Error>(names.collect::<Vec<_>>())
    });
    let mut list = list.await.unwrap_or_default();
    let tagged = list.iter().any(|known| known.name() == name.name());
    let mut known: Vec<String> = if tagged {
        list.retain(|known| known.name() == name.name());
        list.iter().map(Reference::familiar).collect()
    } else {
        // What the host can make is there for whoever asks.
        let made = prepare::recipes().await;
        list.iter().map(Reference::familiar_name).chain(made).collect()
    };
    known.sort();
    known.dedup();
    let on = format!(
        "this node has no way to the Internet, and the catalogue has {}",
        if known.is_empty() { "nothing".into() } else { known.join(", ") }
    );
    Error::not_found(if tagged {
        format!("manifest for {} not found: manifest unknown: manifest unknown ({on})", name.familiar())
    } else {
        format!(
            "pull access denied for {}, repository does not exist or may require 'docker login': denied: {on}",
            name.familiar_name()
        )
    })
}

fn emit_pull(engine: &Engine, name: &Reference) {
    super::emit_named(engine, "pull", name);
}

/// Whether the catalogue had it.
async fn from_catalogue(
    engine: &Engine,
    name: &Reference,
    platform: Option<&Platform>,
    lines: &Lines,
) -> Result<bool> {
    if !CATALOGUE_DOMAINS.contains(&name.domain()) {
        return Ok(false);
    }
    let (wanted, platform, out) = (name.clone(), platform.cloned(), lines.clone());
    blocking(engine, move |store| {
        let fits = |os: &str, architecture: &str| {
            platform.as_ref().is_none_or(|wanted| wanted.rank(&Platform::new(os, architecture)).is_some())
        };
        let found: Vec<_> = if wanted.is_name_only() {
            store.catalogue().into_iter().filter(|image| image.name.name() == wanted.name()).collect()
        } else {
            store.in_catalogue(&wanted).into_iter().collect()
        };
        let mut newer = false;
        let mut any = false;
        for image in &found {
            let name = if wanted.is_name_only() { &image.name } else { &wanted };
            let shown = name.digest().or(name.tag()).unwrap_or_default();
            // The name is known before the platforms are.
            out.send_blocking(&lines::status(shown, &format!("Pulling from {}", name.path())))?;
            if !fits(&image.config.os, &image.config.architecture) {
                continue;
            }
            if let Some(pulled) = one_from_catalogue(store, name, &out)? {
                newer |= pulled.newer;
                any = true;
            }
        }
        if any {
            let what = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
            out.send_blocking(&lines::status("", &format!("Status: {what} {}", wanted.familiar())))?;
        }
        Ok::<_, Error>(any)
    })
    .await
}

fn one_from_catalogue(store: &LocalStore, name: &Reference, out: &Lines) -> Result<Option<Pulled>> {
    let Some(found) = store.in_catalogue(name) else { return Ok(None) };
    // Of an image that is there dockerd tells no layers.
    let known = store.get(&found.id).is_ok();
    let mut layers: Vec<(String, bool)> = vec![];
    let pulled = store.pull_from_catalogue(name, &mut |layer, step| match step {
        PullStep::Exists => layers.push((layer.to_owned(), true)),
        PullStep::Pulling => layers.push((layer.to_owned(), false)),
        PullStep::Downloaded | PullStep::Complete => {}
    })?;
    if !known {
        let sizes = sizes(store, &found.config.rootfs.diff_ids);
        // A client that is gone does not undo what is done: nothing is copied.
        let _gone = told(&layers, &sizes).iter().try_for_each(|line| out.send_blocking(line));
    }
    if let Some(pulled) = &pulled {
        out.send_blocking(&lines::status("", &format!("Digest: {}", pulled.digest)))?;
    }
    Ok(pulled)
}

/// Bytes of each layer of an image that is there, the lowest first.
fn sizes(store: &LocalStore, diff_ids: &[Digest]) -> Vec<u64> {
    let mut chain: Option<ChainId> = None;
    let mut size = |diff_id: &Digest| {
        let next = ChainId::of(chain.as_ref(), diff_id);
        let size = store.layer(&next).map_or(0, |layer| layer.size());
        chain = Some(next);
        size
    };
    diff_ids.iter().map(&mut size).collect()
}

/// What dockerd tells of layers (name, whether it was there): first all of them, then how far each is.
fn told(layers: &[(String, bool)], sizes: &[u64]) -> Vec<Value> {
    let plain = |layer: &str, text: &str| lines::transfer(layer, text, Progress::default());
    let first = layers
        .iter()
        .map(|(layer, there)| plain(layer, if *there { "Already exists" } else { "Pulling fs layer" }));
    let mut all: Vec<Value> = first.collect();
    let new =
        layers.iter().zip(sizes).filter(|((_, there), _)| !there).map(|((layer, _), size)| (layer, *size));
    // As many at once as dockerd's downloads.
    all.extend(new.clone().skip(3).map(|(layer, _)| plain(layer, "Waiting")));
    for (layer, size) in new.clone() {
        all.push(lines::transfer(layer, "Downloading", Progress { current: size, total: size }));
        all.push(plain(layer, "Verifying Checksum"));
        all.push(plain(layer, "Download complete"));
    }
    for (layer, size) in new {
        all.push(lines::transfer(layer, "Extracting", Progress { current: size, total: size }));
        all.push(plain(layer, "Pull complete"));
    }
    all
}

fn line_of(event: Event) -> Value {
    let mut line = match (event.layer, event.amount) {
        (_, Some(amount)) => lines::transfer(
            &event.id,
            &event.status,
            Progress { current: amount.current, total: amount.total },
        ),
        (true, None) => lines::transfer(&event.id, &event.status, Progress::default()),
        (false, None) if event.status.is_empty() => json!({}),
        (false, None) => lines::status(&event.id, &event.status),
    };
    if let Some(aux) = event.aux {
        line["progressDetail"] = json!({});
        line["aux"] = aux;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_are_told_before_how_far_each_is() {
        let layers = [("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), false)];
        let told: Vec<String> = told(&layers, &[1, 2, 3])
            .iter()
            .map(|line| format!("{}: {}", line["id"].as_str().unwrap(), line["status"].as_str().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                "a: Already exists",
                "b: Pulling fs layer",
                "c: Pulling fs layer",
                "b: Downloading",
                "b: Verifying Checksum",
                "b: Download complete",
                "c: Downloading",
                "c: Verifying Checksum",
                "c: Download complete",
                "b: Extracting",
                "b: Pull complete",
                "c: Extracting",
                "c: Pull complete",
            ]
        );
    }
}
