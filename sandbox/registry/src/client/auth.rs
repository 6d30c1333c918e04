//! Who we are to a registry: challenges, Basic, and tokens of a token service.
//!
//! A registry is asked once (`GET /v2/`) what it wants. With `Bearer`, the service that the challenge names gives a token for
//! the actions that are needed; tokens are kept until shortly before they end.

use super::{
    http::{Http, empty, full},
    op,
};
use crate::{AuthConfig, Error, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const TOKEN_BODY_MAX: usize = 1024 * 1024;
/// A token lives at least this long, whatever the service says (the protocol's rule).
const TOKEN_MIN: u64 = 60;
const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
    values.take(16).filter_map(parse).collect()
}

/// `Bearer realm="…",service="…"`: a scheme, then names and values, quoted or not.
fn parse(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let mut parameters = Vec::new();
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim().trim_start_matches(',').trim().to_lowercase();
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.find(',').unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        parameters.push((name, value));
        rest = after;
    }
    (!scheme.is_empty()).then(|| Challenge { scheme: scheme.to_lowercase(), parameters })
}

/// The text up to the closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Gives the `Authorization` of each request to one repository.
pub(super) struct Authorizer {
    http: Http,
    challenges: Vec<Challenge>,
    auth: AuthConfig,
    scope: Option<String>,
    /// Whether a refresh token is asked for, as `docker login` does.
    offline: bool,
    token: Mutex<Option<Token>>,
}

struct Token {
    value: String,
    ends: Instant,
    refresh: String,
}

/// What a token service answers.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct TokenAnswer {
    token: String,
    access_token: String,
    expires_in: u64,
    refresh_token: String,
}

impl Authorizer {
    pub(super) fn new(
        http: Http,
        challenges: Vec<Challenge>,
        auth: AuthConfig,
        scope: Option<String>,
    ) -> Self {
        Self { http, challenges, auth, scope, offline: false, token: Mutex::new(None) }
    }

    /// One that asks for a refresh token.
    pub(super) fn for_login(http: Http, challenges: Vec<Challenge>, auth: AuthConfig) -> Self {
        Self { offline: true, ..Self::new(http, challenges, auth, None) }
    }

    /// The header for a request, or none if the registry wants nothing.
    pub(super) async fn header(
        &self,
        method: &Method,
        url: &str,
        from: Option<&str>,
    ) -> Result<Option<HeaderValue>> {
        if !self.auth.registrytoken.is_empty() {
            return secret(&format!("Bearer {}", self.auth.registrytoken)).map(Some);
        }
        if let Some(challenge) = self.challenges.iter().find(|c| c.scheme == "bearer") {
            let token = self.token(challenge, from).await.map_err(|source| Error::Token {
                op: op(method),
                url: url.to_owned(),
                source: Box::new(source),
            })?;
            return secret(&format!("Bearer {token}")).map(Some);
        }
        if self.challenges.iter().any(|c| c.scheme == "basic") {
            return match self.auth.basic() {
                Some(pair) => basic(&pair).map(Some),
                None => Err(Error::NoCredentials),
            };
        }
        Ok(None)
    }

    /// Forgets the token: the registry did not take it.
    pub(super) async fn forget(&self) -> bool {
        self.token.lock().await.take().is_some()
    }

    async fn token(&self, challenge: &Challenge, from: Option<&str>) -> Result<String> {
        // Mounting from another repository needs a right there too, so such a token is not kept.
        let extra = from.map(|repository| format!("repository:{repository}:pull"));
        let mut kept = self.token.lock().await;
        if let (None, Some(token)) = (&extra, kept.as_ref())
            && token.ends > Instant::now()
        {
            return Ok(token.value.clone());
        }
        let scopes: Vec<&str> = self.scope.as_deref().into_iter().chain(extra.as_deref()).collect();
        let answer = self.ask(challenge, &scopes).await?;
        let value = if answer.access_token.is_empty() { answer.token } else { answer.access_token };
        if value.is_empty() {
            return Err(Error::Content(
                "authorization server did not include a token in the response".into(),
            ));
        }
        if extra.is_none() {
            let seconds = answer.expires_in.clamp(TOKEN_MIN, 24 * 3600);
            let ends = Instant::now() + Duration::from_secs(seconds * 9 / 10);
            *kept = Some(Token { value: value.clone(), ends, refresh: answer.refresh_token });
        }
        Ok(value)
    }

