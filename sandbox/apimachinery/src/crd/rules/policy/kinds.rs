//! What a policy's expressions say against the kinds that it is about (k8s.io/apiserver
//! `pkg/admission/plugin/policy/validating/typechecking.go`): warnings for its status. The controller that writes them finds the kinds.

use super::Written;
use crate::crd::Structural;
use crate::expressions::Declared;
use crate::object::{list, text};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Deepest schema.
const MOST_DEPTH: usize = 60;

/// A kind and what its schema declares.
#[derive(Debug, Clone)]
pub struct KindSchema {
    group: String,
    version: String,
    kind: String,
    declared: Arc<Declared>,
}

/// Something that is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The expression's place: `spec.validations[0].expression`.
    pub field: String,
    /// What is wrong, for each kind.
    pub text: String,
}

/// A kind as a document of OpenAPI (version 3) describes it.
pub fn schema_in(document: &Value, group: &str, version: &str, kind: &str) -> Option<KindSchema> {
    let schemas = document.pointer("/components/schemas")?.as_object()?;
    let is = |one: &Value| one["group"] == group && one["version"] == version && one["kind"] == kind;
    let schema =
        schemas.values().find(|schema| list(schema, &["x-kubernetes-group-version-kind"]).iter().any(is))?;
    let whole = resolved(schema, schemas, &mut Vec::new());
    let declared = Declared::of(&Structural::read(&whole), true)?;
    Some(KindSchema { group: group.into(), version: version.into(), kind: kind.into(), declared })
}

/// The schema that another stands for.
fn reference(schema: &Value) -> Option<&str> {
    let own = schema["$ref"].as_str();
    // A reference stands in `allOf` where it has a description of its own.
    own.or_else(|| list(schema, &["allOf"]).iter().find_map(reference))
}

/// A schema with all that it refers to; what refers to itself is an empty object there.
fn resolved<'s>(schema: &'s Value, all: &'s Map<String, Value>, above: &mut Vec<&'s str>) -> Value {
    if let Some(name) = reference(schema).and_then(|path| path.rsplit('/').next()) {
        let known = all.get(name).filter(|_| !above.contains(&name) && above.len() < MOST_DEPTH);
        let Some(known) = known else { return serde_json::json!({"type": "object"}) };
        above.push(name);
        let whole = resolved(known, all, above);
        above.pop();
        return whole;
    }
    let Some(map) = schema.as_object() else { return schema.clone() };
    let mut out = Map::new();
    for (name, value) in map {
        let value = match name.as_str() {
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                properties.map(|(name, one)| (name.clone(), resolved(one, all, above))).collect()
            }
            "items" | "additionalProperties" => resolved(value, all, above),
            "description" | "allOf" | "oneOf" | "anyOf" | "not" | "default" => continue,
            _ => value.clone(),
        };
        out.insert(name.clone(), value);
    }
    // A value of several types: quantities, and numbers or texts.
    if map.contains_key("oneOf") && !map.contains_key("type")
        || map.get("format") == Some(&"int-or-string".into())
    {
        out.insert("x-kubernetes-int-or-string".into(), true.into());
    }
    out.into()
}

/// What is wrong with the expressions of a policy for these kinds and parameters of that kind.
pub fn warnings(policy: &Value, kinds: &[KindSchema], params: Option<&KindSchema>) -> Vec<Warning> {
    let spec = &policy["spec"];
    let written: Vec<_> = kinds.iter().map(|kind| (kind, with_variables(spec, kind, params))).collect();
    let mut warnings = Vec::new();
    for (index, validation) in list(spec, &["validations"]).iter().enumerate() {
        for part in ["expression", "messageExpression"] {
            let expression = text(validation, &[part]);
            if part == "messageExpression" && expression.is_empty() {
                continue;
            }
            let told: Vec<_> = written
                .iter()
                .filter_map(|(kind, written)| {
                    let error = written.types(expression, true).err()?;
                    Some(format!("{}/{}, Kind={}: {error}\n", kind.group, kind.version, kind.kind))
                })
                .collect();
            if !told.is_empty() {
                let field = format!("spec.validations[{index}].{part}");
                warnings.push(Warning { field, text: told.join("\n") });
            }
        }
    }
    warnings
}

