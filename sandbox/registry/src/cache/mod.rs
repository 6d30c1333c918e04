//! A pull-through cache of other registries: what one asks for anonymously is fetched once, kept by digest, and given to all
//! who ask later. The host mounts [`Cache::router`]; the engines of nodes ask it before they ask a registry, so a class of fifty
//! pulls an image once, and a registry that counts pulls counts one.
//!
//! ```text
//! GET /REGISTRY/v2/NAME/manifests/TAG   tag known and fresh: from the shelf; else one HEAD (which no registry counts) tells
//!                                       whether the digest is still the same; else it is fetched
//! GET /REGISTRY/v2/NAME/blobs/DIGEST    from the shelf, or from the one flight that fetches it, while it arrives
//! ```
//!
//! It never carries credentials, in either direction, so it holds nothing but what anybody may have; it asks only registries that
//! are on the operator's list; and what does not have the digest it was asked by never gets on the shelf.

mod flight;
mod shelf;
mod upstream;

use crate::{
    ClientOptions, MANIFEST_MAX, media_type,
    server::{Route, Which},
};
use axum::{Router, body::Body, extract::State, routing::any};
use bytes::Bytes;
use drydock_images::Digest;
use flight::Flight;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use shelf::Shelf;
use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};
use tokio::sync::Semaphore;
use upstream::Upstream;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// More tags or blobs than this are not asked for at the same time.
const BUSY_MAX: usize = 1024;

/// What a cache may do.
#[derive(Debug, Clone)]
pub struct CacheLimits {
    /// The registries that are asked, as they stand in an image's name: `docker.io`, `quay.io`, `host:port`.
    pub registries: Vec<String>,
    /// Space for what is kept. What was not asked for the longest goes first.
    pub bytes: u64,
    /// How long a tag is taken to mean what it meant.
    pub fresh: Duration,
    /// How long a registry that has had enough of us is left alone, if it does not say.
    pub rest: Duration,
    /// How many blobs arrive at a time.
    pub downloads: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            registries: vec!["docker.io".into()],
            bytes: 10 << 30,
            fresh: Duration::from_secs(60),
            rest: Duration::from_secs(60),
            downloads: 16,
        }
    }
}

/// A cache over a folder. Clones are the same cache.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    limits: CacheLimits,
    shelf: Shelf,
    upstream: Upstream,
    /// Blobs that arrive, by where they come from.
    flights: Mutex<HashMap<String, Weak<Flight>>>,
    /// Tags and manifests that are being asked for: one asks, the others wait and find it on the shelf.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    downloads: Arc<Semaphore>,
}

