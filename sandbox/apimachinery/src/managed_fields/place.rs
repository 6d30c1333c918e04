//! What server-side apply must know of a value's place in the schema: whether it is a map, a list or a leaf, and how lists merge.
//! One view over built-in types and the schemas of custom resources.

use crate::crd::Structural;
use crate::decode;
use crate::schema::{self, Field, ListType, Struct, Type};
use serde_json::Value;
use smallvec::SmallVec;

/// A place in a schema.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A built-in type, and the field that holds it.
    BuiltIn(Type, Option<Field>),
    /// The root of a custom resource: its metadata is built in.
    Custom(Option<&'a Structural>),
    /// Below the root of a custom resource.
    Structural(&'a Structural),
    /// Nothing is known: maps merge, lists are one value.
    Deduced,
    /// One value, whatever is in it.
    Leaf,
}

/// What a value is for merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One value.
    Leaf,
    /// Fields that merge one by one.
    Map,
    /// A set of values.
    Set,
    /// Elements that are recognized by keys.
    Keyed,
}

impl<'a> Place<'a> {
    /// The root of a built-in kind.
    pub fn of(schema: Struct) -> Self {
        Self::BuiltIn(Type::Struct(schema), None)
    }

    /// What stands here, for merging: as the schema has it, but a value of another type is a leaf.
    pub(super) fn shape(self, one: Option<&Value>, other: Option<&Value>) -> Shape {
        let fits = |map: bool| {
            [one, other].into_iter().flatten().all(|value| match value {
                Value::Null => true,
                Value::Object(_) => map,
                Value::Array(_) => !map,
                _ => false,
            })
        };
        match self.declared(one.filter(|one| !one.is_null()).or(other)) {
            Shape::Map if fits(true) => Shape::Map,
            shape @ (Shape::Set | Shape::Keyed) if fits(false) => shape,
            _ => Shape::Leaf,
        }
    }

    fn declared(self, value: Option<&Value>) -> Shape {
        match self {
            Self::BuiltIn(type_, field) => match type_ {
                Type::Struct(inner) if inner.is_atomic() || field.is_some_and(Field::map_atomic) => {
                    Shape::Leaf
                }
                Type::Struct(_) => Shape::Map,
                Type::Map(_) if field.is_some_and(Field::map_atomic) => Shape::Leaf,
                Type::Map(_) => Shape::Map,
                Type::List(_) => match field.map_or(ListType::Atomic, Field::list_type) {
                    ListType::Atomic => Shape::Leaf,
                    ListType::Set => Shape::Set,
                    ListType::Map => Shape::Keyed,
                },
                _ => Shape::Leaf,
            },
            Self::Custom(_) => Shape::Map,
            Self::Structural(schema) => {
                let is_list = schema.items.is_some() || schema.type_.as_deref() == Some("array");
                if is_list {
                    match schema.list_type.as_deref() {
                        Some("set") => Shape::Set,
                        Some("map") => Shape::Keyed,
                        _ => Shape::Leaf,
                    }
                } else if schema.map_type.as_deref() == Some("atomic") {
                    Shape::Leaf
                } else if schema.type_.as_deref() == Some("object")
                    || (schema.preserve_unknown && value.is_some_and(Value::is_object))
                {
                    Shape::Map
                } else {
                    Shape::Leaf
                }
            }
            Self::Deduced => {
                if value.is_some_and(Value::is_object) {
                    Shape::Map
                } else {
                    Shape::Leaf
                }
            }
            Self::Leaf => Shape::Leaf,
        }
    }

    /// The place of a field or entry, and whether the schema declares it as a field; nothing if it knows no such.
    pub(super) fn field(self, name: &str) -> Option<(Self, bool)> {
        match self {
            Self::BuiltIn(Type::Struct(inner), _) => {
                let field = inner.field(name)?;
                Some((Self::BuiltIn(field.type_(), Some(field)), true))
            }
            Self::BuiltIn(Type::Map(elem), _) => Some((Self::BuiltIn(elem.type_(), None), false)),
            Self::BuiltIn(..) | Self::Leaf => Some((Self::Leaf, false)),
            Self::Custom(schema) => match name {
                "apiVersion" | "kind" => Some((Self::Leaf, true)),
                "metadata" => Some((object_meta(), true)),
                _ => match schema {
                    Some(schema) => Self::Structural(schema).field(name),
                    None => Some((Self::Deduced, false)),
                },
            },
            Self::Structural(schema) => {
                if schema.embedded_resource {
                    match name {
                        "apiVersion" | "kind" => return Some((Self::Leaf, true)),
                        "metadata" => return Some((object_meta(), true)),
                        _ => {}
                    }
                }
                if let Some(below) = schema.properties.get(name) {
                    return Some((Self::Structural(below), true));
                }
                if let Some(below) = &schema.additional {
                    return Some((Self::Structural(below), false));
                }
                // An object of which nothing is said may have any fields (kube-openapi `pkg/schemaconv/openapi.go`).
                let is_free =
                    schema.properties.is_empty() || schema.preserve_unknown || schema.additional_any;
                is_free.then_some((Self::Deduced, false))
            }
            Self::Deduced => Some((Self::Deduced, false)),
        }
    }

