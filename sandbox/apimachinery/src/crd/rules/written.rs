//! What is checked of the rules of a schema when a definition is written (apiextensions-apiserver `pkg/apis/apiextensions/validation`,
//! `pkg/apiserver/schema/cel/compilation.go`): that their types fit the schema, and that no object could make them cost too much. The
//! definition's validation calls it for a schema that is right otherwise.

use super::check_types;
use crate::crd::{Rule, Structural, ValueChecks};
use crate::expressions::{Checked, Declarations, Declared, MOST_REQUEST, Type, escape};
use crate::field::{ErrorKind, ErrorList, Path, Shown};
use serde_json::Value;
use std::sync::Arc;

/// Most that one rule may cost on all parts of an object that it is of.
const MOST_COST: u64 = 10_000_000;
/// Most that all rules of a schema may cost.
const MOST_TOTAL: u64 = 100_000_000;
/// How many of the dearest rules are told if they cost too much together.
const DEAREST: usize = 4;

/// Tells what is wrong with the rules of a schema, those of the deepest parts first. `known`: it was accepted before as it is, so that a
/// single rule may cost what it does.
pub fn check(schema: &Structural, path: &Path, known: bool, errors: &mut ErrorList) {
    let root = Place { declared: None, within: !schema.rules.is_empty(), uncorrelated: None, count: Some(1) };
    let mut costs = Costs { known, total: 0, dearest: Vec::new() };
    walk(schema, &root, true, path, &mut costs, errors);
    if costs.total > MOST_TOTAL {
        for (path, _) in &costs.dearest {
            let detail =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(&Path::new(path), detail);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, too_much(what, costs.total, MOST_TOTAL));
    }
}

/// What rules cost together.
struct Costs {
    known: bool,
    total: u64,
    /// Those that cost most, and how much.
    dearest: Vec<(String, u64)>,
}

impl Costs {
    /// Takes in what an expression may cost, and tells if that alone is too much.
    fn take(&mut self, what: &str, cost: u64, path: &Path, errors: &mut ErrorList) {
        if !self.known && cost > MOST_COST {
            errors.forbidden(path, too_much(what, cost, MOST_COST));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= MOST_TOTAL / 100 {
            self.dearest.push((path.to_string(), cost));
            self.dearest.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.dearest.truncate(DEAREST);
        }
    }
}

fn too_much(what: &str, cost: u64, most: u64) -> String {
    let factor = cost as f64 / most as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_string()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where \
         arrays, maps, and strings are declared)"
    )
}

/// What is known of a place in a schema from those above.
#[derive(Clone)]
struct Place {
    /// What is declared here, if a rule above needed it.
    declared: Option<Arc<Declared>>,
    /// Whether there is a rule here or above.
    within: bool,
    /// The outermost list above whose old and new elements nobody can match.
    uncorrelated: Option<String>,
    /// How many values of this place an object can have, if the lists and maps above say.
    count: Option<u64>,
}

impl Place {
    /// What is known of a part of this schema.
    fn below(&self, of: &Structural, part: &Structural, declared: Option<&Arc<Declared>>) -> Self {
        let most = |get: fn(&ValueChecks) -> Option<u64>| of.checks.as_deref().and_then(get);
        let times = match of.type_.as_deref() {
            Some("object") if of.additional.is_some() || of.additional_any => {
                most(|checks| checks.max_properties)
            }
            Some("array") => most(|checks| checks.max_items),
            _ => Some(1),
        };
        Self {
            declared: declared.cloned(),
            within: self.within || !part.rules.is_empty(),
            uncorrelated: self.uncorrelated.clone(),
            count: self.count.zip(times).map(|(count, times)| count.saturating_mul(times)),
        }
    }

    /// How often a rule of this place may be run.
    fn runs(&self, declared: &Declared) -> u64 {
        self.count.unwrap_or((MOST_REQUEST / (declared.least_bytes + 1)) as u64)
    }
}

