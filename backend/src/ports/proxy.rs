//! The reverse proxy to a port of a node: HTTP/1.1 with streaming bodies and upgrades (WebSocket among them), one
//! connection into the session for each request. A connection ends with the session, and when the port's
//! capability is revoked.

use super::{headers, pages};
use crate::{
    api::App,
    auth::client_address,
    error::Error,
    pipe::PipeError,
    sessions::live::{Active, Live, Phase},
    token::PortLabel,
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, Uri, Version, header, uri::PathAndQuery},
    response::{IntoResponse, Response},
};
use drydock_protocol::pipe::{ErrorKind, Open};
use hyper::{client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use std::{future::Future, net::IpAddr, sync::Arc};

/// How a request came to a port.
pub struct Way {
    /// The port, with its capability.
    pub label: PortLabel,
    /// The part of the path that is ours, when it came by path.
    pub prefix: Option<String>,
    /// The other end of the TCP connection.
    pub peer: IpAddr,
}

/// A connection that may be kept as long as the port's capability holds.
struct Held {
    live: Arc<Live>,
    _active: Active,
}

impl Held {
    /// Runs a connection until it ends or must end.
    async fn run<T>(self: Arc<Self>, connection: impl Future<Output = T>) {
        let mut life = self.live.life.subscribe();
        let mut secret = self.live.port_secret.subscribe();
        tokio::select! {
            _ = connection => {}
            _ = life.wait_for(|l| matches!(l.phase, Phase::Ended(_))) => {}
            _ = secret.changed() => {}
        }
    }
}

/// Answers with what the node's port answers, or with a page that tells why not.
pub async fn forward(app: &App, way: Way, request: Request) -> Response {
    let (node, port) = (way.label.node, way.label.port);
    match try_forward(app, way, request).await {
        Ok(response) => response,
        Err(Failure::Refused(error)) => pages::refused(&error),
        Err(Failure::BadAddress) => pages::bad_address(),
        Err(Failure::NothingListens(why)) => pages::nothing_listens(node, port, &why),
    }
}

enum Failure {
    Refused(Error),
    BadAddress,
    NothingListens(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

async fn try_forward(app: &App, way: Way, mut request: Request) -> Result<Response, Failure> {
    let PortLabel { node, port, ref id, .. } = way.label;
    let live = app.sessions.live(id).filter(|live| live.opens_port(&way.label)).ok_or(Failure::BadAddress)?;
    let active = app.sessions.enter(&live).await?;
    let held = Arc::new(Held { live, _active: active });
    let stream = app.sessions.sockets.tcp(id, &Open::Tcp { node, port }).await.map_err(|e| match e {
        PipeError::Refused {
            kind: ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Failed,
            message,
        } => Failure::NothingListens(message.chars().take(200).collect()),
        e => Failure::Refused(e.into()),
    })?;

    let client = client_address(request.headers(), way.peer, app.sessions.config.behind_proxy);
    let scheme = app.scheme(request.headers());
    let wants_upgrade = headers::strip_hop(request.headers_mut());
    headers::on_request(request.headers_mut(), client, scheme, way.prefix.as_deref());
    let from_browser = request.extensions_mut().remove::<OnUpgrade>();
    *request.uri_mut() = inner_uri(request.uri(), way.prefix.as_deref());
    *request.version_mut() = Version::HTTP_11;
    if let Some(protocol) = &wants_upgrade {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, protocol.clone());
    }

    let silent = |e: hyper::Error| {
        Failure::NothingListens(format!("What listens there does not answer in HTTP: {e}."))
    };
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(silent)?;
    tokio::spawn(held.clone().run(connection.with_upgrades()));
    let response = sender.send_request(request).await.map_err(silent)?;
    Ok(answer(response, from_browser, held, way.prefix.as_deref()))
}

fn answer(
    mut response: hyper::Response<hyper::body::Incoming>,
    from_browser: Option<OnUpgrade>,
    held: Arc<Held>,
    prefix: Option<&str>,
) -> Response {
    let upgraded = headers::strip_hop(response.headers_mut());
    headers::on_response(response.headers_mut(), prefix);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response.map(Body::new).into_response();
    }
    let (Some(protocol), Some(from_browser)) = (upgraded, from_browser) else {
        return pages::refused(&Error::new(
            StatusCode::BAD_GATEWAY,
            "bad_upgrade",
            "The server in the node switched protocols although nobody asked it to.",
        ));
    };
    let from_node = hyper::upgrade::on(&mut response);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    tokio::spawn(held.run(async {
        // Either side may have gone before the switch; then there is nothing to carry.
        let (Ok(browser), Ok(node)) = tokio::join!(from_browser, from_node) else { return };
        let carried =
            tokio::io::copy_bidirectional(&mut TokioIo::new(browser), &mut TokioIo::new(node)).await;
        tracing::trace!(?carried, "an upgraded port connection ended");
    }));
    response.map(|_| Body::empty()).into_response()
}

/// The path that the node's server sees.
fn inner_uri(uri: &Uri, prefix: Option<&str>) -> Uri {
    let text = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let inner = prefix.and_then(|p| text.strip_prefix(p)).unwrap_or(text);
    let inner = if inner.starts_with('/') { inner.to_owned() } else { format!("/{inner}") };
    inner.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_sees_its_own_path() {
        let inner = |uri: &str, prefix| inner_uri(&uri.parse().unwrap(), prefix).to_string();
        assert_eq!(inner("/p/L/a/b?c=/p/L", Some("/p/L")), "/a/b?c=/p/L");
        assert_eq!(inner("/p/L?x=1", Some("/p/L")), "/?x=1");
        assert_eq!(inner("http://h/a?b", None), "/a?b");
        assert_eq!(inner("*", None), "/*");
    }
}
