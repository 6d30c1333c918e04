//! A structural schema (apiextensions-apiserver `pkg/apiserver/schema`): the part of `openAPIV3Schema` that says what objects are, read
//! from JSON once and held compactly.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most nesting of a schema.
const MOST_DEPTH: usize = 100;

/// A schema, and those below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Structural {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`; nothing with `x-kubernetes-int-or-string` or
    /// `x-kubernetes-preserve-unknown-fields`.
    pub type_: Option<String>,
    /// Whether null is a value.
    pub nullable: bool,
    /// Fields.
    pub properties: BTreeMap<String, Structural>,
    /// Schema of entries that are no fields.
    pub additional: Option<Box<Structural>>,
    /// `additionalProperties: true`.
    pub additional_any: bool,
    /// Schema of a list's elements.
    pub items: Option<Box<Structural>>,
    /// What is filled in where nothing is said.
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<String>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<String>,
    /// Checks of the value beyond its type.
    pub checks: Option<Box<ValueChecks>>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
}

/// Checks of a value beyond its type (`ValueValidation`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ValueChecks {
    /// Such as `date-time`.
    pub format: Option<String>,
    /// Least number; whether that itself is too little.
    pub minimum: Option<(f64, bool)>,
    /// Most; whether that itself is too much.
    pub maximum: Option<(f64, bool)>,
    /// Least length of a text.
    pub min_length: Option<u64>,
    /// Most length.
    pub max_length: Option<u64>,
    /// Regular expression of a text.
    pub pattern: Option<String>,
    /// Fewest elements.
    pub min_items: Option<u64>,
    /// Most elements.
    pub max_items: Option<u64>,
    /// Whether elements must differ.
    pub unique_items: bool,
    /// Fewest fields.
    pub min_properties: Option<u64>,
    /// Most fields.
    pub max_properties: Option<u64>,
    /// Of what a number must be a multiple.
    pub multiple_of: Option<f64>,
    /// All possible values.
    pub enum_: Vec<Value>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// All must fit.
    pub all_of: Vec<Structural>,
    /// One at least must fit.
    pub any_of: Vec<Structural>,
    /// Exactly one must fit.
    pub one_of: Vec<Structural>,
    /// This must not fit.
    pub not: Option<Box<Structural>>,
}

/// A rule in CEL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What to say if it does not hold.
    pub message: String,
    /// The same as an expression.
    pub message_expression: String,
    /// Reason of the error; `FieldValueInvalid` if empty.
    pub reason: String,
    /// Path below the value that the error is about, such as `.spec.x`.
    pub field_path: String,
    /// Whether a transition rule also holds where there is no old value, if the schema says.
    pub optional_old_self: Option<bool>,
}

impl Structural {
    /// Reads a schema. What it does not know it ignores; the definition's validation tells of it.
    pub fn read(schema: &Value) -> Self {
        read(schema, 0)
    }
}

fn read(schema: &Value, depth: usize) -> Structural {
    let Some(map) = schema.as_object() else { return Structural::default() };
    if depth > MOST_DEPTH {
        return Structural::default();
    }
    let text = |name: &str| map.get(name).and_then(Value::as_str).map(String::from);
    let flag = |name: &str| map.get(name) == Some(&Value::Bool(true));
    let below = |name: &str| {
        map.get(name).filter(|value| value.is_object()).map(|value| Box::new(read(value, depth + 1)))
    };
    let properties = map.get("properties").and_then(Value::as_object);
    Structural {
        type_: text("type").filter(|type_| !type_.is_empty()),
        nullable: flag("nullable"),
        properties: properties
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), read(value, depth + 1)))
            .collect(),
        additional: below("additionalProperties"),
        additional_any: flag("additionalProperties"),
        items: below("items"),
        default: map.get("default").cloned(),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        list_type: text("x-kubernetes-list-type"),
        list_map_keys: texts(map.get("x-kubernetes-list-map-keys")),
        map_type: text("x-kubernetes-map-type"),
        checks: checks(map, depth),
        rules: map
            .get("x-kubernetes-validations")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(rule)
            .collect(),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}

fn checks(map: &Map<String, Value>, depth: usize) -> Option<Box<ValueChecks>> {
    let text =
        |name: &str| map.get(name).and_then(Value::as_str).map(String::from).filter(|text| !text.is_empty());
    let count = |name: &str| map.get(name).and_then(Value::as_u64);
    let number = |name: &str| map.get(name).and_then(Value::as_f64);
    let flag = |name: &str| map.get(name) == Some(&Value::Bool(true));
    let all = |name: &str| {
        let all = map.get(name).and_then(Value::as_array).into_iter().flatten();
        all.map(|one| read(one, depth + 1)).collect::<Vec<_>>()
    };
    let checks = ValueChecks {
        format: text("format"),
        minimum: number("minimum").map(|least| (least, flag("exclusiveMinimum"))),
        maximum: number("maximum").map(|most| (most, flag("exclusiveMaximum"))),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: text("pattern"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        multiple_of: number("multipleOf"),
        enum_: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        required: texts(map.get("required")),
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: map.get("not").filter(|not| not.is_object()).map(|not| Box::new(read(not, depth + 1))),
    };
    (checks != ValueChecks::default()).then(|| Box::new(checks))
}

fn rule(value: &Value) -> Rule {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
    Rule {
        rule: text("rule"),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: text("reason"),
        field_path: text("fieldPath"),
        optional_old_self: value["optionalOldSelf"].as_bool(),
    }
}
