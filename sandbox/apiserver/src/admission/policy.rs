//! `ValidatingAdmissionPolicy`: rules of the cluster's owner in CEL (k8s.io/apiserver `pkg/admission/plugin/policy/{generic,matching,validating}`).

use super::matching::{Write, matches, namespace_of, request};
use super::{Context, forbidden, reader};
use crate::authn::{User, service_account};
use crate::authz::{Attributes, Authorizer};
use crate::custom::conversion;
use crate::server::Server;
use crate::storage::{self, keys};
use drydock_apimachinery::Status;
use drydock_apimachinery::crd::policy::{self, Answer, Question, Resource, Scope, Target};
use drydock_apimachinery::object::{self, list, text};
use drydock_apimachinery::selectors::LabelSelector;
use drydock_etcd::{KeyRange, Query};
use serde_json::Value;
use std::sync::Arc;

/// What policies may not be about: themselves, and what is no object (`pkg/kubeapiserver/admission/exclusion`).
const EXCLUDED: [&str; 2] = ["admissionregistration.k8s.io", "authorization.k8s.io"];

/// Why a write is refused.
struct Denial {
    message: String,
    reason: String,
}

/// Asks all policies that are bound to the write.
pub async fn check(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let group = &*context.resource.group;
    if EXCLUDED.contains(&group) || group == "authentication.k8s.io" {
        return Ok(());
    }
    let policies = reader::list(&server.store, "validatingadmissionpolicies")?;
    if policies.is_empty() {
        return Ok(());
    }
    // In a box: mostly there is no policy.
    Box::pin(check_all(server, context, object, old, warnings, &policies)).await
}

async fn check_all(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
    policies: &[Arc<Value>],
) -> Result<(), Status> {
    let bindings = reader::list(&server.store, "validatingadmissionpolicybindings")?;
    let namespace = namespace_of(server, context, object, old)?;
    let write = Write { context, object, old: old.unwrap_or(&Value::Null), namespace: &namespace };
    for policy in policies {
        let Some(version) = matches(server, &write, &policy["spec"]["matchConstraints"]) else { continue };
        let object = version.of(server, context, write.object).await?;
        let old = version.of(server, context, write.old).await?;
        let seen = Write { context: &version.context(context), object: &object, old: &old, ..write };
        let name = object::name(policy);
        for binding in bindings.iter().filter(|binding| text(binding, &["spec", "policyName"]) == name) {
            let resources = &binding["spec"]["matchResources"];
            if !resources.is_null() && matches(server, &write, resources).is_none() {
                continue;
            }
            act(&seen, server, policy, binding, warnings).await?;
        }
    }
    Ok(())
}

/// Does what a binding wants to be done with what a policy says.
async fn act(
    write: &Write<'_>,
    server: &Server,
    policy: &Value,
    binding: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let fails = text(policy, &["spec", "failurePolicy"]) != "Ignore";
    let denials = match params(write, server, policy, binding).await {
        Ok(all) => all.iter().flat_map(|params| judge(write, server, policy, params, fails)).collect(),
        Err(why) if fails => {
            vec![Denial { message: format!("failed to configure binding: {why}"), reason: String::new() }]
        }
        Err(_) => Vec::new(),
    };
    let (policy, name) = (object::name(policy), object::name(binding));
    let actions = list(binding, &["spec", "validationActions"]);
    let does = |action: &str| actions.iter().any(|one| one == action);
    if does("Warn") {
        warnings.extend(denials.iter().map(|denial| {
            let told = &denial.message;
            format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{name}': {told}"
            )
        }));
    }
    match denials.into_iter().next().filter(|_| does("Deny")) {
        Some(denial) => Err(refusal(write, policy, name, &denial)),
        None => Ok(()),
    }
}

fn refusal(write: &Write<'_>, policy: &str, binding: &str, denial: &Denial) -> Status {
    let message = format!(
        "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
        denial.message
    );
    let named = if write.object.is_null() { write.old } else { write.object };
    let mut status = forbidden(write.context, named, &message).cause("", &message, "");
    let (code, reason) = match denial.reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    (status.code, status.reason) = (code, reason.into());
    status
}

/// What a policy says against a write with these parameters.
fn judge(write: &Write<'_>, server: &Server, policy: &Value, params: &Value, fails: bool) -> Vec<Denial> {
    let spec = &policy["spec"];
    let mut scope = scope(write, server, params);
    match hold(&mut scope, list(spec, &["matchConditions"])) {
        Ok(true) => {}
        Err(message) if fails => return vec![Denial { message, reason: String::new() }],
        _ => return Vec::new(),
    }
    for variable in list(spec, &["variables"]) {
        scope.define(text(variable, &["name"]), text(variable, &["expression"]));
    }
    let validations = list(spec, &["validations"]);
    validations.iter().filter_map(|validation| fault(&mut scope, validation, fails)).collect()
}

