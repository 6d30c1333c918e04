//! What is checked of the expressions of a policy, or of a webhook's conditions, when it is written (k8s.io/apiserver
//! `pkg/admission/plugin/cel/{compile,composition}.go`): their types. Objects and parameters may be of any.

use super::super::check_types;
use crate::expressions::{Declarations, Declared, Kind, Type, named};
use std::sync::{Arc, OnceLock};

/// What an expression may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// True or false: validations, conditions.
    Bool,
    /// A text: messages.
    Text,
    /// A text or nothing: values of audit annotations.
    TextOrNull,
    /// Whatever it likes: variables.
    Anything,
}

impl Gives {
    fn types(self) -> &'static [Type] {
        match self {
            Self::Bool => &[Type::Bool],
            Self::Text => &[Type::Text],
            Self::TextOrNull => &[Type::Text, Type::Null],
            Self::Anything => &[],
        }
    }
}

/// The expressions of one policy: what they may name.
#[derive(Debug, Clone)]
pub struct Written {
    object: Type,
    /// Absent: the policy has none.
    params: Option<Type>,
    /// The variables that are known so far; absent: it has none.
    variables: Option<Vec<(String, Type)>>,
    /// What objects are named after in errors.
    roots: Vec<(String, Arc<Declared>)>,
}

impl Written {
    /// Those of a policy that has parameters or not, over objects of any kind.
    pub fn new(has_params: bool) -> Self {
        let params = has_params.then_some(Type::Dyn);
        Self { object: Type::Dyn, params, variables: None, roots: Vec::new() }
    }

    /// Those of a policy over objects, and with parameters, of these types, each called by the name of its kind.
    pub(super) fn typed(object: (&str, &Arc<Declared>), params: Option<(&str, &Arc<Declared>)>) -> Self {
        let root = |(name, declared): (&str, &Arc<Declared>)| (name.to_string(), declared.clone());
        Self {
            object: object.1.type_of(),
            params: params.map(|(_, params)| params.type_of()),
            variables: None,
            roots: [object].into_iter().chain(params).map(root).collect(),
        }
    }

    /// Lets expressions name variables: those that are added.
    pub fn with_variables(&mut self) {
        self.variables.get_or_insert_default();
    }

    /// Adds a variable, which later expressions may use whatever is told of it.
    pub fn add_variable(&mut self, name: &str, expression: &str) -> Result<(), String> {
        let told = self.types(expression, true);
        let type_ = told.as_ref().map_or(Type::Dyn, plain);
        let all = self.variables.get_or_insert_default();
        all.retain(|(one, _)| one != name);
        all.push((name.into(), type_));
        told.map(|_| ()).map_err(failed)
    }

    /// Checks an expression. `asks`: it may ask the authorizer. The error is in upstream's words.
    pub fn check(&self, expression: &str, gives: Gives, asks: bool) -> Result<(), String> {
        let output = self.types(expression, asks).map_err(failed)?;
        let wanted = gives.types();
        // What is no type was too much to think through.
        if matches!(output, Type::Error) || wanted.is_empty() || wanted.iter().any(|one| one.is(&output)) {
            return Ok(());
        }
        let names: Vec<_> = wanted.iter().map(Type::shown).collect();
        let output = output.shown();
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {output}"),
            all => format!("must evaluate to one of [{}] but got {output}", all.join(" ")),
        })
    }

    /// The type of an expression, or what is wrong with its types.
    pub(super) fn types(&self, expression: &str, asks: bool) -> Result<Type, String> {
        let (request, namespace) = (request(), namespace());
        let mut declared = vec![
            ("object", self.object.clone()),
            ("oldObject", self.object.clone()),
            ("namespaceObject", namespace.type_of()),
            ("request", request.type_of()),
        ];
        declared.extend(self.params.clone().map(|params| ("params", params)));
        if asks {
            declared.extend(named("kubernetes.authorization.Authorizer").map(|type_| ("authorizer", type_)));
            let own = named("kubernetes.authorization.ResourceCheck");
            declared.extend(own.map(|type_| ("authorizer.requestResource", type_)));
        }
        let variables = self.variables.as_ref().map(|all| {
            let fields = all.iter().map(|(name, type_)| (name.as_str(), type_.clone()));
            Declared::object("kubernetes.variables", fields)
        });
        declared.extend(variables.as_ref().map(|variables| ("variables", variables.type_of())));
        let mut roots: Vec<_> = self.roots.iter().map(|(name, root)| (name.as_str(), root)).collect();
        roots.extend([("", request), ("", namespace)]);
        Ok(check_types(expression, &Declarations::new(declared, roots))?.output())
    }
}

