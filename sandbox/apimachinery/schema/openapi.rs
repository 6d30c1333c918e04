//! Part of the build: the schemas of each group and version as its OpenAPI v3 document lists them, and those of all for v2; compressed
//! as gzip members, which `src/openapi.rs` puts between the parts that it writes itself.

use flate2::{Compression, write::GzEncoder};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// What every document of a group has beside its kinds.
const ALWAYS: [&str; 3] = ["meta.v1.APIResourceList", "meta.v1.DeleteOptions", "meta.v1.Status"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// OpenAPI's name of a leaf that is a definition of its own.
fn leaf_definition(leaf: &str) -> Option<String> {
    Some(match leaf {
        "Time" | "MicroTime" | "FieldsV1" | "Duration" => format!("{META}.{leaf}"),
        "Quantity" => "io.k8s.apimachinery.pkg.api.resource.Quantity".into(),
        "IntOrString" => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".into(),
        "RawExtension" => "io.k8s.apimachinery.pkg.runtime.RawExtension".into(),
        "JSON" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{leaf}")
        }
        _ => return None,
    })
}

/// The definition of such a leaf.
fn leaf_schema(leaf: &str, v3: bool) -> Value {
    match leaf {
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time", "description": format!(
            "{leaf} is a wrapper around time.Time which supports correct marshaling to YAML and JSON.")}),
        "Duration" => json!({"type": "string", "description": "Duration is a wrapper around time.Duration."}),
        "FieldsV1" => {
            json!({"type": "object", "description": "FieldsV1 stores a set of fields in a data structure like a Trie, in JSON format."})
        }
        "Quantity" if v3 => json!({"description": "Quantity is a fixed-point representation of a number.",
            "oneOf": [{"type": "string"}, {"type": "number"}]}),
        "Quantity" => {
            json!({"type": "string", "description": "Quantity is a fixed-point representation of a number."})
        }
        "IntOrString" if v3 => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}],
            "description": "IntOrString is a type that can hold an int32 or a string."})
        }
        "IntOrString" => json!({"type": "string", "format": "int-or-string",
            "description": "IntOrString is a type that can hold an int32 or a string."}),
        "RawExtension" => {
            json!({"type": "object", "description": "RawExtension is used to hold extensions in external versions."})
        }
        other => json!({"description": format!("{other} holds any valid JSON value of its kind.")}),
    }
}

struct Writer<'a> {
    types: &'a BTreeMap<String, Value>,
    v3: bool,
}

