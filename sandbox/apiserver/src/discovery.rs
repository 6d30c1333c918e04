//! What is served, told to clients: the aggregated form of today (`APIGroupDiscoveryList`) and the lists of old, from which `drain` and
//! older clients still read (k8s.io/apiserver `pkg/endpoints/discovery`).

use crate::http::negotiate;
use crate::http::respond::{self, Answer, Style};
use crate::resource::{Below, Resource, Snapshot, api_version, group_version};
use crate::server::Server;
use http::header::{ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Aggregated answers, kept until what is served changes: clients ask for them again and again.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Vec<Kept>>);

#[derive(Debug, Clone)]
struct Kept {
    generation: u64,
    core: bool,
    version: &'static str,
    body: Arc<[u8]>,
    etag: HeaderValue,
}

/// The answer to a path; none: nothing is there.
pub fn answer(server: &Server, headers: &HeaderMap, path: &str, style: Style) -> Option<Answer> {
    let snapshot = server.registry.snapshot();
    if let ("/api" | "/apis", Some(version)) = (path, negotiate::aggregated_discovery(headers)) {
        return Some(aggregated(server, &snapshot, headers, path == "/api", version, style));
    }
    let found = match path {
        "" => return Some(respond::value(StatusCode::OK, &json!({"paths": paths(&snapshot)}), style)),
        "/api" => return Some(respond::ordered(StatusCode::OK, &api_versions(server), style)),
        "/apis" => {
            let list = lists::Groups { kind: "APIGroupList", api_version: "v1", groups: groups(&snapshot) };
            return Some(respond::ordered(StatusCode::OK, &list, style));
        }
        "/api/v1" => ("", Some("v1")),
        _ => {
            let mut parts = path.strip_prefix("/apis/")?.split('/');
            match (parts.next()?, parts.next(), parts.next()) {
                (group, Some(version), None) => (group, Some(version)),
                (group, None, _) => (group, None),
                _ => return None,
            }
        }
    };
    Some(match found {
        (group, Some(version)) => {
            respond::ordered(StatusCode::OK, &resources(&snapshot, group, version)?, style)
        }
        (group, None) => {
            let mut found = group_of(&snapshot, group)?;
            (found.kind, found.api_version) = ("APIGroup", "v1");
            respond::ordered(StatusCode::OK, &found, style)
        }
    })
}

/// Versions of a group, the preferred one first.
fn versions<'a>(snapshot: &'a Snapshot, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    for one in snapshot.all.iter().filter(|one| one.group == group) {
        if !versions.contains(&&*one.version) {
            versions.push(&one.version);
        }
    }
    versions
}

/// Groups other than core, in their order of preference.
fn group_names(snapshot: &Snapshot) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for one in snapshot.all.iter().filter(|one| !one.group.is_empty()) {
        if !names.contains(&&*one.group) {
            names.push(&one.group);
        }
    }
    names
}

fn group_of(snapshot: &Snapshot, group: &str) -> Option<lists::Group> {
    let of = |version: &&str| lists::Version {
        group_version: api_version(group, version),
        version: (*version).into(),
    };
    let versions: Vec<_> = versions(snapshot, group).iter().map(of).collect();
    let preferred_version = versions.first()?.clone();
    Some(lists::Group { kind: "", api_version: "", name: group.into(), versions, preferred_version })
}

fn groups(snapshot: &Snapshot) -> Vec<lists::Group> {
    group_names(snapshot).into_iter().filter_map(|group| group_of(snapshot, group)).collect()
}

fn api_versions(server: &Server) -> lists::Versions {
    let address = format!("{}:{}", server.options.advertise_address, server.options.secure_port);
    lists::Versions {
        kind: "APIVersions",
        versions: ["v1"],
        addresses: [lists::Address { clients: "0.0.0.0/0", address }],
    }
}

