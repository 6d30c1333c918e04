//! One HTTP request to a registry: redirects, time limits, bounded bodies, and the registry's refusals as errors.

use super::{
    ClientOptions, auth,
    dial::{DialError, Dialer, system_text},
    op,
};
use crate::{Error, Result};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, USER_AGENT},
};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use std::{error::Error as _, io, sync::Arc, time::Duration};
use tokio::time::timeout;

/// An error body longer than this is cut.
const ERROR_BODY_MAX: usize = 64 * 1024;
const REDIRECTS_MAX: usize = 10;

/// What is sent.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
/// What comes back.
pub(crate) type Answer = Response<Incoming>;
/// Headers of a request.
pub(crate) type Headers = Vec<(HeaderName, HeaderValue)>;

/// Sends requests over pooled connections.
#[derive(Clone)]
pub(crate) struct Http {
    pool: legacy::Client<Dialer, Body>,
    dialer: Dialer,
    options: Arc<ClientOptions>,
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Http {
    pub(super) fn new(options: Arc<ClientOptions>, dialer: Dialer) -> Self {
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .build(dialer.clone());
        Self { pool, dialer, options }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Sends one request, follows nothing.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &Headers,
        body: Body,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>> {
        let failed = |reason: String| Error::Transport { op: op(&method), url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|e| failed(format!("invalid URL: {e}")))?;
        let mut request = Request::builder().method(method.clone()).uri(uri);
        let agent = HeaderValue::from_str(&self.options.user_agent);
        request = request.header(USER_AGENT, agent.unwrap_or(HeaderValue::from_static("docker")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|e| failed(e.to_string()))?;
        let answer = self.pool.request(request);
        let answer = match limit {
            Some(limit) => timeout(limit, answer).await.map_err(|_| {
                failed(
                    "net/http: request canceled (Client.Timeout exceeded while awaiting headers)".to_owned(),
                )
            })?,
            None => answer.await,
        };
        answer.map_err(|e| failed(reason(&e)))
    }

    /// Sends a request without a body and goes where the answer points. What identifies us stays with the first host.
    pub(super) async fn fetch(
        &self,
        method: Method,
        url: &str,
        headers: &Headers,
    ) -> Result<Response<Incoming>> {
        let (mut url, mut headers) = (url.to_owned(), headers.clone());
        for _ in 0..=REDIRECTS_MAX {
            let limit = Some(self.options.answer_timeout);
            let answer = self.send(method.clone(), &url, &headers, empty(), limit).await?;
            let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(target) = answer.headers().get(LOCATION).filter(|_| moved) else { return Ok(answer) };
            let target = target.to_str().ok().and_then(|target| join(&url, target));
            let Some(target) = target else {
                return Err(Error::Transport { op: op(&method), url, reason: "invalid redirect".into() });
            };
            if origin(&target) != origin(&url) {
                headers.retain(|(name, _)| name != AUTHORIZATION);
            }
            url = target;
        }
        Err(Error::Transport { op: op(&method), url, reason: "stopped after 10 redirects".into() })
    }

    /// Reads a body that must not be longer than `max`.
    pub(super) async fn read(&self, answer: Response<Incoming>, max: usize, what: &str) -> Result<Bytes> {
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.piece(&mut body).await? {
            if bytes.len() + piece.len() > max {
                return Err(Error::Content(format!("{what} exceeds the limit of {max} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// The next piece of a body.
    pub(crate) async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.options.idle_timeout, body.frame()).await;
            match frame.map_err(|_| Error::Broken("read: i/o timeout".into()))? {
                None => return Ok(None),
                Some(Err(e)) if e.is_incomplete_message() => {
                    return Err(Error::Broken("unexpected EOF".into()));
                }
                Some(Err(e)) => return Err(Error::Broken(e.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Makes an error of an answer that is not a success.
    pub(crate) async fn refusal(&self, answer: Response<Incoming>) -> Error {
        let status = answer.status();
        if !status.is_client_error() {
            return Error::Status(status_text(status));
        }
        // A token that is not enough is told in the challenge (RFC 6750, section 3), before the body.
        let challenged = auth::challenges(answer.headers()).into_iter().find_map(|challenge| {
            let (code, message) = match challenge.parameter("error")? {
                "invalid_token" => ("UNAUTHORIZED", "authentication required"),
                "insufficient_scope" => ("DENIED", "requested access to the resource is denied"),
                _ => return None,
            };
            let message =
                challenge.parameter("error_description").filter(|d| !d.is_empty()).unwrap_or(message);
            Some(Error::Api { code: code.into(), message: message.into() })
        });
        let json = is_json(answer.headers());
        let body = self.read(answer, ERROR_BODY_MAX, "the error").await.unwrap_or_default();
        challenged.unwrap_or_else(|| of_body(status, json, &body))
    }
}

/// The first error of a body in the protocol's form, or what the status alone says.
fn of_body(status: StatusCode, json: bool, body: &[u8]) -> Error {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Option<Vec<One>>,
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let plain = |message: String| {
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "DENIED",
            StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
            _ => "UNKNOWN",
        };
        Error::Api { code: code.into(), message }
    };
    let text = || String::from_utf8_lossy(body).trim().to_owned();
    if !json {
        return plain(text());
    }
    match serde_json::from_slice::<Errors>(body) {
        Ok(Errors { details: Some(details), .. }) if !details.is_empty() => plain(details),
        Ok(Errors { errors: Some(mut errors), .. }) if !errors.is_empty() => {
            let first = errors.swap_remove(0);
            let message =
                if first.message.is_empty() { standard(&first.code).to_owned() } else { first.message };
            Error::Api { code: first.code, message }
        }
        _ if status == StatusCode::UNAUTHORIZED => plain(standard("UNAUTHORIZED").to_owned()),
        Ok(_) => Error::Content(format!(
            "error parsing HTTP {} response body: no error details found in HTTP response body: {:?}",
            status.as_u16(),
            text()
        )),
        Err(e) => {
            Error::Content(format!("error parsing HTTP {} response body: {e}: {:?}", status.as_u16(), text()))
        }
    }
}

/// The text that belongs to a code if the registry gives none.
fn standard(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "BLOB_UNKNOWN" => "blob unknown to registry",
        "TOOMANYREQUESTS" => "too many requests",
        "UNSUPPORTED" => "The operation is unsupported.",
        _ => "unknown error",
    }
}

pub(super) fn status_text(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()).trim_end().to_owned()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    matches!(
        kind.split(';').next().unwrap_or_default().trim(),
        "application/json" | "application/vnd.api+json"
    )
}

/// `scheme://host:port` of an address.
pub(super) fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let port = authority.port_u16().unwrap_or(if uri.scheme_str()? == "https" { 443 } else { 80 });
    Some(format!("{}://{}:{port}", uri.scheme_str()?, authority.host()))
}

/// Where a `Location` points, seen from an address.
pub(super) fn join(base: &str, target: &str) -> Option<String> {
    let uri: Uri = base.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let joined = if target.starts_with("http://") || target.starts_with("https://") {
        target.to_owned()
    } else if let Some(rest) = target.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        let path = uri.path();
        let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
        format!("{scheme}://{authority}{folder}{target}")
    };
    joined.parse::<Uri>().ok().filter(|u| u.authority().is_some()).map(|_| joined)
}

/// The innermost cause, in Go's words.
fn reason(error: &legacy::Error) -> String {
    let mut cause = error.source();
    let mut deepest = error.to_string();
    while let Some(inner) = cause {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return dial.to_string();
        }
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>()
            && hyper.is_incomplete_message()
        {
            return "EOF".into();
        }
        deepest = match inner.downcast_ref::<io::Error>() {
            Some(io) => system_text(io),
            None => inner.to_string(),
        };
        cause = inner.source();
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined() {
        for (target, joined) in [
            ("/v2/x", Some("https://h:1/v2/x")),
            ("https://cdn/y?z=1", Some("https://cdn/y?z=1")),
            ("//cdn/y", Some("https://cdn/y")),
            ("next?last=b", Some("https://h:1/a/next?last=b")),
            ("http://", None),
        ] {
            assert_eq!(join("https://h:1/a/b?c", target).as_deref(), joined, "{target}");
        }
        assert_eq!(origin("https://h/x"), origin("https://h:443/y"));
        assert_ne!(origin("https://h/x"), origin("http://h/x"));
    }

    #[test]
    fn refusals_are_read_from_any_body() {
        let text = |status: u16, json, body: &str| {
            of_body(StatusCode::from_u16(status).unwrap(), json, body.as_bytes()).to_string()
        };
        let unknown =
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(text(404, true, unknown), "manifest unknown: manifest unknown");
        assert_eq!(
            text(401, true, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
            "unauthorized: authentication required"
        );
        assert_eq!(text(401, true, "{}"), "unauthorized: authentication required");
        assert_eq!(text(401, true, r#"{"details":"bad password"}"#), "unauthorized: bad password");
        assert_eq!(text(403, false, "go away\n"), "denied: go away");
        assert!(text(404, true, "[").starts_with("error parsing HTTP 404 response body:"));
    }
}
