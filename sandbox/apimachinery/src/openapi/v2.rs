//! The OpenAPI v2 document that clients before Kubernetes 1.24 ask for: one for all groups, as JSON or as gnostic's protobuf
//! (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).

use super::{Document, Piece, Resource, crd, paths};
use serde_json::{Map, Value};

static DEFINITIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi-v2.gz"));

/// The document. `groups` are group, version and resources; `custom` the schemas of custom resources.
pub fn v2(groups: &[(String, String, Vec<Resource>)], custom: &[(String, Value)]) -> Document {
    let mut all = Map::new();
    for (group, version, resources) in groups {
        all.extend(paths::paths(group, version, resources, paths::Style::V2));
    }
    let head = format!(
        "{{\"swagger\":\"2.0\",\"info\":{{\"title\":\"Kubernetes\",\"version\":\"{}\"}},\"paths\":{},\"definitions\":{{",
        crate::GIT_VERSION,
        Value::Object(all)
    );
    let mut tail = String::new();
    for (name, schema) in custom {
        let schema = crd::v2(schema.clone()).to_string().replace("#/components/schemas/", "#/definitions/");
        tail.push_str(&format!(",{}:{schema}", Value::from(name.as_str())));
    }
    tail.push_str(
        "},\"securityDefinitions\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"Bearer Token authentication\",\
         \"name\":\"authorization\",\"in\":\"header\"}},\"security\":[{\"BearerToken\":[]}]}",
    );
    Document { pieces: vec![Piece::Text(head), Piece::Compressed(DEFINITIONS), Piece::Text(tail)] }
}

/// The same document as protobuf.
pub fn v2_protobuf(document: &Document) -> Vec<u8> {
    let tree: Value = serde_json::from_slice(&document.json()).unwrap_or_default();
    encode::document(&tree)
}

/// Messages of gnostic's `openapiv2/OpenAPIv2.proto`, as far as Kubernetes' documents use them.
mod encode {
    use serde_json::{Map, Value};

    #[derive(Default)]
    struct Message(Vec<u8>);

    impl Message {
        fn varint(&mut self, mut value: u64) {
            while value >= 0x80 {
                self.0.push(value as u8 | 0x80);
                value >>= 7;
            }
            self.0.push(value as u8);
        }

        fn bytes(&mut self, tag: u64, bytes: &[u8]) {
            self.varint(tag << 3 | 2);
            self.varint(bytes.len() as u64);
            self.0.extend_from_slice(bytes);
        }

        fn text(&mut self, tag: u64, value: Option<&Value>) {
            if let Some(text) = value.and_then(Value::as_str) {
                self.bytes(tag, text.as_bytes());
            }
        }

        fn texts(&mut self, tag: u64, value: Option<&Value>) {
            for text in value.and_then(Value::as_array).into_iter().flatten() {
                self.text(tag, Some(text));
            }
        }

        fn flag(&mut self, tag: u64, value: Option<&Value>) {
            if value == Some(&Value::Bool(true)) {
                self.varint(tag << 3);
                self.varint(1);
            }
        }

        fn double(&mut self, tag: u64, value: Option<&Value>) {
            if let Some(number) = value.and_then(Value::as_f64) {
                self.varint(tag << 3 | 1);
                self.0.extend_from_slice(&number.to_le_bytes());
            }
        }

        fn int(&mut self, tag: u64, value: Option<&Value>) {
            if let Some(number) = value.and_then(Value::as_i64) {
                self.varint(tag << 3);
                self.varint(number as u64);
            }
        }

        fn message(&mut self, tag: u64, inner: Self) {
            self.bytes(tag, &inner.0);
        }
    }

    /// A message of a name (1) and a value (2).
    fn named(name: &str, value: Message) -> Message {
        let mut out = Message::default();
        out.bytes(1, name.as_bytes());
        out.message(2, value);
        out
    }

    /// `Any`: the value as YAML, of which JSON is part.
    fn any(value: &Value) -> Message {
        let mut out = Message::default();
        out.bytes(2, value.to_string().as_bytes());
        out
    }

