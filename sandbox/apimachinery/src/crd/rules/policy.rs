//! Expressions of admission policies (k8s.io/apiserver `pkg/admission/plugin/policy`, `pkg/cel/environment`): the same CEL as the rules of
//! custom resources, over named values that no schema describes. `written` checks them when a policy is written, `kinds` against the kinds
//! that it is about; here they are run.

mod kinds;
mod written;

pub use super::library::authz::{Authorizer, Question, Resource, Target};
pub use kinds::{KindSchema, Warning, schema_in, warnings};
pub use written::{Gives, Written};

use super::library::authz;
use super::{
    RuleError, bounded, cost, environment, errors, library, on_large_stack, presence, references, values,
};
use crate::expressions;
use cel::Context;
use cel::common::ast::IdedExpr;
use cel::objects::{Key, Map};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What expressions of policies may name.
const NAMES: [&str; 7] =
    ["object", "oldObject", "request", "params", "namespaceObject", "variables", AUTHORIZER];
/// What all but messages may ask.
const AUTHORIZER: &str = "authorizer";
/// Most programs that are kept.
const MOST_KEPT: usize = 512;

/// What an expression gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// Anything else.
    Other,
}

fn undeclared(name: &str) -> RuleError {
    RuleError(format!("ERROR: undeclared reference to '{name}' (in container '')"))
}

#[derive(Clone)]
struct Compiled {
    expression: Arc<IdedExpr>,
    deep: bool,
}

fn compile(expression: &str) -> Result<Compiled, RuleError> {
    static KEPT: OnceLock<Mutex<HashMap<String, Compiled>>> = OnceLock::new();
    let deep = bounded(expression)?;
    let kept = KEPT.get_or_init(Mutex::default);
    if let Some(known) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(expression) {
        return Ok(known.clone());
    }
    let compiled = on_large_stack(deep, || parse(expression, deep))?;
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= MOST_KEPT {
        kept.clear();
    }
    kept.insert(expression.into(), compiled.clone());
    Ok(compiled)
}

fn parse(expression: &str, deep: bool) -> Result<Compiled, RuleError> {
    let program = environment().compile(expression).map_err(|errors| RuleError(errors.to_string()))?;
    let known = |name: &String| {
        NAMES.contains(&name.as_str()) || name.starts_with('@') || expressions::is_known(name)
    };
    if let Some(name) = references::free(program.expression()).iter().find(|name| !known(name)) {
        return Err(undeclared(name));
    }
    Ok(Compiled { expression: Arc::new(presence::called(program.expression())), deep })
}

