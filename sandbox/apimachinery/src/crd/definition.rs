//! Definitions of custom resources themselves: defaults, and what is refused (apiextensions-apiserver
//! `pkg/apis/apiextensions/validation` and `pkg/apiserver/schema/validation.go`).

use super::{CompiledRule, JsonPath, pattern};
use crate::field::{ErrorKind, ErrorList, Path};
use crate::names::{is_dns1035_label, is_dns1123_subdomain};
use crate::object::{list, text};
use serde_json::{Value, json};

/// Most nesting of a schema.
const MOST_DEPTH: usize = 100;
/// Most selectable fields of a version, as upstream.
const MOST_SELECTABLE: usize = 8;
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const APPROVED: &str = "api-approved.kubernetes.io";

/// Fills in what a definition does not say (`SetDefaults_CustomResourceDefinition`) and, if it is new, its first status.
pub fn default_definition(definition: &mut Value) {
    let spec = &mut definition["spec"];
    if !spec.is_object() {
        return;
    }
    let kind = text(spec, &["names", "kind"]).to_string();
    if !kind.is_empty() {
        let names = &mut spec["names"];
        for (name, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
            if names[name].as_str().is_none_or(str::is_empty) {
                names[name] = value.into();
            }
        }
    }
    if !spec["conversion"].is_object() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let storage = list(spec, &["versions"]).iter().find(|version| version["storage"] == true);
    let storage = storage.and_then(|version| version["name"].as_str()).map(String::from);
    if definition.pointer("/status/storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && let Some(storage) = storage
    {
        let status = crate::object::map_mut(definition, &["status"]);
        status.insert("storedVersions".into(), json!([storage]));
    }
}

/// What is wrong with a definition; `old` is the one that an update replaces.
pub fn validate_definition(definition: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let spec = &definition["spec"];
    let path = Path::new("spec");
    let (group, plural) = (text(spec, &["group"]), text(spec, &["names", "plural"]));
    let name = crate::object::name(definition);
    if name != format!("{plural}.{group}") {
        errors.invalid(
            &Path::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    group_and_scope(spec, &path, &mut errors);
    approval(definition, group, &mut errors);
    versions(spec, &path, &mut errors);
    names(&spec["names"], &path.child("names"), &mut errors);
    conversion(&spec["conversion"], &path.child("conversion"), &mut errors);
    if spec["preserveUnknownFields"] == true {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, detail);
    }
    if let Some(old) = old {
        update(definition, old, &path, &mut errors);
    }
    errors
}

fn group_and_scope(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let group = text(spec, &["group"]);
    let reasons = is_dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(&path.child("group"), "");
    } else if !reasons.is_empty() {
        errors.invalid(&path.child("group"), group, reasons.join(","));
    } else if !group.contains('.') {
        errors.invalid(&path.child("group"), group, "should be a domain with at least one dot");
    }
    match text(spec, &["scope"]) {
        "Cluster" | "Namespaced" => {}
        "" => errors.required(&path.child("scope"), ""),
        other => {
            let detail = "supported values: \"Cluster\", \"Namespaced\"";
            errors.push(ErrorKind::NotSupported, &path.child("scope"), Some(other.into()), detail);
        }
    }
}

/// Kubernetes' own groups need an annotation.
fn approval(definition: &Value, group: &str, errors: &mut ErrorList) {
    let protected =
        [".k8s.io", ".kubernetes.io"].iter().any(|end| group.ends_with(end) || group == &end[1..]);
    if !protected {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    let annotation = text(definition, &["metadata", "annotations", APPROVED]);
    if annotation.is_empty() {
        let detail = format!(
            "protected groups must have approval annotation {APPROVED:?}, see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.required(&path, &detail);
    } else if !annotation.starts_with("http") && !annotation.starts_with("unapproved") {
        let detail = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", \
             see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.invalid(&path, annotation, detail);
    }
}

fn versions(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let versions = list(spec, &["versions"]);
    let (mut names, mut unique, mut storage) = (Vec::new(), true, 0);
    for (index, version) in versions.iter().enumerate() {
        let path = path.child("versions").index(index);
        let name = text(version, &["name"]);
        unique &= !names.contains(&name);
        names.push(name);
        let reasons = is_dns1035_label(name);
        if !reasons.is_empty() {
            errors.invalid(&path.child("name"), name, reasons.join(","));
        }
        storage += usize::from(version["storage"] == true);
        one_version(version, &path, errors);
    }
    let shown = || spec["versions"].clone();
    if !unique {
        errors.invalid(&path.child("versions"), shown(), "must contain unique version names");
    }
    if storage != 1 {
        errors.invalid(
            &path.child("versions"),
            shown(),
            "must have exactly one version marked as storage version",
        );
    }
}

fn one_version(version: &Value, path: &Path, errors: &mut ErrorList) {
    let at = path.child("schema").child("openAPIV3Schema");
    match version.pointer("/schema/openAPIV3Schema").filter(|schema| !schema.is_null()) {
        None => errors.required(&at, "schemas are required"),
        Some(schema) => {
            let status = version.pointer("/subresources/status").is_some();
            if status && schema.get("type").is_some_and(|type_| type_ != "object") {
                let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                errors.invalid(
                    &path.child("schema").child("openAPIV3Schema.type"),
                    schema["type"].clone(),
                    detail,
                );
            }
            if schema["nullable"] == true {
                errors.forbidden(
                    &path.child("schema").child("openAPIV3Schema.nullable"),
                    "nullable cannot be true at the root",
                );
            }
            schema_at(schema, Level::Root, false, &at, 0, errors);
        }
    }
    for (index, column) in list(version, &["additionalPrinterColumns"]).iter().enumerate() {
        printer_column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
    subresources(&version["subresources"], &path.child("subresources"), errors);
    selectable(version, &path.child("selectableFields"), errors);
}

fn printer_column(column: &Value, path: &Path, errors: &mut ErrorList) {
    if text(column, &["name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    let types = ["boolean", "date", "integer", "number", "string"];
    let detail = format!("must be one of {}", types.join(","));
    match text(column, &["type"]) {
        "" => errors.required(&path.child("type"), &detail),
        type_ if !types.contains(&type_) => errors.invalid(&path.child("type"), type_, detail),
        _ => {}
    }
    let formats = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    let format = text(column, &["format"]);
    if !format.is_empty() && !formats.contains(&format) {
        errors.invalid(&path.child("format"), format, format!("must be one of {}", formats.join(",")));
    }
    json_path(text(column, &["jsonPath"]), &path.child("jsonPath"), errors);
}

fn json_path(written: &str, path: &Path, errors: &mut ErrorList) {
    if written.is_empty() {
        errors.required(path, "");
    } else if let Err(error) = JsonPath::parse(written) {
        errors.invalid(path, written, format!("is an invalid path: {error}"));
    } else if !written.starts_with('.') {
        errors.invalid(path, written, "must be a simple json path starting with .");
    }
}

fn subresources(value: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(scale) = value.get("scale").filter(|scale| !scale.is_null()) else { return };
    let below = |written: &str, starts: &[&str]| {
        let simple = JsonPath::parse(written).is_ok_and(|path| path.fields().is_some());
        simple && starts.iter().any(|start| written.starts_with(start))
    };
    for (name, starts, detail, required) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec", true),
        ("statusReplicasPath", &[".status."], "should be a json path under .status", true),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
            false,
        ),
    ] {
        let path = path.child(&format!("scale.{name}"));
        match text(scale, &[name]) {
            "" if required => errors.required(&path, ""),
            "" => {}
            written if !below(written, starts) => errors.invalid(&path, written, detail),
            _ => {}
        }
    }
}

fn selectable(version: &Value, path: &Path, errors: &mut ErrorList) {
    let all = list(version, &["selectableFields"]);
    let mut seen = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index).child("jsonPath");
        let written = text(one, &["jsonPath"]);
        let parsed = JsonPath::parse(written);
        let fields = parsed.as_ref().ok().and_then(JsonPath::fields);
        match fields {
            _ if written.is_empty() => errors.required(&path, ""),
            None => {
                let error = parsed.err().unwrap_or_else(|| "must be a path of fields".into());
                errors.invalid(&path, written, format!("is an invalid path: {error}"));
            }
            Some(fields) if fields.first() == Some(&"metadata") => {
                errors.invalid(&path, written, "must not point to fields in metadata");
            }
            Some(fields) => {
                let schema = fields.iter().try_fold(&version["schema"]["openAPIV3Schema"], |at, name| {
                    at.get("properties")?.get(name)
                });
                let type_ = schema.and_then(|schema| schema["type"].as_str());
                if !matches!(type_, Some("string" | "boolean" | "integer")) {
                    let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                                  are allowed.";
                    errors.invalid(&path, written, detail);
                }
            }
        }
        if seen.contains(&written) {
            errors.duplicate(&path, written);
        }
        seen.push(written);
    }
    if all.len() > MOST_SELECTABLE {
        errors.push(
            ErrorKind::TooMany,
            path,
            Some(all.len().into()),
            format!("must have at most {MOST_SELECTABLE} items"),
        );
    }
}

fn names(names: &Value, path: &Path, errors: &mut ErrorList) {
    let mixed = "may have mixed case, but should otherwise match: ";
    for (name, prefix) in [("plural", ""), ("singular", ""), ("kind", mixed), ("listKind", mixed)] {
        let value = text(names, &[name]);
        let reasons =
            is_dns1035_label(&if prefix.is_empty() { value.to_string() } else { value.to_lowercase() });
        if value.is_empty() {
            errors.required(&path.child(name), "");
        } else if !reasons.is_empty() {
            errors.invalid(&path.child(name), value, format!("{prefix}{}", reasons.join(",")));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, one) in list(names, &[field]).iter().enumerate() {
            let value = one.as_str().unwrap_or_default();
            let reasons = is_dns1035_label(value);
            if !reasons.is_empty() {
                errors.invalid(&path.child(field).index(index), value, reasons.join(","));
            }
        }
    }
    let (kind, list_kind) = (text(names, &["kind"]), text(names, &["listKind"]));
    if !kind.is_empty() && kind == list_kind {
        errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
}

fn conversion(value: &Value, path: &Path, errors: &mut ErrorList) {
    match text(value, &["strategy"]) {
        "" | "None" => {
            if !value["webhook"].is_null() {
                errors.forbidden(
                    &path.child("webhook"),
                    "should not be set when strategy is not set to Webhook",
                );
            }
        }
        "Webhook" => {
            if value.pointer("/webhook/clientConfig").is_none_or(Value::is_null) {
                errors.required(
                    &path.child("webhook").child("clientConfig"),
                    "required when strategy is set to Webhook",
                );
            }
        }
        other => {
            let detail = "supported values: \"None\", \"Webhook\"";
            errors.push(ErrorKind::NotSupported, &path.child("strategy"), Some(other.into()), detail);
        }
    }
}

/// What an update may not change.
fn update(new: &Value, old: &Value, path: &Path, errors: &mut ErrorList) {
    let established = list(old, &["status", "conditions"])
        .iter()
        .any(|one| one["type"] == "Established" && one["status"] == "True");
    let mut immutable = vec![&["group"][..], &["names", "plural"]];
    if established {
        immutable.extend([&["scope"][..], &["names", "kind"]]);
    }
    for fields in immutable {
        let value = text(&new["spec"], fields);
        if value != text(&old["spec"], fields) {
            let path = fields.iter().fold(path.clone(), |path, name| path.child(name));
            errors.invalid(&path, value, "field is immutable");
        }
    }
    let versions: Vec<_> =
        list(&new["spec"], &["versions"]).iter().map(|version| text(version, &["name"])).collect();
    let stored = Path::new("status").child("storedVersions");
    for (index, one) in list(new, &["status", "storedVersions"]).iter().enumerate() {
        let one = one.as_str().unwrap_or_default();
        if !versions.contains(&one) {
            let detail = format!(
                "missing from spec.versions; {one} was previously a storage version, and must remain in spec.versions until a storage \
                 migration ensures no data remains persisted in {one} and removes {one} from status.storedVersions"
            );
            errors.invalid(&stored.index(index), one, detail);
        }
    }
}

/// Where a schema stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// A schema must be structural, and use nothing that is not supported. `nested`: inside `allOf` and the like.
fn schema_at(schema: &Value, level: Level, nested: bool, path: &Path, depth: usize, errors: &mut ErrorList) {
    if depth > MOST_DEPTH {
        return errors.forbidden(path, "schema is nested too deeply");
    }
    let Some(map) = schema.as_object() else { return };
    unsupported(schema, path, errors);
    let type_ = text(schema, &["type"]);
    if nested {
        not_structural(schema, path, errors);
    } else {
        types(schema, type_, level, path, errors);
    }
    extensions(schema, type_, path, errors);
    rules(schema, path, errors);
    for (name, below) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = path.child("properties").key(name);
        if name == "metadata" && level == Level::Root && !nested {
            let only_names = below.get("properties").and_then(Value::as_object).is_none_or(|properties| {
                properties.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))
            });
            if text(below, &["type"]) != "object" {
                errors.invalid(&path.child("type"), text(below, &["type"]), "must be object");
            }
            if !only_names {
                let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
                errors.forbidden(&path, detail);
            }
            continue;
        }
        schema_at(below, Level::Field, nested, &path, depth + 1, errors);
    }
    if let Some(below) = map.get("additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root && !nested {
            errors.forbidden(&path, "must not be used at the root");
        }
        if map.get("properties").and_then(Value::as_object).is_some_and(|properties| !properties.is_empty())
            && !nested
        {
            errors.forbidden(&path, "additionalProperties and properties are mutual exclusive");
        }
        if below.is_object() {
            schema_at(below, Level::Field, nested, &path, depth + 1, errors);
        }
    }
    match map.get("items") {
        Some(Value::Array(_)) => {
            errors.forbidden(&path.child("items"), "items must be a schema object and not an array")
        }
        Some(items) => schema_at(items, Level::Item, nested, &path.child("items"), depth + 1, errors),
        None if type_ == "array" && !nested => errors.required(&path.child("items"), "must be specified"),
        None => {}
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let int_or_string = schema["x-kubernetes-int-or-string"] == true && name != "oneOf";
        for (index, below) in list(schema, &[name]).iter().enumerate() {
            // The customary way to say that a value is either.
            if int_or_string && (name == "anyOf" || index == 0) {
                continue;
            }
            schema_at(below, level, true, &path.child(name).index(index), depth + 1, errors);
        }
    }
    if let Some(not) = map.get("not") {
        schema_at(not, level, true, &path.child("not"), depth + 1, errors);
    }
}