fn failed(error: String) -> String {
    format!("compilation failed: {error}")
}

/// A variable's type, as far as variables have types: what Kubernetes adds to CEL may be anything.
fn plain(type_: &Type) -> Type {
    match type_ {
        Type::Object(_) | Type::Named(_) | Type::Param(_) | Type::Error => Type::Dyn,
        Type::Made(made) => match (made.kind, made.of.as_slice()) {
            (Kind::List, [of]) => Type::list(plain(of)),
            (Kind::Map, [key, value]) => Type::map(plain(key), plain(value)),
            _ => Type::Dyn,
        },
        other => other.clone(),
    }
}

/// What is known of a request (`BuildRequestType`).
fn request() -> &'static Arc<Declared> {
    static REQUEST: OnceLock<Arc<Declared>> = OnceLock::new();
    REQUEST.get_or_init(|| {
        let text = |name| (name, Type::Text);
        let of = |declared: Arc<Declared>| Type::Object(declared);
        let kind =
            of(Declared::object("kubernetes.GroupVersionKind", ["group", "version", "kind"].map(text)));
        let resource = of(Declared::object(
            "kubernetes.GroupVersionResource",
            ["group", "version", "resource"].map(text),
        ));
        let texts = Type::list(Type::Text);
        let user = Declared::object(
            "kubernetes.UserInfo",
            [
                text("username"),
                text("uid"),
                ("groups", texts.clone()),
                ("extra", Type::map(Type::Text, texts)),
            ],
        );
        Declared::object(
            "kubernetes.AdmissionRequest",
            [
                ("kind", kind.clone()),
                ("resource", resource.clone()),
                text("subResource"),
                ("requestKind", kind),
                ("requestResource", resource),
                text("requestSubResource"),
                text("name"),
                text("namespace"),
                text("operation"),
                ("userInfo", of(user)),
                ("dryRun", Type::Bool),
                ("options", Type::Dyn),
            ],
        )
    })
}

