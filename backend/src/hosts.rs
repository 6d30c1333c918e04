//! Which host names are ours. A server that only this machine's browsers reach is protected by that, until a strange site gives its own
//! name our address (DNS rebinding) and so becomes one of our pages.

use crate::{api::App, auth::Via, error::Error};
use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Refuses a request for a host that is not us.
pub async fn must_be_ours(State(app): State<App>, request: Request, next: Next) -> Response {
    let config = &app.sessions.config;
    let strangers_come_anyway = !app.listen.ip().is_loopback() || config.behind_proxy;
    if strangers_come_anyway || matches!(request.extensions().get(), Some(Via::Operator)) {
        return next.run(request).await;
    }
    let host = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let known = [config.wildcard_domain.as_deref(), config.public_url.as_deref().and_then(host_of_url)];
    if is_local(host) || known.into_iter().flatten().any(|domain| is_below(name_of(host), domain)) {
        return next.run(request).await;
    }
    Error::new(
        StatusCode::MISDIRECTED_REQUEST,
        "unknown_host",
        "This server does not know that name for itself. Its operator tells it with --public-url or --wildcard-domain.",
    )
    .into_response()
}

/// Whether a Host header names this machine, or is an address.
fn is_local(host: &str) -> bool {
    let name = name_of(host);
    name.is_empty()
        || is_below(name, "localhost")
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

/// A Host header without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn host_of_url(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, rest)| name_of(rest.split('/').next().unwrap_or_default()))
}

/// Whether a name is a domain or below it.
fn is_below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.trim_end_matches('.').as_bytes(), domain.as_bytes());
    let Some(start) = name.len().checked_sub(domain.len()) else { return false };
    name[start..].eq_ignore_ascii_case(domain) && (start == 0 || name[start - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_us() {
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "node1-80-x.localhost:80",
            "127.0.0.1:8080",
            "[::1]:80",
            "[::1]",
            "10.0.0.1",
            "",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "notlocalhost", "127.0.0.1.evil.example"] {
            assert!(!is_local(host), "{host}");
        }
        assert!(is_below(name_of("a.play.example.org:80"), "play.example.org"));
        assert!(!is_below("xplay.example.org", "play.example.org"));
        assert_eq!(host_of_url("https://play.example.org:8443/x"), Some("play.example.org"));
    }
}