fn types(schema: &Value, type_: &str, level: Level, path: &Path, errors: &mut ErrorList) {
    let flag = |name: &str| schema[name] == true;
    let embedded = flag("x-kubernetes-embedded-resource");
    let at = path.child("type");
    if embedded && type_ != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if type_.is_empty() { errors.required(&at, detail) } else { errors.invalid(&at, type_, detail) }
    } else if type_.is_empty() {
        if !flag("x-kubernetes-int-or-string") && !flag("x-kubernetes-preserve-unknown-fields") {
            errors.required(
                &at,
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    Level::Field => "must not be empty for specified object fields",
                },
            );
        }
    } else if type_ == "null" {
        errors.forbidden(&at, "type cannot be set to null, use nullable as an alternative");
    } else if !TYPES.contains(&type_) {
        errors.not_supported(&at, type_, &TYPES);
    }
    if level == Level::Root && !type_.is_empty() && type_ != "object" {
        errors.invalid(&at, type_, "must be object at the root");
    }
    if embedded
        && !flag("x-kubernetes-preserve-unknown-fields")
        && schema["properties"].as_object().is_none_or(serde_json::Map::is_empty)
    {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), detail);
    }
}

/// What may not stand inside `allOf`, `anyOf`, `oneOf` and `not`.
fn not_structural(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let extension = "must be undefined to be structural";
    for (name, detail) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", extension),
        ("default", extension),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", extension),
        ("x-kubernetes-map-type", extension),
    ] {
        if schema.get(name).is_some_and(|value| *value != Value::Null && *value != false && value != "") {
            errors.forbidden(&path.child(name), detail);
        }
    }
    if schema.pointer("/properties/metadata").is_some() {
        errors.forbidden(
            &path.child("properties").key("metadata"),
            "must not be specified in a nested context",
        );
    }
}

