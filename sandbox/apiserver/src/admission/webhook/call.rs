//! Asking one webhook: an `AdmissionReview` by HTTPS, and its answer (k8s.io/apiserver `pkg/util/webhook/client.go`,
//! `pkg/admission/plugin/webhook/request`).

use super::super::matching::{Write, request};
use super::super::reader;
use crate::codec;
use crate::rest::meta;
use crate::server::Server;
use crate::tls;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use drydock_apimachinery::object::{int, list, text};
use drydock_apimachinery::{Status, ordered};
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

/// The forms of the question that we know.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// What a webhook answers about a write; an error: it could not be asked, or its answer is none.
pub async fn ask(server: &Server, hook: &Value, write: &Write<'_>, changes: bool) -> Result<Value, String> {
    let known = |one: &&str| VERSIONS.contains(one);
    let version = list(hook, &["admissionReviewVersions"]).iter().filter_map(Value::as_str).find(known);
    let version = version.ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
    let uid = meta::uid().map_err(|status| status.message)?;
    let review = review(write, &uid, version);
    let seconds =
        int(hook, &["timeoutSeconds"]).and_then(|n| u64::try_from(n).ok()).unwrap_or(10).clamp(1, 30);
    let called = tokio::time::timeout(Duration::from_secs(seconds), call(server, hook, review, seconds));
    let answered = match called.await {
        Ok(answered) => answered?,
        Err(_) => {
            let url = address(hook, seconds);
            return Err(format!("failed to call webhook: Post {url:?}: context deadline exceeded"));
        }
    };
    verified(&answered, &uid, version, changes)
        .map_err(|why| format!("received invalid webhook response: {why}"))
}

/// The fields of `AdmissionRequest` in its order.
const FIELDS: [&str; 15] = [
    "uid",
    "kind",
    "resource",
    "subResource",
    "requestKind",
    "requestResource",
    "requestSubResource",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "object",
    "oldObject",
    "dryRun",
    "options",
];

/// `AdmissionReview`.
fn review(write: &Write<'_>, uid: &str, version: &str) -> Vec<u8> {
    let whole = |tree: &Value| {
        let mut tree = tree.clone();
        if !tree.is_null() && write.context.kind.is_none() {
            codec::complete(write.context.resource, &mut tree);
        }
        tree
    };
    let mut request = request(write);
    request["uid"] = uid.into();
    request["object"] = whole(write.object);
    request["oldObject"] = whole(write.old);
    let mut out =
        format!("{{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/{version}\",\"request\":")
            .into_bytes();
    let mut opening = b'{';
    for field in FIELDS {
        if let Some(value) = request.get(field) {
            out.push(std::mem::replace(&mut opening, b','));
            out.extend_from_slice(format!("{field:?}:").as_bytes());
            ordered::write(&mut out, value);
        }
    }
    out.extend_from_slice(b"}}");
    out
}

/// What is in an answer, if it is one to this question (`VerifyAdmissionResponse`).
fn verified(answer: &Value, uid: &str, version: &str, changes: bool) -> Result<Value, String> {
    let response = &answer["response"];
    if response.is_null() {
        return Err("webhook response was absent".into());
    }
    // The old form had fewer rules.
    if version == "v1beta1" {
        return Ok(response.clone());
    }
    let told = text(response, &["uid"]);
    if told != uid {
        return Err(format!("expected response.uid={uid:?}, got {told:?}"));
    }
    let (api_version, kind) = (text(answer, &["apiVersion"]), text(answer, &["kind"]));
    if (api_version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        let got = if api_version.contains('/') { api_version.into() } else { format!("/{api_version}") };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {got}, Kind={kind}"
        ));
    }
    let has = |field: &str| response.get(field).is_some_and(|value| !value.is_null());
    match (changes, !text(response, &["patch"]).is_empty(), has("patchType")) {
        (true, true, false) => Err("webhook returned response.patch but not response.patchType".into()),
        (true, false, true) => Err("webhook returned response.patchType but not response.patch".into()),
        (true, true, true) if response["patchType"] == "" => {
            Err("webhook returned invalid response.patchType of \"\"".into())
        }
        (false, true, _) => Err("validating webhook may not return response.patch".into()),
        (false, false, true) => Err("validating webhook may not return response.patchType".into()),
        _ => Ok(response.clone()),
    }
}

/// The webhook's address, for errors.
fn address(hook: &Value, seconds: u64) -> String {
    let config = &hook["clientConfig"];
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

/// Asks.
async fn call(server: &Server, hook: &Value, review: Vec<u8>, seconds: u64) -> Result<Value, String> {
    let url = address(hook, seconds);
    let failed = |why: String| format!("failed to call webhook: Post {url:?}: {why}");
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let host = uri.host().unwrap_or_default().to_string();
    let config = &hook["clientConfig"];
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
        return Err("failed to call webhook: the server could not find the requested resource".into());
    }
    if code != StatusCode::OK {
        let said = String::from_utf8_lossy(&body).into_owned();
        return Err(format!(
            "failed to call webhook: an error on the server ({said:?}) has prevented the request from succeeding"
        ));
    }
    serde_json::from_slice(&body).map_err(|error| format!("failed to call webhook: {error}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_that_is_none_is_told_in_upstreams_words() {
        let told = |answer: Value, changes| verified(&answer, "u", "v1", changes).expect_err("it is wrong");
        let answer = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        assert_eq!(told(json!({}), true), "webhook response was absent");
        let other = json!({"uid": "v", "allowed": true});
        assert_eq!(told(answer(other), true), "expected response.uid=\"u\", got \"v\"");
        assert_eq!(
            told(json!({"response": {"uid": "u"}}), true),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        );
        let patch = json!({"uid": "u", "patch": "W10="});
        let half = "webhook returned response.patch but not response.patchType";
        assert_eq!(told(answer(patch.clone()), true), half);
        assert_eq!(told(answer(patch), false), "validating webhook may not return response.patch");
        assert!(verified(&answer(json!({"uid": "u", "allowed": true})), "u", "v1", true).is_ok());
    }
}
