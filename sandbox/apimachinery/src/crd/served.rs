//! A version of a custom resource as it is served: its schema, and what its definition says of columns, scale and selectable fields.

use super::rules;
use super::validate::{blocks_rules, duplicates, validate};
use super::{JsonPath, Structural, version_order};
use crate::duration::human_duration;
use crate::field::{ErrorKind, ErrorList, FieldError, Path};
use crate::openapi;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What a definition says of one of its versions.
#[derive(Debug)]
pub struct Served {
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Whether objects are stored in this version.
    pub storage: bool,
    /// The kind.
    pub kind: String,
    /// The kind of lists.
    pub list_kind: String,
    /// The plural.
    pub plural: String,
    /// The singular.
    pub singular: String,
    /// Short names.
    pub short: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The text for `Warning:` headers if the version is deprecated.
    pub deprecated: Option<String>,
    /// The schema.
    pub schema: Structural,
    /// Whether there is a `status` subresource.
    pub status: bool,
    /// The `scale` subresource.
    pub scale: Option<ScalePaths>,
    /// Columns of tables after the name.
    pub columns: Vec<Column>,
    /// Field selectors beside name and namespace: as clients write them, and the path.
    pub selectable: Vec<(String, JsonPath)>,
    /// The schema as it was written, for OpenAPI.
    written: Option<Value>,
}

/// Where the fields of a scale are.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    /// `specReplicasPath` as written.
    pub spec_written: String,
    /// The same.
    pub spec: JsonPath,
    /// `statusReplicasPath`.
    pub status: JsonPath,
    /// `labelSelectorPath`.
    pub selector: Option<JsonPath>,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// The head line.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub type_: String,
    /// Such as `int32`.
    pub format: String,
    /// For people.
    pub description: String,
    /// 0: always shown; more: with `-o wide`.
    pub priority: i64,
    path: Option<JsonPath>,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().into()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}

impl Served {
    /// The versions of a (valid, defaulted) definition that are served.
    pub fn of(definition: &Value) -> Vec<Self> {
        let spec = &definition["spec"];
        let versions = spec["versions"].as_array().into_iter().flatten();
        versions
            .filter(|version| version["served"] == true)
            .map(|version| Self::read(spec, version))
            .collect()
    }

    fn read(spec: &Value, version: &Value) -> Self {
        let names = &spec["names"];
        let (group, kind, name) = (text(spec, "group"), text(names, "kind"), text(version, "name"));
        let written = version.pointer("/schema/openAPIV3Schema").cloned();
        let schema = written.as_ref().map(Structural::read).unwrap_or_default();
        let deprecated =
            (version["deprecated"] == true).then(|| match version["deprecationWarning"].as_str() {
                Some(warning) => warning.into(),
                None => deprecation(spec, &group, &name, &kind),
            });
        Self {
            storage: version["storage"] == true,
            list_kind: text(names, "listKind"),
            plural: text(names, "plural"),
            singular: text(names, "singular"),
            short: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            deprecated,
            schema,
            status: version.pointer("/subresources/status").is_some_and(|status| !status.is_null()),
            scale: version.pointer("/subresources/scale").and_then(scale),
            columns: columns(&version["additionalPrinterColumns"]),
            selectable: selectable(&version["selectableFields"]),
            written,
            group,
            version: name,
            kind,
        }
    }

