//! The reverse proxy to a port of a node, one connection into the session for each request. A connection ends with the
//! session, and when the port's capability is revoked.

use super::{headers, pages, tls};
use crate::{
    api::App,
    auth::client_address,
    error::Error,
    forward::{self, ExchangeError, Held},
    pipe::PipeError,
    sessions::live::{For, Live, Phase},
    token::PortLabel,
};
use axum::{
    extract::Request,
    http::{Method, StatusCode, Uri, header, uri::PathAndQuery},
    response::{IntoResponse, Response},
};
use drydock_protocol::pipe::{ErrorKind, Open};
use std::{net::IpAddr, sync::Arc};

/// How a request came to a port.
pub struct Way {
    /// The port, with its capability.
    pub label: PortLabel,
    /// The part of the path that is ours, when it came by path.
    pub prefix: Option<String>,
    /// The other end of the TCP connection.
    pub peer: IpAddr,
}

/// Over when the session ends or the port's capability is revoked.
async fn lost_port(live: Arc<Live>) {
    let mut life = live.life.subscribe();
    let mut secret = live.port_secret.subscribe();
    tokio::select! {
        _ = life.wait_for(|l| matches!(l.phase, Phase::Ended(_))) => {}
        _ = secret.changed() => {}
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
        Err(Failure::NoHttp(why)) => pages::no_http(node, port, &why),
        Err(Failure::SpeaksTls) => pages::speaks_tls(node, port),
    }
}

enum Failure {
    Refused(Error),
    BadAddress,
    NothingListens(String),
    NoHttp(String),
    SpeaksTls,
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

async fn try_forward(app: &App, way: Way, mut request: Request) -> Result<Response, Failure> {
    let PortLabel { node, port, ref id, .. } = way.label;
    let live = app.sessions.live(id).filter(|live| live.opens_port(&way.label)).ok_or(Failure::BadAddress)?;
    let from_below = way.prefix.is_some() && headers::is_from_below(request.headers());
    if request.method() == Method::OPTIONS
        && let Some(allowed) = headers::preflight(request.headers()).filter(|_| from_below)
    {
        return Ok((StatusCode::NO_CONTENT, allowed).into_response());
    }
    let active = app.sessions.enter(&live, For::Ports).await?;
    let held = Held::new(active, move || lost_port(live.clone()));
    let stream = app.sessions.sockets.tcp(id, &Open::Tcp { node, port }).await.map_err(|e| match e {
        PipeError::Refused {
            kind: ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Failed,
            message,
        } => Failure::NothingListens(message.chars().take(200).collect()),
        e => Failure::Refused(e.into()),
    })?;

    let client = client_address(request.headers(), way.peer, app.sessions.config.behind_proxy);
    let scheme = app.scheme(request.headers());
    let host =
        request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
    headers::on_request(request.headers_mut(), client, scheme, way.prefix.as_deref());
    *request.uri_mut() = inner_uri(request.uri(), way.prefix.as_deref());
    let mut response = match forward::exchange(stream, request, &held).await {
        Ok(response) => response,
        Err(ExchangeError::Silent(e)) => {
            let again = app.sessions.sockets.tcp(id, &Open::Tcp { node, port }).await;
            if let Ok(stream) = again
                && tls::speaks(stream).await
            {
                return Err(Failure::SpeaksTls);
            }
            return Err(Failure::NoHttp(e.to_string()));
        }
        Err(e @ ExchangeError::BadUpgrade) => {
            return Err(Error::new(StatusCode::BAD_GATEWAY, "bad_upgrade", format!("{e}.")).into());
        }
    };
    let back = headers::Back { host: &host, scheme, prefix: way.prefix.as_deref() };
    headers::on_response(response.headers_mut(), &back);
    if from_below {
        headers::readable_below(response.headers_mut());
    }
    Ok(response)
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
