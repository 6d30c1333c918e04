//! One repository at one registry: how the registry is reached, what it wants to know of us, and its manifests.

use super::{
    Client, ClientOptions,
    auth::{Authorizer, challenges},
    http::{Answer, Body, Headers, Http, empty},
};
use crate::{
    AuthConfig, Error, Result,
    digest::Hasher,
    manifest::{MANIFEST_MAX, media_type},
};
use bytes::Bytes;
use drydock_images::{DEFAULT_DOMAIN, Digest, Reference};
use hyper::{
    Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use std::{sync::Arc, time::Duration};

const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Image configurations are small; a strange one must not fill the memory.
const CONFIG_MAX: usize = 8 * 1024 * 1024;

/// A way to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https://registry-1.docker.io`.
    pub(super) base: String,
    /// It stands in for another registry; what it refuses, that one may give.
    pub(super) mirror: bool,
}

/// The ways to a registry, tried one after another until one leads to an answer.
pub(super) struct Ways {
    left: std::vec::IntoIter<Endpoint>,
    reference: Reference,
    last: Error,
}

impl Ways {
    pub(super) fn next(&mut self) -> Option<Endpoint> {
        self.left.next()
    }

    /// Whether that was an answer. Nobody at the door, or a mirror that does not help: then the next way is tried.
    pub(super) fn judge<T>(&mut self, endpoint: &Endpoint, result: Result<T>) -> Option<Result<T>> {
        match result {
            Err(error) if endpoint.mirror || error.is_transport() => {
                tracing::info!(endpoint = endpoint.base, %error, "trying the next way to the registry");
                self.last = error;
                None
            }
            other => Some(other.map_err(|e| e.of_pull(&self.reference))),
        }
    }

    /// Why no way led anywhere.
    pub(super) fn last(self) -> Error {
        self.last.of_pull(&self.reference)
    }
}

/// A manifest as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    pub(super) media_type: String,
    pub(super) digest: Digest,
}

/// A repository, open for some actions.
pub(crate) struct Repository {
    pub(super) http: Http,
    pub(super) options: Arc<ClientOptions>,
    base: String,
    path: String,
    auth: Authorizer,
}

impl Client {
    /// The ways to a registry, best first: mirrors, the host's cache, HTTPS, and plain HTTP only if the registry is insecure.
    pub(crate) async fn endpoints(&self, domain: &str, mirrors: bool) -> Vec<Endpoint> {
        let endpoint = |base: &str, mirror| Endpoint { base: base.trim_end_matches('/').to_owned(), mirror };
        let cache = self.options.cache.as_ref().filter(|_| mirrors);
        let cache = |domain: &str| cache.map(|cache| endpoint(&format!("{cache}/{domain}"), true));
        if domain == DEFAULT_DOMAIN || domain == "index.docker.io" {
            let mirrors = self.options.mirrors.iter().filter(|_| mirrors).map(|m| endpoint(m, true));
            let own = [endpoint(&self.options.hub, false)];
            return mirrors.chain(cache(DEFAULT_DOMAIN)).chain(own).collect();
        }
        let insecure = self.is_insecure(domain).await;
        // A registry that needs no encryption is nearer than any cache.
        let mut all: Vec<Endpoint> = cache(domain).filter(|_| !insecure).into_iter().collect();
        all.push(endpoint(&format!("https://{domain}"), false));
        if insecure {
            self.http.dialer().trust_anyone_at(domain);
            all.push(endpoint(&format!("http://{domain}"), false));
        }
        all
    }

    pub(super) async fn ways(&self, reference: &Reference, mirrors: bool) -> Ways {
        Ways {
            left: self.endpoints(reference.domain(), mirrors).await.into_iter(),
            reference: reference.clone(),
            last: Error::Invalid(format!("no endpoints found for {}", reference.familiar())),
        }
    }

    /// Opens a repository at one endpoint.
    pub(crate) async fn open(
        &self,
        at: &Endpoint,
        path: &str,
        actions: &str,
        auth: &AuthConfig,
    ) -> Result<Repository> {
        self.open_for(at, path, format!("repository:{path}:{actions}"), auth).await
    }

    /// Opens the list of all repositories.
    pub(super) async fn open_catalogue(&self, at: &Endpoint, auth: &AuthConfig) -> Result<Repository> {
        self.open_for(at, "", "registry:catalog:*".into(), auth).await
    }

    async fn open_for(
        &self,
        at: &Endpoint,
        path: &str,
        scope: String,
        auth: &AuthConfig,
    ) -> Result<Repository> {
        let answer = self.ping(&at.base).await?;
        // What identifies us is for the registry, not for one that stands in for it.
        let auth = if at.mirror { AuthConfig::default() } else { auth.clone() };
        Ok(Repository {
            http: self.http.clone(),
            options: Arc::clone(&self.options),
            base: at.base.clone(),
            path: path.to_owned(),
            auth: Authorizer::new(self.http.clone(), challenges(answer.headers()), auth, Some(scope)),
        })
    }