fn unsupported(schema: &Value, path: &Path, errors: &mut ErrorList) {
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(name).is_some_and(|value| !value.is_null() && value != "") {
            errors.forbidden(&path.child(name), format!("{name} is not supported"));
        }
    }
    if schema["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), detail);
    }
    let expression = text(schema, &["pattern"]);
    if !expression.is_empty()
        && let Err(error) = pattern::compiled(expression)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), expression, detail);
    }
}

/// `x-kubernetes-…`.
fn extensions(schema: &Value, type_: &str, path: &Path, errors: &mut ErrorList) {
    let flag = |name: &str| schema[name] == true;
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.invalid(
            &path.child("x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        );
    }
    if flag("x-kubernetes-int-or-string") {
        for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if flag(name) {
                errors.invalid(
                    &path.child(name),
                    true,
                    "must be false if x-kubernetes-int-or-string is true",
                );
            }
        }
    }
    let mut of_type = |extension: &str, wanted: &str| {
        let detail = format!("must be {wanted} if {extension} is specified");
        match type_ {
            "" => errors.required(&path.child("type"), &detail),
            other if other != wanted => errors.invalid(&path.child("type"), other, detail),
            _ => {}
        }
    };
    let map_type = schema["x-kubernetes-map-type"].as_str();
    if map_type.is_some() {
        of_type("x-kubernetes-map-type", "object");
    }
    let list_type = schema["x-kubernetes-list-type"].as_str();
    if list_type.is_some() {
        of_type("x-kubernetes-list-type", "array");
    }
    if let Some(other) = map_type.filter(|one| !["atomic", "granular"].contains(one)) {
        errors.not_supported(&path.child("x-kubernetes-map-type"), other, &["atomic", "granular"]);
    }
    if let Some(other) = list_type.filter(|one| !["atomic", "set", "map"].contains(one)) {
        errors.not_supported(&path.child("x-kubernetes-list-type"), other, &["atomic", "set", "map"]);
    }
    list_keys(schema, list_type, path, errors);
}