    /// What Go's encoder writes for a field here that nobody has set, if it writes anything (`decode::complete`).
    pub(super) fn zero(self, name: &str) -> Option<Value> {
        let Self::BuiltIn(Type::Struct(inner), _) = self else { return None };
        let field = inner.field(name)?;
        decode::always_written(field, field.type_())
    }

    /// The same for what is here, which is a field.
    pub(super) fn own_zero(self) -> Option<Value> {
        let Self::BuiltIn(type_, Some(field)) = self else { return None };
        decode::always_written(field, type_)
    }

    /// All of them, with their names and places.
    pub(super) fn zeros(self) -> impl Iterator<Item = (&'static str, Value, Self)> {
        let inner = if let Self::BuiltIn(Type::Struct(inner), _) = self { Some(inner) } else { None };
        inner.into_iter().flat_map(Struct::always_written).filter_map(|field| {
            let zero = decode::always_written(field, field.type_())?;
            Some((field.name(), zero, Self::BuiltIn(field.type_(), Some(field))))
        })
    }

    /// A value with all of them filled in, down to its leaves.
    pub(super) fn completed(self, value: &Value) -> Value {
        let mut value = value.clone();
        if let Self::BuiltIn(type_, _) = self {
            decode::complete_type(&mut value, type_);
        }
        value
    }

    /// The place of a list's elements.
    pub(super) fn element(self) -> Self {
        match self {
            Self::BuiltIn(Type::List(elem) | Type::NamedList(elem), _) => Self::BuiltIn(elem.type_(), None),
            Self::Structural(schema) => schema.items.as_deref().map_or(Self::Deduced, Self::Structural),
            Self::Deduced => Self::Deduced,
            _ => Self::Leaf,
        }
    }

    /// The keys of a list's elements.
    pub(super) fn keys(self) -> SmallVec<[&'a str; 3]> {
        match self {
            Self::BuiltIn(Type::List(elem), Some(field)) if matches!(elem.type_(), Type::Struct(_)) => {
                field.keys().map(|key| -> &'a str { key }).collect()
            }
            Self::Structural(schema) => schema.list_map_keys.iter().map(String::as_str).collect(),
            _ => SmallVec::new(),
        }
    }

    /// What one of them is where an element does not say.
    pub(super) fn key_default(self, key: &str) -> Option<Value> {
        match self {
            Self::BuiltIn(Type::List(elem), _) => match elem.type_() {
                Type::Struct(inner) => inner.field(key)?.default(),
                _ => None,
            },
            Self::Structural(schema) => schema.items.as_ref()?.properties.get(key)?.default.clone(),
            _ => None,
        }
    }

    /// What a leaf must be: the name of a scalar type, or nothing if it may be anything.
    pub(super) fn scalar(self) -> Option<&'static str> {
        match self {
            Self::BuiltIn(type_, _) => match type_ {
                Type::String | Type::Time | Type::MicroTime | Type::Bytes | Type::Duration => Some("string"),
                Type::Bool => Some("boolean"),
                Type::Int32 | Type::Int64 | Type::Float64 => Some("numeric"),
                _ => None,
            },
            Self::Structural(schema) if !schema.int_or_string => match schema.type_.as_deref() {
                Some("string") => Some("string"),
                Some("boolean") => Some("boolean"),
                Some("integer" | "number") => Some("numeric"),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a list or a map is declared here (as one value or not).
    pub(super) fn composite(self) -> Option<&'static str> {
        match self {
            Self::BuiltIn(Type::List(_) | Type::NamedList(_), _) => Some("list"),
            Self::BuiltIn(Type::Struct(_) | Type::Map(_), _) => Some("map"),
            Self::Structural(schema) => match schema.type_.as_deref() {
                Some("array") => Some("list"),
                Some("object") => Some("map"),
                _ => None,
            },
            _ => None,
        }
    }
}

fn object_meta() -> Place<'static> {
    match schema::find_definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
        Some(meta) => Place::of(meta),
        None => Place::Deduced,
    }
}
