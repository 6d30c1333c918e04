//! Request bodies to objects. The API server calls [`decode`] with the schema of the kind that the path names (or [`decode_untyped`]
//! for custom resources), [`conform`] for what a patch made, and [`complete`] once defaults are filled in and before an object is
//! stored. Between the two an object is *sparse*: what Go could not tell from its zero value is not there, so that defaulting and
//! validation need ask only whether a field is there. Bodies are hostile: depth, number of values and size are bounded.

mod conformed;
pub(crate) mod go_json;
mod json;
mod protobuf;
mod time;
mod unstructured;
mod yaml;

pub use protobuf::MAGIC as PROTOBUF_MAGIC;
pub use time::{canonical_micro_time, canonical_time};
pub(crate) use unstructured::first_error as unstructured_error;

use crate::Status;
use crate::schema::{Field, Struct, Type};
use serde_json::{Map, Value};

/// Most values (numbers, strings, lists, maps) that a body may hold.
pub(crate) const MOST_VALUES: usize = 400_000;
/// Most strict errors that are collected, as upstream.
const MOST_STRICT: usize = 100;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// A decoded object.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; `apiVersion` and `kind` only if the body said them.
    pub object: Value,
    /// What was wrong with it but not refused: texts such as `unknown field "spec.bogus"`, for `fieldValidation`.
    pub strict: Vec<String>,
}

/// Why a body is no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    message: String,
    /// Version and kind, if it came so far as to know them.
    of: Option<(String, String)>,
}

impl DecodeError {
    fn unreadable(message: impl Into<String>) -> Self {
        Self { message: message.into(), of: None }
    }

    /// The answer (400), in the words of apiserver's `transformDecodeError`.
    pub fn status(&self, expected_kind: &str, body: &[u8]) -> Status {
        Status::bad_request(match &self.of {
            Some((version, kind)) => {
                let kind = if kind.is_empty() { expected_kind } else { kind };
                format!(
                    "{kind} in version {version:?} cannot be handled as a {expected_kind}: {}",
                    self.message
                )
            }
            None => format!(
                "the object provided is unrecognized (must be of type {expected_kind}): {} ({})",
                self.message,
                summary(body)
            ),
        })
    }
}

/// The start of a body, for an error (apiserver's `summarizeData`).
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let start = &body[..body.len().min(MOST)];
    let more = if body.len() > MOST { " ..." } else { "" };
    match body {
        [] => "<empty>".into(),
        [b'{', ..] => format!("{}{more}", String::from_utf8_lossy(start)),
        _ => start.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

/// The 400 for strict errors (`fieldValidation=Strict`).
pub fn strict_status(version: &str, kind: &str, strict: &[String]) -> Status {
    let errors = strict.join(", ");
    Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {errors}"
    ))
}

/// Decodes a body of a kind with a schema. Fields that it does not know are dropped and told as strict errors.
pub fn decode(body: &[u8], format: Format, schema: Struct) -> Result<Decoded, DecodeError> {
    match format {
        Format::Json => json::typed(body, schema),
        Format::Yaml => {
            let tree = yaml::parse(body)?;
            let mut decoded = json::conform(&tree.object, schema)?;
            decoded.strict.splice(0..0, tree.strict);
            Ok(decoded)
        }
        Format::Protobuf => protobuf::object(body, schema),
    }
}

/// Reads JSON that must be an object; the error in the words of Go's `encoding/json`.
pub fn json_object(body: &[u8]) -> Result<Map<String, Value>, String> {
    go_json::object(body)
}

/// Decodes a body without a schema; only duplicate fields are told. Protobuf is refused: no custom resource is written so.
pub fn decode_untyped(body: &[u8], format: Format) -> Result<Decoded, DecodeError> {
    match format {
        Format::Json => json::untyped(body),
        Format::Yaml => yaml::parse(body),
        Format::Protobuf => Err(DecodeError::unreadable("protobuf is not supported for custom resources")),
    }
}

/// Reads a configuration for server-side apply: YAML (or JSON), which must be an object.
pub fn decode_applied(body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut decoded = yaml::parse(body)?;
    match &decoded.object {
        Value::Object(_) => {}
        // Go leaves the map as it was.
        Value::Null => decoded.object = Value::Object(Map::new()),
        other => {
            let why = go_json::wrong_type(other, "Go value of type map[string]interface {}");
            return Err(DecodeError::unreadable(format!(
                "error unmarshaling JSON: while decoding JSON: {why}"
            )));
        }
    }
    Ok(decoded)
}