fn list_keys(schema: &Value, list_type: Option<&str>, path: &Path, errors: &mut ErrorList) {
    let keys: Vec<_> =
        list(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).collect();
    let at = path.child("x-kubernetes-list-map-keys");
    if list_type != Some("map") {
        if !keys.is_empty() {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            let at = path.child("x-kubernetes-list-type");
            match list_type {
                None => errors.required(&at, detail),
                Some(other) => errors.invalid(&at, other, detail),
            }
        }
        return;
    }
    if keys.is_empty() {
        errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
    }
    let items = &schema["items"];
    if items.is_null() {
        return errors.required(&path.child("items"), "must have a schema if x-kubernetes-list-type is map");
    }
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid(&path.child("items").child("type"), text(items, &["type"]), detail);
    }
    let required: Vec<_> = list(items, &["required"]).iter().filter_map(Value::as_str).collect();
    for (index, key) in keys.iter().enumerate() {
        let property = &items["properties"][*key];
        let below = path.child("items").child("properties").key(key);
        if property.is_null() {
            errors.invalid(&at, json!(keys), "entries must all be names of item properties");
            continue;
        }
        if ["array", "object"].contains(&text(property, &["type"])) {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&below.child("type"), text(property, &["type"]), detail);
        }
        if !required.contains(key) && property["default"].is_null() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&below.child("default"), detail);
        }
        if property["nullable"] == true {
            errors.forbidden(
                &below.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
        if keys[..index].contains(key) {
            errors.invalid(&at, json!(keys), "must not contain duplicate entries");
        }
    }
}

