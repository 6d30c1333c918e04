//! What is asked of a registry besides images: `docker login`, `docker search`, and what an image is (`/distribution/…/json`).

use super::{
    Client,
    auth::{Authorizer, challenges},
    http::{Headers, empty, status_text},
    pull::{find, understand},
    repository::Endpoint,
};
use crate::{AuthConfig, Descriptor, Error, Platform, Result, manifest::Manifest};
use drydock_images::{DEFAULT_DOMAIN, Reference};
use hyper::{Method, StatusCode, header::AUTHORIZATION};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const SEARCH_BODY_MAX: usize = 4 * 1024 * 1024;
const SEARCH_LIMIT: i64 = 25;

/// What a login gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginOutcome {
    /// `Login Succeeded`.
    pub status: String,
    /// A refresh token to keep in place of the password; empty if the registry gives none.
    pub identity_token: String,
}

/// One line of `docker search`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// How many people like it.
    pub star_count: i64,
    /// Whether it is one of Docker's own.
    pub is_official: bool,
    /// The name to pull it by.
    pub name: String,
    /// Always false nowadays.
    pub is_automated: bool,
    /// What it is.
    pub description: String,
}

/// What a registry has under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// What it runs on.
    pub platforms: Vec<Platform>,
}

impl Client {
    /// Checks name and password (`POST /auth`).
    pub async fn login(&self, auth: &AuthConfig) -> Result<LoginOutcome> {
        let host = host_of(&auth.serveraddress);
        let mut last = Error::Invalid(format!("no endpoints found for {host}"));
        for endpoint in self.endpoints(host, false).await {
            match self.login_at(&endpoint, auth).await {
                Ok(outcome) => return Ok(outcome),
                // The password is wrong; it is not shown to a way without encryption.
                Err(error @ Error::Token { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn login_at(&self, endpoint: &Endpoint, auth: &AuthConfig) -> Result<LoginOutcome> {
        let ping = self.ping(&endpoint.base).await?;
        let url = format!("{}/v2/", endpoint.base);
        let authorizer = Authorizer::for_login(self.http.clone(), challenges(ping.headers()), auth.clone());
        let value = authorizer.header(&Method::GET, &url, None).await.map_err(|e| match e {
            Error::NoCredentials => Error::Token { op: "Get", url: url.clone(), source: Box::new(e) },
            other => other,
        })?;
        let headers = value.map(|v| (AUTHORIZATION, v)).into_iter().collect();
        let answer = self.http.send(Method::GET, &url, &headers, empty(), Some(TIMEOUT)).await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Login { url, status: status_text(answer.status()) });
        }
        let identity_token = authorizer.refresh_token().await;
        Ok(LoginOutcome { status: "Login Succeeded".into(), identity_token })
    }

    /// Searches: at Docker Hub by its index, elsewhere in the registry's catalogue.
    pub async fn search(&self, term: &str, limit: i64, auth: &AuthConfig) -> Result<Vec<SearchResult>> {
        if term.contains("://") {
            let text = format!("invalid repository name: repository name ({term}) should not have a scheme");
            return Err(Error::Invalid(text));
        }
        let limit = if limit == 0 { SEARCH_LIMIT } else { limit };
        if !(1..=100).contains(&limit) {
            return Err(Error::Invalid(format!("limit {limit} is outside the range of [1, 100]")));
        }
        match term.split_once('/') {
            Some((domain, rest)) if domain == "localhost" || domain.contains(['.', ':']) => {
                if domain == DEFAULT_DOMAIN || domain == "index.docker.io" {
                    self.search_index(rest, limit).await
                } else {
                    self.search_catalogue(domain, rest, limit as usize, auth).await
                }
            }
            _ => self.search_index(term, limit).await,
        }
    }

    async fn search_index(&self, term: &str, limit: i64) -> Result<Vec<SearchResult>> {
        #[derive(Deserialize)]
        struct Results {
            results: Option<Vec<SearchResult>>,
        }
        let term = term.strip_prefix("library/").unwrap_or(term);
        let query = form_urlencoded::byte_serialize(term.as_bytes()).collect::<String>();
        let url = format!("{}/v1/search?q={query}&n={limit}", self.options.index);
        let answer = self.http.fetch(Method::GET, &url, &Vec::new()).await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Content(format!("Unexpected status code {}", answer.status().as_u16())));
        }
        let body = self.http.read(answer, SEARCH_BODY_MAX, "the search result").await?;
        let results: Results = serde_json::from_slice(&body)
            .map_err(|e| Error::Content(format!("error decoding registry search results: {e}")))?;
        let all = results.results.unwrap_or_default().into_iter().take(limit as usize);
        Ok(all.map(|result| SearchResult { is_automated: false, ..result }).collect())
    }

    async fn search_catalogue(
        &self,
        domain: &str,
        term: &str,
        limit: usize,
        auth: &AuthConfig,
    ) -> Result<Vec<SearchResult>> {
        let any = Reference::parse(&format!("{domain}/any")).map_err(|e| Error::Invalid(e.to_string()))?;
        let mut ways = self.ways(&any, false).await;
        let found = loop {
            let Some(endpoint) = ways.next() else { return Err(ways.last()) };
            let found = self.catalogue_at(&endpoint, term, limit, auth).await;
            if let Some(outcome) = ways.judge(&endpoint, found) {
                break outcome?;
            }
        };
        let names = found.into_iter().take(limit);
        Ok(names
            .map(|name| SearchResult { name: format!("{domain}/{name}"), ..SearchResult::default() })
            .collect())
    }

    /// Says what a registry has under a name.
    pub async fn inspect(&self, reference: &Reference, auth: &AuthConfig) -> Result<Inspection> {
        let reference = &reference.clone().with_default_tag();
        let mut ways = self.ways(reference, true).await;
        while let Some(endpoint) = ways.next() {
            let inspected = self.inspect_at(&endpoint, reference, auth).await;
            if let Some(outcome) = ways.judge(&endpoint, inspected) {
                return outcome;
            }
        }
        Err(ways.last())
    }

    /// Why an address can't be reached, as Go's client tells it; `None` if a server is there. For whoever has tried with another client.
    pub async fn unreachable(&self, url: &str) -> Option<String> {
        match self.http.fetch(Method::HEAD, url, &Headers::default()).await {
            Err(Error::Transport { reason, .. }) => Some(reason),
            _ => None,
        }
    }

    async fn inspect_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        auth: &AuthConfig,
    ) -> Result<Inspection> {
        let repository = self.open(endpoint, reference.path(), "pull", auth).await?;
        let fetched = find(&repository, reference).await?;
        let platforms = match understand(&fetched, reference)? {
            Manifest::Index(entries) => entries.into_iter().filter_map(|e| e.platform).collect(),
            Manifest::Image { config, .. } => {
                let config = repository.config(&config.digest).await?;
                serde_json::from_slice(&config).into_iter().collect()
            }
        };
        let descriptor = Descriptor {
            media_type: fetched.media_type,
            size: fetched.bytes.len() as u64,
            digest: fetched.digest,
            platform: None,
            annotations: None,
            artifact_type: None,
        };
        Ok(Inspection { descriptor, platforms })
    }

