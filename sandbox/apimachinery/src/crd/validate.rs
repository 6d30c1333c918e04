//! Validation of custom resources in the words of kube-openapi's `pkg/validation` (as apiextensions-apiserver's
//! `kubeOpenAPIResultToFieldErrors` passes them on), and the uniqueness of sets and maps. What an update does not change is not checked
//! again (`CRDValidationRatcheting`).

use super::structural::ValueChecks;
use super::{Structural, formats, pattern};
use crate::field::{ErrorKind, ErrorList, FieldError};
use serde_json::Value;
use std::collections::HashSet;

/// Most errors that are collected for one object.
const MOST_ERRORS: usize = 1000;

/// Checks an object against its schema. `old` is what an update replaces.
pub(super) fn validate(object: &Value, old: Option<&Value>, schema: &Structural) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(object, old, schema, "", &mut errors);
    errors
}

fn push(errors: &mut Vec<FieldError>, kind: ErrorKind, path: &str, value: Option<Value>, detail: String) {
    if errors.len() < MOST_ERRORS {
        let field = if path.is_empty() { "<nil>" } else { path.trim_start_matches('.') };
        errors.push(FieldError { kind, field: field.into(), value: value.map(Into::into), detail });
    }
}

/// Name of a value's type in errors.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(value: &Value, old: Option<&Value>, schema: &Structural, path: &str, errors: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    if !type_fits(value, schema, path, errors) {
        return;
    }
    let checks = schema.checks.as_deref();
    if let Some(checks) = checks {
        combined(value, schema, checks, path, errors);
        match value {
            Value::String(text) => string(text, checks, path, errors),
            Value::Number(number) => self::number(number, checks, path, errors),
            Value::Array(all) => list(all, checks, path, errors),
            _ => {}
        }
        if !checks.enum_.is_empty() && !checks.enum_.contains(value) {
            let quoted =
                |one: &Value| format!("{:?}", one.as_str().map_or_else(|| one.to_string(), Into::into));
            let supported: Vec<_> = checks.enum_.iter().map(quoted).collect();
            let detail = format!("supported values: {}", supported.join(", "));
            push(errors, ErrorKind::NotSupported, path, Some(value.clone()), detail);
        }
    }
    match value {
        Value::Object(map) => {
            if let Some(checks) = checks {
                properties(map.len() as u64, checks, path, errors);
            }
            for (name, one) in map {
                let below = schema.properties.get(name).or(schema.additional.as_deref());
                if let Some(below) = below {
                    check(one, old.and_then(|old| old.get(name)), below, &child(path, name), errors);
                }
            }
            for required in checks.map_or(&[][..], |checks| &checks.required) {
                if !map.contains_key(required) {
                    push(errors, ErrorKind::Required, &child(path, required), None, String::new());
                }
            }
        }
        Value::Array(all) => {
            if let Some(items) = &schema.items {
                for (index, one) in all.iter().enumerate() {
                    check(one, correlated(one, old, schema), items, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// The old element of a list of type map that has the same keys.
pub(super) fn correlated<'o>(one: &Value, old: Option<&'o Value>, schema: &Structural) -> Option<&'o Value> {
    if schema.list_type.as_deref() != Some("map") {
        return None;
    }
    let same = |other: &&Value| schema.list_map_keys.iter().all(|key| one.get(key) == other.get(key));
    old?.as_array()?.iter().find(same)
}

/// Whether a value is of the schema's type; if not, it is told.
fn type_fits(value: &Value, schema: &Structural, path: &str, errors: &mut Vec<FieldError>) -> bool {
    let wanted = match schema.type_.as_deref() {
        None if schema.int_or_string => "integer,string",
        None => return true,
        Some(type_) => type_,
    };
    let found = type_of(value);
    let fits = match (wanted, value) {
        (_, Value::Null) => schema.nullable,
        ("integer,string", Value::Number(number)) => !number.is_f64(),
        ("integer,string", value) => value.is_string(),
        ("integer", Value::Number(number)) => {
            !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        ("number", value) => value.is_number(),
        (wanted, _) => wanted == found,
    };
    if !fits {
        let detail = format!("{path} in body must be of type {wanted}: {found:?}");
        push(errors, ErrorKind::TypeInvalid, path, Some(found.into()), detail);
    }
    fits && !value.is_null()
}

fn string(text: &str, checks: &ValueChecks, path: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    if let Some(most) = checks.max_length.filter(|most| length > *most) {
        push(errors, ErrorKind::TooLong, path, None, format!("may not be more than {most} bytes"));
    }
    if let Some(least) = checks.min_length.filter(|least| length < *least) {
        let detail = format!("{path} in body should be at least {least} chars long");
        push(errors, ErrorKind::Invalid, path, Some(text.into()), detail);
    }
    if let Some(expression) = &checks.pattern
        && !pattern::compiled(expression).is_ok_and(|regex| regex.is_match(text))
    {
        push(
            errors,
            ErrorKind::Invalid,
            path,
            Some(text.into()),
            format!("{path} in body should match '{expression}'"),
        );
    }
    if let Some(format) = &checks.format
        && formats::fits(format, text) == Some(false)
    {
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        push(errors, ErrorKind::TypeInvalid, path, Some(text.into()), detail);
    }
}

fn number(number: &serde_json::Number, checks: &ValueChecks, path: &str, errors: &mut Vec<FieldError>) {
    let Some(n) = number.as_f64() else { return };
    let mut fail = |what: String| {
        push(
            errors,
            ErrorKind::Invalid,
            path,
            Some(number.clone().into()),
            format!("{path} in body should be {what}"),
        );
    };
    match checks.maximum {
        Some((most, true)) if n >= most => fail(format!("less than {most}")),
        Some((most, false)) if n > most => fail(format!("less than or equal to {most}")),
        _ => {}
    }
    match checks.minimum {
        Some((least, true)) if n <= least => fail(format!("greater than {least}")),
        Some((least, false)) if n < least => fail(format!("greater than or equal to {least}")),
        _ => {}
    }
    if let Some(factor) = checks.multiple_of.filter(|factor| *factor > 0.0) {
        let times = n / factor;
        if (times - times.round()).abs() > f64::EPSILON * times.abs().max(1.0) {
            fail(format!("a multiple of {factor}"));
        }
    }
    let range = match checks.format.as_deref() {
        Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        _ => None,
    };
    if let Some((least, most)) = range
        && !(least..=most).contains(&n)
    {
        let detail = format!("Checked value must be of type integer with format int32 in {path}");
        push(errors, ErrorKind::Invalid, path, Some(number.clone().into()), detail);
    }
}

fn list(all: &[Value], checks: &ValueChecks, path: &str, errors: &mut Vec<FieldError>) {
    let length = all.len() as u64;
    if let Some(least) = checks.min_items.filter(|least| length < *least) {
        let detail = format!("{path} in body should have at least {least} items");
        push(errors, ErrorKind::Invalid, path, Some(length.into()), detail);
    }
    if let Some(most) = checks.max_items.filter(|most| length > *most) {
        push(
            errors,
            ErrorKind::TooMany,
            path,
            Some(length.into()),
            format!("must have at most {most} items"),
        );
    }
    if checks.unique_items {
        let mut seen = HashSet::new();
        if !all.iter().all(|one| seen.insert(one.to_string())) {
            let detail = format!("{path} in body shouldn't contain duplicates");
            push(errors, ErrorKind::Invalid, path, Some("".into()), detail);
        }
    }
}

fn properties(count: u64, checks: &ValueChecks, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(least) = checks.min_properties.filter(|least| count < *least) {
        let detail = format!("{path} in body should have at least {least} properties");
        push(errors, ErrorKind::Invalid, path, Some(count.into()), detail);
    }
    if let Some(most) = checks.max_properties.filter(|most| count > *most) {
        push(errors, ErrorKind::TooMany, path, Some(count.into()), format!("must have at most {most} items"));
    }
}

/// `allOf`, `anyOf`, `oneOf`, `not`.
fn combined(
    value: &Value,
    schema: &Structural,
    checks: &ValueChecks,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    let results = |all: &[Structural]| -> Vec<Vec<FieldError>> {
        let one = |one: &Structural| {
            let mut errors = Vec::new();
            check(value, None, one, path, &mut errors);
            errors
        };
        all.iter().map(one).collect()
    };
    let fail = |errors: &mut Vec<FieldError>, message: String| {
        push(errors, ErrorKind::Invalid, "", Some("".into()), format!("{path:?} {message}"));
    };
    // The two ways in which an int-or-string says so itself.
    let customary = schema.int_or_string && checks.any_of.len() == 2;
    if !customary && !checks.any_of.is_empty() {
        let mut results = results(&checks.any_of);
        if results.iter().all(|errors| !errors.is_empty()) {
            fail(errors, "must validate at least one schema (anyOf)".into());
            results.sort_by_key(Vec::len);
            errors.extend(results.into_iter().next().unwrap_or_default());
        }
    }
    if !checks.one_of.is_empty() {
        let mut results = results(&checks.one_of);
        let good = results.iter().filter(|errors| errors.is_empty()).count();
        if good != 1 {
            let found = if good == 0 {
                "Found none valid".into()
            } else {
                format!("Found {good} valid alternatives")
            };
            fail(errors, format!("must validate one and only one schema (oneOf). {found}"));
            if good == 0 {
                results.sort_by_key(Vec::len);
                errors.extend(results.into_iter().next().unwrap_or_default());
            }
        }
    }
    if !checks.all_of.is_empty() {
        let results = results(&checks.all_of);
        let good = results.iter().filter(|errors| errors.is_empty()).count();
        if good != results.len() {
            errors.extend(results.into_iter().flatten());
            let none = if good == 0 { ". None validated" } else { "" };
            fail(errors, format!("must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &checks.not {
        let mut inner = Vec::new();
        check(value, None, not, path, &mut inner);
        if inner.is_empty() {
            fail(errors, "must not validate the schema (not)".into());
        }
    }
}

/// Elements of sets and maps that stand twice (`ValidateListSetsAndMaps`).
pub(super) fn duplicates(value: &Value, schema: &Structural, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, one) in map {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(below), _) => duplicates(one, below, &child(path, name), errors),
                    (None, Some(below)) => duplicates(one, below, &format!("{path}[{name}]"), errors),
                    (None, None) => {}
                }
            }
        }
        Value::Array(all) => {
            let mut seen = std::collections::HashMap::new();
            for (index, one) in all.iter().enumerate() {
                let key = match schema.list_type.as_deref() {
                    Some("set") => one.clone(),
                    Some("map") => {
                        let keys = schema.list_map_keys.iter();
                        keys.filter_map(|key| Some((key.clone(), one.get(key)?.clone()))).collect()
                    }
                    _ => break,
                };
                let times: &mut usize = seen.entry(key.to_string()).or_default();
                *times += 1;
                if *times == 2 {
                    push(errors, ErrorKind::Duplicate, &format!("{path}[{index}]"), Some(key), String::new());
                }
            }
            if let Some(items) = &schema.items {
                for (index, one) in all.iter().enumerate() {
                    duplicates(one, items, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

/// Whether errors keep rules from being checked (`hasBlockingErr`).
pub(super) fn blocks_rules(errors: &ErrorList) -> bool {
    use ErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    errors.iter().any(|error| matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: Value, object: Value) -> Vec<String> {
        validate(&object, None, &Structural::read(&schema)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn errors_are_worded_as_kubernetes_words_them() {
        let of = |schema: Value| json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": schema}}}});
        for (schema, value, error) in [
            (
                json!({"type": "integer"}),
                json!("x"),
                r#"spec.a: Invalid value: "string": spec.a in body must be of type integer: "string""#,
            ),
            (
                json!({"type": "string"}),
                json!(null),
                r#"spec.a: Invalid value: "null": spec.a in body must be of type string: "null""#,
            ),
            (
                json!({"type": "integer", "minimum": 0}),
                json!(-1),
                "spec.a: Invalid value: -1: spec.a in body should be greater than or equal to 0",
            ),
            (
                json!({"type": "integer", "maximum": 3, "exclusiveMaximum": true}),
                json!(3),
                "spec.a: Invalid value: 3: spec.a in body should be less than 3",
            ),
            (
                json!({"type": "integer", "multipleOf": 5}),
                json!(7),
                "spec.a: Invalid value: 7: spec.a in body should be a multiple of 5",
            ),
            (
                json!({"type": "string", "enum": ["S", "M", "L"]}),
                json!("XL"),
                r#"spec.a: Unsupported value: "XL": supported values: "S", "M", "L""#,
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                r#"spec.a: Invalid value: "b": spec.a in body should match '^a+$'"#,
            ),
            (
                json!({"type": "string", "maxLength": 2}),
                json!("abc"),
                "spec.a: Too long: may not be more than 2 bytes",
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                r#"spec.a: Invalid value: "a": spec.a in body should be at least 2 chars long"#,
            ),
            (
                json!({"type": "string", "format": "date-time"}),
                json!("x"),
                r#"spec.a: Invalid value: "x": spec.a in body must be of type date-time: "x""#,
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
                json!(["a", "b"]),
                "spec.a: Too many: 2: must have at most 1 items",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
                json!([]),
                "spec.a: Invalid value: 0: spec.a in body should have at least 1 items",
            ),
            (json!({"type": "object", "required": ["b"]}), json!({}), "spec.a.b: Required value"),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                r#"spec.a: Invalid value: "boolean": spec.a in body must be of type integer,string: "boolean""#,
            ),
            (
                json!({"type": "array", "items": {"type": "integer"}}),
                json!([1, "x"]),
                r#"spec.a[1]: Invalid value: "string": spec.a[1] in body must be of type integer: "string""#,
            ),
        ] {
            assert_eq!(told(of(schema), json!({"spec": {"a": value}})), [error]);
        }
    }

    #[test]
    fn combined_schemas() {
        let schema = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {
            "a": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}, "b": {"type": "string", "not": {"enum": ["no"]}}}});
        assert_eq!(told(schema.clone(), json!({"a": 7})), Vec::<String>::new());
        assert_eq!(
            told(schema.clone(), json!({"a": 3}))[0],
            r#"<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)"#
        );
        assert_eq!(
            told(schema.clone(), json!({"b": "no"})),
            [r#"<nil>: Invalid value: "": "b" must not validate the schema (not)"#]
        );
        assert_eq!(
            told(schema, json!({"a": 7, "b": "x"})),
            [
                r#"<nil>: Invalid value: "": "" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
            ]
        );
    }

    #[test]
    fn what_an_update_leaves_alone_is_not_checked() {
        let schema = Structural::read(
            &json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 5}, "b": {"type": "integer"},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}}}}}}),
        );
        let old = json!({"a": 1, "b": 1, "l": [{"k": "x", "v": 1}]});
        let new = json!({"a": 1, "b": 2, "l": [{"k": "y", "v": 9}, {"k": "x", "v": 1}]});
        assert!(validate(&new, Some(&old), &schema).is_empty());
        assert_eq!(validate(&new, None, &schema).len(), 2);
    }

    #[test]
    fn sets_and_maps_hold_each_once() {
        let schema = Structural::read(&json!({"type": "object", "properties": {
            "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object"}}}}));
        let mut errors = Vec::new();
        duplicates(
            &json!({"s": ["a", "b", "a", "a"], "m": [{"k": 1, "x": 1}, {"k": 1}]}),
            &schema,
            "",
            &mut errors,
        );
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, [r#"m[1]: Duplicate value: {"k":1}"#, r#"s[2]: Duplicate value: "a""#]);
    }
}