/// Makes the metadata of a custom resource what that of any object is: unknown fields are dropped and told, wrong types refused. Its other
/// fields are the schema's affair (`crd::Served::prune`).
pub fn conform_metadata(decoded: &mut Decoded) -> Result<(), DecodeError> {
    let Some(map) = decoded.object.as_object_mut() else { return Ok(()) };
    let Some(metadata) = map.remove("metadata") else { return Ok(()) };
    let mut partial = Map::new();
    for name in ["apiVersion", "kind"] {
        if let Some(value) = map.get(name) {
            partial.insert(name.into(), value.clone());
        }
    }
    partial.insert("metadata".into(), metadata);
    let Some(schema) = crate::schema::find("meta.k8s.io", "v1", "PartialObjectMetadata") else {
        return Ok(());
    };
    let mut conformed = json::conform(&Value::Object(partial), schema)?;
    let metadata =
        conformed.object.get_mut("metadata").map_or_else(|| Value::Object(Map::new()), Value::take);
    if let Some(map) = decoded.object.as_object_mut() {
        map.insert("metadata".into(), metadata);
    }
    decoded.strict.append(&mut conformed.strict);
    Ok(())
}

/// Makes a tree (the result of a patch) what it would be had it come as a body.
pub fn conform(tree: &Value, schema: Struct) -> Result<Decoded, DecodeError> {
    json::conform(tree, schema)
}

/// The same for a tree that nobody needs any more, which it leaves in pieces.
pub(crate) fn conform_taken(tree: &mut Value, schema: Struct) -> Result<Decoded, DecodeError> {
    if conformed::thin(tree, schema) {
        return Ok(Decoded { object: tree.take(), strict: Vec::new() });
    }
    conform(tree, schema)
}

/// A completed object as it was before.
pub fn sparse(mut tree: Value, schema: Struct) -> Result<Value, DecodeError> {
    Ok(conform_taken(&mut tree, schema)?.object)
}

/// Fills in what Go's encoder always writes: structs that are no pointers as `{}`, and zero values of fields without `omitempty`.
/// Idempotent.
pub fn complete(object: &mut Value, schema: Struct) {
    let Value::Object(map) = object else { return };
    let mut has_null = false;
    for (name, value) in map.iter_mut() {
        match value {
            Value::Null => has_null = true,
            Value::Object(_) | Value::Array(_) => {
                if let Some(field) = schema.field(name) {
                    complete_type(value, field.type_());
                }
            }
            _ => {}
        }
    }
    if has_null {
        map.retain(|name, value| !value.is_null() || schema.field(name).is_none());
    }
    for field in schema.always_written() {
        if !map.contains_key(field.name()) {
            let type_ = field.type_();
            let Some(mut zero) = always_written(field, type_) else { continue };
            complete_type(&mut zero, type_);
            map.insert(field.name().into(), zero);
        }
    }
}

/// [`complete`] for a value of any type.
pub(crate) fn complete_type(value: &mut Value, type_: Type) {
    match (type_, value) {
        (Type::Struct(inner), value) => complete(value, inner),
        (Type::List(elem), Value::Array(all)) if holds_structs(elem.type_()) => {
            all.iter_mut().for_each(|one| complete_type(one, elem.type_()));
        }
        (Type::Map(elem), Value::Object(all)) if holds_structs(elem.type_()) => {
            all.values_mut().for_each(|one| complete_type(one, elem.type_()));
        }
        (Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStringArray, value) => match value {
            Value::Object(_) => complete(value, json::schema_props()),
            Value::Array(all) => all.iter_mut().for_each(|one| complete(one, json::schema_props())),
            _ => {}
        },
        _ => {}
    }
}

fn holds_structs(type_: Type) -> bool {
    match type_ {
        Type::Struct(_) | Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStringArray => true,
        Type::List(elem) | Type::Map(elem) => holds_structs(elem.type_()),
        _ => false,
    }
}

/// What Go writes for a field that nobody has set, if it writes anything.
pub(crate) fn always_written(field: Field, type_: Type) -> Option<Value> {
    if !field.is_always_written() {
        return None;
    }
    Some(match type_ {
        Type::Struct(_) => Value::Object(Map::new()),
        Type::String => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Float64 | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Duration => "0s".into(),
        _ => Value::Null,
    })
}

