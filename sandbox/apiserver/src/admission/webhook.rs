//! Admission webhooks: programs in the cluster that are asked before a write is stored, and may change or refuse it (k8s.io/apiserver
//! `pkg/admission/plugin/webhook`). They are called one after the other; none is called again after a later one's changes.

use super::matching::{Write, matches, namespace_of, request};
use super::{Context, policy, reader};
use crate::codec;
use crate::rest::meta;
use crate::server::Server;
use crate::tls;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use drydock_apimachinery::Status;
use drydock_apimachinery::decode;
use drydock_apimachinery::object::{int, list, text};
use drydock_apimachinery::patch::{self, PatchKind};
use drydock_apimachinery::schema;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Most bytes of an answer.
const LONGEST_ANSWER: usize = 3 * 1024 * 1024;

/// Lets webhooks change a new object.
pub async fn mutate(
    server: &Server,
    context: &Context<'_>,
    object: &mut Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    for hook in hooks(server, context, "mutatingwebhookconfigurations")? {
        let Some(response) = ask(server, context, &hook, object, old, warnings).await? else { continue };
        let Some(patch) = response.get("patch").and_then(Value::as_str) else { continue };
        let patched = BASE64_STANDARD
            .decode(patch)
            .map_err(|error| error.to_string())
            .and_then(|patch| patched(context, object, &patch));
        match patched {
            Ok(changed) => *object = changed,
            Err(why) => return Err(Status::internal(why)),
        }
    }
    Ok(())
}

/// Lets webhooks refuse a write.
pub async fn validate(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    for hook in hooks(server, context, "validatingwebhookconfigurations")? {
        ask(server, context, &hook, object, old, warnings).await?;
    }
    Ok(())
}

/// All webhooks of a kind, in the order of their configurations' names. Their configurations themselves are nobody's business.
fn hooks(server: &Server, context: &Context<'_>, place: &str) -> Result<Vec<Value>, Status> {
    if &*context.resource.group == "admissionregistration.k8s.io" {
        return Ok(Vec::new());
    }
    let configurations = reader::list(&server.store, place)?;
    Ok(configurations.iter().flat_map(|one| list(one, &["webhooks"]).to_vec()).collect())
}

/// The object as the patch makes it, with defaults for what is new.
fn patched(context: &Context<'_>, object: &Value, patch: &[u8]) -> Result<Value, String> {
    let resource = context.resource;
    let mut changed =
        patch::apply(PatchKind::Json, object.clone(), patch, None).map_err(|status| status.message)?.object;
    // It is asked about this object, not for another one.
    for field in ["name", "namespace", "uid"] {
        if text(&changed, &["metadata", field]) != text(object, &["metadata", field]) {
            return Err(format!("a webhook may not change metadata.{field}"));
        }
    }
    let schema = schema::find(&resource.group, &resource.version, &resource.kind);
    if let Some(schema) = schema.filter(|_| resource.custom().is_none()) {
        changed = decode::conform(&changed, schema).map_err(|error| error.to_string())?.object;
    }
    resource.default(&mut changed);
    Ok(changed)
}