    async fn catalogue_at(
        &self,
        endpoint: &Endpoint,
        term: &str,
        limit: usize,
        auth: &AuthConfig,
    ) -> Result<Vec<String>> {
        let repository = self.open_catalogue(endpoint, auth).await?;
        let mut found = Vec::new();
        let take = |page: CataloguePage| {
            let names = page.repositories.unwrap_or_default();
            found.extend(names.into_iter().filter(|name| name.contains(term)));
            found.len() < limit
        };
        repository.pages(&repository.root_url("_catalog"), take).await?;
        Ok(found)
    }
}

#[derive(Deserialize)]
struct CataloguePage {
    repositories: Option<Vec<String>>,
}

/// The registry that a server address means: `https://index.docker.io/v1/` and nothing at all mean Docker Hub.
fn host_of(address: &str) -> &str {
    let bare = address.trim_start_matches("https://").trim_start_matches("http://");
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        for (address, host) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry:5000", "registry:5000"),
            ("http://registry:5000/v2/", "registry:5000"),
        ] {
            assert_eq!(host_of(address), host);
        }
    }

    #[tokio::test]
    async fn addresses_that_are_not_reached() {
        let client = Client::new(crate::ClientOptions::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let _asked = connection.read(&mut [0; 4096]).await;
                let _gone =
                    connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        assert_eq!(client.unreachable(&format!("http://{address}/x")).await, None);
        let secure = client.unreachable(&format!("https://{address}/x")).await;
        assert_eq!(secure.as_deref(), Some("http: server gave HTTP response to HTTPS client"));
        serving.abort();
        assert!(serving.await.is_err());
        let client = Client::new(crate::ClientOptions::default());
        let refused = client.unreachable(&format!("http://{address}/x")).await;
        assert_eq!(refused, Some(format!("dial tcp {address}: connect: connection refused")));
    }

    #[tokio::test]
    async fn bad_searches() {
        let client = Client::new(crate::ClientOptions::default());
        let text = async |term: &str, limit| {
            client.search(term, limit, &AuthConfig::default()).await.unwrap_err().to_string()
        };
        assert_eq!(text("x", 101).await, "limit 101 is outside the range of [1, 100]");
        assert!(text("http://x", 1).await.ends_with("(http://x) should not have a scheme"));
    }
}