    /// The refresh token that came with the token of a login; empty if the service gave none.
    pub(super) async fn refresh_token(&self) -> String {
        self.token.lock().await.as_ref().map(|t| t.refresh.clone()).unwrap_or_default()
    }

    async fn ask(&self, challenge: &Challenge, scopes: &[&str]) -> Result<TokenAnswer> {
        let realm = challenge
            .parameter("realm")
            .ok_or_else(|| Error::Content("no realm specified for token auth challenge".into()))?;
        if !realm.starts_with("https://") && !realm.starts_with("http://") {
            return Err(Error::Content(format!("invalid token auth challenge realm: {realm}")));
        }
        let service = challenge.parameter("service").unwrap_or_default();
        let answer = if self.auth.identitytoken.is_empty() {
            self.ask_by_name(realm, service, scopes).await?
        } else {
            self.ask_by_refresh_token(realm, service, scopes).await?
        };
        if answer.status() != StatusCode::OK {
            return Err(self.http.refusal(answer).await);
        }
        let body = self.http.read(answer, TOKEN_BODY_MAX, "the token").await?;
        serde_json::from_slice(&body)
            .map_err(|e| Error::Content(format!("unable to decode token response: {e}")))
    }

    async fn ask_by_name(&self, realm: &str, service: &str, scopes: &[&str]) -> Result<super::http::Answer> {
        let mut headers = Vec::new();
        if let Some(pair) = self.auth.basic() {
            headers.push((AUTHORIZATION, basic(&pair)?));
        }
        let url = self.token_url(realm, service, scopes);
        self.http.send(Method::GET, &url, &headers, empty(), Some(TOKEN_TIMEOUT)).await
    }

    fn token_url(&self, realm: &str, service: &str, scopes: &[&str]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !service.is_empty() {
            query.append_pair("service", service);
        }
        scopes.iter().for_each(|scope| {
            query.append_pair("scope", scope);
        });
        if self.offline {
            query.append_pair("offline_token", "true").append_pair("client_id", "docker");
        }
        if let Some((user, _)) = self.auth.basic() {
            query.append_pair("account", &user);
        }
        let joint = if realm.contains('?') { '&' } else { '?' };
        format!("{realm}{joint}{}", query.finish())
    }

    async fn ask_by_refresh_token(
        &self,
        realm: &str,
        service: &str,
        scopes: &[&str],
    ) -> Result<super::http::Answer> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("service", service)
            .append_pair("client_id", "docker")
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", &self.auth.identitytoken)
            .finish();
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))];
        self.http.send(Method::POST, realm, &headers, full(form), Some(TOKEN_TIMEOUT)).await
    }
}

pub(super) fn basic((user, password): &(String, String)) -> Result<HeaderValue> {
    secret(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::Invalid("the credentials have characters that no header may have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let c = parse(r#"Bearer realm="https://auth.x/token",service="reg \"x\"",scope=pull , error="insufficient_scope""#)
            .unwrap();
        assert_eq!(c.scheme, "bearer");
        assert_eq!(c.parameter("realm"), Some("https://auth.x/token"));
        assert_eq!(c.parameter("service"), Some("reg \"x\""));
        assert_eq!(c.parameter("scope"), Some("pull"));
        assert_eq!(c.parameter("error"), Some("insufficient_scope"));
        assert_eq!(parse("Basic realm=\"r\"").unwrap().scheme, "basic");
        assert_eq!(parse("Negotiate").unwrap().parameter("realm"), None);
        for bad in ["", "Bearer realm=\"open", "Bearer realm=\"x\\"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
