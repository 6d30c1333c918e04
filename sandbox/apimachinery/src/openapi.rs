//! The OpenAPI documents that `kubectl explain`, `apply` and validation read. The API server asks [`v3`] for the document of a group
//! and version, built-in or of custom resources, and serves [`Document::gzip`] as it is to clients that take gzip. Schemas of built-in
//! kinds were compressed by the build; a document is gzip members one after the other, so nothing of them is unpacked to serve it.

mod crd;
mod paths;
mod v2;

pub use crd::{custom_schemas, definition_name};
pub use v2::{v2, v2_protobuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::{Read, Write};

mod schemas {
    include!(concat!(env!("OUT_DIR"), "/openapi.rs"));
}

/// A resource that a document tells of.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// Such as `deployments`.
    pub plural: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// As discovery tells them: `get`, `list`, `create`, …
    pub verbs: Vec<String>,
    /// What is below an object.
    pub subresources: Vec<Subresource>,
    /// Name of its schema, if it is not the built-in one: custom resources.
    pub definition: Option<String>,
}

/// Something below an object.
#[derive(Debug, Clone, Default)]
pub struct Subresource {
    /// Such as `scale`.
    pub name: String,
    /// Group of its kind.
    pub group: String,
    /// Version of its kind.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// As discovery tells them; `connect` for `exec` and the like.
    pub verbs: Vec<String>,
}

