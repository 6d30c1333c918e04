//! The registries behind the cache, asked by nobody in particular: no credentials but the tokens that a token service gives to
//! anybody. A registry that says "too many requests" is left alone for as long as it says.

use super::Failure;
use crate::{AuthConfig, Client, ClientOptions, Error, client::repository::Repository};
use bytes::Bytes;
use drydock_images::Digest;
use hyper::{HeaderMap, Method, Response, StatusCode, body::Incoming, header::RETRY_AFTER};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Open repositories (they hold a token each) that are kept.
const REPOSITORIES_MAX: usize = 256;
/// However long a registry wants to be left alone, it is asked again after this.
const REST_MAX: Duration = Duration::from_secs(3600);

/// See the top of the file.
pub(super) struct Upstream {
    client: Client,
    rest: Duration,
    repositories: Mutex<HashMap<(String, String), Arc<Repository>>>,
    /// Registries that have had enough, and until when.
    resting: Mutex<HashMap<String, Instant>>,
}

impl Upstream {
    pub(super) fn new(options: ClientOptions, rest: Duration) -> Self {
        Self { client: Client::new(options), rest, repositories: Mutex::default(), resting: Mutex::default() }
    }

    /// The digest that a tag has now, if the registry tells it.
    pub(super) async fn digest(
        &self,
        registry: &str,
        name: &str,
        tag: &str,
    ) -> Result<Option<Digest>, Failure> {
        let repository = self.repository(registry, name).await?;
        let url = repository.url(&format!("manifests/{tag}"));
        let answer = self.heard(registry, repository.head_manifest(&url).await).await?;
        if !answer.status().is_success() {
            // A HEAD has no body that would say more.
            return Err(by_status(answer.status()));
        }
        let told = answer.headers().get("docker-content-digest");
        Ok(told.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// A manifest by tag or digest; what has not the expected digest is refused.
    pub(super) async fn manifest(
        &self,
        registry: &str,
        name: &str,
        which: &str,
        expected: Option<&Digest>,
    ) -> Result<Bytes, Failure> {
        let repository = self.repository(registry, name).await?;
        let url = repository.url(&format!("manifests/{which}"));
        let answer = self.heard(registry, repository.get_manifest(&url).await).await?;
        let fetched = repository.read_manifest(answer, expected).await.map_err(failure)?;
        Ok(fetched.bytes)
    }

    /// A blob's answer, with its body to come.
    pub(super) async fn blob(
        &self,
        registry: &str,
        name: &str,
        digest: &Digest,
    ) -> Result<Response<Incoming>, Failure> {
        let repository = self.repository(registry, name).await?;
        let url = repository.url(&format!("blobs/{digest}"));
        let answer = self.heard(registry, repository.fetch(Method::GET, &url, Vec::new()).await).await?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        Err(failure(self.client.http.refusal(answer).await))
    }

    /// The next piece of a body.
    pub(super) async fn piece(&self, body: &mut Incoming) -> crate::Result<Option<Bytes>> {
        self.client.http.piece(body).await
    }

    /// Opens a repository by the first way that leads there.
    async fn repository(&self, registry: &str, name: &str) -> Result<Arc<Repository>, Failure> {
        self.check_rest(registry)?;
        let key = (registry.to_owned(), name.to_owned());
        if let Some(repository) = self.repositories().get(&key) {
            return Ok(repository.clone());
        }
        let mut last = Failure::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", "no way to the registry");
        for endpoint in self.client.endpoints(registry, false).await {
            match self.client.open(&endpoint, name, "pull", &AuthConfig::default()).await {
                Ok(repository) => {
                    let repository = Arc::new(repository);
                    let mut all = self.repositories();
                    if all.len() >= REPOSITORIES_MAX {
                        all.clear();
                    }
                    all.insert(key, repository.clone());
                    return Ok(repository);
                }
                Err(error) => last = failure(error),
            }
        }
        Err(last)
    }

    fn repositories(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Repository>>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_rest(&self, registry: &str) -> Result<(), Failure> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|_, until| *until > Instant::now());
        if resting.contains_key(registry) { Err(by_status(StatusCode::TOO_MANY_REQUESTS)) } else { Ok(()) }
    }

    /// Hears an answer out; one that says "too many requests" is remembered.
    async fn heard(
        &self,
        registry: &str,
        answer: crate::Result<Response<Incoming>>,
    ) -> Result<Response<Incoming>, Failure> {
        let answer = answer.map_err(failure)?;
        if answer.status() != StatusCode::TOO_MANY_REQUESTS {
            return Ok(answer);
        }
        let pause = retry_after(answer.headers()).unwrap_or(self.rest).min(REST_MAX);
        tracing::warn!(registry, ?pause, "the registry has had enough requests");
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.insert(registry.to_owned(), Instant::now() + pause);
        Err(by_status(StatusCode::TOO_MANY_REQUESTS))
    }
}

/// `Retry-After` in seconds; dates are not read (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn by_status(status: StatusCode) -> Failure {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Failure::new(status, "TOOMANYREQUESTS", "too many requests"),
        StatusCode::NOT_FOUND => Failure::new(status, "MANIFEST_UNKNOWN", "manifest unknown"),
        StatusCode::UNAUTHORIZED => Failure::new(status, "UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => Failure::new(status, "DENIED", "requested access to the resource is denied"),
        _ => Failure::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", format!("the registry answered {status}")),
    }
}

/// An error of the client as the cache passes it on.
fn failure(error: Error) -> Failure {
    match error {
        Error::Api { code, message } => {
            let status = match code.as_str() {
                "UNAUTHORIZED" => StatusCode::UNAUTHORIZED,
                "DENIED" => StatusCode::FORBIDDEN,
                "TOOMANYREQUESTS" => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::NOT_FOUND,
            };
            Failure { status, code, message }
        }
        Error::NoCredentials | Error::Token { .. } => by_status(StatusCode::UNAUTHORIZED),
        other => Failure::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", other.to_string()),
    }
}
