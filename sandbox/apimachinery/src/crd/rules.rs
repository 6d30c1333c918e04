//! `x-kubernetes-validations`: rules in CEL (apiextensions-apiserver `pkg/apiserver/schema/cel`), over the `cel` crate. Programs are
//! compiled when first needed and kept for the process. A rule whose worst case on the object at hand is too much is not run: its error
//! says so; upstream counts while it runs.

mod cost;
mod errors;
mod library;
pub mod policy;
mod references;
mod values;
pub(super) mod written;

use super::{Rule, Structural};
use crate::expressions::{self, Checked, Declarations};
use crate::field::{ErrorKind, FieldError, Shown};
use cel::{Context, Env, Program};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Most bytes of an expression.
const MOST_EXPRESSION: usize = 16 * 1024;
/// Most brackets in brackets.
const MOST_NESTING: usize = 48;
/// Most operators, selections and calls: a chain of them is a tree as deep, which is walked by recursion.
const MOST_OPERATORS: usize = 800;
/// What may be walked on any thread.
const SHALLOW_NESTING: usize = 12;
const SHALLOW_OPERATORS: usize = 80;
/// Bytes of stack for the rest; only what is used is taken.
const LARGE_STACK: usize = 64 << 20;
/// Most programs that are kept.
const MOST_KEPT: usize = 256;
/// Most bytes of a message that an expression makes, as upstream.
const MOST_MESSAGE: usize = 5120;
/// Most errors of rules for one object.
const MOST_ERRORS: usize = 100;

/// Why an expression is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl From<&str> for RuleError {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// A compiled expression.
#[derive(Clone)]
pub struct CompiledRule {
    program: Arc<Program>,
    /// Whether it refers to `oldSelf`: it then holds for changes only.
    pub transition: bool,
    /// Whether walking it may need more stack than a thread has.
    deep: bool,
}

impl std::fmt::Debug for CompiledRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledRule").field("transition", &self.transition).finish_non_exhaustive()
    }
}

fn environment() -> Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(library::environment())).clone()
}

impl CompiledRule {
    /// Compiles an expression over `self` and `oldSelf`.
    pub fn compile(expression: &str) -> Result<Self, RuleError> {
        static KEPT: OnceLock<Mutex<HashMap<String, CompiledRule>>> = OnceLock::new();
        let deep = bounded(expression)?;
        let kept = KEPT.get_or_init(Mutex::default);
        if let Some(known) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(expression) {
            return Ok(known.clone());
        }
        let compiled = on_large_stack(deep, || Self::parse(expression))?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(expression.into(), compiled.clone());
        Ok(compiled)
    }

    fn parse(expression: &str) -> Result<Self, RuleError> {
        let deep = bounded(expression)?;
        let program = environment().compile(expression).map_err(|errors| RuleError(errors.to_string()))?;
        let free = references::free(program.expression());
        let known = |name: &str| {
            matches!(name, "self" | "oldSelf") || name.starts_with('@') || expressions::is_known(name)
        };
        if let Some(name) = free.iter().find(|name| !known(name)) {
            return Err(RuleError(format!("ERROR: undeclared reference to '{name}' (in container '')")));
        }
        let transition = free.contains("oldSelf");
        Ok(Self { program: Arc::new(program), transition, deep })
    }

    /// Runs it, taking what it may cost from a budget.
    fn run(&self, bindings: &Bindings, budget: &mut f64) -> Result<cel::Value, String> {
        on_large_stack(self.deep, || self.run_here(bindings, budget))
    }

    fn run_here(&self, bindings: &Bindings, budget: &mut f64) -> Result<cel::Value, String> {
        cost::charge(self.program.expression(), &bindings.extent, budget)?;
        let mut context = Context::with_env(environment());
        library::add_functions(&mut context).map_err(|error| error.to_string())?;
        context.add_variable_from_value("self", bindings.new.clone());
        if let Some(old) = &bindings.old {
            context.add_variable_from_value("oldSelf", old.clone());
        }
        self.program
            .execute(&context)
            .map_err(|error| errors::told(&error, self.program.expression(), &context))
    }
}

