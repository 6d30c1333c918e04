//! Asking a webhook by HTTPS: of admission or of conversion (k8s.io/apiserver `pkg/util/webhook/client.go`).

use crate::admission::reader;
use crate::server::Server;
use crate::tls;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{int, list, text};
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Most bytes of an answer.
const LONGEST_ANSWER: usize = 3 * 1024 * 1024;

/// The webhook's address, for errors.
fn address(config: &Value, seconds: u64) -> String {
    match text(config, &["url"]) {
        "" => {
            let service = &config["service"];
            let (name, namespace) = (text(service, &["name"]), text(service, &["namespace"]));
            let port = int(service, &["port"]).unwrap_or(443);
            let path = text(service, &["path"]).trim_start_matches('/');
            format!("https://{name}.{namespace}.svc:{port}/{path}?timeout={seconds}s")
        }
        url if url.contains('?') => format!("{url}&timeout={seconds}s"),
        url => format!("{url}?timeout={seconds}s"),
    }
}

/// Asks a webhook, whose `clientConfig` this is, and gives back its answer; an error: why there is none.
pub async fn post(server: &Server, config: &Value, review: Vec<u8>, seconds: u64) -> Result<Value, String> {
    match tokio::time::timeout(Duration::from_secs(seconds), ask(server, config, review, seconds)).await {
        Ok(answered) => answered,
        Err(_) => Err(format!("Post {:?}: context deadline exceeded", address(config, seconds))),
    }
}

async fn ask(server: &Server, config: &Value, review: Vec<u8>, seconds: u64) -> Result<Value, String> {
    let url = address(config, seconds);
    let failed = |why: String| format!("Post {url:?}: {why}");
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let host = uri.host().unwrap_or_default().to_string();
    let (to, port) = match text(config, &["url"]) {
        // As upstream's client, which asks when it dials.
        "" => endpoint(server, &config["service"]).map_err(failed)?,
        _ => (host.clone(), uri.port_u16().unwrap_or(443)),
    };
    let dialled = TcpStream::connect((to.as_str(), port)).await;
    let stream =
        dialled.map_err(|error| failed(crate::proxy::dial_error(&format!("{to}:{port}"), &error)))?;
    let pem = BASE64_STANDARD.decode(text(config, &["caBundle"])).unwrap_or_default();
    let connector = tls::trusting(&pem).map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
    let stream =
        connector.connect(name, stream).await.map_err(|error| failed(tls::handshake_error(&error)))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(review)))
        .map_err(|error| failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
    if code == StatusCode::NOT_FOUND {
        return Err("the server could not find the requested resource".into());
    }
    if code != StatusCode::OK {
        let said = String::from_utf8_lossy(&body).into_owned();
        return Err(format!("an error on the server ({said:?}) has prevented the request from succeeding"));
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

/// An address behind a service, and the port there.
fn endpoint(server: &Server, service: &Value) -> Result<(String, u16), String> {
    let (namespace, name) = (text(service, &["namespace"]), text(service, &["name"]));
    let gone = |status: Status| status.message;
    let found = reader::get(&server.store, &format!("services/specs/{namespace}/{name}")).map_err(gone)?;
    let missing = || format!("service {name:?} not found");
    let found = found.ok_or_else(missing)?;
    let wanted = int(service, &["port"]).unwrap_or(443);
    let ports = list(&found, &["spec", "ports"]);
    let port = ports.iter().find(|port| int(port, &["port"]) == Some(wanted));
    let port = port.ok_or_else(|| format!("no service port {wanted} found for service {name:?}"))?;
    let none = || format!("no endpoints available for service {name:?}");
    let endpoints =
        reader::get(&server.store, &format!("services/endpoints/{namespace}/{name}")).map_err(gone)?;
    let endpoints = endpoints.ok_or_else(none)?;
    for subset in list(&endpoints, &["subsets"]) {
        let same = |one: &&Value| text(one, &["name"]) == text(port, &["name"]);
        let Some(port) = list(subset, &["ports"]).iter().find(same) else { continue };
        let Some(address) = list(subset, &["addresses"]).first() else { continue };
        let port = int(port, &["port"]).and_then(|port| u16::try_from(port).ok()).ok_or_else(none)?;
        return Ok((text(address, &["ip"]).to_string(), port));
    }
    Err(none())
}