impl Writer<'_> {
    fn reference(&self, definition: &str) -> Value {
        if self.v3 {
            json!({"allOf": [{"$ref": format!("#/components/schemas/{definition}")}]})
        } else {
            json!({"$ref": format!("#/definitions/{definition}")})
        }
    }

    /// Schema of a type; `needs` collects the definitions that it refers to.
    fn of(&self, go: &str, element: bool, needs: &mut BTreeSet<String>) -> Value {
        let go = go.trim_start_matches('*');
        if go == "[]byte" {
            return json!({"type": "string", "format": "byte"});
        }
        if let Some(inner) = go.trim_start_matches('!').strip_prefix("[]") {
            return json!({"type": "array", "items": self.of(inner, true, needs)});
        }
        if let Some(inner) = go.strip_prefix("map[string]") {
            return json!({"type": "object", "additionalProperties": self.of(inner, true, needs)});
        }
        let mut schema = match go {
            "string" => json!({"type": "string", "default": ""}),
            "bool" => json!({"type": "boolean", "default": false}),
            "int32" | "int64" => json!({"type": "integer", "format": go, "default": 0}),
            "float64" => json!({"type": "number", "format": "double", "default": 0}),
            _ => {
                needs.insert(go.into());
                let mut schema = match leaf_definition(go) {
                    Some(definition) => self.reference(&definition),
                    None => self.reference(text(&self.types[go], "full")),
                };
                if self.v3 && leaf_definition(go).is_none() {
                    schema["default"] = json!({});
                }
                schema
            }
        };
        if let (true, Some(schema)) = (!element || !self.v3, schema.as_object_mut()) {
            // A default is told for elements, and for fields that are no pointers.
            schema.remove("default");
        }
        schema
    }

    fn field(&self, field: &Value, needs: &mut BTreeSet<String>) -> Value {
        let go = text(field, "y");
        let mut schema = self.of(go, !go.starts_with('*') && text(field, "o").is_empty(), needs);
        if self.v3 && field.get("default").is_some() {
            schema["default"] = field["default"].clone();
        }
        if let Some(doc) = field.get("d") {
            schema["description"] = doc.clone();
        }
        if let Some(all) = field.get("enum") {
            if schema["type"] == "array" {
                schema["items"]["enum"] = all.clone()
            } else {
                schema["enum"] = all.clone()
            }
        }
        for (key, extension) in [
            ("list", "x-kubernetes-list-type"),
            ("keys", "x-kubernetes-list-map-keys"),
            ("map", "x-kubernetes-map-type"),
            ("ps", "x-kubernetes-patch-strategy"),
            ("pk", "x-kubernetes-patch-merge-key"),
        ] {
            if let Some(value) = field.get(key) {
                schema[extension] = value.clone();
            }
        }
        schema
    }

    fn properties(&self, row: &Value, out: &mut Map<String, Value>, needs: &mut BTreeSet<String>) {
        for field in row["fields"].as_array().into_iter().flatten() {
            match field["n"].as_str() {
                Some(name) => {
                    out.insert(name.into(), self.field(field, needs));
                }
                None => self.properties(&self.types[text(field, "y").trim_start_matches('*')], out, needs),
            }
        }
    }

    fn definition(&self, row: &Value, also: (&str, &str), needs: &mut BTreeSet<String>) -> Value {
        let mut properties = Map::new();
        self.properties(row, &mut properties, needs);
        let mut schema = json!({"type": "object", "description": row["doc"]});
        if !properties.is_empty() {
            schema["properties"] = properties.into();
        }
        if let Some(required) = row.get("required") {
            schema["required"] = required.clone();
        }
        if let Some(map) = row.get("map") {
            schema["x-kubernetes-map-type"] = map.clone();
        }
        if let Some(gvk) = row["gvk"].as_array() {
            // The kinds of `meta` belong to every group.
            let of = |group: &str, version: &str| json!({"group": group, "kind": gvk[2], "version": version});
            schema["x-kubernetes-group-version-kind"] = if gvk[0] != "meta.k8s.io" {
                json!([of(gvk[0].as_str().unwrap_or_default(), gvk[1].as_str().unwrap_or_default())])
            } else if gvk[2] == "DeleteOptions" && !also.0.is_empty() {
                json!([of("", "v1"), of(also.0, also.1)])
            } else {
                json!([of("", "v1")])
            };
        }
        schema
    }

    /// What is named and all that it refers to, as the members of a JSON object, without braces.
    fn closure(&self, roots: BTreeSet<String>, also: (&str, &str)) -> String {
        let (mut queue, mut done) = (roots, BTreeMap::new());
        while let Some(name) = queue.pop_first() {
            let mut needs = BTreeSet::new();
            let (definition, schema) = match leaf_definition(&name) {
                Some(definition) => (definition, leaf_schema(&name, self.v3)),
                None => {
                    let row = &self.types[&name];
                    (text(row, "full").to_string(), self.definition(row, also, &mut needs))
                }
            };
            if done.insert(definition.clone(), schema).is_none() {
                queue.extend(needs);
            }
        }
        let mut out = String::new();
        for (name, schema) in done {
            let _infallible = write!(out, "{}{name:?}:{schema}", if out.is_empty() { "" } else { "," });
        }
        out
    }
}

fn compressed(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// Writes a file for each group and version and the table of them.
pub fn write(types: &BTreeMap<String, Value>, out: &Path) -> io::Result<()> {
    let mut groups: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (name, row) in types {
        let Some(gvk) = row["gvk"].as_array() else { continue };
        let (group, version) = (gvk[0].as_str().unwrap_or_default(), gvk[1].as_str().unwrap_or_default());
        groups.entry((group.into(), version.into())).or_default().insert(name.clone());
    }
    let mut source = String::from("pub static SCHEMAS: &[(&str, &str, &[u8])] = &[");
    let mut all = BTreeSet::new();
    for ((group, version), mut roots) in groups {
        all.extend(roots.iter().cloned());
        // Subresources of other groups: scale, eviction, token.
        match group.as_str() {
            "" => roots.extend(
                ["autoscaling.v1.Scale", "policy.v1.Eviction", "authentication.v1.TokenRequest"]
                    .map(Into::into),
            ),
            "apps" => roots.extend(["autoscaling.v1.Scale".into()]),
            _ => {}
        }
        roots.extend(ALWAYS.map(Into::into));
        let text = Writer { types, v3: true }.closure(roots, (&group, &version));
        let file = format!("openapi-{group}-{version}.gz");
        std::fs::write(out.join(&file), compressed(&text)?)?;
        let _infallible = write!(
            source,
            "({group:?}, {version:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))),"
        );
    }
    source.push_str("];");
    std::fs::write(out.join("openapi.rs"), source)?;
    let text = Writer { types, v3: false }.closure(all, ("", ""));
    std::fs::write(out.join("openapi-v2.gz"), compressed(&text)?)
}
