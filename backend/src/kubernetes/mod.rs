//! A session's cluster for clients outside: `kubectl` on the learner's own machine reaches the API server of node1 below
//! `/k8s/SESSION/TOKEN/`. The right is the token in the path, because clients send no credentials to a server without TLS. Whoever
//! may type in the nodes is administrator of the cluster there, and so here.
//!
//! What the API server answers is the learner's, and must never run as a page on our origin.

mod admin;

use crate::{
    api::App,
    auth::Right,
    error::Error,
    forward::{self, Held},
    pipe::PipeError,
    ports::headers::below_our_origin,
    relay,
    sessions::live::Live,
};
use axum::{
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use drydock_protocol::{
    NodeName, SessionId,
    pipe::{ErrorKind, Open},
    state::Role,
};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

/// Name of the playground that has a cluster.
pub const PLAYGROUND: &str = "kubernetes";
/// Where its API server listens.
const PORT: u16 = 6443;

/// The path of a session's cluster on this server.
fn prefix(id: &SessionId, token: &str) -> String {
    format!("/k8s/{id}/{token}")
}

/// A configuration for clients (`kubectl --kubeconfig FILE`). `base`: this server's address as its holder knows it.
pub fn kubeconfig(base: &str, id: &SessionId, token: &str) -> String {
    let server = format!("{base}{}", prefix(id, token));
    // All parts are ours and without a character that YAML would mind.
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: drydock\nclusters:\n- name: drydock-{id}\n  cluster:\n    server: {server}\n\
         contexts:\n- name: drydock\n  context:\n    cluster: drydock-{id}\n    user: drydock\nusers:\n- name: drydock\n  user: {{}}\n"
    )
}

/// Refuses sessions that have no cluster.
pub fn must_have_cluster(live: &Live) -> Result<(), Error> {
    if live.playground == PLAYGROUND {
        return Ok(());
    }
    Err(Error::conflict(
        "no_cluster",
        format!(
            "This session is a playground '{}' and has no cluster. Start one with Kubernetes.",
            live.playground
        ),
    ))
}

/// Carries a request below `/k8s/SESSION/TOKEN/` to the cluster.
pub async fn by_path(
    State(app): State<App>,
    Path(params): Path<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let param = |i: usize| params.get(i).map(|(_, text)| text.as_str()).unwrap_or_default();
    match try_forward(&app, param(0), param(1), request).await {
        Ok(response) => response,
        Err(error) => refused(&error),
    }
}

async fn try_forward(app: &App, id: &str, token: &str, mut request: Request) -> Result<Response, Error> {
    let id: SessionId = id.parse().map_err(|_| Error::no_right())?;
    let right = Right::of_token(&app.sessions, &id, token, Role::Type)?;
    must_have_cluster(&right.live)?;
    let active = app.sessions.enter(&right.live, right.counts_for()).await?;
    let stream = connect(app, &right.live).await?;
    clean(request.headers_mut());
    *request.uri_mut() = inner_uri(request.uri(), &prefix(&id, token));
    let (sessions, right) = (app.sessions.clone(), Arc::new(right));
    let held = Held::new(active, move || {
        let (sessions, right) = (sessions.clone(), right.clone());
        async move { drop(relay::lost_right(&sessions, &right).await) }
    });
    let mut response = forward::exchange(stream, request, &held).await.map_err(|e| {
        Error::new(StatusCode::BAD_GATEWAY, "bad_api_server", format!("The API server: {e}."))
    })?;
    let headers = response.headers_mut();
    headers.remove(header::SET_COOKIE);
    below_our_origin(headers);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// A connection to the API server, as the cluster's administrator.
async fn connect(app: &App, live: &Live) -> Result<TlsStream<UnixStream>, Error> {
    let node = NodeName::new(1).ok_or_else(|| Error::internal("node1 is no node"))?;
    let tls = match live.cluster_admin() {
        Some(tls) => tls,
        None => {
            let tls = Arc::new(admin::read(&app.sessions.sockets, &live.id, node).await?);
            live.set_cluster_admin(Some(tls.clone()));
            tls
        }
    };
    let stream = app.sessions.sockets.tcp(&live.id, &Open::Tcp { node, port: PORT }).await.map_err(away)?;
    let name = ServerName::try_from("kubernetes").map_err(Error::internal)?;
    TlsConnector::from(tls).connect(name, stream).await.map_err(|e| {
        // The cluster may have been made anew; its administrator is read anew next time.
        live.set_cluster_admin(None);
        Error::new(
            StatusCode::BAD_GATEWAY,
            "bad_api_server",
            format!("The API server on node1 refused us: {e}."),
        )
    })
}

fn away(e: PipeError) -> Error {
    match e {
        PipeError::Refused {
            kind: ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Failed, ..
        } => Error::unavailable(
            "api_server_away",
            "The cluster's API server does not answer: node1 is switched off, or its static pod is gone or just starting.",
        ),
        e => e.into(),
    }
}

/// Takes out what is between the client and this server.
fn clean(headers: &mut HeaderMap) {
    for name in [header::COOKIE, header::AUTHORIZATION, header::FORWARDED, header::ORIGIN, header::REFERER] {
        headers.remove(name);
    }
    for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
        headers.remove(name);
    }
    headers.insert(header::HOST, HeaderValue::from_static("kubernetes"));
}

/// The path that the API server sees.
fn inner_uri(uri: &Uri, prefix: &str) -> Uri {
    let text = uri.path_and_query().map_or("/", |p| p.as_str());
    let inner = text.strip_prefix(prefix).unwrap_or("/");
    let inner = if inner.starts_with('/') { inner.to_owned() } else { format!("/{inner}") };
    inner.parse().unwrap_or_default()
}

/// A refusal as Kubernetes' clients show it.
fn refused(error: &Error) -> Response {
    let reason = match error.status {
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::GONE => "Gone",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": error.message, "reason": reason, "code": error.status.as_u16(),
    });
    (error.status, axum::Json(status)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_sees_its_own_path_and_none_of_our_secrets() {
        let inner = |uri: &str| inner_uri(&uri.parse().unwrap(), "/k8s/abcdefghij/tok").to_string();
        assert_eq!(inner("/k8s/abcdefghij/tok/api/v1/pods?limit=500"), "/api/v1/pods?limit=500");
        assert_eq!(inner("/k8s/abcdefghij/tok"), "/");
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("drydock=secret"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        headers.insert("kubectl-command", HeaderValue::from_static("kubectl get"));
        clean(&mut headers);
        assert_eq!(headers.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["kubectl-command", "host"]);
    }

    #[test]
    fn the_configuration_names_the_session_and_holds_the_token_once() {
        let text = kubeconfig("http://127.0.0.1:8080", &"abcdefghij".parse().unwrap(), "tok");
        assert!(text.contains("server: http://127.0.0.1:8080/k8s/abcdefghij/tok\n"), "{text}");
        assert_eq!(text.matches("tok").count(), 1);
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["contexts"][0]["context"]["cluster"], "drydock-abcdefghij");
    }
}
