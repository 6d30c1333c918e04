//! The paths of a document: for each resource what can be done with it, with the extensions by which `kubectl` finds a kind's
//! operations (`x-kubernetes-group-version-kind`, `x-kubernetes-action`) and the `fieldValidation` parameter it looks for.

use super::{Resource, Subresource, root};
use crate::schema;
use serde_json::{Map, Value, json};

/// OpenAPI 2 and 3 differ in where bodies and answers stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    V2,
    V3,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

struct Kind<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    definition: Option<String>,
}

impl Kind<'_> {
    fn list_definition(&self) -> Option<String> {
        Some(format!("{}List", self.definition.as_ref()?))
    }
}

fn definition(group: &str, version: &str, kind: &str) -> Option<String> {
    schema::find(group, version, kind).map(|found| found.definition().to_string())
}

/// All paths of the resources of a group and version.
pub(super) fn paths(group: &str, version: &str, resources: &[Resource], style: Style) -> Map<String, Value> {
    let mut paths = Map::new();
    let base = format!("/{}", root(group, version));
    for resource in resources {
        let kind = Kind {
            group,
            version,
            kind: &resource.kind,
            definition: resource.definition.clone().or_else(|| definition(group, version, &resource.kind)),
        };
        let collection = if resource.namespaced {
            format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
        } else {
            format!("{base}/{}", resource.plural)
        };
        let patches = if resource.definition.is_some() { &CUSTOM_PATCHES[..] } else { &PATCHES[..] };
        let writer = Writer { style, namespaced: resource.namespaced, patches };
        let has = |verb: &str| resource.verbs.iter().any(|one| one == verb);
        let mut on_all = Map::new();
        for (verb, method, action) in [
            ("list", "get", "list"),
            ("create", "post", "post"),
            ("deletecollection", "delete", "deletecollection"),
        ] {
            if has(verb) {
                on_all.insert(method.into(), writer.operation(&kind, action, &resource.plural, ""));
            }
        }
        add(&mut paths, &collection, on_all, writer.path_parameters(false));
        let mut on_one = Map::new();
        for (verb, method, action) in [
            ("get", "get", "get"),
            ("update", "put", "put"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ] {
            if has(verb) {
                on_one.insert(method.into(), writer.operation(&kind, action, &resource.plural, ""));
            }
        }
        add(&mut paths, &format!("{collection}/{{name}}"), on_one, writer.path_parameters(true));
        if resource.namespaced && has("list") {
            let everywhere = Writer { style, namespaced: false, patches };
            let operation = everywhere.operation(&kind, "list", &resource.plural, "ForAllNamespaces");
            add(
                &mut paths,
                &format!("{base}/{}", resource.plural),
                Map::from_iter([("get".into(), operation)]),
                json!([]),
            );
        }
        for below in &resource.subresources {
            let path = format!("{collection}/{{name}}/{}", below.name);
            add(
                &mut paths,
                &path,
                subresource(&writer, below, &resource.plural),
                writer.path_parameters(true),
            );
        }
    }
    paths
}

fn add(paths: &mut Map<String, Value>, path: &str, mut operations: Map<String, Value>, parameters: Value) {
    if !operations.is_empty() {
        operations.insert("parameters".into(), parameters);
        paths.insert(path.into(), Value::Object(operations));
    }
}

fn subresource(writer: &Writer, below: &Subresource, plural: &str) -> Map<String, Value> {
    let kind = Kind {
        group: &below.group,
        version: &below.version,
        kind: &below.kind,
        definition: definition(&below.group, &below.version, &below.kind),
    };
    let mut out = Map::new();
    for verb in &below.verbs {
        let (method, action) = match verb.as_str() {
            "get" => ("get", "get"),
            "update" => ("put", "put"),
            "patch" => ("patch", "patch"),
            "create" => ("post", "post"),
            "delete" => ("delete", "delete"),
            _ => continue,
        };
        out.insert(method.into(), writer.operation(&kind, action, plural, &below.name));
    }
    out
}

struct Writer {
    style: Style,
    namespaced: bool,
    /// Media types that a patch may have.
    patches: &'static [&'static str],
}

impl Writer {
    fn reference(&self, definition: &str) -> Value {
        match self.style {
            Style::V2 => json!({"$ref": format!("#/definitions/{definition}")}),
            Style::V3 => json!({"$ref": format!("#/components/schemas/{definition}")}),
        }
    }