    /// Drops what the schema does not know; see [`Structural::prune`].
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        self.schema.prune(object)
    }

    /// Fills in defaults; see [`Structural::fill_defaults`].
    pub fn fill_defaults(&self, object: &mut Value) {
        self.schema.fill_defaults(object);
    }

    /// What is wrong with an object beyond its metadata. `old`: what an update replaces. `before` are errors of the metadata, which
    /// may keep rules from being checked; they come first in what is given back.
    pub fn validate(&self, object: &Value, old: Option<&Value>, before: ErrorList) -> ErrorList {
        let mut errors = before;
        let push = |errors: &mut ErrorList, one: FieldError| {
            errors.push(one.kind, &Path::new(&one.field), one.value, one.detail);
        };
        for one in validate(object, old, &self.schema) {
            push(&mut errors, one);
        }
        self.validate_scale(object, &mut errors);
        let mut doubled = Vec::new();
        if let Some(old) = old {
            duplicates(old, &self.schema, "", &mut doubled);
        }
        if doubled.is_empty() {
            duplicates(object, &self.schema, "", &mut doubled);
            doubled.into_iter().for_each(|one| push(&mut errors, one));
        }
        if rules::has_rules(&self.schema) {
            if blocks_rules(&errors) {
                let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                              complete validation";
                errors.push(ErrorKind::Invalid, &Path::new("<nil>"), Some(Value::Null.into()), detail);
            } else {
                rules::check(object, old, &self.schema).into_iter().for_each(|one| push(&mut errors, one));
            }
        }
        errors
    }

    /// Replicas that a scale could not show.
    fn validate_scale(&self, object: &Value, errors: &mut ErrorList) {
        let Some(scale) = &self.scale else { return };
        let Some(replicas) = scale.spec.first(object).and_then(Value::as_i64) else { return };
        let field = Path::new(&scale.spec_written);
        if replicas < 0 {
            errors.invalid(&field, replicas, "should be a non-negative integer");
        } else if replicas > i64::from(i32::MAX) {
            errors.invalid(&field, replicas, format!("should be less than or equal to {}", i32::MAX));
        }
    }

    /// The `Scale` of an object, if the kind has one.
    pub fn scale(&self, object: &Value) -> Option<Value> {
        let paths = self.scale.as_ref()?;
        let metadata = &object["metadata"];
        let replicas = paths.spec.first(object).and_then(Value::as_i64).unwrap_or(0);
        let mut scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {},
            // As Go leaves zero out.
            "spec": if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) },
            "status": {"replicas": paths.status.first(object).and_then(Value::as_i64).unwrap_or(0)}});
        for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = metadata.get(name) {
                scale["metadata"][name] = value.clone();
            }
        }
        let selector = paths.selector.as_ref().and_then(|path| path.first(object)).and_then(Value::as_str);
        if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
            scale["status"]["selector"] = selector.into();
        }
        Some(scale)
    }

    /// Where an object would say how many replicas it is to have, if it does not.
    pub fn missing_replicas(&self, object: &Value) -> Option<&str> {
        let paths = self.scale.as_ref()?;
        paths.spec.first(object).is_none().then_some(paths.spec_written.as_str())
    }

    /// Writes a scale's replicas into an object.
    pub fn set_scale(&self, object: &mut Value, replicas: i64) {
        if let Some(paths) = &self.scale {
            paths.spec.set(object, replicas.into());
        }
    }

    /// A selectable field of an object; nothing if there is no such.
    pub fn field(&self, name: &str, object: &Value) -> Option<String> {
        let (_, path) = self.selectable.iter().find(|(known, _)| known == name)?;
        Some(match path.first(object) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        })
    }

    /// The cells of an object's row: its name and the columns.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = object["metadata"]["name"].clone();
        let cells = self.columns.iter().map(|column| {
            let found = column.path.as_ref().and_then(|path| path.first(object));
            found.map_or(Value::Null, |found| cell(&column.type_, found, now))
        });
        std::iter::once(name).chain(cells).collect()
    }

    /// The schemas for OpenAPI documents, and what of it [`openapi::Resource`] must say.
    pub fn openapi(&self) -> (openapi::Resource, Vec<(String, Value)>) {
        let schemas = openapi::custom_schemas(
            &self.group,
            &self.version,
            &self.kind,
            &self.list_kind,
            self.written.as_ref(),
        );
        let verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
        let below = |name: &str, group: &str, version: &str, kind: &str| openapi::Subresource {
            name: name.into(),
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            verbs: ["get", "patch", "update"].map(Into::into).to_vec(),
        };
        let mut subresources = Vec::new();
        if self.status {
            subresources.push(below("status", &self.group, &self.version, &self.kind));
        }
        if self.scale.is_some() {
            subresources.push(below("scale", "autoscaling", "v1", "Scale"));
        }
        let resource = openapi::Resource {
            plural: self.plural.clone(),
            kind: self.kind.clone(),
            namespaced: self.namespaced,
            verbs: verbs.map(Into::into).to_vec(),
            subresources,
            definition: schemas.first().map(|one| one.0.clone()),
        };
        (resource, schemas)
    }
}

