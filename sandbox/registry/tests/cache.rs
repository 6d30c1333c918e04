//! The cache of other registries: what it asks for, how often, and what it keeps, against our own registry with a counter in between.

mod common;

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, Response, StatusCode, header},
};
use common::*;
use drydock_images::Digest;
use drydock_registry::{Cache, CacheLimits, Client, ClientOptions, Error};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// A registry `docker.io` that counts, a cache in front of it, and a node's client that knows the cache.
struct World {
    site: Site,
    asked: Asked,
    cache: Cache,
    folder: TempDir,
    hub: String,
    client: Client,
}

/// What was asked of the registry: method, path, with or without credentials.
#[derive(Clone, Default)]
struct Asked {
    list: Arc<Mutex<Vec<String>>>,
    /// What it answers in place of the registry.
    instead: Arc<Mutex<Option<(StatusCode, &'static str)>>>,
}

impl Asked {
    async fn pass(self, request: Request, registry: Router) -> Response<Body> {
        let credentials =
            if request.headers().contains_key(header::AUTHORIZATION) { " (credentials)" } else { "" };
        self.list.lock().unwrap().push(format!("{} {}{credentials}", request.method(), request.uri().path()));
        let instead = *self.instead.lock().unwrap();
        let blob = request.uri().path().contains("/blobs/");
        let ping = request.uri().path() == "/v2/";
        match instead {
            Some((status, text)) if status != StatusCode::OK && !ping => {
                let mut response = Response::new(Body::from(text));
                *response.status_mut() = status;
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("120"));
                response
            }
            Some((_, text)) if blob => Response::new(Body::from(text)),
            _ => ask(registry, request).await,
        }
    }

    /// Takes what was asked for so far, without the greetings.
    fn take(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *self.list.lock().unwrap());
        all.retain(|line| line != "GET /v2/");
        all
    }

    fn answer(&self, instead: Option<(StatusCode, &'static str)>) {
        *self.instead.lock().unwrap() = instead;
    }
}

fn limits(fresh: Duration) -> CacheLimits {
    CacheLimits { fresh, ..CacheLimits::default() }
}

const LONG: Duration = Duration::from_secs(1000);

async fn world(limits: CacheLimits) -> World {
    let (site, asked) = (site().await, Asked::default());
    let counter = asked.clone();
    let hub = between(&site.registry, move |request, registry| counter.clone().pass(request, registry)).await;
    let folder = tempfile::tempdir().unwrap();
    let hub = format!("http://{hub}");
    let upstream = ClientOptions { hub: hub.clone(), ..options() };
    let cache = Cache::open(folder.path(), upstream, limits).unwrap();
    let client = client_of(&cache, &hub).await;
    World { site, asked, cache, folder, hub, client }
}

/// A node's client: it knows the cache, and where the registry is.
async fn client_of(cache: &Cache, hub: &str) -> Client {
    let at = serve(Router::new().nest("/cache", cache.router())).await;
    Client::new(ClientOptions { cache: Some(format!("http://{at}/cache")), hub: hub.into(), ..options() })
}

impl World {
    async fn push(&self, tag: &str, sizes: &[usize]) {
        pushed(&format!("{}/library/app:{tag}", self.site.domain), sizes).await;
        self.asked.take();
    }

    async fn pull(&self) -> Result<Digest, Error> {
        let sink = Memory::default();
        let pulled = self.client.pull(&pull_of("app:v1"), &sink, &Log::default().events()).await?;
        assert!(sink.layers.lock().unwrap().iter().all(|(layer, blob)| Digest::of(blob) == layer.digest));
        Ok(pulled.digest)
    }
}

#[tokio::test]
async fn a_class_pulls_once() {
    let world = Arc::new(world(limits(LONG)).await);
    world.push("v1", &[300_000, 2_000]).await;
    let all = (0..20).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { world.pull().await.unwrap() })
    });
    let mut digests = Vec::new();
    for pull in all.collect::<Vec<_>>() {
        digests.push(pull.await.unwrap());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
    let asked = world.asked.take();
    let of = |what: &str| asked.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(
        (of("HEAD /v2/library/app/manifests"), of("GET /v2/library/app/manifests")),
        (1, 1),
        "{asked:#?}"
    );
    assert_eq!(of("GET /v2/library/app/blobs"), 3, "the configuration and two layers: {asked:#?}");
    assert_eq!(asked.len(), 5, "{asked:#?}");
}

#[tokio::test]
async fn a_tag_that_is_not_fresh_is_asked_for_without_being_counted() {
    let world = world(limits(Duration::ZERO)).await;
    world.push("v1", &[1000]).await;
    let first = world.pull().await.unwrap();
    world.asked.take();
    assert_eq!(world.pull().await.unwrap(), first);
    assert_eq!(world.asked.take(), ["HEAD /v2/library/app/manifests/v1"]);
    // It means something else now.
    world.push("v1", &[1000, 500]).await;
    let second = world.pull().await.unwrap();
    assert_ne!(second, first);
    let asked = world.asked.take();
    assert_eq!(asked[..2], ["HEAD /v2/library/app/manifests/v1", "GET /v2/library/app/manifests/v1"]);
    assert_eq!(asked.len(), 4, "configuration and new layer; the old one is there: {asked:#?}");
}

