//! What Go says of a strategic patch that made a value of a type that its field has not. Such a result is no JSON that is decoded, but a
//! tree that is converted (apimachinery's `pkg/runtime/converter.go`), which has its own words.

use crate::schema::{Struct, Type};
use serde_json::Value;

/// The first value of a wrong type, told; none: there is none, or its type decodes itself (quantities, times) and words its own error.
pub(crate) fn first_error(tree: &Value, schema: Struct) -> Option<String> {
    wrong(tree, Type::Struct(schema))
}

fn wrong(value: &Value, type_: Type) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let found = kind(value);
    match type_ {
        Type::String => match found {
            "string" => None,
            "int64" => Some("cannot convert int64 to string".into()),
            _ => Some("unrecognized type: string".into()),
        },
        Type::Bool => (found != "bool").then(|| "unrecognized type: bool".into()),
        Type::Int32 => (found != "int64" && !is_whole(value)).then(|| number(found, "int32")),
        Type::Int64 => (found != "int64" && !is_whole(value)).then(|| number(found, "int64")),
        Type::Float64 => match found {
            "float64" => None,
            "int64" => Some("cannot convert int64 to float64".into()),
            _ => Some("unrecognized type: float64".into()),
        },
        Type::Bytes => (found != "string").then(|| format!("cannot restore slice from {found}")),
        Type::List(elem) | Type::NamedList(elem) => match value {
            Value::Array(all) => all.iter().find_map(|one| wrong(one, elem.type_())),
            _ => Some(format!("cannot restore slice from {found}")),
        },
        Type::Map(elem) => match value {
            Value::Object(all) => all.values().find_map(|one| wrong(one, elem.type_())),
            _ => Some(format!("cannot restore map from {found}")),
        },
        Type::Struct(schema) => match value {
            Value::Object(all) => all
                .iter()
                .find_map(|(name, one)| schema.field(name).and_then(|field| wrong(one, field.type_()))),
            _ => Some(format!("cannot restore struct from: {found}")),
        },
        Type::Quantity
        | Type::IntOrString
        | Type::Time
        | Type::MicroTime
        | Type::Duration
        | Type::RawExtension
        | Type::FieldsV1
        | Type::Json
        | Type::SchemaOrBool
        | Type::SchemaOrArray
        | Type::SchemaOrStringArray => None,
    }
}

/// Go converts between its numbers, but not what has a fraction.
fn number(found: &str, wanted: &str) -> String {
    match found {
        "float64" => format!("cannot convert float64 to {wanted}"),
        _ => format!("unrecognized type: {wanted}"),
    }
}

fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// A value's kind as Go's reflection names it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::find;
    use serde_json::json;

    #[test]
    fn values_of_wrong_types_are_told_as_the_converter_tells_them() {
        let pod = find("", "v1", "Pod").unwrap();
        let env = |value: Value| json!({"spec": {"containers": [{"env": [{"name": "A", "value": value}]}]}});
        for (tree, told) in [
            (json!({"metadata": {"labels": "x"}}), Some("cannot restore map from string")),
            (json!({"spec": {"containers": {}}}), Some("cannot restore slice from map")),
            (json!({"spec": []}), Some("cannot restore struct from: slice")),
            (env(json!(5)), Some("cannot convert int64 to string")),
            (env(json!(true)), Some("unrecognized type: string")),
            (env(json!(1.5)), Some("unrecognized type: string")),
            (json!({"spec": {"priority": "high"}}), Some("unrecognized type: int32")),
            (json!({"spec": {"priority": 1.5}}), Some("cannot convert float64 to int32")),
            (json!({"spec": {"priority": 2.0, "hostNetwork": "true"}}), Some("unrecognized type: bool")),
            (json!({"spec": {"priority": 2, "bogus": 1, "nodeName": null}}), None),
        ] {
            assert_eq!(first_error(&tree, pod).as_deref(), told, "{tree}");
        }
    }
}