fn with_variables(spec: &Value, kind: &KindSchema, params: Option<&KindSchema>) -> Written {
    let root = |kind: &'_ KindSchema| (kind.kind.clone(), kind.declared.clone());
    let (object, params) = (root(kind), params.map(root));
    let params = params.as_ref().map(|(name, declared)| (name.as_str(), declared));
    let mut written = Written::typed((&object.0, &object.1), params);
    written.with_variables();
    for variable in list(spec, &["variables"]) {
        // What is wrong with it is told by those who use it: nobody knows its type.
        let _whatever = written.add_variable(text(variable, &["name"]), text(variable, &["expression"]));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "Deployment": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
                "properties": {"kind": {"type": "string"}, "apiVersion": {"type": "string"}, "metadata": {"allOf": [{"$ref": "#/components/schemas/Meta"}]},
                    "spec": {"default": {}, "allOf": [{"$ref": "#/components/schemas/Spec"}]}}},
            "Meta": {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}}, "creationTimestamp": {"type": "string", "format": "date-time"}}},
            "Spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "port": {"$ref": "#/components/schemas/IntOrString"},
                "limits": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Quantity"}}, "again": {"$ref": "#/components/schemas/Spec"}}},
            "IntOrString": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
            "Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
            "Config": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "ConfigMap"}],
                "properties": {"data": {"type": "object", "additionalProperties": {"type": "string"}}}},
        }}})
    }

    fn told(validations: Value, variables: Value) -> Vec<Warning> {
        let document = document();
        let kinds = [schema_in(&document, "apps", "v1", "Deployment").expect("kind")];
        let params = schema_in(&document, "", "v1", "ConfigMap").expect("kind");
        let policy = json!({"spec": {"validations": validations, "variables": variables}});
        warnings(&policy, &kinds, Some(&params))
    }

    #[test]
    fn expressions_that_do_not_fit_a_kind_are_told() {
        let warnings = told(
            json!([{"expression": "object.foo > 1 // should have been spec.replicas", "messageExpression": "object.metadata.nope"},
                {"expression": "object.spec.replicas > variables.most"}, {"expression": "object.spec.replicas"}]),
            json!([{"name": "most", "expression": "int(params.data['most'])"}, {"name": "text", "expression": "params.data['a']"}]),
        );
        let texts: Vec<_> = warnings.iter().map(|one| (one.field.as_str(), one.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (
                    "spec.validations[0].expression",
                    "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1 // should have been spec.replicas\n | \
                     ......^\n"
                ),
                (
                    "spec.validations[0].messageExpression",
                    "apps/v1, Kind=Deployment: ERROR: <input>:1:16: undefined field 'nope'\n | object.metadata.nope\n | ...............^\n"
                ),
            ]
        );
        let wrong = told(
            json!([{"expression": "object.spec.replicas > variables.text || object.spec == object.metadata"}]),
            json!([{"name": "text", "expression": "params.data['a']"}]),
        );
        assert!(wrong[0].text.contains("'_>_' applied to '(int, string)'"), "{wrong:?}");
        assert!(wrong[0].text.contains("applied to '(Deployment.spec, Deployment.metadata)'"), "{wrong:?}");
    }

    #[test]
    fn whole_schemas_are_seen() {
        let fine = "object.metadata.labels['a'] == object.metadata.name && object.spec.port == 80 && object.metadata.creationTimestamp == null \
                    && quantity(object.spec.limits['cpu']).isInteger() && object.kind == 'Deployment' && oldObject.spec.again != null";
        assert_eq!(told(json!([{"expression": fine}]), Value::Null), []);
        assert!(schema_in(&document(), "apps", "v1", "StatefulSet").is_none());
    }
}
