//! Defaults in the schema of a definition must be valid values themselves (apiextensions-apiserver `pkg/apiserver/schema/defaulting`):
//! they are filled into objects without being looked at again.

use super::prune::prune_default;
use super::validate::validate;
use super::{Structural, rules};
use crate::field::{ErrorList, FieldError, Path};

/// What holds of the object itself and of embedded ones, whatever the schema says.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Tells which defaults of a structural schema are wrong. `pruned`: what the schema does not know is wrong, too.
pub(super) fn check(schema: &Structural, path: &Path, pruned: bool, errors: &mut ErrorList) {
    walk(schema, path, true, pruned, errors);
}

fn walk(schema: &Structural, path: &Path, is_resource: bool, pruned: bool, errors: &mut ErrorList) {
    if let Some(default) = &schema.default {
        let at = path.child("default");
        let mut known = default.clone();
        if pruned && prune_default(&mut known, schema) {
            errors.invalid(&at, default.clone(), "must not have unknown fields");
        }
        let mut wrong = validate(default, None, schema);
        if wrong.is_empty() && rules::has_rules(schema) {
            wrong = rules::check(default, None, schema);
        }
        for one in wrong {
            push(&at, one, errors);
        }
    }
    // Below `additionalProperties` there are no defaults.
    if let Some(items) = &schema.items {
        walk(items, &path.child("items"), items.embedded_resource, pruned, errors);
    }
    for (name, below) in &schema.properties {
        if is_resource && META.contains(&name.as_str()) {
            continue;
        }
        walk(below, &path.entry("properties", name), below.embedded_resource, pruned, errors);
    }
}

fn push(at: &Path, error: FieldError, errors: &mut ErrorList) {
    let field = match error.field.as_str() {
        "" | "<nil>" => *at,
        below => at.child(below),
    };
    errors.push(error.kind, &field, error.value, error.detail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(field: Value) -> Vec<String> {
        let schema = json!({"type": "object", "properties": {"metadata": {"type": "object"}, "a": field}});
        let mut errors = ErrorList::default();
        check(&Structural::read(&schema), &Path::new("schema"), true, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_default_must_be_a_value_of_its_field() {
        let at = "schema.properties[a].default";
        for (field, error) in [
            (json!({"type": "integer", "default": 1}), None),
            (json!({"type": "integer", "default": "x"}), Some(format!("{at}: Invalid value: \"string\": "))),
            (
                json!({"type": "integer", "minimum": 5, "default": 1}),
                Some(format!("{at}: Invalid value: 1: ")),
            ),
            (
                json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"b": 1}}),
                Some(format!("{at}.b: Invalid value: ")),
            ),
            (
                json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": "x"}}),
                Some(format!("{at}: Invalid value: {{\"c\":\"x\"}}: must not have unknown fields")),
            ),
            (
                json!({"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self > 1"}]}),
                Some(format!("{at}: Invalid value: ")),
            ),
            (
                json!({"type": "array", "items": {"type": "object", "properties": {"b": {"type": "boolean", "default": 0}}}}),
                Some("schema.properties[a].items.properties[b].default: Invalid value: ".into()),
            ),
        ] {
            let told = told(field.clone());
            match error {
                None => assert_eq!(told, Vec::<String>::new(), "{field}"),
                Some(error) => assert!(told.len() == 1 && told[0].starts_with(&error), "{field}: {told:?}"),
            }
        }
    }
}
