//! Schemas of custom resources as OpenAPI publishes them.

use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Name of a custom resource's schema: the group reversed, the version, the kind (`com.example.v1.Widget`).
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<_> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The schemas that a version of a custom resource adds to a document: its own and that of its lists. The first name is the one for
/// [`super::Resource::definition`]. `schema` is the definition's `openAPIV3Schema`, if it has one.
pub fn custom_schemas(
    group: &str,
    version: &str,
    kind: &str,
    list_kind: &str,
    schema: Option<&Value>,
) -> Vec<(String, Value)> {
    let name = definition_name(group, version, kind);
    let gvk = |kind: &str| json!([{"group": group, "kind": kind, "version": version}]);
    let reference = |to: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{to}")}]});
    let text = |description: &str| json!({"type": "string", "description": description});
    let version_field = text(
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to \
         the latest internal value, and may reject unrecognized values.",
    );
    let kind_field = text(
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the \
         client submits requests to.",
    );
    let mut own = schema
        .cloned()
        .unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    if let Some(own) = own.as_object_mut() {
        let properties = own.entry("properties").or_insert_with(|| Value::Object(Map::new()));
        if let Some(properties) = properties.as_object_mut() {
            let mut metadata = reference(&format!("{META}.ObjectMeta"));
            metadata["description"] = "Standard object's metadata.".into();
            properties.insert("metadata".into(), metadata);
            properties.insert("apiVersion".into(), version_field.clone());
            properties.insert("kind".into(), kind_field.clone());
        }
        own.insert("x-kubernetes-group-version-kind".into(), gvk(kind));
    }
    let mut list_meta = reference(&format!("{META}.ListMeta"));
    list_meta["description"] = "Standard list metadata.".into();
    let list = json!({
        "type": "object",
        "description": format!("{list_kind} is a list of {kind}"),
        "required": ["items"],
        "properties": {
            "apiVersion": version_field,
            "kind": kind_field,
            "metadata": list_meta,
            "items": {"type": "array", "description": "List of objects.", "items": reference(&name)},
        },
        "x-kubernetes-group-version-kind": gvk(list_kind),
    });
    // Paths refer to the list's schema by the kind's name and `List`.
    vec![(name.clone(), own), (format!("{name}List"), list)]
}