fn walk(
    schema: &Structural,
    place: &Place,
    root: bool,
    path: &Path,
    costs: &mut Costs,
    errors: &mut ErrorList,
) {
    if !super::has_rules(schema) {
        return;
    }
    let mut place = place.clone();
    if place.declared.is_none() && place.within {
        place.declared = Declared::of(schema, root);
    }
    let declared = place.declared.as_ref();
    if let Some(values) = &schema.additional {
        let below = place.below(schema, values, declared.and_then(|map| map.elements()));
        walk(values, &below, false, &path.child("additionalProperties"), costs, errors);
    }
    for (name, property) in &schema.properties {
        let field = escape(name).and_then(|name| declared?.get(&name));
        let below = place.below(schema, property, field);
        walk(property, &below, false, &path.entry("properties", name), costs, errors);
    }
    if let Some(items) = &schema.items {
        let mut below = place.below(schema, items, declared.and_then(|list| list.elements()));
        if schema.list_type.as_deref() != Some("map") && below.uncorrelated.is_none() {
            below.uncorrelated = Some(path.to_string());
        }
        walk(items, &below, false, &path.child("items"), costs, errors);
    }
    if !schema.rules.is_empty() {
        rules(schema, &place, &path.child("x-kubernetes-validations"), costs, errors);
    }
}

fn rules(schema: &Structural, place: &Place, path: &Path, costs: &mut Costs, errors: &mut ErrorList) {
    let Some(declared) = &place.declared else {
        let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert \
                      structural schema to CEL declarations";
        return errors.push(ErrorKind::Internal, path, None, detail);
    };
    for (index, rule) in schema.rules.iter().enumerate() {
        let at = path.index(index);
        let mut transition = false;
        match compile(rule, &rule.rule, declared) {
            Err(error) => {
                errors.invalid(&at.child("rule"), shown(rule), format!("compilation failed: {error}"))
            }
            Ok(checked) if !checked.gives(&Type::Bool) => {
                errors.invalid(&at.child("rule"), shown(rule), "cel expression must evaluate to a bool");
            }
            Ok(checked) => {
                transition = checked.uses("oldSelf");
                let cost = checked.most_cost(declared).saturating_mul(place.runs(declared));
                costs.take("estimated rule cost", cost, &at.child("rule"), errors);
                message(rule, declared, &at, costs, errors);
            }
        }
        if let Some(uncorrelated) = place.uncorrelated.as_ref().filter(|_| transition) {
            let detail = format!(
                "oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
            );
            errors.invalid(&at.child("rule"), rule.rule.as_str(), detail);
        }
        if let Some(optional) = rule.optional_old_self.filter(|_| !transition) {
            let detail = "may not be set if oldSelf is not used in rule";
            errors.invalid(&at.child("optionalOldSelf"), optional, detail);
        }
    }
}

fn message(rule: &Rule, declared: &Arc<Declared>, at: &Path, costs: &mut Costs, errors: &mut ErrorList) {
    let path = at.child("messageExpression");
    if rule.message_expression.is_empty() {
        return;
    }
    let detail = match compile(rule, &rule.message_expression, declared) {
        Err(error) => format!("messageExpression compilation failed: {error}"),
        Ok(checked) if !checked.gives(&Type::Text) => "messageExpression must evaluate to a string".into(),
        Ok(checked) => {
            let cost = checked.most_cost(declared);
            return costs.take("estimated messageExpression cost", cost, &path, errors);
        }
    };
    errors.invalid(&path, shown(rule), detail);
}

fn compile(rule: &Rule, expression: &str, declared: &Arc<Declared>) -> Result<Checked, String> {
    let own = declared.type_of();
    let old = if rule.optional_old_self == Some(true) { Type::optional(own.clone()) } else { own.clone() };
    // Upstream has a number in the name that changes with every write, so that nobody depends on it.
    let roots = vec![("selfType", declared)];
    check_types(expression, &Declarations::new(vec![("self", own), ("oldSelf", old)], roots))
}

