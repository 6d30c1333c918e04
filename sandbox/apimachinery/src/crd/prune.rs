//! Pruning and defaulting (apiextensions-apiserver `pkg/apiserver/schema/{pruning,defaulting}`).

use super::Structural;
use serde_json::{Map, Value};

/// What is kept of the object itself and of embedded ones, whatever the schema says.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Most unknown fields that are told, as upstream.
const MOST_TOLD: usize = 100;

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    fn tell(&mut self, name: &str) {
        if self.unknown.len() < MOST_TOLD {
            let dot = if self.path.is_empty() { "" } else { "." };
            self.unknown.push(format!("unknown field {:?}", format!("{}{dot}{name}", self.path)));
        }
    }

    fn below(&mut self, step: &str, what: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        what(self);
        self.path.truncate(length);
    }

    fn field(&mut self, name: &str, what: impl FnOnce(&mut Self)) {
        let step = if self.path.is_empty() { name.into() } else { format!(".{name}") };
        self.below(&step, what);
    }
}

/// Prunes an object along its schema.
pub(super) fn prune(object: &mut Value, schema: &Structural) -> Vec<String> {
    let mut walk = Walk { path: String::new(), unknown: Vec::new() };
    value(object, Some(schema), true, &mut walk);
    walk.unknown
}

/// Prunes a default of a schema; whether there was anything that the schema does not know.
pub(super) fn prune_default(default: &mut Value, schema: &Structural) -> bool {
    let mut walk = Walk { path: String::new(), unknown: Vec::new() };
    value(default, Some(schema), schema.embedded_resource, &mut walk);
    !walk.unknown.is_empty()
}

fn value(one: &mut Value, schema: Option<&Structural>, embedded: bool, walk: &mut Walk) {
    let keep = schema.is_some_and(|schema| schema.preserve_unknown);
    match one {
        Value::Object(map) => fields(map, schema, embedded, keep, walk),
        Value::Array(all) => {
            let items = schema.and_then(|schema| schema.items.as_deref());
            if keep && items.is_none() {
                return;
            }
            for (index, one) in all.iter_mut().enumerate() {
                walk.below(&format!("[{index}]"), |walk| {
                    value(one, items, items.is_some_and(|items| items.embedded_resource), walk);
                });
            }
        }
        _ => {}
    }
}

fn fields(
    map: &mut Map<String, Value>,
    schema: Option<&Structural>,
    embedded: bool,
    keep: bool,
    walk: &mut Walk,
) {
    map.retain(|name, one| {
        if embedded && META.contains(&name.as_str()) {
            return true;
        }
        let Some(schema) = schema else {
            walk.tell(name);
            return false;
        };
        let below = match (schema.properties.get(name), &schema.additional) {
            (Some(below), _) => Some(below),
            (None, Some(below)) => Some(&**below),
            (None, None) if schema.additional_any => None,
            (None, None) => {
                if !keep {
                    walk.tell(name);
                }
                return keep;
            }
        };
        walk.field(name, |walk| value(one, below, below.is_some_and(|below| below.embedded_resource), walk));
        true
    });
}

fn is_wrong_null(value: Option<&Value>, schema: &Structural) -> bool {
    value == Some(&Value::Null) && !schema.nullable
}

/// Fills in defaults.
pub(super) fn default(object: &mut Value, schema: &Structural) {
    match object {
        Value::Object(map) => {
            for (name, below) in &schema.properties {
                if let Some(default) = &below.default
                    && (!map.contains_key(name) || is_wrong_null(map.get(name), below))
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(below), _) => default(value, below),
                    (None, Some(below)) => {
                        if is_wrong_null(Some(value), below)
                            && let Some(default) = &below.default
                        {
                            *value = default.clone();
                        }
                        default(value, below);
                    }
                    (None, None) => {}
                }
            }
        }
        Value::Array(all) => {
            let Some(items) = &schema.items else { return };
            for one in all {
                if is_wrong_null(Some(one), items)
                    && let Some(default) = &items.default
                {
                    *one = default.clone();
                }
                default(one, items);
            }
        }
        _ => {}
    }
}

/// Drops fields that are null though null is no value of theirs and they have no default.
pub(super) fn drop_nulls(object: &mut Value, schema: &Structural) {
    match object {
        Value::Object(map) => map.retain(|name, value| {
            let below = schema.properties.get(name).or(schema.additional.as_deref());
            let Some(below) = below else { return true };
            if is_wrong_null(Some(value), below) && below.default.is_none() && !below.preserve_unknown {
                return false;
            }
            drop_nulls(value, below);
            true
        }),
        Value::Array(all) => {
            if let Some(items) = &schema.items {
                all.iter_mut().for_each(|one| drop_nulls(one, items));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(value: Value) -> Structural {
        Structural::read(&value)
    }

    #[test]
    fn unknown_fields_are_dropped_and_told() {
        let schema = schema(json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"closed": {"type": "object"}}},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}}}}));
        let mut object = json!({"apiVersion": "a", "kind": "K", "metadata": {"x": 1}, "bogus": 1,
            "spec": {"bogus": 1, "list": [{"a": "1"}, {"b": 2}], "map": {"m": {"z": 1}}, "open": {"any": {"thing": 1}, "closed": {"x": 1}},
                "pod": {"kind": "Pod", "metadata": {"name": "n"}, "other": 1}}});
        let mut told = schema.prune(&mut object);
        told.sort();
        assert_eq!(
            told,
            ["bogus", "spec.bogus", "spec.list[1].b", "spec.map.m.z", "spec.open.closed.x", "spec.pod.other"]
                .map(|path| format!("unknown field {path:?}"))
        );
        assert_eq!(
            object,
            json!({"apiVersion": "a", "kind": "K", "metadata": {"x": 1}, "spec": {"list": [{"a": "1"}, {}], "map": {"m": {}},
                "open": {"any": {"thing": 1}, "closed": {}}, "pod": {"kind": "Pod", "metadata": {"name": "n"}}}})
        );
    }

    #[test]
    fn defaults_fill_what_is_not_said() {
        let schema = schema(json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": 1}, "n": {"type": "integer", "nullable": true, "default": 2}, "x": {"type": "string"},
            "o": {"type": "object", "default": {}, "properties": {"b": {"type": "string", "default": "B"}}},
            "p": {"type": "object", "properties": {"b": {"type": "string", "default": "B"}}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "integer", "default": 3}}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"d": {"default": 4}}}}}}));
        let mut object = json!({"a": null, "n": null, "x": null, "l": [{}, {"c": 9}], "m": {"k": {}}});
        schema.fill_defaults(&mut object);
        assert_eq!(
            object,
            json!({"a": 1, "n": null, "o": {"b": "B"}, "l": [{"c": 3}, {"c": 9}], "m": {"k": {"d": 4}}})
        );
    }
}