/// What expressions are run over.
fn scope(write: &Write<'_>, server: &Server, params: &Value) -> Scope {
    let context = write.context;
    let namespace = if context.namespace.is_empty() { &Value::Null } else { write.namespace };
    let about = Resource {
        group: context.resource.group.to_string(),
        resource: context.resource.plural.to_string(),
        subresource: context.subresource.into(),
        namespace: context.namespace.into(),
        name: context.name.into(),
    };
    let asker = Asker { authorizer: server.authorizer.clone(), user: context.user.clone() };
    let named = [
        ("object", write.object),
        ("oldObject", write.old),
        ("request", &request(write)),
        ("params", params),
        ("namespaceObject", namespace),
    ];
    Scope::new(&named, Arc::new(asker), about)
}

/// Answers what expressions ask of `authorizer`.
struct Asker {
    authorizer: Arc<Authorizer>,
    user: User,
}

impl policy::Authorizer for Asker {
    fn decide(&self, asked: &Question) -> (bool, String) {
        let account = asked
            .account
            .as_ref()
            .map(|(namespace, name)| service_account::account_user(namespace, name, ""));
        let user = account.as_ref().unwrap_or(&self.user);
        let nothing = Resource::default();
        let (path, resource) = match &asked.on {
            Target::Path(path) => (path.as_str(), None),
            Target::Resource(resource) => ("", Some(resource)),
        };
        let of = resource.unwrap_or(&nothing);
        let decision = self.authorizer.decide(&Attributes {
            user,
            verb: &asked.verb,
            is_resource: resource.is_some(),
            path,
            group: &of.group,
            version: "*",
            resource: &of.resource,
            subresource: &of.subresource,
            namespace: &of.namespace,
            name: &of.name,
        });
        (decision.is_allowed(), decision.reason().into())
    }
}

fn hold(scope: &mut Scope, conditions: &[Value]) -> Result<bool, String> {
    for condition in conditions {
        match scope.evaluate(text(condition, &["expression"])) {
            Ok(Answer::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(why) => return Err(format!("failed to evaluate match conditions: {why}")),
        }
    }
    Ok(true)
}

/// Whether a webhook's match conditions hold.
pub(super) fn conditions(write: &Write<'_>, server: &Server, conditions: &[Value]) -> Result<bool, String> {
    if conditions.is_empty() { Ok(true) } else { hold(&mut scope(write, server, &Value::Null), conditions) }
}

/// What one validation says against it.
fn fault(scope: &mut Scope, validation: &Value, fails: bool) -> Option<Denial> {
    let expression = text(validation, &["expression"]);
    let message = match scope.evaluate(expression) {
        Ok(Answer::Bool(true)) => return None,
        Ok(_) => {
            let told = match text(validation, &["messageExpression"]) {
                "" => String::new(),
                made => match scope.evaluate(made) {
                    Ok(Answer::Text(made)) if !made.contains('\n') => made,
                    _ => String::new(),
                },
            };
            let told = if told.trim().is_empty() { text(validation, &["message"]) } else { &told };
            match told.trim() {
                "" => format!("failed expression: {}", expression.trim()),
                told => told.to_string(),
            }
        }
        Err(why) if fails => format!("expression '{expression}' resulted in error: {why}"),
        Err(_) => return None,
    };
    Some(Denial { message, reason: text(validation, &["reason"]).into() })
}

/// What a binding gives a policy to compare with; a policy that wants nothing is asked once.
async fn params(
    write: &Write<'_>,
    server: &Server,
    policy: &Value,
    binding: &Value,
) -> Result<Vec<Value>, String> {
    let kind = &policy["spec"]["paramKind"];
    let reference = &binding["spec"]["paramRef"];
    if kind.is_null() || reference.is_null() {
        return Ok(vec![Value::Null]);
    }
    let (group, version) = crate::resource::group_version(text(kind, &["apiVersion"]));
    let snapshot = server.registry.snapshot();
    let resource = snapshot.by_kind(group, version, text(kind, &["kind"])).ok_or_else(|| {
        format!("failed to find resource referenced by paramKind: '{}'", text(kind, &["kind"]))
    })?;
    let namespace = match text(reference, &["namespace"]) {
        "" => write.context.namespace,
        named => named,
    };
    if resource.namespaced && namespace.is_empty() {
        return Err(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into()
        );
    }
    let name = text(reference, &["name"]);
    let range = match name {
        "" => KeyRange::prefix(keys::prefix(resource, namespace)),
        name => KeyRange::key(keys::of(resource, namespace, name)),
    };
    let found = server.store.range(&range, &Query::default()).map_err(|error| error.to_string())?;
    let selector = LabelSelector::of_object(&reference["selector"]).map_err(|error| error.to_string())?;
    let all = found.records.iter().filter_map(|record| storage::decode(record).ok());
    let mut chosen = Vec::new();
    for one in all.filter(|one| !name.is_empty() || selector.matches_object(one)) {
        let one = conversion::from_stored(server, resource, one).await;
        chosen.push(resource.load(one.map_err(|status| status.message)?));
    }
    if chosen.is_empty() && text(reference, &["parameterNotFoundAction"]) == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(chosen)
}