    fn extensions(out: &mut Message, tag: u64, map: &Map<String, Value>) {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            out.message(tag, named(name, any(value)));
        }
    }

    pub(super) fn document(tree: &Value) -> Vec<u8> {
        let mut out = Message::default();
        out.text(1, tree.get("swagger"));
        let mut info = Message::default();
        info.text(1, tree.pointer("/info/title"));
        info.text(2, tree.pointer("/info/version"));
        out.message(2, info);
        let mut paths = Message::default();
        for (path, item) in tree["paths"].as_object().into_iter().flatten() {
            paths.message(2, named(path, path_item(item)));
        }
        out.message(8, paths);
        let mut definitions = Message::default();
        for (name, value) in tree["definitions"].as_object().into_iter().flatten() {
            definitions.message(1, named(name, schema(value, 0)));
        }
        out.message(9, definitions);
        out.0
    }

    fn path_item(item: &Value) -> Message {
        let mut out = Message::default();
        for (method, tag) in
            [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)]
        {
            if let Some(operation) = item.get(method) {
                out.message(tag, self::operation(operation));
            }
        }
        for parameter in item["parameters"].as_array().into_iter().flatten() {
            out.message(9, parameters_item(parameter));
        }
        out
    }

    fn operation(value: &Value) -> Message {
        let mut out = Message::default();
        out.texts(1, value.get("tags"));
        out.text(5, value.get("operationId"));
        out.texts(6, value.get("produces"));
        out.texts(7, value.get("consumes"));
        for parameter in value["parameters"].as_array().into_iter().flatten() {
            out.message(8, parameters_item(parameter));
        }
        let mut responses = Message::default();
        for (code, response) in value["responses"].as_object().into_iter().flatten() {
            let mut one = Message::default();
            one.text(1, response.get("description"));
            if let Some(of) = response.get("schema") {
                let mut item = Message::default();
                item.message(1, schema(of, 0));
                one.message(2, item);
            }
            let mut value = Message::default();
            value.message(1, one);
            responses.message(1, named(code, value));
        }
        out.message(9, responses);
        out.texts(10, value.get("schemes"));
        if let Some(map) = value.as_object() {
            extensions(&mut out, 13, map);
        }
        out
    }

    /// `ParametersItem{parameter: Parameter{body | non_body{query | path}}}`.
    fn parameters_item(value: &Value) -> Message {
        let mut parameter = Message::default();
        if value["in"] == "body" {
            let mut body = Message::default();
            body.text(2, value.get("name"));
            body.text(3, value.get("in"));
            body.flag(4, value.get("required"));
            body.message(5, schema(&value["schema"], 0));
            parameter.message(1, body);
        } else {
            let path = value["in"] == "path";
            let mut one = Message::default();
            one.flag(1, value.get("required"));
            one.text(2, value.get("in"));
            one.text(4, value.get("name"));
            // In `QueryParameterSubSchema`, a flag for empty values comes before the type.
            one.text(if path { 5 } else { 6 }, value.get("type"));
            let mut non_body = Message::default();
            non_body.message(if path { 4 } else { 3 }, one);
            parameter.message(2, non_body);
        }
        let mut out = Message::default();
        out.message(1, parameter);
        out
    }

    fn schema(value: &Value, depth: usize) -> Message {
        let mut out = Message::default();
        let Some(map) = value.as_object() else { return out };
        if depth > 64 {
            return out;
        }
        out.text(1, map.get("$ref"));
        out.text(2, map.get("format"));
        out.text(3, map.get("title"));
        out.text(4, map.get("description"));
        if let Some(default) = map.get("default") {
            out.message(5, any(default));
        }
        out.double(6, map.get("multipleOf"));
        out.double(7, map.get("maximum"));
        out.flag(8, map.get("exclusiveMaximum"));
        out.double(9, map.get("minimum"));
        out.flag(10, map.get("exclusiveMinimum"));
        out.int(11, map.get("maxLength"));
        out.int(12, map.get("minLength"));
        out.text(13, map.get("pattern"));
        out.int(14, map.get("maxItems"));
        out.int(15, map.get("minItems"));
        out.flag(16, map.get("uniqueItems"));
        out.int(17, map.get("maxProperties"));
        out.int(18, map.get("minProperties"));
        out.texts(19, map.get("required"));
        for one in map.get("enum").and_then(Value::as_array).into_iter().flatten() {
            out.message(20, any(one));
        }
        if let Some(additional) = map.get("additionalProperties") {
            let mut item = Message::default();
            match additional {
                Value::Bool(_) => item.flag(2, Some(additional)),
                other => item.message(1, schema(other, depth + 1)),
            }
            out.message(21, item);
        }
        if let Some(type_) = map.get("type") {
            let mut item = Message::default();
            item.text(1, Some(type_));
            out.message(22, item);
        }
        if let Some(items) = map.get("items") {
            let mut item = Message::default();
            item.message(1, schema(items, depth + 1));
            out.message(23, item);
        }
        for one in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            out.message(24, schema(one, depth + 1));
        }
        if let Some(properties) = map.get("properties").and_then(Value::as_object) {
            let mut all = Message::default();
            for (name, value) in properties {
                all.message(1, named(name, schema(value, depth + 1)));
            }
            out.message(25, all);
        }
        extensions(&mut out, 31, map);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_json_and_protobuf() {
        let widget = super::super::custom_schemas("example.com", "v1", "Widget", "WidgetList", None);
        let resource = Resource {
            plural: "widgets".into(),
            kind: "Widget".into(),
            verbs: vec!["get".into(), "patch".into(), "create".into()],
            definition: Some(widget[0].0.clone()),
            ..Resource::default()
        };
        let document = v2(&[("example.com".into(), "v1".into(), vec![resource])], &widget);
        let tree: Value = serde_json::from_slice(&document.json()).unwrap();
        assert_eq!(tree["swagger"], "2.0");
        let pod = &tree["definitions"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
        assert!(tree["definitions"].get("com.example.v1.Widget").is_some());
        let protobuf = v2_protobuf(&document);
        assert_eq!(&protobuf[..5], b"\x0a\x032.0");
        let name = b"io.k8s.api.core.v1.PodSpec";
        assert!(protobuf.windows(name.len()).any(|window| window == name));
    }
}
