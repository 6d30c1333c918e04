//! What may stand in the schema of a definition: it must be structural (apiextensions-apiserver `pkg/apiserver/schema/validation.go`) and
//! use nothing that is not supported (`pkg/apis/apiextensions/validation`). The definition's validation calls it for each version.

use super::pattern;
use crate::field::{ErrorList, Path};
use crate::object::{list, text};
use serde_json::{Value, json};

/// Most nesting of a schema.
const MOST_DEPTH: usize = 100;
const LINE_BREAKS: [char; 2] = ['\n', '\r'];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Tells what is wrong with the schema of a version.
pub(super) fn check(schema: &Value, path: &Path, errors: &mut ErrorList) {
    schema_at(schema, Level::Root, false, path, 0, errors);
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
        let path = path.entry("properties", name);
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
            schema_at(below, level, true, &path.element(name, index), depth + 1, errors);
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
        errors.forbidden(&path.entry("properties", "metadata"), "must not be specified in a nested context");
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
        let below = path.child("items");
        let below = below.entry("properties", key);
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
        let path = path.element("x-kubernetes-validations", index);
        let (expression, message) = (text(rule, &["rule"]), text(rule, &["message"]));
        if expression.trim().is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&path.child("message"), message, "must be non-empty if specified");
        } else if message.trim().contains(LINE_BREAKS) {
            errors.invalid(&path.child("message"), message, "must not contain line breaks");
        } else if message.is_empty() && expression.trim().contains(LINE_BREAKS) {
            errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
        }
        let made = text(rule, &["messageExpression"]);
        if !made.is_empty() && made.trim().is_empty() {
            errors.required(
                &path.child("messageExpression"),
                "messageExpression must be non-empty if specified",
            );
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !reasons.contains(reason)) {
            errors.not_supported(&path.child("reason"), reason, &reasons);
        }
        field_path(schema, text(rule, &["fieldPath"]), &path.child("fieldPath"), errors);
    }
}

/// Where the error of a rule is told must be a place that the schema knows.
fn field_path(schema: &Value, written: &str, path: &Path, errors: &mut ErrorList) {
    if written.is_empty() {
        return;
    }
    if written.trim().is_empty() {
        errors.invalid(path, written, "must be non-empty if specified");
    }
    if written.contains(LINE_BREAKS) {
        errors.invalid(path, written, "must not contain line breaks");
    }
    if !leads_somewhere(schema, written) {
        errors.invalid(path, written, "must be a valid path");
    }
}

/// Whether a path of names (`.a['b.c']`) leads to a part of a schema (`ValidFieldPath`).
fn leads_somewhere(schema: &Value, path: &str) -> bool {
    let (mut at, mut rest) = (schema, path);
    while !rest.is_empty() {
        let name = if let Some(after) = rest.strip_prefix("['") {
            let Some(end) = quoted_end(after) else { return false };
            rest = match after[end + 1..].strip_prefix(']') {
                Some(rest) => rest,
                None => return false,
            };
            after[..end].replace("\\'", "'").replace("\\\\", "\\")
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            // A delimiter straight after a dot is a name of its own for upstream, which no property has.
            if end == 0 {
                return false;
            }
            rest = &after[end..];
            after[..end].to_string()
        } else {
            return false;
        };
        let below = match at.get("properties").and_then(Value::as_object) {
            Some(properties) if !properties.is_empty() => properties.get(&name),
            _ => at.get("additionalProperties").filter(|values| values.is_object()),
        };
        let Some(below) = below else { return false };
        at = below;
    }
    true
}

/// Where a quoted text ends.
fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|at| bytes[*at] == b'\'' && (*at == 0 || bytes[at - 1] != b'\\'))
}