/// Runs something on a thread with a stack for deep recursion, if that is needed.
fn on_large_stack<T: Send, E: Send + From<&'static str>>(
    needed: bool,
    run: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    if !needed {
        return run();
    }
    let failed = || E::from("no thread to evaluate the expression on");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(LARGE_STACK)
            .spawn_scoped(scope, run)
            .map_err(|_| failed())?;
        thread.join().map_err(|_| failed())?
    })
}

/// Finds out the types of an expression of anybody, or tells what is wrong.
fn check_types(expression: &str, declarations: &Declarations<'_>) -> Result<Checked, String> {
    let check = || expressions::check(expression, declarations).map_err(RuleError);
    bounded(expression).and_then(|deep| on_large_stack(deep, check)).map_err(|error| error.0)
}

/// Refuses what would be a tree too deep to walk, and tells whether it needs a large stack. Texts in quotes count as if they were not: that
/// refuses only the odd.
fn bounded(expression: &str) -> Result<bool, RuleError> {
    if expression.len() > MOST_EXPRESSION {
        return Err(RuleError("ERROR: expression is too long".into()));
    }
    let (mut depth, mut nested, mut operators) = (0usize, 0, 0);
    for byte in expression.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                nested = nested.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'=' | b'<' | b'>' | b'&' | b'|' | b'?' | b'.' => {
                operators += 1
            }
            _ => {}
        }
        if depth > MOST_NESTING || operators > MOST_OPERATORS {
            return Err(RuleError("ERROR: expression is nested too deeply".into()));
        }
    }
    Ok(nested > SHALLOW_NESTING || operators > SHALLOW_OPERATORS)
}

/// What an expression is run over.
struct Bindings {
    new: cel::Value,
    old: Option<cel::Value>,
    extent: cost::Extent,
}

