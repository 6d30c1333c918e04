//! Trees that are already what decoding would make of them, but for what says nothing. What a patch makes of a stored object mostly is,
//! and so is what is stored: to see that costs less than to make the tree anew.

use super::json::{decode_base64, schema_props};
use super::{MOST_VALUES, canonical_micro_time, canonical_time, says_nothing};
use crate::quantity::Quantity;
use crate::schema::{Struct, Type};
use serde_json::{Map, Value};

/// Takes out what says no more than its absence would: the opposite of [`super::complete`]. False, and the tree perhaps half done, if
/// [`super::conform`] would have changed more than that or would have something to tell.
pub(super) fn thin(tree: &mut Value, schema: Struct) -> bool {
    let mut left = MOST_VALUES;
    thin_value(tree, Type::Struct(schema), &mut left)
}

fn thin_value(value: &mut Value, type_: Type, left: &mut usize) -> bool {
    let Some(fewer) = left.checked_sub(1) else { return false };
    *left = fewer;
    match (type_, value) {
        (Type::RawExtension | Type::FieldsV1 | Type::Json, value) => match value {
            Value::Object(all) => all.values_mut().all(|one| thin_value(one, type_, left)),
            Value::Array(all) => all.iter_mut().all(|one| thin_value(one, type_, left)),
            _ => true,
        },
        (Type::Struct(schema), Value::Object(fields)) => thin_fields(fields, schema, left),
        (Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStringArray, Value::Object(fields)) => {
            thin_fields(fields, schema_props(), left)
        }
        (Type::Map(elem), Value::Object(all)) => {
            all.values_mut().all(|one| thin_value(one, elem.type_(), left))
        }
        (Type::List(elem) | Type::NamedList(elem), Value::Array(all)) => {
            all.iter_mut().all(|one| thin_value(one, elem.type_(), left))
        }
        (Type::SchemaOrArray, Value::Array(all)) => {
            all.iter_mut().all(|one| thin_value(one, Type::Struct(schema_props()), left))
        }
        (Type::SchemaOrStringArray, Value::Array(all)) => {
            all.iter_mut().all(|one| thin_value(one, Type::String, left))
        }
        (type_, value) => is_canonical(value, type_),
    }
}

fn thin_fields(fields: &mut Map<String, Value>, schema: Struct, left: &mut usize) -> bool {
    let mut is_conformed = true;
    fields.retain(|name, value| match schema.field(name) {
        Some(field) => {
            is_conformed = is_conformed && (value.is_null() || thin_value(value, field.type_(), left));
            !is_conformed || !says_nothing(field, value)
        }
        None => {
            is_conformed = false;
            true
        }
    });
    is_conformed
}

/// Whether a value without parts is of a type, and written as decoding would write it.
fn is_canonical(value: &Value, type_: Type) -> bool {
    match (type_, value) {
        (Type::Bool | Type::SchemaOrBool, Value::Bool(_))
        | (Type::String | Type::IntOrString | Type::Duration, Value::String(_))
        | (Type::Float64, Value::Number(_)) => true,
        (Type::Int32 | Type::IntOrString, Value::Number(number)) => {
            number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
        }
        (Type::Int64, Value::Number(number)) => number.is_i64(),
        (Type::Quantity, Value::String(text)) => {
            text.parse::<Quantity>().is_ok_and(|canonical| canonical.to_string() == *text)
        }
        (Type::Time, Value::String(text)) => canonical_time(text).is_ok_and(|canonical| canonical == *text),
        (Type::MicroTime, Value::String(text)) => {
            canonical_micro_time(text).is_ok_and(|canonical| canonical == *text)
        }
        (Type::Bytes, Value::String(text)) => decode_base64(text).is_ok_and(|canonical| canonical == *text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{complete, conform};
    use super::*;
    use crate::schema::find;
    use serde_json::json;

    /// What is thinned is what would have been decoded, wherever a value of another kind stands.
    #[test]
    fn thinning_is_decoding_where_it_is_done() {
        let odd = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(5_000_000_000_i64),
            json!(1.5),
            json!(""),
            json!("1000m"),
            json!("2026-01-02T03:04:05Z"),
            json!("2026-01-02T03:04:05.6+01:00"),
            json!("YQ=="),
            json!([]),
            json!([null]),
            json!(["a"]),
            json!([{}]),
            json!({}),
            json!({"a": null}),
            json!({"a": "b"}),
            json!({"type": "object", "properties": {"x": {"items": [{}], "additionalProperties": false}}}),
        ];
        let (mut thinned, mut decoded) = (0, 0);
        for (group, version, kind) in crate::schema::kinds() {
            let schema = find(group, version, kind).unwrap();
            let mut trees = vec![json!({}), json!({"bogus": 1})];
            complete(&mut trees[0], schema);
            spread(schema, 4, &odd, &mut trees, &|inner| inner);
            for tree in trees {
                let mut worked = tree.clone();
                if thin(&mut worked, schema) {
                    let wanted = conform(&tree, schema).unwrap();
                    assert!(wanted.strict.is_empty(), "{tree}");
                    assert_eq!(worked, wanted.object, "{kind}: {tree}");
                    thinned += 1;
                } else {
                    // Half done, it comes to the same.
                    assert_eq!(conform(&worked, schema), conform(&tree, schema), "{kind}: {tree}");
                    decoded += 1;
                }
            }
        }
        assert!(thinned > 10_000 && decoded > 10_000, "{thinned}, {decoded}");
    }

    /// Trees with each of the values at each of the places, as far down as is told.
    fn spread(
        schema: Struct,
        depth: usize,
        odd: &[Value],
        trees: &mut Vec<Value>,
        around: &dyn Fn(Value) -> Value,
    ) {
        for field in schema.fields() {
            let within = |value: Value| around(json!({ field.name(): value }));
            trees.extend(odd.iter().map(|value| within(value.clone())));
            let (Type::Struct(inner), 1..) = (field.type_(), depth) else {
                if let (Type::List(elem), 1..) = (field.type_(), depth)
                    && let Type::Struct(inner) = elem.type_()
                {
                    spread(inner, depth.saturating_sub(2), odd, trees, &|value| within(json!([value])));
                }
                continue;
            };
            spread(inner, depth - 1, odd, trees, &within);
        }
    }
}