fn paths(snapshot: &Snapshot) -> Vec<String> {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis", "/apis/"].map(String::from).into();
    for group in group_names(snapshot) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions(snapshot, group).iter().map(|version| format!("/apis/{group}/{version}")));
    }
    for path in ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] {
        paths.push(path.into());
    }
    paths
}

fn resources<'a>(snapshot: &'a Snapshot, group: &str, version: &str) -> Option<lists::Resources<'a>> {
    let mut list = Vec::new();
    for one in snapshot.all.iter().filter(|one| one.group == group && one.version == version) {
        list.push(resource(one));
        list.extend(one.subresources.iter().map(|sub| subresource(one, sub)));
    }
    if list.is_empty() {
        return None;
    }
    Some(lists::Resources {
        kind: "APIResourceList",
        // Of the first group it never said so, and clients of old are not to be surprised (`keepUnversioned`).
        api_version: if group.is_empty() { "" } else { "v1" },
        group_version: api_version(group, version),
        resources: list,
    })
}

fn resource(one: &Resource) -> lists::Resource<'_> {
    lists::Resource {
        name: one.plural.to_string(),
        singular_name: &one.singular,
        namespaced: one.namespaced,
        group: "",
        version: "",
        kind: &one.kind,
        verbs: one.verbs,
        short_names: one.short.iter().map(|name| &**name).collect(),
        categories: one.categories.iter().map(|name| &**name).collect(),
        storage_version_hash: if one.verbs.contains(&"get") { storage_hash(one) } else { String::new() },
    }
}

/// Which version is stored, as a short hash (`pkg/endpoints/discovery/storageversionhash.go`).
fn storage_hash(one: &Resource) -> String {
    use base64::Engine;
    let (group, version) = match (one.conversion(), one.custom()) {
        (Some(conversion), _) => (conversion.group, conversion.version),
        (_, Some(custom)) => group_version(&custom.stored_version),
        _ => (&*one.group, &*one.version),
    };
    let stored = format!("{group}/{version}/{}", one.kind);
    let hash = sha2::Sha256::digest(stored.as_bytes());
    base64::prelude::BASE64_STANDARD.encode(&hash[..8])
}

fn subresource<'a>(one: &'a Resource, sub: &'a Below) -> lists::Resource<'a> {
    let (group, version) =
        sub.group_version.as_ref().map_or(("", ""), |(group, version)| (&**group, &**version));
    lists::Resource {
        name: format!("{}/{}", one.plural, sub.name),
        singular_name: "",
        namespaced: one.namespaced,
        group,
        version,
        kind: &sub.kind,
        verbs: sub.verbs,
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: String::new(),
    }
}

/// The lists of old, whose fields come in the order in which people know them (k8s.io/apimachinery `pkg/apis/meta/v1/types.go`).
mod lists {
    use serde::Serialize;

    fn none(text: &&str) -> bool {
        text.is_empty()
    }

    /// `APIVersions`.
    #[derive(Serialize)]
    pub(super) struct Versions {
        pub kind: &'static str,
        pub versions: [&'static str; 1],
        #[serde(rename = "serverAddressByClientCIDRs")]
        pub addresses: [Address; 1],
    }

    /// `ServerAddressByClientCIDR`.
    #[derive(Serialize)]
    pub(super) struct Address {
        #[serde(rename = "clientCIDR")]
        pub clients: &'static str,
        #[serde(rename = "serverAddress")]
        pub address: String,
    }

    /// `APIGroupList`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Groups {
        pub kind: &'static str,
        pub api_version: &'static str,
        pub groups: Vec<Group>,
    }