/// `defaultDeprecationWarning`: the newest version that may be used instead is named.
fn deprecation(spec: &Value, group: &str, version: &str, kind: &str) -> String {
    let versions = spec["versions"].as_array().into_iter().flatten();
    let usable = versions
        .filter(|one| one["served"] == true && one["deprecated"] != true)
        .filter_map(|one| one["name"].as_str())
        .filter(|name| version_order(name) > version_order(version));
    let told = format!("{group}/{version} {kind} is deprecated");
    match usable.max_by_key(|name| version_order(name)) {
        Some(newer) => format!("{told}; use {group}/{newer} {kind}"),
        None => told,
    }
}

fn scale(value: &Value) -> Option<ScalePaths> {
    let spec_written = value["specReplicasPath"].as_str()?.to_string();
    Some(ScalePaths {
        spec: JsonPath::parse(&spec_written).ok()?,
        spec_written,
        status: JsonPath::parse(value["statusReplicasPath"].as_str()?).ok()?,
        selector: value["labelSelectorPath"].as_str().and_then(|path| JsonPath::parse(path).ok()),
    })
}

fn columns(value: &Value) -> Vec<Column> {
    let written = value.as_array().map_or(&[][..], Vec::as_slice);
    if written.is_empty() {
        return vec![Column {
            name: "Age".into(),
            type_: "date".into(),
            format: String::new(),
            description: "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
                          guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It \
                          is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More \
                          info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
                .into(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok(),
        }];
    }
    let column = |one: &Value| {
        let path = text(one, "jsonPath");
        let description = match one["description"].as_str() {
            Some(description) if !description.is_empty() => description.into(),
            _ => format!("Custom resource definition column (in JSONPath format): {path}"),
        };
        Column {
            name: text(one, "name"),
            type_: text(one, "type"),
            format: text(one, "format"),
            description,
            priority: one["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(&path).ok(),
        }
    };
    written.iter().map(column).collect()
}

fn selectable(value: &Value) -> Vec<(String, JsonPath)> {
    let all = value.as_array().into_iter().flatten().filter_map(|one| one["jsonPath"].as_str());
    all.filter_map(|path| Some((path.trim_start_matches('.').into(), JsonPath::parse(path).ok()?))).collect()
}

/// A value as a column shows it (`cellForJSONValue`).
fn cell(type_: &str, value: &Value, now: Timestamp) -> Value {
    match type_ {
        "integer" => match value {
            Value::Number(number) => {
                number.as_i64().or(number.as_f64().map(|n| n as i64)).map_or(Value::Null, Into::into)
            }
            _ => Value::Null,
        },
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "string" => match value {
            Value::Null => "".into(),
            Value::String(_) => value.clone(),
            other => other.to_string().into(),
        },
        "date" => match value.as_str() {
            Some(text) => match text.parse::<Timestamp>() {
                Ok(time) => human_duration(now.as_second() - time.as_second()).into(),
                Err(_) => "<invalid>".into(),
            },
            None => Value::Null,
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn widget() -> Served {
        let definition = json!({"spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd"]},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"size": {"type": "string", "enum": ["S", "M", "L"]},
                        "replicas": {"type": "integer", "minimum": 0, "default": 1}},
                    "x-kubernetes-validations": [{"rule": "self.replicas <= 10", "message": "too many replicas"}]}}}}},
                {"name": "v2", "served": false, "storage": false}]}});
        Served::of(&definition).remove(0)
    }

    #[test]
    fn a_deprecated_version_names_its_successor() {
        let version = |name: &str, served: bool, deprecated: bool| json!({"name": name, "served": served, "deprecated": deprecated});
        let told = |versions: Value| {
            let definition =
                json!({"spec": {"group": "ex.io", "names": {"kind": "Widget"}, "versions": versions}});
            Served::of(&definition)[0].deprecated.clone()
        };
        let newer = json!([
            version("v1", true, true),
            version("v2", true, false),
            version("v3", false, false),
            version("v2beta1", true, false)
        ]);
        assert_eq!(told(newer).as_deref(), Some("ex.io/v1 Widget is deprecated; use ex.io/v2 Widget"));
        let older = json!([version("v2", true, true), version("v1", true, false), version("v3", true, true)]);
        assert_eq!(told(older).as_deref(), Some("ex.io/v2 Widget is deprecated"));
    }

    #[test]
    fn errors_stand_in_the_order_of_the_real_server() {
        let mut before = ErrorList::default();
        before.invalid(&Path::new("metadata").child("name"), "W_bad", "no");
        let errors = widget().validate(&json!({"spec": {"replicas": -1, "size": "XL"}}), None, before);
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "metadata.name: Invalid value: \"W_bad\": no",
                "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
                "spec.size: Unsupported value: \"XL\": supported values: \"S\", \"M\", \"L\"",
                ".spec.replicas: Invalid value: -1: should be a non-negative integer",
                "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the \
                 existing errors to complete validation",
            ]
        );
        let errors =
            widget().validate(&json!({"spec": {"replicas": 11, "size": "S"}}), None, ErrorList::default());
        assert_eq!(errors.aggregate(), "spec: Invalid value: too many replicas");
    }

    #[test]
    fn tables_scales_and_selectors() {
        let served = widget();
        let object = json!({"metadata": {"name": "wa", "namespace": "default", "uid": "u", "creationTimestamp": "2026-11-20T13:03:48Z"},
            "spec": {"replicas": 2, "size": "S"}, "status": {"selector": "a=b"}});
        let now = "2026-11-20T13:03:57Z".parse().unwrap();
        assert_eq!(served.row(&object, now), [json!("wa"), json!(2), json!("9s")]);
        assert_eq!(
            served.columns[0].description,
            "Custom resource definition column (in JSONPath format): .spec.replicas"
        );
        assert_eq!(served.field("spec.size", &object), Some("S".into()));
        assert_eq!(served.field("spec.color", &object), None);
        let scale = served.scale(&object).unwrap();
        assert_eq!(scale["spec"], json!({"replicas": 2}));
        assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b"}));
        let mut object = object;
        served.set_scale(&mut object, 5);
        assert_eq!(object["spec"]["replicas"], 5);
        served.set_scale(&mut object, 0);
        assert_eq!(served.scale(&object).unwrap()["spec"], json!({}));
        assert_eq!(served.missing_replicas(&object), None);
        assert_eq!(served.missing_replicas(&json!({"spec": {}})), Some(".spec.replicas"));
    }

    #[test]
    fn openapi_tells_of_it() {
        let (resource, schemas) = widget().openapi();
        let document = openapi::v3("example.com", "v1", &[resource], &schemas);
        let json: Value = serde_json::from_slice(&document.json()).unwrap();
        let path = "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}";
        assert_eq!(json["paths"][path]["patch"]["x-kubernetes-group-version-kind"]["kind"], "Widget");
        let schema = &json["components"]["schemas"]["com.example.v1.Widget"];
        assert_eq!(schema["properties"]["spec"]["properties"]["size"]["enum"][0], "S");
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    }
}
