//! `/openapi/v3` and `/openapi/v2` (k8s.io/kube-openapi `pkg/handler3/handler.go`). A document's address holds its hash, so that clients
//! keep it as long as they like; it is made anew for whoever does not have it yet, mostly of pieces that were compressed by the build.

use crate::http::Query;
use crate::http::respond::{self, Answer, Style};
use crate::resource::{Resource, Snapshot};
use crate::server::Server;
use drydock_apimachinery::openapi::{self, Document};
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What old clients ask for.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Hashes of the documents, kept until what is served changes.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Hashes>);

#[derive(Debug, Default)]
struct Hashes {
    /// Of what is served.
    generation: u64,
    /// By group and version.
    all: BTreeMap<(String, String), String>,
}

/// The answer to a path; none: nothing is there.
pub fn answer(
    server: &Server,
    headers: &HeaderMap,
    path: &str,
    query: &Query,
    style: Style,
) -> Option<Answer> {
    let snapshot = server.registry.snapshot();
    match path {
        "/openapi/v3" => Some(index(server, &snapshot, style)),
        "/openapi/v2" => Some(v2(&snapshot, headers, style)),
        _ => {
            let root = path.strip_prefix("/openapi/v3/")?;
            let (group, version) = match root.strip_prefix("api/") {
                Some(version) => ("", version),
                None => root.strip_prefix("apis/")?.split_once('/')?,
            };
            v3(&snapshot, group, version, headers, query, style)
        }
    }
}

fn group_versions(snapshot: &Snapshot) -> Vec<(&str, &str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for one in &snapshot.all {
        let pair = (&*one.group, &*one.version);
        if !found.contains(&pair) {
            found.push(pair);
        }
    }
    found
}

fn document(snapshot: &Snapshot, group: &str, version: &str) -> Document {
    let (resources, custom) = described(snapshot, group, version);
    openapi::v3(group, version, &resources, &custom)
}

/// The resources of a group and version, and the schemas of those that have their own.
fn described(
    snapshot: &Snapshot,
    group: &str,
    version: &str,
) -> (Vec<openapi::Resource>, Vec<(String, Value)>) {
    let mut resources = Vec::new();
    let mut schemas = Vec::new();
    for one in snapshot.all.iter().filter(|one| one.group == group && one.version == version) {
        match one.custom() {
            Some(custom) => {
                let (resource, mut own) = custom.openapi();
                schemas.append(&mut own);
                resources.push(resource);
            }
            None => resources.push(described_one(one)),
        }
    }
    (resources, schemas)
}

fn described_one(one: &Resource) -> openapi::Resource {
    let verbs = |verbs: &[&str]| verbs.iter().map(|&verb| verb.to_string()).collect();
    let subresources = one.subresources.iter().map(|sub| {
        let (group, version) = sub.of(one);
        let streams = matches!(&*sub.name, "exec" | "attach" | "portforward" | "proxy");
        openapi::Subresource {
            name: sub.name.to_string(),
            group: group.into(),
            version: version.into(),
            kind: sub.kind.to_string(),
            verbs: if streams { vec!["connect".into()] } else { verbs(sub.verbs) },
        }
    });
    openapi::Resource {
        plural: one.plural.to_string(),
        kind: one.kind.to_string(),
        namespaced: one.namespaced,
        verbs: verbs(one.verbs),
        subresources: subresources.collect(),
        definition: None,
    }
}

/// Every group and version with the address of its document.
fn index(server: &Server, snapshot: &Snapshot, style: Style) -> Answer {
    let mut kept = server.openapi.0.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.all.is_empty() || kept.generation != snapshot.generation {
        let hashes = group_versions(snapshot).into_iter().map(|(group, version)| {
            ((group.to_string(), version.to_string()), document(snapshot, group, version).hash())
        });
        *kept = Hashes { generation: snapshot.generation, all: hashes.collect() };
    }
    let paths = kept.all.iter().map(|((group, version), hash)| {
        let root = openapi::root(group, version);
        let url = format!("/openapi/v3/{root}?hash={hash}");
        (root, json!({"serverRelativeURL": url}))
    });
    let tree = json!({"paths": paths.collect::<serde_json::Map<_, _>>()});
    respond::value(StatusCode::OK, &tree, style)
}

fn v3(
    snapshot: &Snapshot,
    group: &str,
    version: &str,
    headers: &HeaderMap,
    query: &Query,
    style: Style,
) -> Option<Answer> {
    if !snapshot.all.iter().any(|one| one.group == group && one.version == version) {
        return None;
    }
    let document = document(snapshot, group, version);
    let hash = document.hash();
    if let Some(wanted) = query.get("hash").filter(|wanted| *wanted != hash) {
        tracing::debug!(wanted, "an outdated document was asked for");
        let url = format!("/openapi/v3/{}?hash={hash}", openapi::root(group, version));
        let mut answer = respond::text(StatusCode::MOVED_PERMANENTLY, "");
        answer.headers_mut().insert(LOCATION, HeaderValue::from_str(&url).ok()?);
        return Some(answer);
    }
    let mut answer = send(&document, &hash, "application/json", headers, style);
    if query.get("hash").is_some() {
        let all = answer.headers_mut();
        all.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        all.insert(EXPIRES, in_a_year()?);
    }
    Some(answer)
}

fn in_a_year() -> Option<HeaderValue> {
    let time = Timestamp::now().checked_add(SignedDuration::from_hours(365 * 24)).ok()?;
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&text).ok()
}

/// A document, or that the client's is still right.
fn send(document: &Document, hash: &str, media: &'static str, headers: &HeaderMap, style: Style) -> Answer {
    let etag = format!("\"{hash}\"");
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut answer = if is_known {
        respond::bytes(StatusCode::NOT_MODIFIED, media, Vec::new())
    } else if style.gzip {
        let mut answer = respond::bytes(StatusCode::OK, media, document.gzip());
        respond::gzipped(answer.headers_mut());
        answer
    } else {
        respond::bytes(StatusCode::OK, media, document.json())
    };
    let all = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        all.insert(ETAG, etag);
    }
    all.append(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// One document for everything.
fn v2(snapshot: &Snapshot, headers: &HeaderMap, style: Style) -> Answer {
    let mut groups = Vec::new();
    let mut schemas = Vec::new();
    for (group, version) in group_versions(snapshot) {
        let (resources, mut custom) = described(snapshot, group, version);
        schemas.append(&mut custom);
        groups.push((group.to_string(), version.to_string(), resources));
    }
    let document = openapi::v2(&groups, &schemas);
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.contains(V2_PROTOBUF) {
        return send(&document, &document.hash(), "application/json", headers, style);
    }
    let content = openapi::v2_protobuf(&document);
    let media = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    match (style.gzip, respond::gzip(&content)) {
        (true, Ok(small)) => {
            let mut answer = respond::bytes(StatusCode::OK, media, small);
            respond::gzipped(answer.headers_mut());
            answer
        }
        _ => respond::bytes(StatusCode::OK, media, content),
    }
}
