//! Ports of nodes in the browser. Where subdomains lead here (`*.localhost`, or the operator's wildcard domain) each
//! node and port has an origin of its own: `node1-8080-SESSION-CAPABILITY.localhost:8080`. Elsewhere it is a
//! path, `/p/LABEL/…`, and the browser is told to treat it as a foreign site. The capability in the label is the
//! right; whoever has the address may open it, until a link of the session is revoked.
//!
//! What a node answers is hostile: it must never be served on the origin of the page.

pub mod headers;
mod pages;
mod proxy;
mod tls;

use crate::{
    api::App,
    auth::{Caller, Via},
    sessions::live::Live,
    token::{PortLabel, port_label},
};
use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use drydock_protocol::NodeName;
use std::net::{IpAddr, Ipv4Addr};

/// The address at which this caller's browser opens a port.
pub fn address(app: &App, caller: &Caller, live: &Live, node: NodeName, port: u16) -> String {
    let label = port_label(&live.port_secret.borrow(), &live.id, node, port);
    let base = app.base(caller);
    let (scheme, authority) = base.split_once("://").unwrap_or(("http", &base));
    let (host, tcp_port) = split_authority(authority);
    let tcp_port = tcp_port.map(|p| format!(":{p}")).unwrap_or_default();
    let local = is_local(host).then_some("localhost");
    match local.or(app.sessions.config.wildcard_domain.as_deref()) {
        Some(domain) => format!("{scheme}://{label}.{domain}{tcp_port}/"),
        None => format!("{base}/p/{label}/"),
    }
}

fn split_authority(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

fn is_local(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host == "[::1]"
        || host.parse::<Ipv4Addr>().is_ok_and(|a| a.is_loopback())
}

/// Whether the browser asks by a name that can only be its own machine's, which it trusts without TLS.
pub fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    host.is_some_and(|host| is_local(split_authority(host).0))
}

/// A port's label in the Host header, if that is what it holds.
fn label_of(headers: &HeaderMap, wildcard: Option<&str>) -> Option<PortLabel> {
    let host = headers.get(header::HOST)?.to_str().ok()?.to_ascii_lowercase();
    let (label, domain) = split_authority(&host).0.split_once('.')?;
    (domain == "localhost" || Some(domain) == wildcard).then(|| PortLabel::parse(label))?
}

/// Sends requests for a port's own origin to the port; all others go on.
pub async fn by_host(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(label) = label_of(request.headers(), app.sessions.config.wildcard_domain.as_deref()) else {
        return next.run(request).await;
    };
    let way = proxy::Way { label, prefix: None, peer: peer(&request) };
    proxy::forward(&app, way, request).await
}

/// Sends `/p/LABEL/…` to the port.
pub async fn by_path(
    State(app): State<App>,
    Path(params): Path<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let text = params.first().map(|(_, label)| label.as_str()).unwrap_or_default();
    let Some(label) = PortLabel::parse(text) else { return pages::bad_address() };
    let prefix = format!("/p/{text}");
    if request.uri().path() == prefix {
        // Relative addresses in the node's pages need the slash.
        return Redirect::temporary(&format!("{prefix}/")).into_response();
    }
    let way = proxy::Way { label, prefix: Some(prefix), peer: peer(&request) };
    proxy::forward(&app, way, request).await
}

fn peer(request: &Request) -> IpAddr {
    match request.extensions().get() {
        Some(Via::Web(address)) => *address,
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_labels_under_our_domains_are_ports() {
        let label = port_label(&[1; 32], &"abcdefghij".parse().unwrap(), NodeName::new(1).unwrap(), 80);
        let find = |host: &str, wildcard| {
            let mut h = HeaderMap::new();
            h.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            label_of(&h, wildcard)
        };
        assert!(find(&format!("{label}.localhost:8080"), None).is_some());
        assert!(find(&format!("{}.LocalHost", label.to_uppercase()), None).is_some());
        assert!(find(&format!("{label}.play.example.org"), Some("play.example.org")).is_some());
        assert!(find(&format!("{label}.play.example.org"), None).is_none());
        assert!(find(&format!("{label}.evil.localhost"), None).is_none());
        assert!(find("localhost:8080", None).is_none());
        assert!(find("www.localhost", None).is_none());
    }

    #[test]
    fn loopback_hosts_have_localhost_subdomains() {
        for host in ["localhost", "127.0.0.1", "127.0.0.53", "[::1]", "a.localhost"] {
            assert!(is_local(host), "{host}");
        }
        assert!(!is_local("192.0.2.1") && !is_local("localhost.evil.example"));
        assert_eq!(split_authority("[::1]:8080"), ("[::1]", Some("8080")));
        assert_eq!(split_authority("[::1]"), ("[::1]", None));
    }
}