    fn parameter(&self, name: &str, place: &str, type_: &str) -> Value {
        let mut out = json!({"name": name, "in": place});
        match self.style {
            Style::V2 => out["type"] = type_.into(),
            Style::V3 => out["schema"] = json!({"type": type_}),
        }
        if self.style == Style::V2 || place == "path" {
            out["uniqueItems"] = true.into();
        }
        if place == "path" {
            out["required"] = true.into();
        }
        if self.style == Style::V3 {
            out.as_object_mut().map(|out| out.remove("uniqueItems"));
        }
        out
    }

    fn path_parameters(&self, name: bool) -> Value {
        let mut all = Vec::new();
        if name {
            all.push(self.parameter("name", "path", "string"));
        }
        if self.namespaced {
            all.push(self.parameter("namespace", "path", "string"));
        }
        all.push(self.parameter("pretty", "query", "string"));
        Value::Array(all)
    }

    fn operation(&self, kind: &Kind<'_>, action: &str, plural: &str, below: &str) -> Value {
        let queries: &[(&str, &str)] = match action {
            "list" | "deletecollection" => &[
                ("allowWatchBookmarks", "boolean"),
                ("continue", "string"),
                ("fieldSelector", "string"),
                ("labelSelector", "string"),
                ("limit", "integer"),
                ("resourceVersion", "string"),
                ("resourceVersionMatch", "string"),
                ("sendInitialEvents", "boolean"),
                ("timeoutSeconds", "integer"),
                ("watch", "boolean"),
            ],
            "post" | "put" => {
                &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]
            }
            "patch" => &[
                ("dryRun", "string"),
                ("fieldManager", "string"),
                ("fieldValidation", "string"),
                ("force", "boolean"),
            ],
            "delete" => &[
                ("dryRun", "string"),
                ("gracePeriodSeconds", "integer"),
                ("orphanDependents", "boolean"),
                ("propagationPolicy", "string"),
            ],
            _ => &[],
        };
        let mut parameters: Vec<_> =
            queries.iter().map(|(name, type_)| self.parameter(name, "query", type_)).collect();
        let answer = match action {
            "list" => kind.list_definition(),
            "delete" | "deletecollection" => Some(format!("{META}.Status")),
            _ => kind.definition.clone(),
        };
        let body = match action {
            "post" | "put" => kind.definition.clone(),
            "delete" | "deletecollection" => Some(format!("{META}.DeleteOptions")),
            _ => None,
        };
        let schema = |name: &Option<String>| {
            name.as_ref().map_or_else(|| json!({"type": "object"}), |name| self.reference(name))
        };
        let namespaced = if self.namespaced { "Namespaced" } else { "" };
        let mut out = json!({
            "tags": [format!("{}_{}", if kind.group.is_empty() { "core" } else { kind.group }, kind.version)],
            "operationId": format!("{action}{}{namespaced}{}{plural}{below}", kind.version, kind.kind),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version},
        });
        match self.style {
            Style::V2 => {
                if action == "patch" || body.is_some() {
                    let mut parameter = json!({"name": "body", "in": "body", "schema": schema(&body)});
                    parameter["required"] = matches!(action, "post" | "put" | "patch").into();
                    parameters.push(parameter);
                }
                out["responses"] = json!({"200": {"description": "OK", "schema": schema(&answer)}});
                out["consumes"] = if action == "patch" { json!(self.patches) } else { json!(["*/*"]) };
                out["produces"] = json!(["application/json"]);
                out["schemes"] = json!(["https"]);
            }
            Style::V3 => {
                if action == "patch" {
                    let media = self.patches.iter();
                    let content =
                        media.map(|media| (media.to_string(), json!({"schema": {"type": "object"}})));
                    out["requestBody"] = json!({"content": Map::from_iter(content), "required": true});
                } else if body.is_some() {
                    out["requestBody"] = json!({"content": {"*/*": {"schema": schema(&body)}}});
                }
                let content = json!({"application/json": {"schema": schema(&answer)}});
                out["responses"] = json!({"200": {"description": "OK", "content": content}});
            }
        }
        out["parameters"] = parameters.into();
        out
    }
}

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A custom resource has no Go type whose tags would say how lists are merged (apiextensions `pkg/controller/openapi/builder`). `kubectl
/// apply` reads here which kind of patch it may send.
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