    /// `APIGroup`; within a list it does not say that it is one.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Group {
        #[serde(skip_serializing_if = "none")]
        pub kind: &'static str,
        #[serde(skip_serializing_if = "none")]
        pub api_version: &'static str,
        pub name: String,
        pub versions: Vec<Version>,
        pub preferred_version: Version,
    }

    /// `GroupVersionForDiscovery`.
    #[derive(Serialize, Clone)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Version {
        pub group_version: String,
        pub version: String,
    }

    /// `APIResourceList`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Resources<'a> {
        pub kind: &'static str,
        #[serde(skip_serializing_if = "none")]
        pub api_version: &'static str,
        pub group_version: String,
        pub resources: Vec<Resource<'a>>,
    }

    /// `APIResource`.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Resource<'a> {
        pub name: String,
        pub singular_name: &'a str,
        pub namespaced: bool,
        #[serde(skip_serializing_if = "none")]
        pub group: &'a str,
        #[serde(skip_serializing_if = "none")]
        pub version: &'a str,
        pub kind: &'a str,
        pub verbs: &'static [&'static str],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub short_names: Vec<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub categories: Vec<&'a str>,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub storage_version_hash: String,
    }
}

fn aggregated(
    server: &Server,
    snapshot: &Snapshot,
    headers: &HeaderMap,
    core: bool,
    version: &'static str,
    style: Style,
) -> Answer {
    let kept = server.discovery.kept(snapshot, core, version);
    let media = if version == "v2" {
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    } else {
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    };
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|etag| *etag == kept.etag);
    let mut answer = if is_known {
        respond::bytes(StatusCode::NOT_MODIFIED, media, Vec::new())
    } else if style.gzip
        && let Ok(small) = respond::gzip(&kept.body)
    {
        let mut answer = respond::bytes(StatusCode::OK, media, small);
        respond::gzipped(answer.headers_mut());
        answer
    } else {
        respond::bytes(StatusCode::OK, media, kept.body.to_vec())
    };
    answer.headers_mut().insert(ETAG, kept.etag);
    answer.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    answer
}

impl Cache {
    fn kept(&self, snapshot: &Snapshot, core: bool, version: &'static str) -> Kept {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|kept| kept.generation == snapshot.generation);
        if let Some(kept) = all.iter().find(|kept| kept.core == core && kept.version == version) {
            return kept.clone();
        }
        let body = group_list(snapshot, core, version).to_string().into_bytes();
        let mut etag = String::from("\"");
        for byte in Sha512::digest(&body) {
            let _infallible = write!(etag, "{byte:02X}");
        }
        etag.push('"');
        let etag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""));
        let kept = Kept { generation: snapshot.generation, core, version, body: body.into(), etag };
        all.push(kept.clone());
        kept
    }
}

/// `APIGroupDiscoveryList`.
fn group_list(snapshot: &Snapshot, core: bool, version: &str) -> Value {
    let names = if core { vec![""] } else { group_names(snapshot) };
    let items: Vec<Value> = names.into_iter().map(|group| group_item(snapshot, group)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn group_item(snapshot: &Snapshot, group: &str) -> Value {
    let version_of = |version: &str| {
        let of = snapshot.all.iter().filter(|one| one.group == group && one.version == version);
        let resources: Vec<Value> = of.map(|one| discovered(one)).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let versions: Vec<Value> = versions(snapshot, group).into_iter().map(version_of).collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

/// `APIResourceDiscovery`.
fn discovered(one: &Resource) -> Value {
    let mut tree = json!({
        "resource": one.plural,
        "responseKind": kind_of(&one.group, &one.version, &one.kind),
        "scope": if one.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": one.singular,
        "verbs": one.verbs,
    });
    if !one.short.is_empty() {
        tree["shortNames"] = json!(one.short);
    }
    if !one.categories.is_empty() {
        tree["categories"] = json!(one.categories);
    }
    if !one.subresources.is_empty() {
        let subresource = |sub: &Below| {
            let (group, version) = sub.of(one);
            json!({
                "subresource": sub.name,
                "responseKind": kind_of(group, version, &sub.kind),
                "verbs": sub.verbs,
            })
        };
        tree["subresources"] = one.subresources.iter().map(subresource).collect();
    }
    tree
}

fn kind_of(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}
