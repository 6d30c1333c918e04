//! From what a request is about to the function that answers it.

use crate::authn::User;
use crate::http::listener::Request;
use crate::http::respond::{self, Answer, Style};
use crate::http::{Query, RequestInfo};
use crate::rest::{self, Call};
use crate::server::Server;
use crate::{components, discovery, health, openapi, review, usage};
use drydock_apimachinery::Status;
use drydock_apimachinery::status::GroupResource;
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;

/// Paths that are no resource.
pub async fn non_resource(
    server: &Arc<Server>,
    headers: &HeaderMap,
    query: &Query,
    info: &RequestInfo,
    style: Style,
) -> Result<Answer, Status> {
    let path = info.path.trim_end_matches('/');
    if let Some(answer) = health::answer(server, path, query).await {
        return Ok(answer);
    }
    match path {
        "/openid/v1/jwks" => return Ok(review::jwks(server)),
        "/.well-known/openid-configuration" => return Ok(review::issuer(server)),
        "/version" => return Ok(respond::value(StatusCode::OK, &health::version(), style)),
        "/metrics" => {
            let text = server.metrics.text(server.store.revision());
            return Ok(respond::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text));
        }
        _ => {}
    }
    if path.is_empty()
        || path == "/api"
        || path == "/apis"
        || path.starts_with("/api/")
        || path.starts_with("/apis/")
    {
        let found = discovery::answer(server, headers, path, style);
        return Ok(found.unwrap_or_else(respond::page_not_found));
    }
    if path.starts_with("/openapi/") {
        let found = openapi::answer(server, headers, path, query, style);
        return Ok(found.unwrap_or_else(respond::page_not_found));
    }
    Ok(respond::page_not_found())
}

/// Paths that name a resource.
pub async fn resource(
    server: Arc<Server>,
    request: Request,
    query: Query,
    info: RequestInfo,
    user: User,
    style: Style,
    not_acceptable: Option<Status>,
) -> Result<Answer, Status> {
    let found = server.registry.snapshot().find(&info.group, &info.version, &info.resource).cloned();
    let Some(resource) = found else { return Ok(respond::page_not_found()) };
    // A collection of cluster-wide objects is not found below a namespace.
    let is_below = !info.namespace.is_empty() && !resource.is("", "namespaces");
    if is_below && !resource.namespaced {
        return Ok(respond::page_not_found());
    }
    let method = request.method().clone();
    if method == Method::HEAD && info.is_long_running() {
        return Err(refused(&info));
    }
    let mut request = request;
    let upgrade = info.is_long_running().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let warnings = resource.deprecation().into_iter().collect();
    let raw_query = parts.uri.query().map(String::from);
    let mut call =
        Call { server, info, query, method, headers, user, style, resource, warnings, upgrade, raw_query };
    if let Some(status) = not_acceptable {
        return Err(status);
    }
    let answer = verb(&mut call, body).await;
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(status) => respond::status(&status, call.style),
    };
    respond::warn(&mut answer, &call.warnings);
    Ok(answer)
}

async fn verb(call: &mut Call, body: hyper::body::Incoming) -> Result<Answer, Status> {
    let has_name = !call.info.name.is_empty();
    if !call.info.subresource.is_empty() {
        return rest::subresource::answer(call, body).await;
    }
    if call.resource.group == usage::GROUP && matches!(call.info.verb, "get" | "list") {
        return usage::answer(call).await;
    }
    if call.resource.is("", "componentstatuses") && matches!(call.info.verb, "get" | "list") {
        return components::answer(call).await;
    }
    let is_offered = call.resource.verbs.contains(&call.info.verb);
    let is_named_watch = call.info.verb == "watch" && call.info.watch_by_path;
    match call.info.verb {
        _ if !is_offered => Err(refused(&call.info)),
        "get" => rest::get::get(call).await,
        "list" => rest::list::list(call).await,
        "watch" if !has_name || is_named_watch || call.query.get("fieldSelector").is_some() => {
            rest::watch::watch(call).await
        }
        "create" if !has_name => {
            if call.resource.namespaced && call.info.namespace.is_empty() && is_stored(call) {
                return Err(refused(&call.info));
            }
            rest::create::create(call, body).await
        }
        "update" if has_name => rest::update::update(call, body).await,
        "patch" if has_name => rest::patch::patch(call, body).await,
        "delete" if has_name => rest::delete::delete(call, body).await,
        "deletecollection" => rest::delete::delete_collection(call, body).await,
        _ => Err(refused(&call.info)),
    }
}

fn is_stored(call: &Call) -> bool {
    call.resource.builtin_kind().is_none_or(|kind| kind.is_stored())
}

/// 405, as go-restful's container answers for a path that it knows with another method.
fn refused(_info: &RequestInfo) -> Status {
    let of = GroupResource { group: "", resource: "" };
    let message = "the server does not allow this method on the requested resource";
    let mut status = Status::failure(405, "MethodNotAllowed", message).about(of, "");
    status.details = Some(Box::default());
    status
}
