//! From what a request is about to the function that answers it.

use crate::authn::User;
use crate::http::listener::Request;
use crate::http::respond::{self, Answer, Style};
use crate::http::websocket::{self, Content};
use crate::http::{Query, RequestInfo};
use crate::resource::Resource;
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
    if info.verb != "get" && is_for_get_alone(server, path) {
        return Err(refused(info));
    }
    if let Some(answer) = health::answer(server, path, query).await {
        return Ok(answer);
    }
    match path {
        "/openid/v1/jwks" => return Ok(review::jwks(server)),
        "/.well-known/openid-configuration" => return Ok(review::issuer(server)),
        "/version" => return Ok(respond::ordered(StatusCode::OK, &health::version(), style)),
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

/// Paths that upstream registers for GET and nothing else; at the others (`/apis`, `/apis/GROUP`, the versions of custom resources) its
/// handlers look for no method (kube-aggregator `pkg/apiserver/handler_apis.go`).
fn is_for_get_alone(server: &Server, path: &str) -> bool {
    let only = ["/version", "/openid/v1/jwks", "/.well-known/openid-configuration", "/api", "/api/v1"];
    let of_group = path.strip_prefix("/apis/").and_then(|path| path.split_once('/'));
    only.contains(&path) || of_group.is_some_and(|(group, version)| is_builtin(server, group, version))
}

/// Whether a group and version is one of built-in kinds.
fn is_builtin(server: &Server, group: &str, version: &str) -> bool {
    let served = server.registry.snapshot();
    let mut all = served.all.iter().filter(|one| one.builtin_kind().is_some());
    all.any(|one| (&*one.group, &*one.version) == (group, version))
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
    let Some(resource) = found else {
        // A group of custom resources alone has a handler of all paths; the others have a container that knows its routes.
        return if is_builtin(&server, &info.group, &info.version) {
            Err(no_route())
        } else {
            Ok(respond::page_not_found())
        };
    };
    match route(&resource, &info) {
        Route::Served => {}
        Route::OtherMethod => return Err(refused(&info)),
        Route::Nothing if resource.custom().is_some() => return Ok(respond::page_not_found()),
        Route::Nothing => return Err(no_route()),
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
    Ok(as_messages(&mut call, answer))
}

/// Watches and logs come over a WebSocket to whom asks for one.
fn as_messages(call: &mut Call, answer: Answer) -> Answer {
    let content = match (call.info.verb, call.info.subresource.as_str()) {
        ("watch", _) => Content::Lines,
        (_, "log") => Content::Pieces,
        _ => return answer,
    };
    if answer.status() != StatusCode::OK || !websocket::is_wanted(&call.headers) {
        return answer;
    }
    match call.upgrade.take() {
        Some(upgrade) => websocket::answer(&call.headers, upgrade, answer, content),
        None => answer,
    }
}

async fn verb(call: &mut Call, body: hyper::body::Incoming) -> Result<Answer, Status> {
    let has_name = !call.info.name.is_empty();
    // Each in a box of its own: else all requests would be as large in memory as the largest, and are moved once.
    if !call.info.subresource.is_empty() {
        return Box::pin(rest::subresource::answer(call, body)).await;
    }
    if call.resource.group == usage::GROUP && matches!(call.info.verb, "get" | "list") {
        return Box::pin(usage::answer(call)).await;
    }
    if call.resource.is("", "componentstatuses") && matches!(call.info.verb, "get" | "list") {
        return Box::pin(components::answer(call)).await;
    }
    let is_offered = call.resource.verbs.contains(&call.info.verb);
    let is_named_watch = call.info.verb == "watch" && call.info.watch_by_path;
    match call.info.verb {
        _ if !is_offered => Err(refused(&call.info)),
        "get" => rest::get::get(call).await,
        "list" => Box::pin(rest::list::list(call)).await,
        "watch" if !has_name || is_named_watch || call.query.get("fieldSelector").is_some() => {
            Box::pin(rest::watch::watch(call)).await
        }
        "create" if !has_name => Box::pin(rest::create::create(call, body)).await,
        "update" if has_name => Box::pin(rest::update::update(call, body)).await,
        "patch" if has_name => Box::pin(rest::patch::patch(call, body)).await,
        "delete" if has_name => Box::pin(rest::delete::delete(call, body)).await,
        "deletecollection" => Box::pin(rest::delete::delete_collection(call, body)).await,
        _ => Err(refused(&call.info)),
    }
}

/// What there is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    /// The resource.
    Served,
    /// The resource, but not for this method.
    OtherMethod,
    /// Nothing.
    Nothing,
}

/// Whether the path is one of those that upstream's installer registers for the resource (`pkg/endpoints/installer.go`). What a user was
/// allowed to do was told from the path, so an object that it does not lead to must not be served.
fn route(resource: &Resource, info: &RequestInfo) -> Route {
    if !info.rest.is_empty() && info.subresource != "proxy" {
        return Route::Nothing;
    }
    if resource.namespaced == info.is_below_namespace {
        // Nor is there a namespace without name (`/namespaces//pods`), which would be all of them.
        let is_whole = !resource.namespaced || !info.namespace.is_empty();
        return if is_whole { Route::Served } else { Route::Nothing };
    }
    // Over all namespaces there are lists and watches, and nothing else.
    let has_list = resource.namespaced && resource.verbs.contains(&"list");
    match info.verb {
        "list" | "watch" if has_list && info.subresource.is_empty() => Route::Served,
        // Of custom resources upstream's handler looks for no method.
        "create" | "deletecollection" | "update" | "patch"
            if has_list && resource.custom().is_none() && info.name.is_empty() =>
        {
            Route::OtherMethod
        }
        _ => Route::Nothing,
    }
}

/// 404, as go-restful's container answers below a group and version that it serves.
pub fn no_route() -> Status {
    let message = "the server could not find the requested resource";
    let mut status = Status::failure(404, "NotFound", message);
    status.details = Some(Box::default());
    status
}

/// 405, as go-restful's container answers for a path that it knows with another method.
fn refused(_info: &RequestInfo) -> Status {
    let of = GroupResource { group: "", resource: "" };
    let message = "the server does not allow this method on the requested resource";
    let mut status = Status::failure(405, "MethodNotAllowed", message).about(of, "");
    status.details = Some(Box::default());
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Registry;

    #[test]
    fn only_paths_that_upstream_has_lead_to_a_resource() {
        let served = Registry::new().snapshot();
        let at = |method: &str, uri: &str| {
            let uri: http::Uri = uri.parse().expect("a URI");
            let query = Query::parse(uri.query().unwrap_or_default());
            let info = RequestInfo::new(&method.parse().expect("a method"), &uri, &query);
            route(served.find(&info.group, &info.version, &info.resource).expect("a resource"), &info)
        };
        for (method, path) in [
            ("DELETE", "/api/v1/namespaces/victim"),
            ("PUT", "/api/v1/namespaces/a/finalize"),
            ("DELETE", "/api/v1/namespaces/a/pods"),
            ("GET", "/api/v1/pods"),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp"),
            ("GET", "/api/v1/watch/pods"),
            ("GET", "/api/v1/nodes/n/proxy/stats/summary"),
            ("DELETE", "/api/v1/persistentvolumes"),
        ] {
            assert_eq!(at(method, path), Route::Served, "{method} {path}");
        }
        for method in ["DELETE", "POST", "PUT", "PATCH"] {
            assert_eq!(at(method, "/api/v1/pods"), Route::OtherMethod, "{method}");
        }
        for method in ["GET", "DELETE", "PATCH", "PUT", "POST"] {
            for path in [
                "/api/v1/namespaces/a/namespaces",
                "/api/v1/namespaces/a/namespaces/victim",
                "/api/v1/namespaces/a/namespaces/a",
                "/api/v1/namespaces/a/namespaces/victim/status",
                "/api/v1/namespaces/a/nodes/n",
                "/api/v1/namespaces/a/pods/p/status/more",
                "/api/v1/namespaces//pods",
                "/api/v1/pods/p",
                "/api/v1/pods/p/status",
                "/api/v1/bindings",
            ] {
                assert_eq!(at(method, path), Route::Nothing, "{method} {path}");
            }
        }
        assert_eq!(at("GET", "/api/v1/watch/namespaces/a/namespaces"), Route::Nothing);
    }
}
