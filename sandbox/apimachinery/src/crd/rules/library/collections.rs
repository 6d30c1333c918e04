//! Functions over lists and maps that neither the crate nor Kubernetes' own library has: sets (cel-go `ext/sets.go`), optional values
//! (cel-go `cel/library.go`), and what macros with two variables are made of.

use super::{Result, elements, fail};
use crate::expressions::macros::{ENTRIES, INSERT};
use cel::extractors::{Arguments, This};
use cel::objects::{Key, Map, OptionalValue};
use cel::{Context, DeclarationError, Value};
use std::sync::Arc;

/// Names them.
pub fn add(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    let has = |all: &[Value], one: &Value| all.contains(one);
    context.add_function("sets.contains", move |all: Value, some: Value| -> Result {
        let (all, some) = (elements(&all, "sets.contains")?, elements(&some, "sets.contains")?);
        Ok(Value::Bool(some.iter().all(|one| has(&all, one))))
    })?;
    context.add_function("sets.equivalent", move |one: Value, other: Value| -> Result {
        let (one, other) = (elements(&one, "sets.equivalent")?, elements(&other, "sets.equivalent")?);
        Ok(Value::Bool(one.iter().all(|each| has(&other, each)) && other.iter().all(|each| has(&one, each))))
    })?;
    context.add_function("sets.intersects", move |one: Value, other: Value| -> Result {
        let (one, other) = (elements(&one, "sets.intersects")?, elements(&other, "sets.intersects")?);
        Ok(Value::Bool(one.iter().any(|each| has(&other, each))))
    })?;
    let optional = |value: Option<&Value>| {
        let value = value.cloned().map_or_else(OptionalValue::none, OptionalValue::of);
        Value::Opaque(Arc::new(value))
    };
    context.add_function("first", move |This(list): This<Value>| -> Result {
        Ok(optional(elements(&list, "first")?.first()))
    })?;
    context.add_function("last", move |This(list): This<Value>| -> Result {
        Ok(optional(elements(&list, "last")?.last()))
    })?;
    context.add_function("unwrapOpt", |This(list): This<Value>| unwrap(&list))?;
    context.add_function("optional.unwrap", |list: Value| unwrap(&list))?;
    context.add_function(ENTRIES, |range: Value| entries(&range))?;
    context.add_function(INSERT, |Arguments(args): Arguments| insert(&args))
}

/// What optional values of a list hold, without those that hold nothing.
fn unwrap(list: &Value) -> Result {
    let mut held = Vec::new();
    for one in elements(list, "unwrapOpt")?.iter() {
        let Value::Opaque(opaque) = one else { return fail("unwrapOpt", "value is not optional") };
        let Some(optional) = opaque.downcast_ref::<OptionalValue>() else {
            return fail("unwrapOpt", "value is not optional");
        };
        held.extend(optional.value().cloned());
    }
    Ok(Value::List(Arc::new(held)))
}

/// The entries of a map, or indices and elements of a list, as lists of two.
fn entries(range: &Value) -> Result {
    let pair = |key: Value, value: &Value| Value::List(Arc::new(vec![key, value.clone()]));
    let all = match range {
        Value::List(all) => {
            all.iter().enumerate().map(|(at, one)| pair(Value::Int(at as i64), one)).collect()
        }
        Value::Map(map) => map.map.iter().map(|(key, value)| pair(key.into(), value)).collect::<Vec<_>>(),
        _ => return fail(ENTRIES, "no such overload"),
    };
    Ok(Value::List(Arc::new(all)))
}

/// A map with one more entry, or with those of another map.
fn insert(args: &[Value]) -> Result {
    let none = || fail(INSERT, "no such overload");
    let Some(Value::Map(map)) = args.first() else { return none() };
    let mut all = map.map.as_ref().clone();
    let more: Vec<(Key, Value)> = match &args[1..] {
        [key, value] => {
            let key = match key {
                Value::Int(number) => Key::Int(*number),
                Value::UInt(number) => Key::Uint(*number),
                Value::Bool(on) => Key::Bool(*on),
                Value::String(text) => Key::String(text.clone()),
                _ => return none(),
            };
            vec![(key, value.clone())]
        }
        [Value::Map(more)] => more.map.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        _ => return none(),
    };
    for (key, value) in more {
        if all.insert(key.clone(), value).is_some() {
            return fail(INSERT, format!("insert failed: key '{key}' already exists"));
        }
    }
    Ok(Value::Map(Map { map: Arc::new(all) }))
}