/// Whether a value of a field says no more than its absence would.
pub(crate) fn says_nothing(field: Field, value: &Value) -> bool {
    if value.is_null() {
        return true;
    }
    if field.pointer() {
        return false;
    }
    match value {
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => match field.type_() {
            Type::Quantity => text == "0" && field.omit_empty(),
            Type::IntOrString => false,
            _ => text.is_empty(),
        },
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => {
            all.is_empty() && !matches!(field.type_(), Type::RawExtension | Type::FieldsV1 | Type::Json)
        }
        Value::Null => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::find;
    use serde_json::json;

    fn deployment() -> Struct {
        find("apps", "v1", "Deployment").unwrap()
    }

    fn read(kind: Struct, body: &str) -> Decoded {
        decode(body.as_bytes(), Format::Json, kind).unwrap()
    }

    #[test]
    fn unknown_and_duplicate_fields_are_told_in_their_order_and_dropped() {
        let body = r#"{"kind":"Deployment","spec":{"replicas":1,"replicas":2,"bogus":{"a":[1]},
            "template":{"spec":{"containers":[{"name":"a","imag":"x"},{"name":"b","ports":[{"port":1}]}]}}},
            "metadata":{"labels":{"a":"b","a":"c"}}}"#;
        let decoded = read(deployment(), body);
        assert_eq!(
            decoded.strict,
            [
                r#"duplicate field "spec.replicas""#,
                r#"unknown field "spec.bogus""#,
                r#"unknown field "spec.template.spec.containers[0].imag""#,
                r#"unknown field "spec.template.spec.containers[1].ports[0].port""#,
                r#"duplicate field "metadata.labels.a""#,
            ]
        );
        assert_eq!(decoded.object["spec"]["replicas"], 2);
        assert_eq!(decoded.object["metadata"]["labels"]["a"], "c");
        assert!(decoded.object["spec"].get("bogus").is_none());
        assert_eq!(
            strict_status("v1", "Widget", &decoded.strict[..1]).message,
            "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: duplicate field \"spec.replicas\""
        );
    }

    /// Bodies and what Go says of them.
    #[test]
    fn wrong_types_are_refused_in_gos_words() {
        for (body, message) in [
            (
                r#"{"spec":{"replicas":"three"}}"#,
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"spec":{"replicas":99999999999}}"#,
                "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"spec":{"replicas":1.5}}"#,
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"metadata":{"labels":{"a":1}}}"#,
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"value":true}]}]}}}}"#,
                "json: cannot unmarshal bool into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":{"name":"a"}}}}}"#,
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                r#"{"spec":{"paused":"yes"}}"#,
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
            ),
            (
                r#"{"spec":[]}"#,
                "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
            ),
            (
                r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":{}}}}}"#,
                "json: cannot unmarshal object into Go value of type int32",
            ),
            (
                r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"1x"}}}]}}}}"#,
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                r#"{"metadata":{"creationTimestamp":"yesterday"}}"#,
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
        ] {
            let error = decode(body.as_bytes(), Format::Json, deployment()).unwrap_err();
            assert_eq!(error.to_string(), message, "{body}");
            let status = error.status("Deployment", body.as_bytes());
            assert_eq!(status.code, 400);
            assert!(
                status.message.ends_with(&format!("cannot be handled as a Deployment: {message}")),
                "{}",
                status.message
            );
        }
    }

    #[test]
    fn unreadable_bodies_are_refused_in_gos_words() {
        for (body, message) in [
            (r#"{"apiVersion":"#, "unexpected end of JSON input ({\"apiVersion\":)"),
            ("", "unexpected end of JSON input (<empty>)"),
            (r#"{"a":x}"#, "invalid character 'x' looking for beginning of value ({\"a\":x})"),
            (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair ({\"a\":1 \"b\"})"),
            (r#"{"a":[1 2]}"#, "invalid character '2' after array element ({\"a\":[1 2]})"),
            (r#"{a:1}"#, "invalid character 'a' looking for beginning of object key string ({a:1})"),
            (r#"{"a" 1}"#, "invalid character '1' after object key ({\"a\" 1})"),
            (r#"{} x"#, "invalid character 'x' after top-level value ({} x)"),
        ] {
            let error = decode(body.as_bytes(), Format::Json, deployment()).unwrap_err();
            assert_eq!(
                error.status("Widget", body.as_bytes()).message,
                format!(
                    "the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: {message}"
                )
            );
        }
    }

    #[test]
    fn what_go_cannot_tell_from_zero_is_not_there() {
        let body = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":null,"name":"p","labels":{}},
            "spec":{"hostNetwork":false,"restartPolicy":"","terminationGracePeriodSeconds":0,"volumes":null,
            "containers":[{"name":"c","resources":{"limits":{"memory":"1024Mi","cpu":0.5}},"ports":[{"containerPort":80,"hostPort":0}]},{}]},
            "status":{}}"#;
        let decoded = read(find("", "v1", "Pod").unwrap(), body);
        assert!(decoded.strict.is_empty());
        assert_eq!(
            decoded.object,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"memory": "1Gi", "cpu": "500m"}}}, {}],
            }})
        );
    }

    #[test]
    fn completed_objects_look_as_those_that_go_wrote() {
        let mut object = json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
        complete(&mut object, find("", "v1", "Service").unwrap());
        assert_eq!(
            object,
            json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}], "selector": {"a": "b"}},
                "status": {"loadBalancer": {}}})
        );
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"conditions": [{"type": "Ready"}],
            "containerStatuses": [{"name": "a"}]}});
        complete(&mut pod, find("", "v1", "Pod").unwrap());
        assert_eq!(pod["spec"]["containers"][0], json!({"name": "a", "resources": {}}));
        assert_eq!(
            pod["status"]["conditions"][0],
            json!({"type": "Ready", "status": "", "lastProbeTime": null, "lastTransitionTime": null})
        );
        assert_eq!(
            pod["status"]["containerStatuses"][0],
            json!({"name": "a", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": {}, "lastState": {}})
        );
        let once = pod.clone();
        complete(&mut pod, find("", "v1", "Pod").unwrap());
        assert_eq!(pod, once);
    }

    #[test]
    fn metadata_of_custom_resources_is_as_of_any_object() {
        let body = r#"{"apiVersion":"e.com/v1","kind":"W","metadata":{"name":"w","bogus":1,"creationTimestamp":null,"labels":{"a":"b"}},"spec":{"x":1}}"#;
        let mut decoded = decode_untyped(body.as_bytes(), Format::Json).unwrap();
        conform_metadata(&mut decoded).unwrap();
        assert_eq!(decoded.strict, [r#"unknown field "metadata.bogus""#]);
        assert_eq!(decoded.object["metadata"], json!({"name": "w", "labels": {"a": "b"}}));
        assert_eq!(decoded.object["spec"]["x"], 1);
        let mut wrong = Decoded {
            object: json!({"apiVersion": "e.com/v1", "kind": "W", "metadata": {"labels": "x"}}),
            strict: vec![],
        };
        let error = conform_metadata(&mut wrong).unwrap_err();
        assert_eq!(
            error.status("W", b"").message,
            "W in version \"v1\" cannot be handled as a W: json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of \
             type map[string]string"
        );
    }

    #[test]
    fn options_are_kinds_too() {
        let options = find("meta.k8s.io", "v1", "DeleteOptions").unwrap();
        let body = r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Background","dryRun":["All"],
            "preconditions":{"uid":"u"}}"#;
        let decoded = read(options, body);
        assert_eq!(decoded.object["gracePeriodSeconds"], 0);
        assert_eq!(decoded.object["preconditions"]["uid"], "u");
    }

    #[test]
    fn deep_and_huge_bodies_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(decode_untyped(deep.as_bytes(), Format::Json).is_err());
        let deep = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
        assert!(decode_untyped(deep.as_bytes(), Format::Json).is_err());
        let owned = format!("{{\"metadata\":{{\"managedFields\":[{{\"fieldsV1\":{deep}}}]}}}}");
        assert!(decode(owned.as_bytes(), Format::Json, deployment()).is_err());
        let wide = format!("{{\"a\":[{}1]}}", "0,".repeat(MOST_VALUES + 1));
        assert!(decode_untyped(wide.as_bytes(), Format::Json).is_err());
    }

    #[test]
    fn schemas_in_schemas_are_read() {
        let crd = find("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        let body = r#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true,
            "properties":{"a":{"type":"array","items":{"type":"string","bad":1}},"m":{"type":"object","additionalProperties":{"type":"integer","minimum":0}},
            "n":{"additionalProperties":true,"default":{"x":null}}}}}}]}}"#;
        let decoded = read(crd, body);
        assert_eq!(
            decoded.strict,
            [r#"unknown field "spec.versions[0].schema.openAPIV3Schema.properties.a.items.bad""#]
        );
        let schema = &decoded.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert_eq!(
            schema["properties"]["m"]["additionalProperties"],
            json!({"type": "integer", "minimum": 0})
        );
        assert_eq!(schema["properties"]["n"], json!({"additionalProperties": true, "default": {"x": null}}));
    }

    #[test]
    fn yaml_is_what_kubernetes_takes_it_for() {
        let body = "kind: Deployment\nspec:\n  replicas: 2\n  paused: yes\n  template:\n    spec:\n      containers:\n      - {name: a, image: x}\n";
        let decoded = decode(body.as_bytes(), Format::Yaml, deployment()).unwrap();
        assert_eq!(decoded.object["spec"]["paused"], true);
        assert_eq!(
            decoded.object["spec"]["template"]["spec"]["containers"],
            json!([{"name": "a", "image": "x"}])
        );
        let twice = decode(b"spec: {replicas: 1, replicas: 2}", Format::Yaml, deployment()).unwrap();
        assert_eq!(twice.strict, [r#"duplicate field "spec.replicas""#]);
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let reference = format!("*a{},", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{reference}]\n"));
        }
        assert!(decode_untyped(bomb.as_bytes(), Format::Yaml).is_err());
        assert!(decode_untyped("[".repeat(100_000).as_bytes(), Format::Yaml).is_err());
        assert!(decode_untyped(b"a: [", Format::Yaml).is_err());
    }
}