/// Why something is not given, in the protocol's form.
#[derive(Debug, Clone)]
struct Failure {
    status: StatusCode,
    code: String,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// The disk or a task of ours failed.
    fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "the cache of registries cannot fulfil a request");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "unknown error")
    }

    fn into_response(self) -> Response<Body> {
        let one = json!({ "code": self.code, "message": self.message, "detail": null });
        let mut response = Response::new(Body::from(json!({ "errors": [one] }).to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl Cache {
    /// Opens a folder, making it if needed. `options`: how registries are reached.
    pub fn open(root: &Path, options: ClientOptions, limits: CacheLimits) -> io::Result<Self> {
        let inner = Inner {
            shelf: Shelf::open(root, limits.bytes)?,
            upstream: Upstream::new(options, limits.rest),
            flights: Mutex::default(),
            turns: Mutex::default(),
            downloads: Arc::new(Semaphore::new(limits.downloads.max(1))),
            limits,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The routes: `/REGISTRY/v2/…`.
    pub fn router(&self) -> Router {
        let router = Router::new().route("/{registry}/v2/", any(handle));
        router.route("/{registry}/v2/{*rest}", any(handle)).with_state(self.clone())
    }

    /// Bytes that are kept.
    pub fn used(&self) -> u64 {
        self.inner.shelf.used()
    }
}

async fn handle(State(cache): State<Cache>, request: Request<Body>) -> Response<Body> {
    let (head, _no_body) = request.into_parts();
    let answered = answer(cache.inner, &head.method, head.uri.path()).await;
    let mut response = answered.unwrap_or_else(Failure::into_response);
    if head.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn answer(cache: Arc<Inner>, method: &Method, path: &str) -> Result<Response<Body>, Failure> {
    let unknown =
        || Failure::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
    let (registry, rest) = path.trim_start_matches('/').split_once("/v2/").ok_or_else(unknown)?;
    if !cache.limits.registries.iter().any(|known| known == registry) {
        return Err(unknown());
    }
    if method != Method::GET && method != Method::HEAD {
        let text = "The operation is unsupported.";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", text));
    }
    match Route::parse(rest).map_err(|_| unknown())? {
        Route::Root => Ok(Response::new(Body::from("{}"))),
        Route::Manifest(name, Which::Tag(tag)) => cache.tag(registry, name.as_str(), tag.as_str()).await,
        Route::Manifest(name, Which::Digest(digest)) => {
            cache.manifest(registry, name.as_str(), &digest).await
        }
        Route::Blob(name, digest) => {
            // A HEAD fetches nothing: who only wants to know is told by the registry itself.
            let only_known = method == Method::HEAD;
            cache.blob(registry, name.as_str(), digest, only_known).await
        }
        // Lists grow by the hour: they are the registry's own to tell.
        _ => Err(unknown()),
    }
}

impl Inner {
    /// What a tag means now, as far as one may know without being counted.
    async fn tag(self: Arc<Self>, registry: &str, name: &str, tag: &str) -> Result<Response<Body>, Failure> {
        let key = format!("{registry}/{name}:{tag}");
        let turn = self.turn(&key)?;
        let _alone = turn.lock().await;
        let known =
            self.shelf.tag(&key).and_then(|(digest, at)| Some((self.shelf.small(&digest)?, digest, at)));
        if let Some((bytes, digest, at)) = &known
            && SystemTime::now().duration_since(*at).is_ok_and(|age| age < self.limits.fresh)
        {
            return manifest_response(digest, bytes.clone());
        }
        match self.newer(&key, registry, name, tag, known.as_ref().map(|(_, digest, _)| digest)).await {
            Ok(Some((digest, bytes))) => manifest_response(&digest, bytes),
            // The registry has had enough, or is away: what it said before is better than nothing.
            Ok(None)
            | Err(Failure { status: StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY, .. })
                if known.is_some() =>
            {
                let (bytes, digest, _) = known.ok_or_else(|| Failure::internal("a manifest has gone"))?;
                manifest_response(&digest, bytes)
            }
            Ok(None) => Err(Failure::internal("a manifest has gone")),
            Err(failure) => Err(failure),
        }
    }

    /// Asks what a tag means. Nothing: the same as before.
    async fn newer(
        &self,
        key: &str,
        registry: &str,
        name: &str,
        tag: &str,
        known: Option<&Digest>,
    ) -> Result<Option<(Digest, Bytes)>, Failure> {
        let told = match self.upstream.digest(registry, name, tag).await {
            // A registry that tells no digest to a HEAD is asked for the whole.
            Ok(told) => told,
            Err(failure) if known.is_some() => return Err(failure),
            Err(_) => None,
        };
        if let Some(told) = &told
            && let Some(bytes) = self.shelf.small(told)
        {
            self.shelf.set_tag(key, told);
            return Ok((known != Some(told)).then_some((told.clone(), bytes)));
        }
        let bytes = self.upstream.manifest(registry, name, tag, None).await?;
        let digest = Digest::of(&bytes);
        self.shelf.keep_small(&digest, &bytes).map_err(Failure::internal)?;
        self.shelf.set_tag(key, &digest);
        Ok(Some((digest, bytes)))
    }

    async fn manifest(&self, registry: &str, name: &str, digest: &Digest) -> Result<Response<Body>, Failure> {
        let turn = self.turn(&format!("{registry}/{name}@{digest}"))?;
        let _alone = turn.lock().await;
        let bytes = match self.shelf.small(digest) {
            Some(bytes) => bytes,
            None => {
                let bytes = self.upstream.manifest(registry, name, &digest.to_string(), Some(digest)).await?;
                self.shelf.keep_small(digest, &bytes).map_err(Failure::internal)?;
                bytes
            }
        };
        manifest_response(digest, bytes)
    }

    async fn blob(
        self: Arc<Self>,
        registry: &str,
        name: &str,
        digest: Digest,
        only_known: bool,
    ) -> Result<Response<Body>, Failure> {
        if let Some((file, size)) = self.shelf.find(&digest) {
            let stream =
                tokio_util::io::ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
            return blob_response(&digest, Some(size), Body::from_stream(stream));
        }
        if only_known {
            return Err(Failure::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry"));
        }
        let flight = self.flight(registry, name, &digest)?;
        let size = flight.begun().await?;
        blob_response(&digest, size, Body::from_stream(flight.stream()))
    }

    /// The flight that brings a blob; begins it if there is none.
    fn flight(self: &Arc<Self>, registry: &str, name: &str, digest: &Digest) -> Result<Arc<Flight>, Failure> {
        let key = format!("{registry}/{name}@{digest}");
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade).filter(|flight| !flight.failed()) {
            return Ok(flight);
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        if flights.len() >= BUSY_MAX {
            return Err(busy());
        }
        let flight = Flight::begin(self.clone(), registry.into(), name.into(), digest.clone())?;
        flights.insert(key, Arc::downgrade(&flight));
        Ok(flight)
    }

    fn turn(&self, key: &str) -> Result<Arc<tokio::sync::Mutex<()>>, Failure> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return Ok(turn);
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        if turns.len() >= BUSY_MAX {
            return Err(busy());
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(key.into(), Arc::downgrade(&turn));
        Ok(turn)
    }
}

fn busy() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the cache of registries is busy")
}

/// A manifest's media type stands in it, or follows from what it has (OCI image specification, "mediaType").
fn kind(bytes: &[u8]) -> String {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    match value["mediaType"].as_str() {
        Some(kind) => kind.to_owned(),
        None if value["manifests"].is_array() => media_type::OCI_INDEX.to_owned(),
        None if value["schemaVersion"] == 1 => media_type::SCHEMA_1[1].to_owned(),
        None => media_type::OCI_MANIFEST.to_owned(),
    }
}

fn manifest_response(digest: &Digest, bytes: Bytes) -> Result<Response<Body>, Failure> {
    debug_assert!(bytes.len() <= MANIFEST_MAX);
    let kind = HeaderValue::from_str(&kind(&bytes)).map_err(Failure::internal)?;
    let mut response = blob_response(digest, Some(bytes.len() as u64), Body::from(bytes))?;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

fn blob_response(digest: &Digest, size: Option<u64>, body: Body) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::BINARY));
    headers.insert(CONTENT_DIGEST, HeaderValue::from_str(&digest.to_string()).map_err(Failure::internal)?);
    if let Some(size) = size {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    Ok(response)
}
