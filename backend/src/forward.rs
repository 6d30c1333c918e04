//! One HTTP/1.1 request over a stream that leads into a session, with streaming bodies and upgrades (WebSocket, SPDY).
//! Called by the port proxy and by the way to a session's cluster. What comes back is hostile: whoever calls decides what
//! of it may reach a browser.

use crate::sessions::live::Active;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use hyper::{client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use std::{future::Future, pin::Pin, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};

/// Waits until a right is lost.
type Lost = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that may be kept until the right to it is lost.
pub struct Held {
    lost: Box<dyn Fn() -> Lost + Send + Sync>,
    _active: Active,
}

impl Held {
    /// Counted as `active`; `lost` makes a future that ends when the right is lost.
    pub fn new<F>(active: Active, lost: impl Fn() -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Self { lost: Box::new(move || Box::pin(lost())), _active: active })
    }

    /// Runs a connection until it ends or must end.
    async fn run<T>(self: Arc<Self>, connection: impl Future<Output = T>) {
        tokio::select! {
            _ = connection => {}
            () = (self.lost)() => {}
        }
    }
}

/// No answer could be had.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The other side does not speak HTTP, or broke off.
    #[error("it does not answer in HTTP: {0}")]
    Silent(#[from] hyper::Error),
    /// It switched protocols unasked.
    #[error("The server in the node switched protocols although nobody asked it to")]
    BadUpgrade,
}

/// Sends a request and brings the answer; what follows an upgrade is carried both ways.
pub async fn exchange<S>(stream: S, mut request: Request, held: &Arc<Held>) -> Result<Response, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wants_upgrade = strip_hop(request.headers_mut());
    let from_client = request.extensions_mut().remove::<OnUpgrade>();
    *request.version_mut() = Version::HTTP_11;
    if let Some(protocol) = wants_upgrade {
        set_upgrade(request.headers_mut(), protocol);
    }
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    tokio::spawn(held.clone().run(connection.with_upgrades()));
    let mut response = sender.send_request(request).await?;
    let upgraded = strip_hop(response.headers_mut());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(Body::new).into_response());
    }
    let (Some(protocol), Some(from_client)) = (upgraded, from_client) else {
        return Err(ExchangeError::BadUpgrade);
    };
    let from_node = hyper::upgrade::on(&mut response);
    set_upgrade(response.headers_mut(), protocol);
    tokio::spawn(held.clone().run(async {
        // Either side may have gone before the switch; then there is nothing to carry.
        let (Ok(client), Ok(node)) = tokio::join!(from_client, from_node) else { return };
        let carried = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await;
        tracing::trace!(?carried, "an upgraded connection ended");
    }));
    Ok(response.map(|_| Body::empty()).into_response())
}

fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Takes out what belongs to one hop only (RFC 9110, 7.6.1). The protocol that an upgrade asks for, if one does.
fn strip_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let upgrade = if named.contains(&header::UPGRADE) { headers.get(header::UPGRADE).cloned() } else { None };
    for name in named {
        // "Connection: host" must not take away what a request needs.
        if name != header::HOST && name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in [
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    upgrade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn hop_by_hop_fields_stay_here() {
        let mut h = HeaderMap::new();
        h.insert(header::CONNECTION, value("keep-alive, Upgrade, X-Private"));
        h.insert(header::UPGRADE, value("websocket"));
        h.insert("x-private", value("1"));
        h.insert("x-public", value("1"));
        h.insert(header::TRANSFER_ENCODING, value("chunked"));
        assert_eq!(strip_hop(&mut h), Some(value("websocket")));
        assert_eq!(h.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["x-public"]);
    }
}