fn rules(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let reasons = ["FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid", "FieldValueDuplicate"];
    for (index, rule) in list(schema, &["x-kubernetes-validations"]).iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let (expression, message) = (text(rule, &["rule"]), text(rule, &["message"]));
        if expression.trim().is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
            continue;
        }
        if message.trim().contains('\n') {
            errors.invalid(&path.child("message"), message, "must not contain line breaks");
        } else if message.is_empty() && expression.trim().contains('\n') {
            errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !reasons.contains(reason)) {
            errors.not_supported(&path.child("reason"), reason, &reasons);
        }
        match CompiledRule::compile(expression) {
            Err(error) => {
                let detail = format!("compilation failed: {error}");
                errors.invalid(&path.child("rule"), expression, detail);
            }
            Ok(compiled) => {
                if rule["optionalOldSelf"] == true && !compiled.transition {
                    let detail = "may not be set if oldSelf is not used in rule";
                    errors.invalid(&path.child("optionalOldSelf"), true, detail);
                }
            }
        }
        if let Some(message) = rule["messageExpression"].as_str().filter(|message| !message.is_empty())
            && let Err(error) = CompiledRule::compile(message)
        {
            errors.invalid(
                &path.child("messageExpression"),
                message,
                format!("messageExpression compilation failed: {error}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(schema: Value) -> Value {
        let mut definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        default_definition(&mut definition);
        definition
    }

    fn told(definition: &Value) -> Vec<String> {
        validate_definition(definition, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_definition_is_completed_and_valid() {
        let definition = definition(
            json!({"type": "object", "properties": {"metadata": {"type": "object"}, "spec": {"type": "object",
            "properties": {"port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "any": {"x-kubernetes-preserve-unknown-fields": true}}}}}),
        );
        assert_eq!(told(&definition), Vec::<String>::new());
        assert_eq!(definition["spec"]["names"]["listKind"], "WidgetList");
        assert_eq!(definition["spec"]["names"]["singular"], "widget");
        assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(definition["spec"]["conversion"], json!({"strategy": "None"}));
    }

    #[test]
    fn wrong_schemas_are_refused_in_upstreams_words() {
        let at = "spec.versions[0].schema.openAPIV3Schema";
        for (schema, error) in [
            (json!({}), format!("{at}.type: Required value: must not be empty at the root")),
            (
                json!({"type": "string"}),
                format!("{at}.type: Invalid value: \"string\": must be object at the root"),
            ),
            (
                json!({"type": "object", "properties": {"a": {}}}),
                format!(
                    "{at}.properties[a].type: Required value: must not be empty for specified object fields"
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array"}}}),
                format!("{at}.properties[a].items: Required value: must be specified"),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
                format!(
                    "{at}.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: "
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}}),
                format!("{at}.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"),
            ),
            (
                json!({"type": "object", "additionalProperties": true}),
                format!("{at}.additionalProperties: Forbidden: must not be used at the root"),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}),
                format!(
                    "{at}.properties[a].items.properties[k].default: Required value: this property is in \
                         x-kubernetes-list-map-keys, so it must have a default or be a required property"
                ),
            ),
            (
                json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a =="}]}),
                format!(
                    "{at}.x-kubernetes-validations[0].rule: Invalid value: \"self.a ==\": compilation failed: ERROR: <input>:1:"
                ),
            ),
            (
                json!({"type": "object", "$ref": "#/x"}),
                format!("{at}.$ref: Forbidden: $ref is not supported"),
            ),
        ] {
            let told = told(&definition(schema.clone()));
            assert!(told.len() == 1 && told[0].starts_with(&error), "{schema}: {told:?}");
        }
    }

    #[test]
    fn names_groups_and_versions_are_checked() {
        let mut wrong = definition(json!({"type": "object"}));
        wrong["metadata"]["name"] = "x".into();
        wrong["spec"]["group"] = "example".into();
        wrong["spec"]["scope"] = "World".into();
        wrong["spec"]["names"]["plural"] = "Widgets".into();
        wrong["spec"]["versions"][0]["storage"] = false.into();
        let told = told(&wrong);
        assert_eq!(
            told[0],
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"
        );
        assert_eq!(
            told[1],
            "spec.group: Invalid value: \"example\": should be a domain with at least one dot"
        );
        assert_eq!(
            told[2],
            "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\""
        );
        assert!(
            told.iter()
                .any(|error| error.ends_with("must have exactly one version marked as storage version"))
        );
        assert!(told.iter().any(|error| {
            error.starts_with("spec.names.plural: Invalid value: \"Widgets\": a DNS-1035 label")
        }));
        let mut protected = definition(json!({"type": "object"}));
        protected["spec"]["group"] = "x.k8s.io".into();
        protected["metadata"]["name"] = "widgets.x.k8s.io".into();
        assert_eq!(validate_definition(&protected, None).iter().count(), 1);
    }

    #[test]
    fn established_definitions_keep_their_kind() {
        let mut old = definition(json!({"type": "object"}));
        old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        let mut new = old.clone();
        new["spec"]["scope"] = "Cluster".into();
        let errors = validate_definition(&new, Some(&old));
        assert_eq!(errors.aggregate(), "spec.scope: Invalid value: \"Cluster\": field is immutable");
    }
}