/// What is known of a namespace (`BuildNamespaceType`).
fn namespace() -> &'static Arc<Declared> {
    static NAMESPACE: OnceLock<Arc<Declared>> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        let text = |name| (name, Type::Text);
        let of = |declared: Arc<Declared>| Type::Object(declared);
        let (texts, labels) = (Type::list(Type::Text), Type::map(Type::Text, Type::Text));
        let condition = Declared::object(
            "kubernetes.NamespaceCondition",
            [
                text("status"),
                text("type"),
                ("lastTransitionTime", Type::Timestamp),
                text("message"),
                text("reason"),
            ],
        );
        let status = Declared::object(
            "kubernetes.NamespaceStatus",
            [("conditions", Type::list(of(condition))), text("phase")],
        );
        let metadata = Declared::object(
            "kubernetes.NamespaceMetadata",
            [
                text("name"),
                text("generateName"),
                text("namespace"),
                ("labels", labels.clone()),
                ("annotations", labels),
                text("UID"),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                text("resourceVersion"),
                ("finalizers", texts.clone()),
            ],
        );
        let spec = Declared::object("kubernetes.NamespaceSpec", [("finalizers", texts)]);
        Declared::object(
            "kubernetes.Namespace",
            [("metadata", of(metadata)), ("spec", of(spec)), ("status", of(status))],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(policy: &Written, expression: &str) -> String {
        policy.check(expression, Gives::Bool, true).expect_err(expression)
    }

    #[test]
    fn expressions_are_checked_as_far_as_types_are_known() {
        let mut policy = Written::new(true);
        for fine in [
            "object.spec.replicas <= params.most && oldObject == null",
            "request.userInfo.groups.exists(group, group.startsWith('system:')) && request.operation == 'UPDATE'",
            "namespaceObject.metadata.labels['env'] == 'prod' && has(request.options.x)",
            "authorizer.requestResource.check('get').allowed() || authorizer.group('').resource('pods').check('list').allowed()",
            "!authorizer.path('/healthz').check('get').errored()",
        ] {
            assert_eq!(policy.check(fine, Gives::Bool, true), Ok(()), "{fine}");
        }
        assert_eq!(
            told(&policy, "request.nope == ''"),
            "compilation failed: ERROR: <input>:1:8: undefined field 'nope'\n | request.nope == ''\n | .......^"
        );
        assert_eq!(
            told(&policy, "request.userInfo == request.kind"),
            "compilation failed: ERROR: <input>:1:18: found no matching overload for '_==_' applied to '(kubernetes.UserInfo, \
             kubernetes.GroupVersionKind)'\n | request.userInfo == request.kind\n | .................^"
        );
        assert_eq!(told(&policy, "object.spec.replicas"), "must evaluate to bool but got dyn");
        assert_eq!(told(&policy, "[request.name]"), "must evaluate to bool but got list(string)");
        assert_eq!(
            policy.check("1", Gives::TextOrNull, true),
            Err("must evaluate to one of [string null_type] but got int".into())
        );
        let asked = policy.check("authorizer.path('/').check('get').reason()", Gives::Text, false);
        assert!(asked.is_err_and(|told| told.contains("undeclared reference to 'authorizer'")));
        assert!(told(&policy, "variables.x").contains("undeclared reference to 'variables'"));
        assert!(told(&Written::new(false), "params.x").contains("undeclared reference to 'params'"));
        policy.with_variables();
        assert!(told(&policy, "variables.x").contains("undefined field 'x'"));
    }

    #[test]
    fn variables_have_the_types_of_their_expressions() {
        let mut policy = Written::new(false);
        assert_eq!(policy.add_variable("many", "size(object.spec.containers) > 2"), Ok(()));
        assert_eq!(policy.add_variable("names", "['a'].map(x, x)"), Ok(()));
        assert_eq!(policy.add_variable("first", "variables.names[0]"), Ok(()));
        assert_eq!(policy.add_variable("mem", "quantity('1Gi')"), Ok(()));
        assert!(policy.add_variable("wrong", "nope").is_err());
        for fine in
            ["variables.many", "variables.first == 'a'", "variables.mem.isInteger()", "variables.wrong > 3"]
        {
            assert_eq!(policy.check(fine, Gives::Bool, true), Ok(()), "{fine}");
        }
        let told = told(&policy, "variables.first == 1");
        assert!(told.contains("applied to '(string, int)'"), "{told}");
        assert_eq!(
            policy.check("variables.names", Gives::Text, false),
            Err("must evaluate to string but got list(string)".into())
        );
    }

    #[test]
    fn variables_that_double_each_other_come_to_an_end() {
        let mut policy = Written::new(false);
        assert_eq!(policy.add_variable("v0", "[object]"), Ok(()));
        for n in 1..60 {
            let expression = format!("{{'a': {{variables.v{0}: variables.v{0}}}}}", n - 1);
            let _whatever = policy.add_variable(&format!("v{n}"), &expression);
        }
        assert!(policy.check("variables.v59 == variables.v58 || true", Gives::Bool, true).is_ok());
    }
}