/// A document in pieces.
#[derive(Debug, Clone)]
pub struct Document {
    /// Pieces, in order; joined, they are one JSON document.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    /// Text as it is.
    Text(String),
    /// A gzip member that the build made.
    Compressed(&'static [u8]),
}

impl Document {
    /// Compressed (gzip, several members).
    pub fn gzip(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Compressed(member) => out.extend_from_slice(member),
                Piece::Text(text) => {
                    let mut encoder = GzEncoder::new(&mut out, Compression::default());
                    // Writing to memory does not fail.
                    let _infallible = encoder.write_all(text.as_bytes());
                    let _infallible = encoder.finish();
                }
            }
        }
        out
    }

    /// As JSON.
    pub fn json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Compressed(member) => {
                    // The build made them: they unpack.
                    let _infallible = MultiGzDecoder::new(*member).read_to_end(&mut out);
                }
            }
        }
        out
    }

    /// A hash of its content, for `ETag` and the `hash` of its address: 32 hexadecimal digits. Equal documents of equal builds have
    /// equal hashes.
    pub fn hash(&self) -> String {
        // Two rounds of FNV-1a with different starts: a hash against accidents, not against attackers.
        let mut hash = [0xcbf2_9ce4_8422_2325u64, 0x6c62_272e_07bb_0142];
        for piece in &self.pieces {
            let bytes = match piece {
                Piece::Text(text) => text.as_bytes(),
                Piece::Compressed(member) => member,
            };
            for byte in bytes {
                for one in &mut hash {
                    *one = (*one ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
            hash[1] = hash[1].rotate_left(23);
        }
        format!("{:016X}{:016X}", hash[0], hash[1])
    }
}

/// The part of addresses that names a group and version: `api/v1`, `apis/apps/v1`.
pub fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// What `/openapi/v3` answers: every group and version with the address of its document.
pub fn v3_index<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str, &'a Document)>) -> Value {
    let paths = documents.into_iter().map(|(group, version, document)| {
        let root = root(group, version);
        let url = format!("/openapi/v3/{root}?hash={}", document.hash());
        (root, json!({"serverRelativeURL": url}))
    });
    json!({"paths": paths.collect::<serde_json::Map<_, _>>()})
}

/// The document of a group and version. `custom` are the schemas of custom resources by name (see [`custom_schemas`]).
pub fn v3(group: &str, version: &str, resources: &[Resource], custom: &[(String, Value)]) -> Document {
    let paths = paths::paths(group, version, resources, paths::Style::V3);
    let head = format!(
        "{{\"openapi\":\"3.0.0\",\"info\":{{\"title\":\"Kubernetes\",\"version\":\"{}\"}},\"paths\":{},\"components\":{{\"schemas\":{{",
        crate::GIT_VERSION,
        Value::Object(paths)
    );
    let mut tail = String::new();
    for (name, schema) in custom {
        tail.push_str(&format!(",{}:{schema}", Value::from(name.as_str())));
    }
    tail.push_str(
        "},\"securitySchemes\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"Bearer Token authentication\",\
         \"name\":\"authorization\",\"in\":\"header\"}}}}",
    );
    let built_in = schemas::SCHEMAS.iter().find(|one| (one.0, one.1) == (group, version));
    // Custom resources refer to metadata; the kinds of `meta` have all of that.
    let built_in = built_in.or_else(|| schemas::SCHEMAS.iter().find(|one| one.0 == "meta.k8s.io"));
    let mut pieces = vec![Piece::Text(head)];
    pieces.extend(built_in.map(|one| Piece::Compressed(one.2)));
    pieces.push(Piece::Text(tail));
    Document { pieces }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployments() -> Resource {
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        Resource {
            plural: "deployments".into(),
            kind: "Deployment".into(),
            namespaced: true,
            verbs: verbs.map(String::from).to_vec(),
            subresources: vec![Subresource {
                name: "scale".into(),
                group: "autoscaling".into(),
                version: "v1".into(),
                kind: "Scale".into(),
                verbs: ["get", "patch", "update"].map(String::from).to_vec(),
            }],
            definition: None,
        }
    }

    /// Every `$ref` of a document leads somewhere.
    fn dangling(document: &Value, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref")
                    && document.pointer(&to[1..]).is_none()
                {
                    out.push(to.clone());
                }
                map.values().for_each(|value| dangling(document, value, out));
            }
            Value::Array(all) => all.iter().for_each(|value| dangling(document, value, out)),
            _ => {}
        }
    }

    #[test]
    fn kubectl_finds_what_it_looks_for() {
        let document = v3("apps", "v1", &[deployments()], &[]);
        let json: Value = serde_json::from_slice(&document.json()).unwrap();
        let patch = &json["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "kind": "Deployment", "version": "v1"})
        );
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|one| one["name"] == "fieldValidation"));
        let schema = &json["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
        assert!(schema["properties"]["spec"]["description"].as_str().unwrap().starts_with("Specification"));
        let mut lost = Vec::new();
        dangling(&json, &json, &mut lost);
        assert_eq!(lost, Vec::<String>::new());
    }

    #[test]
    fn a_custom_resource_takes_no_strategic_merge_patch() {
        let widgets = Resource { definition: Some("io.ex.v1.Widget".into()), ..deployments() };
        let strategic = "application/strategic-merge-patch+json";
        let paths = |resource: &Resource| -> [Value; 2] {
            let newer = v3("ex.io", "v1", std::slice::from_ref(resource), &[]);
            let older = v2(&[("ex.io".into(), "v1".into(), vec![resource.clone()])], &[]);
            [newer, older]
                .map(|document| serde_json::from_slice::<Value>(&document.json()).unwrap()["paths"].take())
        };
        let one = "/apis/ex.io/v1/namespaces/{namespace}/deployments/{name}";
        for path in [one.to_owned(), format!("{one}/scale")] {
            let [newer, older] = paths(&widgets);
            let media = newer[&path]["patch"]["requestBody"]["content"].as_object().unwrap();
            assert!(media.contains_key("application/merge-patch+json") && !media.contains_key(strategic));
            assert_eq!(older[&path]["patch"]["consumes"].as_array().map(Vec::len), Some(3));
            let [newer, older] = paths(&deployments());
            assert!(newer[&path]["patch"]["requestBody"]["content"].get(strategic).is_some());
            assert_eq!(older[&path]["patch"]["consumes"].as_array().map(Vec::len), Some(4));
        }
    }

    #[test]
    fn gzip_is_the_same_document() {
        let document = v3("", "v1", &[], &[]);
        let mut out = Vec::new();
        MultiGzDecoder::new(&document.gzip()[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out, document.json());
        assert_eq!(document.hash(), v3("", "v1", &[], &[]).hash());
        assert_ne!(document.hash(), v3("apps", "v1", &[], &[]).hash());
    }

    #[test]
    fn every_document_is_whole() {
        for (group, version, _) in schemas::SCHEMAS {
            let document = v3(group, version, &[], &[]);
            let json: Value = serde_json::from_slice(&document.json()).unwrap();
            let mut lost = Vec::new();
            dangling(&json, &json, &mut lost);
            assert_eq!(lost, Vec::<String>::new(), "{group}/{version}");
        }
    }
}
