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

/// A custom resource's schema as OpenAPI v2 can say it and as kubectl reads that: junctors go, and what may hold anything says nothing of
/// its content (apiextensions-apiserver `pkg/controller/openapi/v2/conversion.go` and `builder/builder.go`). kubectl checks the
/// items of a `List` against it itself.
pub(super) fn v2(mut schema: Value) -> Value {
    if let Some(map) = schema.as_object_mut()
        && holds_anything(map)
    {
        // Were its metadata told, kubectl would take all else for unknown.
        map.retain(|key, _| matches!(key.as_str(), "type" | "x-kubernetes-group-version-kind"));
        return schema;
    }
    simplify(&mut schema);
    schema
}

fn holds_anything(map: &Map<String, Value>) -> bool {
    map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

fn is_nullable(schema: &Value) -> bool {
    schema["nullable"] == true
}

fn simplify(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    // Ours, to the schemas of metadata: v2 takes a description beside a reference.
    let reference = match map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref").cloned(),
        _ => None,
    };
    for junctor in ["allOf", "oneOf", "anyOf", "not"] {
        map.remove(junctor);
    }
    if let Some(reference) = reference {
        map.insert("$ref".into(), reference);
        return;
    }
    let nullable = map.remove("nullable") == Some(Value::Bool(true));
    if nullable {
        map.remove("type");
    }
    if nullable || holds_anything(map) {
        map.remove("items");
        map.remove("properties");
    }
    if map.get("type").is_some_and(|type_| type_ == "array") && !map.contains_key("items") {
        map.remove("type");
    }
    require_less(map);
    for part in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(part) {
            simplify(inner);
        }
    }
    for (_, inner) in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        simplify(inner);
    }
}

/// What may be null is not required.
fn require_less(map: &mut Map<String, Value>) {
    let is_map_of_nullables = map.get("additionalProperties").is_some_and(is_nullable);
    let nullables: Vec<String> = map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| is_nullable(property))
        .map(|(name, _)| name.clone())
        .collect();
    let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) else { return };
    required.retain(|name| !nullables.iter().any(|nullable| name == nullable.as_str()));
    if is_map_of_nullables || required.is_empty() {
        map.remove("required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: Option<Value>) -> Value {
        v2(custom_schemas("ex.io", "v1", "Widget", "WidgetList", schema.as_ref())[0].1.clone())
    }

    #[test]
    fn what_may_hold_anything_tells_nothing_of_it() {
        let bare = json!({"type": "object", "x-kubernetes-group-version-kind": [{"group": "ex.io", "kind": "Widget", "version": "v1"}]});
        assert_eq!(of(None), bare);
        let preserving = json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {"type": "object"}},
        });
        assert_eq!(of(Some(preserving)), bare);
        let part = of(Some(json!({"type": "object", "properties": {"spec": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}},
        }}})));
        assert_eq!(
            part["properties"]["spec"],
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        );
        assert_eq!(
            part["properties"]["metadata"]["$ref"],
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        );
    }

    #[test]
    fn v2_knows_neither_junctors_nor_null() {
        let schema = of(Some(json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "required": ["a", "b"],
            "oneOf": [{"required": ["a"]}],
            "properties": {
                "a": {"type": "string", "nullable": true},
                "b": {"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "string"}},
                "c": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
        }}})));
        assert_eq!(
            schema["properties"]["spec"],
            json!({
                "type": "object",
                "required": ["b"],
                "properties": {
                    "a": {},
                    "b": {"x-kubernetes-preserve-unknown-fields": true},
                    "c": {"x-kubernetes-int-or-string": true},
                },
            })
        );
    }
}
