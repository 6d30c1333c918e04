//! What the tests share: a registry on a loopback port, a sink and a source in memory, small images.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use axum::{Router, body::Body, extract::Request, http::Response, routing::any};
use bytes::Bytes;
use drydock_images::{Digest, Reference};
use drydock_registry::{
    AuthConfig, Client, ClientOptions, Event, Events, ImageSink, ImageSource, KnownBlob, LayerBlob,
    LayerContent, PullLayer, PullRequest, PulledImage, PushImage, PushLayer, PushRequest, SinkError,
    server::{Limits, Open, Policy, Registry},
};
use std::{
    collections::HashMap,
    io::{self, Cursor, Read},
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// A registry, its folder and where it listens.
pub struct Site {
    pub registry: Registry,
    pub folder: TempDir,
    pub domain: String,
}

pub async fn site() -> Site {
    site_with(Arc::new(Open), Limits::default()).await
}

pub async fn site_with(policy: Arc<dyn Policy>, limits: Limits) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path(), policy, limits).unwrap();
    let domain = serve(registry.router()).await;
    Site { registry, folder, domain }
}

/// Serves routes on a free loopback port; gives `127.0.0.1:port`.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    domain
}

/// Puts something between client and registry: `change` sees each request and may answer in the registry's place.
pub async fn between<F, R>(registry: &Registry, change: F) -> String
where
    F: Fn(Request, Router) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let inner = registry.router();
    serve(Router::new().fallback(any(move |request: Request| {
        let (change, inner) = (change.clone(), inner.clone());
        async move { change(request, inner).await }
    })))
    .await
}

pub async fn ask(router: Router, request: Request) -> Response<Body> {
    router.oneshot(request).await.unwrap()
}

pub fn options() -> ClientOptions {
    ClientOptions {
        retry_delay: Duration::from_millis(10),
        connect_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    }
}

pub fn client() -> Client {
    Client::new(options())
}

/// Collects events as `id status`.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<Event>>>);

impl Log {
    pub fn events(&self) -> Events {
        let log = self.clone();
        Arc::new(move |event| log.0.lock().unwrap().push(event))
    }

    /// The statuses that a layer (or the whole, with an empty id) had, without repetitions.
    pub fn of(&self, id: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let mut list: Vec<String> = all.iter().filter(|e| e.id == id).map(|e| e.status.clone()).collect();
        list.dedup();
        list
    }

    pub fn count(&self, status: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|e| e.status == status).count()
    }
}

/// An image store that only remembers.
#[derive(Default)]
pub struct Memory {
    pub layers: Mutex<Vec<(PullLayer, Vec<u8>)>>,
    pub images: Mutex<HashMap<Reference, PulledImage>>,
    /// Unpacked digests that are there already.
    pub known: Vec<Digest>,
}

impl ImageSink for Memory {
    async fn has_image(&self, config: &Digest) -> bool {
        self.images.lock().unwrap().values().any(|i| i.config_digest == *config)
    }

    async fn has_layers(&self, diff_ids: &[Digest]) -> bool {
        diff_ids.iter().all(|d| self.known.contains(d))
    }

    async fn layer(&self, layer: PullLayer, mut blob: LayerBlob, _: Events) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        blob.file.read_to_end(&mut bytes).map_err(|e| SinkError(e.to_string()))?;
        assert_eq!(bytes.len() as u64, blob.size);
        self.layers.lock().unwrap().push((layer, bytes));
        Ok(())
    }

    async fn finish(&self, image: PulledImage) -> Result<bool, SinkError> {
        let new = image.config_digest.clone();
        let old = self.images.lock().unwrap().insert(image.reference.clone(), image);
        Ok(old.is_none_or(|old| old.config_digest != new))
    }
}

/// An image source in memory: tar files by digest.
#[derive(Default)]
pub struct Tars {
    pub tars: HashMap<Digest, Vec<u8>>,
    pub pushed: Mutex<Vec<KnownBlob>>,
}

impl ImageSource for Tars {
    fn open(&self, layer: &PushLayer) -> io::Result<LayerContent> {
        let tar = self.tars.get(&layer.diff_id).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(LayerContent::Tar(Box::new(Cursor::new(tar))))
    }

    fn pushed(&self, _: &PushLayer, blob: &KnownBlob) {
        self.pushed.lock().unwrap().push(blob.clone());
    }
}

/// Content that does not pack well.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An image of these layers.
pub fn image(tars: &[Vec<u8>]) -> (PushImage, Arc<Tars>) {
    let diff_ids: Vec<Digest> = tars.iter().map(|t| Digest::of(t)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let layers = tars
        .iter()
        .zip(&diff_ids)
        .map(|(tar, id)| PushLayer { diff_id: id.clone(), size: tar.len() as u64, known: Vec::new() })
        .collect();
    let source = Tars { tars: diff_ids.into_iter().zip(tars.iter().cloned()).collect(), ..Tars::default() };
    (PushImage { config: Bytes::from(config.to_string()), layers }, Arc::new(source))
}

pub fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

pub fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap().with_default_tag()
}

pub fn auth(user: &str, password: &str) -> AuthConfig {
    AuthConfig { username: user.into(), password: password.into(), ..AuthConfig::default() }
}

pub fn pull_of(text: &str) -> PullRequest {
    PullRequest { reference: reference(text), platform: None, auth: AuthConfig::default() }
}

pub fn push_of(text: &str) -> PushRequest {
    PushRequest { reference: reference(text), auth: AuthConfig::default() }
}

/// Pushes an image of noise and gives its layers' tars.
pub async fn pushed(name: &str, sizes: &[usize]) -> Vec<Vec<u8>> {
    let tars: Vec<_> = sizes.iter().enumerate().map(|(i, size)| noise(i as u64 + 7, *size)).collect();
    let (image, source) = image(&tars);
    client().push(&push_of(name), image, &source, &Log::default().events()).await.unwrap();
    tars
}

pub fn unpack(gzip: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut tar).unwrap();
    tar
}