    pub(super) async fn ping(&self, base: &str) -> Result<Answer> {
        let url = format!("{base}/v2/");
        self.http.send(Method::GET, &url, &Headers::new(), empty(), Some(PING_TIMEOUT)).await
    }
}

impl Repository {
    /// `BASE/v2/PATH/rest`.
    pub(crate) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.base, self.path)
    }

    /// `BASE/v2/rest`.
    pub(super) fn root_url(&self, rest: &str) -> String {
        format!("{}/v2/{rest}", self.base)
    }

    /// A request without a body, with who we are; a token that is no longer taken is replaced once.
    pub(crate) async fn fetch(&self, method: Method, url: &str, headers: Headers) -> Result<Answer> {
        let answer = self
            .http
            .fetch(method.clone(), url, &self.authorised(&method, url, &headers, None).await?)
            .await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.auth.forget().await {
            return Ok(answer);
        }
        self.http.fetch(method.clone(), url, &self.authorised(&method, url, &headers, None).await?).await
    }

    /// A request with a body. A stream cannot be sent twice, so nothing is repeated.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: Headers,
        body: Body,
        from: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<Answer> {
        let headers = self.authorised(&method, url, &headers, from).await?;
        self.http.send(method, url, &headers, body, limit).await
    }

    async fn authorised(
        &self,
        method: &Method,
        url: &str,
        headers: &Headers,
        from: Option<&str>,
    ) -> Result<Headers> {
        let mut headers = headers.clone();
        // An upload may go to another host; who we are is not for that one.
        if super::http::origin(url) == super::http::origin(&self.base)
            && let Some(value) = self.auth.header(method, url, from).await?
        {
            headers.push((AUTHORIZATION, value));
        }
        Ok(headers)
    }

    /// The digest that a tag has, if the registry tells it to a `HEAD`.
    pub(super) async fn resolve(&self, tag: &str) -> Result<Option<Digest>> {
        let url = self.url(&format!("manifests/{tag}"));
        let answer = self.head_manifest(&url).await.map_err(|e| match e {
            Error::NoCredentials => Error::Token { op: "Head", url: url.clone(), source: Box::new(e) },
            other => other,
        })?;
        let header = answer.headers().get("docker-content-digest").filter(|_| answer.status().is_success());
        Ok(header.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()))
    }

    /// A manifest by tag or digest; with a digest its content is checked.
    pub(super) async fn manifest(&self, name: &str, expected: Option<&Digest>) -> Result<Fetched> {
        let answer = self.get_manifest(&self.url(&format!("manifests/{name}"))).await?;
        self.read_manifest(answer, expected).await
    }

    /// Asks for the head of a manifest of any kind that we understand.
    pub(crate) async fn head_manifest(&self, url: &str) -> Result<Answer> {
        self.fetch(Method::HEAD, url, accept_manifests()).await
    }

    /// Asks for a manifest of any kind that we understand.
    pub(crate) async fn get_manifest(&self, url: &str) -> Result<Answer> {
        self.fetch(Method::GET, url, accept_manifests()).await
    }

    /// Reads the answer of [`Self::get_manifest`]; with a digest its content is checked.
    pub(crate) async fn read_manifest(&self, answer: Answer, expected: Option<&Digest>) -> Result<Fetched> {
        if !answer.status().is_success() {
            return Err(self.http.refusal(answer).await);
        }
        let sent_as = answer.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = sent_as.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = self.http.read(answer, MANIFEST_MAX, "the manifest").await?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(Error::Content(format!("manifest verification failed for digest {expected}")));
        }
        Ok(Fetched { bytes, media_type, digest })
    }

    /// The configuration of an image, tried several times.
    pub(super) async fn config(&self, digest: &Digest) -> Result<Bytes> {
        let mut attempts = 1;
        loop {
            match self.small_blob(digest).await {
                Err(e) if e.may_retry() && attempts < self.options.attempts => {
                    tokio::time::sleep((self.options.retry_delay / 20) * (1 << (attempts - 1).min(6))).await;
                    attempts += 1;
                }
                Err(source) => return Err(Error::Attempts { attempts, source: Box::new(source) }),
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    async fn small_blob(&self, digest: &Digest) -> Result<Bytes> {
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.fetch(Method::GET, &url, Headers::new()).await?;
        if !answer.status().is_success() {
            return Err(self.http.refusal(answer).await);
        }
        let bytes = self.http.read(answer, CONFIG_MAX, "the image configuration").await?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        if hasher.digest() == *digest {
            Ok(bytes)
        } else {
            Err(Error::Content(format!("image config verification failed for digest {digest}")))
        }
    }
}

fn accept_manifests() -> Headers {
    let all = [
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::SCHEMA_1[1],
        "application/json",
    ];
    all.iter().map(|kind| (ACCEPT, HeaderValue::from_static(kind))).collect()
}