/// What a webhook answers; none: it is not asked, or its failure is ignored.
async fn ask(
    server: &Server,
    context: &Context<'_>,
    hook: &Value,
    object: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, Status> {
    let namespace = namespace_of(server, context, object, old)?;
    let write = Write { context, object, old: old.unwrap_or(&Value::Null), namespace };
    let named = json!({
        "resourceRules": hook["rules"],
        "namespaceSelector": hook["namespaceSelector"],
        "objectSelector": hook["objectSelector"],
    });
    if !matches(&write, &named) {
        return Ok(None);
    }
    let name = text(hook, &["name"]);
    let fails = text(hook, &["failurePolicy"]) != "Ignore";
    match policy::conditions(&write, list(hook, &["matchConditions"])) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(why) if fails => return Err(failed(name, &why)),
        Err(_) => return Ok(None),
    }
    if context.dry_run && !matches!(text(hook, &["sideEffects"]), "None" | "NoneOnDryRun") {
        return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
    }
    let uid = meta::uid()?;
    let seconds =
        int(hook, &["timeoutSeconds"]).and_then(|n| u64::try_from(n).ok()).unwrap_or(10).clamp(1, 30);
    let review = review(&write, &uid);
    let called = tokio::time::timeout(Duration::from_secs(seconds), call(server, hook, &review, seconds));
    let answered = match called.await {
        Ok(answered) => answered,
        Err(_) => Err(format!(
            "failed to call webhook: Post {:?}: context deadline exceeded",
            address(hook, seconds)
        )),
    };
    let response = match answered.and_then(|answer| of_answer(&answer, &uid)) {
        Ok(response) => response,
        Err(why) if fails => return Err(failed(name, &why)),
        Err(why) => {
            tracing::warn!("Failed calling webhook, failing open {name}: {why}");
            return Ok(None);
        }
    };
    warnings.extend(list(&response, &["warnings"]).iter().filter_map(Value::as_str).map(String::from));
    if response["allowed"] == true { Ok(Some(response)) } else { Err(denied(name, &response["status"])) }
}

fn failed(name: &str, why: &str) -> Status {
    Status::internal(format!("failed calling webhook {name:?}: {why}"))
}

/// `ToStatusErr`.
fn denied(name: &str, result: &Value) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    let message = match (text(result, &["message"]), text(result, &["reason"])) {
        ("", "") => format!("{by} without explanation"),
        ("", why) | (why, _) => format!("{by}: {why}"),
    };
    let code = int(result, &["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0).max(400);
    Status::failure(code, text(result, &["reason"]), message)
}

/// `AdmissionReview`.
fn review(write: &Write<'_>, uid: &str) -> Value {
    let whole = |tree: &Value| {
        let mut tree = tree.clone();
        if !tree.is_null() {
            codec::complete(write.context.resource, &mut tree);
        }
        tree
    };
    let mut request = request(write);
    request["uid"] = uid.into();
    request["object"] = whole(write.object);
    request["oldObject"] = whole(write.old);
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// What is in an answer, if it is one to this question.
fn of_answer(answer: &Value, uid: &str) -> Result<Value, String> {
    let response = &answer["response"];
    if response.is_null() {
        return Err("received invalid webhook response: webhook response was absent".into());
    }
    let told = text(response, &["uid"]);
    if told != uid {
        return Err(format!(
            "received invalid webhook response: expected response.uid=\"{uid}\", got {told:?}"
        ));
    }
    Ok(response.clone())
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
async fn call(server: &Server, hook: &Value, review: &Value, seconds: u64) -> Result<Value, String> {
    let url = address(hook, seconds);
    let failed = |why: String| format!("failed to call webhook: Post {url:?}: {why}");
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    let host = uri.host().unwrap_or_default().to_string();
    let config = &hook["clientConfig"];
    let (to, port) = match text(config, &["url"]) {
        "" => endpoint(server, &config["service"])?,
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
        .body(Full::new(Bytes::from(review.to_string())))
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
    let gone = |status: Status| format!("failed to call webhook: {}", status.message);
    let found = reader::get(&server.store, &format!("services/specs/{namespace}/{name}")).map_err(gone)?;
    let missing = || format!("failed to call webhook: service {name:?} not found");
    let found = found.ok_or_else(missing)?;
    let wanted = int(service, &["port"]).unwrap_or(443);
    let ports = list(&found, &["spec", "ports"]);
    let port = ports.iter().find(|port| int(port, &["port"]) == Some(wanted));
    let port = port.ok_or_else(|| {
        format!("failed to call webhook: no service port {wanted} found for service {name:?}")
    })?;
    let none = || format!("failed to call webhook: no endpoints available for service {name:?}");
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