/// A rule as upstream shows it: a struct of Go without names for JSON.
fn shown(rule: &Rule) -> Shown {
    let json = |value: Value| crate::field::go_json(&value);
    let reason = if rule.reason.is_empty() { Value::Null } else { rule.reason.as_str().into() };
    Shown::Struct(format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{},"FieldPath":{},"OptionalOldSelf":{}}}"#,
        json(rule.rule.as_str().into()),
        json(rule.message.as_str().into()),
        json(rule.message_expression.as_str().into()),
        json(reason),
        json(rule.field_path.as_str().into()),
        json(rule.optional_old_self.map_or(Value::Null, Value::Bool)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: Value) -> Vec<String> {
        let mut errors = ErrorList::default();
        check(&Structural::read(&schema), &Path::new("schema"), false, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    /// What is told of a rule of an object with some fields.
    fn of_rule(rule: Value) -> Vec<String> {
        let spec = json!({"type": "object", "x-kubernetes-validations": [rule], "properties": {"n": {"type": "integer"},
            "s": {"type": "string", "maxLength": 20},
            "list": {"type": "array", "maxItems": 10, "items": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 20}}}},
            "map": {"type": "object", "maxProperties": 10,
                "additionalProperties": {"type": "object", "properties": {"b": {"type": "string", "maxLength": 20}}}},
            "port": {"x-kubernetes-int-or-string": true}, "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
        told(json!({"type": "object", "properties": {"spec": spec}}))
    }

    #[test]
    fn rules_must_fit_the_schema() {
        let at = "schema.properties[spec].x-kubernetes-validations[0]";
        let value = |rule: &str| {
            format!(
                r#"{{"Rule":"{rule}","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}}"#
            )
        };
        for (rule, why) in [
            (
                "self.nope == 1",
                "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^",
            ),
            (
                "self.n == 'a'",
                "compilation failed: ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'\n | self.n == \
                 'a'\n | .......^",
            ),
            (
                "self.list[0] == self.map['k']",
                "compilation failed: ERROR: <input>:1:14: found no matching overload for '_==_' applied to '(selfType.list.@idx, \
                 selfType.map.@elem)'\n | self.list[0] == self.map['k']\n | .............^",
            ),
            (
                "nope(self.s) && self.any.x",
                "compilation failed: ERROR: <input>:1:5: undeclared reference to 'nope' (in container '')\n | nope(self.s) && \
                 self.any.x\n | ....^\nERROR: <input>:1:25: undefined field 'x'\n",
            ),
            ("self.n", "cel expression must evaluate to a bool"),
            (
                "self.n in [1, 'a']",
                "compilation failed: ERROR: <input>:1:15: expected type 'int' but found 'string'\n",
            ),
            (
                "timestamp(253402300800) == timestamp('2026-01-01T00:00:00Z')",
                "compilation failed: ERROR: <input>:1:11: invalid timestamp argument\n",
            ),
            (
                "duration('1y') > duration('1s') || self.s.matches('(')",
                "compilation failed: ERROR: <input>:1:10: invalid duration argument\n",
            ),
        ] {
            let errors = of_rule(json!({"rule": rule}));
            let wanted = format!(
                "{at}.rule: Invalid value: {}: {why}",
                value(crate::field::go_json(&rule.into()).trim_matches('"'))
            );
            assert!(errors.len() == 1 && errors[0].starts_with(&wanted), "{errors:#?}\n{wanted}");
        }
        for rule in [
            "self.n < 1.5 || self.n > 1u",
            "self.port == 80 || self.port == '80%'",
            "self.list.all(one, one.a == self.s) && self.map.all(key, self.map[key].b == key)",
            "self.map.all(key, value, key == value.b) && self.list.exists(i, one, i > 0 && one.a == '')",
            "self.?s.orValue('') == '' && self.list.map(one, one.a).exists(a, a == 'a')",
            "self.list.transformMap(i, one, one.a)[0] == 'a'",
            "'%s has %d'.format([self.s, self.n]) != ''",
        ] {
            assert_eq!(of_rule(json!({"rule": rule})), Vec::<String>::new(), "{rule}");
        }
    }

    #[test]
    fn messages_and_old_values_are_checked() {
        for (rule, why) in [
            (
                json!({"rule": "true", "messageExpression": "self.n"}),
                "messageExpression: Invalid value: {\"Rule\":\"true\",\"Message\":\"\",\"MessageExpression\":\"self.n\",\"Reason\":null,\
                 \"FieldPath\":\"\",\"OptionalOldSelf\":null}: messageExpression must evaluate to a string",
            ),
            (
                json!({"rule": "self.n > 0", "optionalOldSelf": false}),
                "optionalOldSelf: Invalid value: false: may not be set if oldSelf is not used in rule",
            ),
        ] {
            let wanted = format!("schema.properties[spec].x-kubernetes-validations[0].{why}");
            assert_eq!(of_rule(rule), [wanted]);
        }
        assert!(
            of_rule(json!({"rule": "oldSelf.?n.orValue(0) <= self.n", "optionalOldSelf": true})).is_empty()
        );
        let list = |kind: &str| {
            told(
                json!({"type": "object", "properties": {"list": {"type": "array", "x-kubernetes-list-type": kind,
                "items": {"type": "object", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}),
            )
        };
        let wanted = "schema.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot \
                      be used on the uncorrelatable portion of the schema within schema.properties[list]";
        assert_eq!(list("atomic"), [wanted]);
        assert!(list("map").is_empty());
    }

    #[test]
    fn expressions_see_the_names_of_whole_objects_only() {
        let rule = |rule: &str| {
            told(
                json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {"metadata": {"type": "object"},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                "at": {"type": "string", "format": "date-time"}, "for": {"type": "string", "format": "duration"},
                "data": {"type": "string", "format": "byte"}, "namespace": {"type": "string"}, "a-b.c/d__e": {"type": "string"}}}),
            )
        };
        for fine in [
            "self.metadata.name.startsWith('a') && self.metadata.generateName == '' && self.kind == 'A' && self.apiVersion != ''",
            "self.template.metadata.name == self.template.kind",
            "self.at + self.__for__ > timestamp('2026-01-01T00:00:00Z') && self.data == b'a'",
            "self.namespace == self.__namespace__ && self.a__dash__b__dot__c__slash__d__underscores__e == ''",
        ] {
            assert_eq!(rule(fine), Vec::<String>::new(), "{fine}");
        }
        for wrong in ["self.metadata.labels.size() == 0", "self.template.spec.x == 1", "self.at == 'a'"] {
            assert_eq!(rule(wrong).len(), 1, "{wrong}");
        }
        let unknown = told(
            json!({"type": "object", "properties": {"any": {"x-kubernetes-preserve-unknown-fields": true,
            "x-kubernetes-validations": [{"rule": "true"}]}}}),
        );
        assert_eq!(
            unknown,
            [
                "schema.properties[any].x-kubernetes-validations: Internal error: internal error: failed to construct type information for \
                 x-kubernetes-validations rules: unable to convert structural schema to CEL declarations"
            ]
        );
    }

    #[test]
    fn rules_that_could_cost_too_much_are_refused() {
        let at = "schema.properties[list].x-kubernetes-validations[0].rule";
        let list = |limits: Value, rule: &str| {
            let mut list = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]});
            for (name, limit) in limits.as_object().into_iter().flatten() {
                let of = if name == "maxLength" { &mut list["items"] } else { &mut list };
                of[name] = limit.clone();
            }
            told(json!({"type": "object", "properties": {"list": list}}))
        };
        let hint = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
        let twice = "self.all(x, self.exists(y, x == y))";
        assert_eq!(
            list(json!({}), twice),
            [
                format!(
                    "{at}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {hint}"
                ),
                format!(
                    "{at}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
                ),
                format!(
                    "schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by \
                     factor of more than 100x {hint}"
                ),
            ]
        );
        assert!(list(json!({}), "self.all(x, x == 'a')").is_empty());
        assert!(list(json!({"maxItems": 10, "maxLength": 10}), twice).is_empty());
        let told = list(json!({"maxItems": 3000, "maxLength": 10}), twice);
        assert_eq!(told.len(), 1, "{told:?}");
        let mut errors = ErrorList::default();
        let known = json!({"type": "object", "properties": {"list": {"type": "array", "maxItems": 3000, "items": {"type": "string", "maxLength": 10},
            "x-kubernetes-validations": [{"rule": twice}]}}});
        check(&Structural::read(&known), &Path::new("schema"), true, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        check(&Structural::read(&known), &Path::new("schema"), false, &mut errors);
        assert_eq!(errors.iter().count(), 1, "{errors:?}");
    }

    #[test]
    fn what_is_in_unlimited_lists_counts_as_often_as_fits_a_request() {
        let inner = |limit: Value| {
            let item = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}},
                "x-kubernetes-validations": [{"rule": "self.name.startsWith('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')"}]});
            let mut list = json!({"type": "array", "items": item});
            if !limit.is_null() {
                list["maxItems"] = limit;
            }
            told(json!({"type": "object", "properties": {"list": list}}))
        };
        let told = inner(Value::Null);
        assert!(told.is_empty(), "{told:?}");
        assert!(inner(json!(5_000_000))[0].contains("exceeds budget by factor of 4.5x"), "{told:?}");
    }
}
