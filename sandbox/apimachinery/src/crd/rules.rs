//! `x-kubernetes-validations`: rules in CEL (apiextensions-apiserver `pkg/apiserver/schema/cel`), over the `cel` crate. Programs are
//! compiled when first needed and kept for the process. A rule whose worst case on the object at hand is too much is not run: its error
//! says so; upstream counts while it runs.

mod cost;
mod errors;
mod library;
pub mod policy;
mod presence;
mod references;
mod values;
pub(super) mod written;

use super::{Rule, Structural};
use crate::expressions::{self, Checked, Declarations};
use crate::field::{ErrorKind, FieldError, Shown};
use cel::common::ast::IdedExpr;
use cel::{Context, Env};
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
    expression: Arc<IdedExpr>,
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
        Ok(Self { expression: Arc::new(presence::called(program.expression())), transition, deep })
    }

    /// Runs it, taking what it may cost from a budget.
    fn run(&self, bindings: &Bindings, budget: &mut f64) -> Result<cel::Value, String> {
        on_large_stack(self.deep, || self.run_here(bindings, budget))
    }

    fn run_here(&self, bindings: &Bindings, budget: &mut f64) -> Result<cel::Value, String> {
        cost::charge(&self.expression, &bindings.extent, budget)?;
        let mut context = Context::with_env(environment());
        library::add_functions(&mut context).map_err(|error| error.to_string())?;
        context.add_variable_from_value("self", bindings.new.clone());
        if let Some(old) = &bindings.old {
            context.add_variable_from_value("oldSelf", old.clone());
        }
        cel::Value::resolve(&self.expression, &context)
            .map_err(|error| errors::told(&error, &self.expression, &context))
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
mod tests;