/// The values that the expressions of one policy are run over, and what running them may still cost.
pub struct Scope {
    authorizer: Arc<dyn Authorizer>,
    /// What the request is about, as `authorizer.requestResource`.
    request: Resource,
    values: Vec<(&'static str, cel::Value)>,
    variables: HashMap<Key, cel::Value>,
    extent: cost::Extent,
    budget: f64,
}

impl Scope {
    /// Over these values: `object`, `oldObject`, `request`, `params`, `namespaceObject`.
    pub fn new(named: &[(&'static str, &Value)], authorizer: Arc<dyn Authorizer>, request: Resource) -> Self {
        let all: Vec<_> = named.iter().map(|(_, value)| Some(*value)).collect();
        Self {
            authorizer,
            request,
            values: named.iter().map(|(name, value)| (*name, values::free(value))).collect(),
            variables: HashMap::new(),
            extent: cost::Extent::of(&all),
            budget: cost::BUDGET,
        }
    }

    /// Gives later expressions the value of this one as `variables.NAME`. If it has none, or too large a one, they find none.
    pub fn define(&mut self, name: &str, expression: &str) {
        if let Ok(value) = self.run(expression)
            && self.extent.take_in(&value)
        {
            self.variables.insert(Key::String(Arc::new(name.into())), value);
        }
    }

    /// Runs an expression; the error in the words of cel-go.
    pub fn evaluate(&mut self, expression: &str) -> Result<Answer, String> {
        Ok(match self.run(expression)? {
            cel::Value::Bool(on) => Answer::Bool(on),
            cel::Value::String(text) => Answer::Text((*text).clone()),
            _ => Answer::Other,
        })
    }

    fn run(&mut self, expression: &str) -> Result<cel::Value, String> {
        let compiled = compile(expression).map_err(|error| format!("compilation error: {error}"))?;
        cost::charge(&compiled.expression, &self.extent, &mut self.budget)?;
        on_large_stack(compiled.deep, || self.run_here(&compiled.expression))
    }

    fn run_here(&self, expression: &IdedExpr) -> Result<cel::Value, String> {
        let mut context = Context::with_env(environment());
        library::add_functions(&mut context)
            .and_then(|()| authz::add(&mut context, self.authorizer.clone(), &self.request))
            .map_err(|error| error.to_string())?;
        for (name, value) in &self.values {
            context.add_variable_from_value(*name, value.clone());
        }
        let variables = Map { map: Arc::new(self.variables.clone()) };
        context.add_variable_from_value("variables", cel::Value::Map(variables));
        cel::Value::resolve(expression, &context).map_err(|error| errors::told(&error, expression, &context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One who may read, and whose accounts may do all.
    struct Reader;

    impl Authorizer for Reader {
        fn decide(&self, asked: &Question) -> (bool, String) {
            let may = asked.verb == "get" || asked.account.is_some();
            (may, format!("{:?}", asked.on))
        }
    }

    fn scope(named: &[(&'static str, &Value)]) -> Scope {
        let resource = Resource { resource: "pods".into(), name: "p".into(), ..Resource::default() };
        Scope::new(named, Arc::new(Reader), resource)
    }

    #[test]
    fn expressions_ask_what_the_writer_may_do() {
        let mut scope = scope(&[("object", &Value::Null)]);
        for (expression, answer) in [
            ("authorizer.group('').resource('pods').namespace('default').check('get').allowed()", true),
            (
                "authorizer.group('apps').resource('deployments').subresource('scale').name('web').check('update').allowed()",
                false,
            ),
            ("authorizer.path('/healthz').check('get').allowed()", true),
            ("authorizer.serviceAccount('default', 'robot').path('/healthz').check('post').allowed()", true),
            ("authorizer.requestResource.check('delete').allowed()", false),
            ("authorizer.requestResource.check('get').reason().contains('name: \"p\"')", true),
            (
                "authorizer.requestResource.check('get').errored() || authorizer.requestResource.check('get').error() != ''",
                false,
            ),
        ] {
            assert_eq!(scope.evaluate(expression), Ok(Answer::Bool(answer)), "{expression}");
        }
        for (expression, why) in [
            ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
            ("authorizer.group('').resource('').check('get').allowed()", "resource must not be empty"),
            (
                "authorizer.serviceAccount('A', 'robot').path('/').check('get').allowed()",
                "Invalid service account namespace",
            ),
        ] {
            let told = scope.evaluate(expression).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn expressions_see_the_object_and_the_request() {
        let object = json!({"spec": {"replicas": 9, "template": {"spec": {"containers": [{"image": "a:latest"}, {"image": "b:1"}]}}}});
        let request = json!({"operation": "CREATE", "userInfo": {"username": "joe"}});
        let mut scope = scope(&[("object", &object), ("oldObject", &Value::Null), ("request", &request)]);
        scope.define("latest", "object.spec.template.spec.containers.filter(c, c.image.endsWith(':latest'))");
        for (expression, answer) in [
            ("object.spec.replicas <= 5", Answer::Bool(false)),
            ("oldObject == null && request.userInfo.username == 'joe'", Answer::Bool(true)),
            ("variables.latest.size() == 1", Answer::Bool(true)),
            ("'replicas: ' + string(object.spec.replicas)", Answer::Text("replicas: 9".into())),
            ("!has(object.metadata) || object.metadata.name != ''", Answer::Bool(true)),
            ("has(optional.of(object).spec) && !has(optional.of(object).status)", Answer::Bool(true)),
            ("has(object.?status.phase) || has(object.?spec.paused)", Answer::Bool(false)),
            ("has(object.?spec.replicas)", Answer::Bool(true)),
            ("has(oldObject.metadata) || has(object.spec.replicas.size)", Answer::Bool(false)),
            (
                "has(object.spec.replicas) && [object].all(o, has(o.spec) && !has(o.status))",
                Answer::Bool(true),
            ),
        ] {
            assert_eq!(scope.evaluate(expression), Ok(answer), "{expression}");
        }
        for (expression, why) in [
            ("object.spec.paused", "no such key: paused"),
            ("oldObject.metadata.name == 'a'", "no such key: metadata"),
            ("request.operation == 'CREATE' && oldObject.spec == object.spec", "no such key: spec"),
            ("int(request.operation) > 1", "type conversion error from 'string' to 'int'"),
        ] {
            assert_eq!(scope.evaluate(expression), Err(why.into()), "{expression}");
        }
    }

    #[test]
    fn variables_that_double_each_other_come_to_an_end() {
        for (first, size) in [("'0123456789abcdef'", "size() > 1000"), ("[1, 2, 3, 4]", "size() > 1000")] {
            let mut scope = scope(&[("object", &Value::Null)]);
            scope.define("v0", first);
            for n in 1..40 {
                scope.define(&format!("v{n}"), &format!("variables.v{0} + variables.v{0}", n - 1));
            }
            assert_eq!(scope.evaluate(&format!("variables.v8.{size}")), Ok(Answer::Bool(true)));
            assert!(scope.evaluate(&format!("variables.v39.{size}")).is_err());
        }
        let mut scope = scope(&[("object", &Value::Null)]);
        scope.define("v0", "[1, 2]");
        for n in 1..40 {
            scope.define(&format!("v{n}"), &format!("[variables.v{0}, variables.v{0}]", n - 1));
        }
        assert!(scope.evaluate("variables.v39.size() > 0").is_err());
    }
}