/// Whether a schema has rules anywhere.
pub(super) fn has_rules(schema: &Structural) -> bool {
    !schema.rules.is_empty()
        || schema.properties.values().any(has_rules)
        || schema.additional.as_deref().is_some_and(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
        || schema.checks.as_ref().is_some_and(|checks| checks.all_of.iter().any(has_rules))
}

/// What rules say against an object.
pub(super) fn check(object: &Value, old: Option<&Value>, schema: &Structural) -> Vec<FieldError> {
    let mut errors = Errors { found: Vec::new(), budget: cost::BUDGET };
    walk(object, old, schema, true, "", &mut errors);
    errors.found
}

/// What was found, and what there is left to spend on more.
struct Errors {
    found: Vec<FieldError>,
    budget: f64,
}

fn walk(
    value: &Value,
    old: Option<&Value>,
    schema: &Structural,
    root: bool,
    path: &str,
    errors: &mut Errors,
) {
    if value.is_null() || errors.found.len() >= MOST_ERRORS {
        return;
    }
    if !schema.rules.is_empty() {
        rules(value, old, schema, root, path, errors);
    }
    for all in schema.checks.iter().flat_map(|checks| &checks.all_of) {
        walk(value, old, all, root, path, errors);
    }
    match value {
        Value::Object(map) => {
            for (name, one) in map {
                let step = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (schema.properties.get(name), &schema.additional) {
                    (Some(below), _) => {
                        walk(one, old.and_then(|old| old.get(name)), below, false, &step, errors)
                    }
                    (None, Some(below)) => {
                        walk(
                            one,
                            old.and_then(|old| old.get(name)),
                            below,
                            false,
                            &format!("{path}[{name}]"),
                            errors,
                        );
                    }
                    (None, None) => {}
                }
            }
        }
        Value::Array(all) => {
            let Some(items) = schema.items.as_deref().filter(|items| has_rules(items)) else { return };
            for (index, one) in all.iter().enumerate() {
                let before = super::validate::correlated(one, old, schema);
                walk(one, before, items, false, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn rules(
    value: &Value,
    old: Option<&Value>,
    schema: &Structural,
    root: bool,
    path: &str,
    errors: &mut Errors,
) {
    let unchanged = old == Some(value);
    let mut bindings = None;
    for rule in &schema.rules {
        let compiled = match CompiledRule::compile(&rule.rule) {
            Ok(compiled) => compiled,
            Err(error) => {
                errors.found.push(error_of(
                    rule,
                    path,
                    type_of(schema),
                    format!("rule compile error: compilation failed: {error}"),
                ));
                continue;
            }
        };
        if unchanged && !compiled.transition
            || compiled.transition && old.is_none() && rule.optional_old_self != Some(true)
        {
            continue;
        }
        let bindings = bindings.get_or_insert_with(|| Bindings {
            new: values::of(value, schema, root),
            old: old.map(|old| values::of(old, schema, root)),
            extent: cost::Extent::of(&[Some(value), old]),
        });
        let optional = (rule.optional_old_self == Some(true)).then(|| Bindings {
            new: bindings.new.clone(),
            old: Some(values::optional(bindings.old.clone())),
            extent: bindings.extent,
        });
        let bindings = optional.as_ref().unwrap_or(bindings);
        match compiled.run(bindings, &mut errors.budget) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(cel::Value::Bool(false)) => {
                let message = message(rule, bindings, &mut errors.budget);
                errors.found.push(error_of(rule, path, shown(value), message));
            }
            Ok(_) => errors.found.push(error_of(
                rule,
                path,
                type_of(schema),
                format!("rule evaluated to no boolean: {}", rule.rule),
            )),
            Err(error) => {
                let named = if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() };
                let detail = if error == errors::NO_OVERLOAD {
                    format!(
                        "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {named}"
                    )
                } else {
                    format!("{error} evaluating rule: {named}")
                };
                errors.found.push(error_of(rule, path, type_of(schema), detail));
            }
        }
    }
}

/// What to say when a rule does not hold.
fn message(rule: &Rule, bindings: &Bindings, budget: &mut f64) -> String {
    if !rule.message_expression.is_empty()
        && let Ok(compiled) = CompiledRule::compile(&rule.message_expression)
        && let Ok(cel::Value::String(text)) = compiled.run(bindings, budget)
        && !text.trim().is_empty()
        && !text.contains('\n')
        && text.len() <= MOST_MESSAGE
    {
        return text.trim().into();
    }
    match rule.message.trim() {
        "" => format!("failed rule: {}", rule.rule.trim()),
        message => message.into(),
    }
}

/// What is shown of a value that a rule refuses: all of a simple one, nothing of one with parts.
fn shown(value: &Value) -> Option<Shown> {
    (!value.is_object() && !value.is_array()).then(|| value.clone().into())
}

/// What is shown where a rule could not be asked.
fn type_of(schema: &Structural) -> Option<Shown> {
    Some(schema.type_.clone().unwrap_or_default().into())
}

fn error_of(rule: &Rule, path: &str, shown: Option<Shown>, detail: String) -> FieldError {
    let (kind, value, detail) = match rule.reason.as_str() {
        "FieldValueForbidden" => (ErrorKind::Forbidden, None, detail),
        "FieldValueRequired" => (ErrorKind::Required, None, detail),
        "FieldValueDuplicate" => (ErrorKind::Duplicate, shown, String::new()),
        _ => (ErrorKind::Invalid, shown, detail),
    };
    let below = rule.field_path.trim_start_matches('.');
    let field = match (path, below) {
        ("", "") => "<nil>".into(),
        (path, "") => path.into(),
        ("", below) => below.into(),
        (path, below) if below.starts_with('[') => format!("{path}{below}"),
        (path, below) => format!("{path}.{below}"),
    };
    FieldError { kind, field, value, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(schema: Value, new: Value, old: Option<Value>) -> Vec<String> {
        check(&new, old.as_ref(), &Structural::read(&schema)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_goes_wrong_in_a_run_is_said_as_cel_go_says_it() {
        let properties = json!({"l": {"type": "array", "items": {"type": "integer"}}, "s": {"type": "string"}, "n": {"type": "integer"},
            "m": {"type": "object", "additionalProperties": {"type": "string"}}, "port": {"x-kubernetes-int-or-string": true}});
        let object = json!({"spec": {"l": [1], "s": "zz", "n": 0, "m": {}, "port": "http"}});
        for (rule, error) in [
            ("self.l[3] > 1", "index out of bounds: 3 evaluating rule: self.l[3] > 1"),
            (
                "int(self.s) > 1",
                "type conversion error from 'string' to 'int' evaluating rule: int(self.s) > 1",
            ),
            (
                "duration(self.s) > duration('1s')",
                "type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: duration(self.s) > duration('1s')",
            ),
            (
                "timestamp(self.s) > timestamp('2020-01-01T00:00:00Z')",
                "type conversion error from 'string' to 'google.protobuf.Timestamp' evaluating rule: timestamp(self.s) > timestamp('2020-01-01T00:00:00Z')",
            ),
            ("4 / self.n == 1", "division by zero evaluating rule: 4 / self.n == 1"),
            ("1 % self.n == 1", "modulus by zero evaluating rule: 1 % self.n == 1"),
            (
                "9223372036854775807 + self.l[0] > 1",
                "integer overflow evaluating rule: 9223372036854775807 + self.l[0] > 1",
            ),
            ("'a'.matches('x[' + self.s)", "error parsing regexp: missing closing ]: `[zz` evaluating rule:"),
            ("self.m['a'] == 'b'", "no such key: a evaluating rule: self.m['a'] == 'b'"),
            (
                "self.port > 1",
                "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.port > 1",
            ),
        ] {
            let told = told(spec(properties.clone(), json!([{"rule": rule}])), object.clone(), None);
            assert!(told[0].contains(error), "{rule}: {told:?}");
        }
        let named = spec(properties, json!([{"rule": "self.l[3] > 1", "message": "at least four"}]));
        assert!(
            told(named, object, None)[0].ends_with("index out of bounds: 3 evaluating rule: at least four")
        );
    }

    fn spec(properties: Value, rules: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties, "x-kubernetes-validations": rules}}})
    }

    #[test]
    fn rules_hold_or_say_why_not() {
        let properties = json!({"min": {"type": "integer"}, "max": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}},
            "namespace": {"type": "string"}, "a.b": {"type": "integer"}, "x-y": {"type": "integer"}, "ratio": {"type": "number"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}}, "port": {"x-kubernetes-int-or-string": true},
            "mem": {"type": "string"}, "at": {"type": "string", "format": "date-time"}, "ttl": {"type": "string", "format": "duration"}});
        let object = json!({"spec": {"min": 1, "max": 5, "names": ["a", "b"], "namespace": "n", "a.b": 3, "x-y": 4, "ratio": 2,
            "labels": {"k": "v", "with-dash": "w"}, "port": 80, "mem": "1Gi", "at": "2026-11-20T13:03:48Z", "ttl": "1h"}});
        for rule in [
            "self.min <= self.max",
            "self.names.all(n, n.size() == 1)",
            "self.names.exists(n, n == 'b') && !self.names.exists(n, n == 'z')",
            "self.__namespace__ == 'n'",
            "self.a__dot__b == 3 && self.x__dash__y == 4",
            "self.ratio == 2.0",
            "has(self.min) && !has(self.missing)",
            "self.labels['with-dash'] == 'w' && 'k' in self.labels",
            "type(self.port) == int && self.port < 100",
            "quantity(self.mem).isGreaterThan(quantity('512Mi'))",
            "quantity('1').add(quantity('500m')).compareTo(quantity('1.5')) == 0",
            "isQuantity('1x') == false",
            "self.names.isSorted()",
            "[3, 1, 2].max() == 3 && [3, 1, 2].min() == 1 && [3, 1].sum() == 4",
            "self.names.indexOf('b') == 1 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(3) == -1",
            "'abc123'.find('[0-9]+') == '123'",
            "'a1b2'.findAll('[0-9]').size() == 2",
            "url('https://example.com:80/path?k=v').getHost() == 'example.com:80'",
            "isURL('nope nope') == false",
            "isIP('10.0.0.1') && ip('fe80::1').family() == 6 && isCIDR('10.0.0.0/8')",
            "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
            "self.at > timestamp('2020-01-01T00:00:00Z')",
            "self.ttl == duration('60m')",
            "'a,b'.split(',').size() == 2 && 'AbC'.lowerAscii() == 'abc'",
            "self.names.map(n, n + '!').join('-') == 'a!-b!'",
            "format.dns1123Label().validate('ok').hasValue() == false",
        ] {
            let schema = spec(properties.clone(), json!([{"rule": rule}]));
            assert_eq!(told(schema, object.clone(), None), Vec::<String>::new(), "{rule}");
        }
        let failing = spec(
            properties,
            json!([
                {"rule": "self.min > self.max"},
                {"rule": "self.min > 2", "message": "too small"},
                {"rule": "self.min > 2", "messageExpression": "'least is ' + string(self.min)", "reason": "FieldValueForbidden", "fieldPath": ".min"},
            ]),
        );
        assert_eq!(
            told(failing, object, None),
            [
                "spec: Invalid value: failed rule: self.min > self.max",
                "spec: Invalid value: too small",
                "spec.min: Forbidden: least is 1"
            ]
        );
    }

    #[test]
    fn simple_values_are_shown() {
        let value = |type_: &str, rule: Value| json!({"type": "object", "properties": {"a": {"type": type_, "x-kubernetes-validations": [rule]}}});
        let no = json!({"rule": "false", "message": "no"});
        for (type_, given, expected) in [
            ("string", json!("b"), "a: Invalid value: \"b\": no"),
            ("integer", json!(3), "a: Invalid value: 3: no"),
            ("boolean", json!(false), "a: Invalid value: false: no"),
            ("array", json!([1]), "a: Invalid value: no"),
            ("object", json!({"b": 1}), "a: Invalid value: no"),
        ] {
            assert_eq!(told(value(type_, no.clone()), json!({"a": given}), None), [expected]);
        }
        let twice = json!({"rule": "false", "message": "no", "reason": "FieldValueDuplicate"});
        assert_eq!(told(value("string", twice), json!({"a": "b"}), None), ["a: Duplicate value: \"b\""]);
        let broken = json!({"rule": "1 / (self - 3) == 1"});
        let errors = told(value("integer", broken), json!({"a": 3}), None);
        assert!(errors[0].starts_with("a: Invalid value: \"integer\": "), "{errors:?}");
    }

    #[test]
    fn transitions_are_checked_on_updates_only() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string",
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]},
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
                "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "may grow only"}]}}}});
        let object = |a: &str, v: i64| json!({"a": a, "l": [{"k": "new", "v": 0}, {"k": "x", "v": v}]});
        assert!(told(schema.clone(), object("x", 1), None).is_empty());
        assert!(told(schema.clone(), object("x", 2), Some(object("x", 1))).is_empty());
        assert_eq!(
            told(schema, object("y", 0), Some(object("x", 1))),
            ["a: Invalid value: \"y\": immutable", "l[1]: Invalid value: may grow only"]
        );
    }

    #[test]
    fn expressions_that_are_none_are_refused() {
        for (bad, part) in [
            ("self.", "ERROR: <input>:1:"),
            ("self.a == other", "undeclared reference to 'other'"),
            ("(((", "ERROR"),
        ] {
            let error = CompiledRule::compile(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
        let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(CompiledRule::compile(&deep).is_err());
        assert!(CompiledRule::compile(&"1+".repeat(MOST_EXPRESSION)).is_err());
        // What is let through does not overflow the stack of a thread.
        let chain = format!("{}1 == 0", "1+".repeat(MOST_OPERATORS - 2));
        let nested = format!("{}true{}", "(".repeat(MOST_NESTING), ")".repeat(MOST_NESTING));
        let lists = format!("{}{} == []", "[".repeat(MOST_NESTING), "]".repeat(MOST_NESTING));
        let not = format!("{}true", "!".repeat(MOST_OPERATORS));
        let turns = format!("{}1", "true?1:".repeat(MOST_OPERATORS));
        for expression in [chain, nested, lists, not, turns] {
            if let Ok(compiled) = CompiledRule::compile(&expression) {
                let bindings = Bindings { new: cel::Value::Null, old: None, extent: cost::Extent::default() };
                let _either = compiled.run(&bindings, &mut 1e9);
            }
        }
    }

    #[test]
    fn endless_rules_are_not_run() {
        let many: Vec<_> = (0..2000).collect();
        let schema = spec(
            json!({"l": {"type": "array", "items": {"type": "integer"}}, "s": {"type": "string"}}),
            json!([{"rule": "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d >= 0))))"},
                {"rule": "self.s.replace('a', self.s).replace('a', self.s).replace('a', self.s).size() > 0"}]),
        );
        let errors = told(schema, json!({"spec": {"l": many, "s": "a".repeat(5000)}}), None);
        assert_eq!(errors.len(), 2);
        assert!(errors.iter().all(|error| error.contains("cost")), "{errors:?}");
    }

    #[test]
    fn all_that_is_declared_can_be_run() {
        let text = json!({"type": "string", "maxLength": 10});
        let properties = json!({"list": {"type": "array", "maxItems": 10, "items": text}, "namespace": text,
            "map": {"type": "object", "maxProperties": 10, "additionalProperties": text}});
        let object = json!({"spec": {"list": ["a", "b"], "map": {"k": "v", "l": "v"}, "namespace": "n"}});
        let rules = [
            "self.list.all(i, one, i < 2 && one != '') && !self.list.all(i, one, one == 'a')",
            "self.map.exists(key, value, key == 'k' && value == 'v') && self.map.existsOne(key, value, key == 'l')",
            "self.map.exists_one(key, value, value == 'v') == false",
            "self.list.transformList(i, one, one + string(i)) == ['a0', 'b1']",
            "self.map.transformList(key, value, key == 'k', key + value) == ['kv']",
            "self.map.transformMap(key, value, key + value)['k'] == 'kv'",
            "self.list.transformMap(i, one, i > 0, one)[1] == 'b' && self.list.transformMapEntry(i, one, {one: i})['b'] == 1",
            "self.list.all(i, one, self.map.all(key, value, one != key && i < 2))",
            "self.list.first().value() == 'a' && self.list.last() == optional.of('b') && ![].first().hasValue()",
            "[optional.of(1), optional.none()].unwrapOpt() == [1] && optional.unwrap([optional.of(2)]) == [2]",
            "optional.of(1).optMap(x, x + 1).value() == 2 && optional.of(1).optFlatMap(x, optional.of(x)).hasValue()",
            "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
            "[3, 1].sort() == [1, 3] && [[1], [2]].flatten() == [1, 2] && [1, 2, 3].slice(1, 2) == [2] && [1, 1].distinct() == [1]",
            "[1, 2].reverse() == [2, 1] && lists.range(2) == [0, 1] && ['bb', 'a'].sortBy(x, size(x)) == ['a', 'bb']",
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').compareTo(semver('1.0.0')) == -1",
            "isSemver('1.2.3-a.1+b') && !isSemver('v1.2') && isSemver('v1.2', true) && semver('v1.02', true).minor() == 2",
            "semver('4.5.6').major() == 4 && semver('4.5.6').patch() == 6 && !isSemver('01.2.3') && !isSemver('1.2')",
            "format.named('dns1123Label').value().validate('a') == optional.none() && format.dns1123Label().validate('A').hasValue()",
            "strings.quote('a') == '\"a\"' && '%s %d'.format(['a', dyn(1)]) == 'a 1' && 'abc'.charAt(1) == 'b'",
            "'a,b'.split(',').join('-') == 'a-b' && 'abcabc'.lastIndexOf('c') == 5 && ' a '.trim() == 'a'",
            "url('https://a.b:80/c?d=e').getQuery()['d'] == ['e'] && 'a1b2'.findAll('[0-9]') == ['1', '2']",
            "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').ip() == ip('10.0.0.0')",
            "string(ip('10.0.0.1')) == '10.0.0.1' && cidr('10.0.0.0/8').prefixLength() == 8 && ip.isCanonical('10.0.0.1')",
            "quantity('1').add(1).sub(quantity('500m')).isGreaterThan(quantity('1'))",
            "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && duration('90m').getHours() == 1 && duration('1h') + duration('1m') > duration('1h')",
            "self.namespace == 'n' && self.__namespace__ == 'n'",
        ];
        for rule in rules {
            let schema = spec(properties.clone(), json!([{"rule": rule}]));
            let mut errors = crate::field::ErrorList::default();
            written::check(
                &Structural::read(&schema),
                &crate::field::Path::new("schema"),
                false,
                &mut errors,
            );
            // Some cost too much where nothing is known of sizes.
            let wrong = errors.iter().filter(|error| error.kind != ErrorKind::Forbidden);
            assert_eq!(wrong.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
            assert_eq!(told(schema, object.clone(), None), Vec::<String>::new());
        }
    }

    #[test]
    fn rules_of_an_object_share_a_budget() {
        let rules: Vec<_> = (0..40)
            .map(|n| json!({"rule": format!("self.l.all(a, self.l.all(b, a + b + {n} >= 0))")}))
            .collect();
        let schema = spec(json!({"l": {"type": "array", "items": {"type": "integer"}}}), json!(rules));
        let many: Vec<_> = (0..200).collect();
        let refused = told(schema, json!({"spec": {"l": many}}), None).len();
        assert!(refused > 0 && refused < 40, "{refused}");
    }
}
