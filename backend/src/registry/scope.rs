//! Names as a session's nodes write them, and as the registry has them: `app` of the session `k3x…` is `k3x…/app`; `shared/app` is the same
//! for all. Accounts likewise. Everything that carries a name is translated here, both ways.

use axum::{body::Body, response::Response};
use data_encoding::BASE64;
use drydock_protocol::SessionId;
use http_body_util::BodyExt;
use hyper::{Request, Uri, header};

/// The part of the registry that all sessions see.
pub const SHARED: &str = "shared";
/// Between the session and the name of an account; no session's id holds it.
pub const ACCOUNT: char = '+';
/// The list of repositories.
const CATALOGUE: &str = "/v2/_catalog";
/// Largest list or refusal that is translated, in bytes.
const MAX_LIST: usize = 4 << 20;

/// Translates a request of a session; whether what it asks for has the names of repositories in its body.
pub fn enter(session: &SessionId, request: &mut Request<Body>) -> bool {
    let uri = request.uri();
    let path = path_inside(session, uri.path());
    let names = path == CATALOGUE || path.ends_with("/tags/list");
    let query = uri.query().map(|query| query_inside(session, &path, query));
    let text = query.map_or(path.clone(), |query| format!("{path}?{query}"));
    // What no longer is an address was none before; the registry refuses the old one.
    if let Ok(uri) = text.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    let account = request.headers().get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let plain =
            BASE64.decode(rest.trim().as_bytes()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let inside = [session.as_str().as_bytes(), ACCOUNT.to_string().as_bytes(), &plain].concat();
        header::HeaderValue::from_str(&format!("Basic {}", BASE64.encode(&inside))).ok()
    });
    request.headers_mut().remove(header::AUTHORIZATION);
    if let Some(account) = account {
        request.headers_mut().insert(header::AUTHORIZATION, account);
    }
    names
}

/// Translates the answer back; `names`: its body holds the names of repositories. So do those of refusals.
pub async fn leave(session: &SessionId, mut response: Response, names: bool) -> Response {
    for name in [header::LOCATION, header::LINK] {
        let outside = response.headers().get(&name).and_then(|value| {
            let text = value.to_str().ok()?.replace(&format!("/v2/{session}/"), "/v2/");
            let text = text.replace(&format!("?last={session}%2F"), "?last=");
            header::HeaderValue::from_str(&text).ok()
        });
        if let Some(value) = outside {
            response.headers_mut().insert(name, value);
        }
    }
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if !names && !refused {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let bytes = http_body_util::Limited::new(body, MAX_LIST)
        .collect()
        .await
        .map(|b| b.to_bytes())
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace(&format!("\"{session}/"), "\"");
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(text))
}

fn path_inside(session: &SessionId, path: &str) -> String {
    match path.strip_prefix("/v2/") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('_') => {
            format!("/v2/{}", name_inside(session, rest))
        }
        _ => path.to_owned(),
    }
}

fn name_inside(session: &SessionId, name: &str) -> String {
    if name.split('/').next() == Some(SHARED) { name.to_owned() } else { format!("{session}/{name}") }
}

/// The name of another repository, from which a blob is taken over, and of the last one of a page of the catalogue.
fn query_inside(session: &SessionId, path: &str, query: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((key, name)) if key == "from" || (key == "last" && path == CATALOGUE && !name.is_empty()) => {
            let name = name.replace("%2F", "/").replace("%2f", "/");
            format!("{key}={}", name_inside(session, &name))
        }
        _ => part.to_owned(),
    };
    query.split('&').map(part).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionId {
        SessionId::from_random([1; 10])
    }

    fn inside(uri: &str) -> String {
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        enter(&session(), &mut request);
        request.uri().to_string().replace(session().as_str(), "S")
    }

    #[test]
    fn names_are_the_sessions_own_or_shared() {
        assert_eq!(inside("/v2/"), "/v2/");
        assert_eq!(inside("/v2/_catalog?n=5"), "/v2/_catalog?n=5");
        assert_eq!(inside("/v2/_catalog?last=a%2Fb&n=5"), "/v2/_catalog?last=S/a/b&n=5");
        assert_eq!(inside("/v2/_catalog?last=shared%2Fb"), "/v2/_catalog?last=shared/b");
        assert_eq!(inside("/v2/app/tags/list?last=1"), "/v2/S/app/tags/list?last=1");
        assert_eq!(inside("/v2/app/manifests/latest"), "/v2/S/app/manifests/latest");
        assert_eq!(
            inside("/v2/a/b/blobs/uploads/?mount=x&from=c%2Fd"),
            "/v2/S/a/b/blobs/uploads/?mount=x&from=S/c/d"
        );
        assert_eq!(inside("/v2/shared/app/tags/list"), "/v2/shared/app/tags/list");
        assert_eq!(inside("/v2/sharedapp/tags/list"), "/v2/S/sharedapp/tags/list");
        // Another session's own can't be named.
        assert_eq!(inside("/v2/otherabcde/app/tags/list"), "/v2/S/otherabcde/app/tags/list");
    }

    #[test]
    fn accounts_are_the_sessions_own() {
        let mut request = Request::builder()
            .uri("/v2/")
            .header("authorization", format!("Basic {}", BASE64.encode(b"ann:pass:word")))
            .body(Body::empty())
            .unwrap();
        enter(&session(), &mut request);
        let value =
            request.headers()["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        let plain = String::from_utf8(BASE64.decode(value.as_bytes()).unwrap()).unwrap();
        assert_eq!(plain, format!("{}+ann:pass:word", session()));
    }

    #[tokio::test]
    async fn answers_are_translated_back() {
        let id = session();
        let response = Response::builder()
            .header("location", format!("/v2/{id}/app/blobs/uploads/1"))
            .body(Body::from(format!("{{\"repositories\":[\"{id}/app\",\"shared/b\"]}}")))
            .unwrap();
        let response = leave(&id, response, true).await;
        assert_eq!(response.headers()["location"], "/v2/app/blobs/uploads/1");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "{\"repositories\":[\"app\",\"shared/b\"]}");
    }

    #[tokio::test]
    async fn no_answer_shows_the_names_inside() {
        let id = session();
        let asked = async |uri: &str, status: u16, body: String| {
            let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            let names = enter(&id, &mut request);
            let next = format!("</v2/_catalog?last={id}%2Fa%2Fb&n=1>; rel=\"next\"");
            let response =
                Response::builder().status(status).header("link", next).body(Body::from(body)).unwrap();
            let response = leave(&id, response, names).await;
            assert_eq!(response.headers()["link"], "</v2/_catalog?last=a%2Fb&n=1>; rel=\"next\"");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        };
        let tags = asked("/v2/a/b/tags/list", 200, format!("{{\"name\":\"{id}/a/b\"}}")).await;
        assert_eq!(tags, "{\"name\":\"a/b\"}");
        let detail = asked("/v2/a/b/manifests/1", 404, format!("{{\"detail\":{{\"name\":\"{id}/a/b\"}}}}"));
        assert_eq!(detail.await, "{\"detail\":{\"name\":\"a/b\"}}");
        // What somebody has pushed is theirs.
        let blob = format!("\"{id}/a/b\"");
        assert_eq!(asked("/v2/a/b/manifests/1", 200, blob.clone()).await, blob);
    }
}