#[tokio::test]
async fn a_registry_that_has_had_enough_is_left_alone() {
    let world = world(limits(Duration::ZERO)).await;
    world.push("v1", &[1000]).await;
    let first = world.pull().await.unwrap();
    world.asked.answer(Some((StatusCode::TOO_MANY_REQUESTS, "slow down")));
    world.asked.take();
    for _ in 0..3 {
        assert_eq!(world.pull().await.unwrap(), first);
    }
    assert_eq!(world.asked.take(), ["HEAD /v2/library/app/manifests/v1"], "asked once, then never");
    // What it does not have it refuses; the node then asks the registry itself.
    let sink = Memory::default();
    let error = world.client.pull(&pull_of("other:v1"), &sink, &Log::default().events()).await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: slow down");
}

#[tokio::test]
async fn a_registry_that_is_away_is_not_missed() {
    let world = world(limits(Duration::ZERO)).await;
    world.push("v1", &[1000]).await;
    let first = world.pull().await.unwrap();
    // A server that starts anew over the same folder, and no registry any more.
    let nobody = ClientOptions { hub: "http://127.0.0.1:1".into(), ..options() };
    let cache = Cache::open(world.folder.path(), nobody, limits(Duration::ZERO)).unwrap();
    assert_eq!(cache.used(), world.cache.used());
    let client = client_of(&cache, "http://127.0.0.1:1").await;
    let pulled = client.pull(&pull_of("app:v1"), &Memory::default(), &Log::default().events()).await;
    assert_eq!(pulled.unwrap().digest, first);
}

#[tokio::test]
async fn what_has_another_digest_is_not_kept() {
    let world = world(limits(LONG)).await;
    world.push("v1", &[1000]).await;
    world.asked.answer(Some((StatusCode::OK, "something else")));
    world.pull().await.unwrap_err();
    let kept = world.cache.used();
    world.asked.answer(None);
    world.pull().await.unwrap();
    assert!(world.cache.used() > kept, "the layer came when the registry had it");
    let blobs = std::fs::read_dir(world.folder.path().join("blobs")).unwrap();
    for blob in blobs {
        let path = blob.unwrap().path();
        let digest = Digest::of(&std::fs::read(&path).unwrap());
        assert_eq!(digest.hex(), path.file_name().unwrap().to_str().unwrap());
    }
}

#[tokio::test]
async fn credentials_stay_between_node_and_registry() {
    let world = world(limits(LONG)).await;
    world.push("v1", &[1000]).await;
    let request = drydock_registry::PullRequest { auth: auth("ann", "secret"), ..pull_of("app:v1") };
    world.client.pull(&request, &Memory::default(), &Log::default().events()).await.unwrap();
    let asked = world.asked.take();
    assert!(!asked.is_empty() && asked.iter().all(|line| !line.contains("credentials")), "{asked:#?}");
}

#[tokio::test]
async fn only_what_the_operator_has_listed_is_asked() {
    let world = world(CacheLimits { registries: vec!["quay.io".into()], ..limits(LONG) }).await;
    world.push("v1", &[1000]).await;
    world.pull().await.unwrap();
    assert_eq!(world.cache.used(), 0, "the node went by itself");
    for path in
        ["/169.254.169.254/v2/a/manifests/b", "/docker.io/v2/a/manifests/b", "/quay.io/v2/_catalog", "/x"]
    {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        assert_eq!(ask(world.cache.router(), request).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let push = Request::builder().method("PUT").uri("/quay.io/v2/a/manifests/b").body(Body::empty()).unwrap();
    assert_eq!(ask(world.cache.router(), push).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_closed_address_is_not_connected_to_wherever_it_comes_from() {
    let world = world(limits(LONG)).await;
    world.push("v1", &[1000]).await;
    let closed: drydock_registry::Allow = Arc::new(|address: SocketAddr| address.port() == 443);
    let upstream = ClientOptions { hub: world.hub.clone(), allow: Some(closed), ..options() };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), upstream, limits(LONG)).unwrap();
    let request =
        Request::builder().uri("/docker.io/v2/library/app/manifests/v1").body(Body::empty()).unwrap();
    assert_eq!(ask(cache.router(), request).await.status(), StatusCode::BAD_GATEWAY);
    assert!(world.asked.take().is_empty());
}

#[tokio::test]
async fn a_blob_that_does_not_fit_is_left_to_the_registry() {
    let world = world(CacheLimits { bytes: 5_000, ..limits(LONG) }).await;
    world.push("v1", &[30_000]).await;
    world.pull().await.unwrap();
    assert!(world.cache.used() <= 5_000);
}
