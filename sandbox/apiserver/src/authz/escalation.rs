//! Nobody may give away more than he has: writes of roles and bindings are allowed to those who hold all of the rules themselves, or
//! may `escalate` or `bind` (k8s.io/kubernetes `pkg/registry/rbac/*/policybased`, `pkg/registry/rbac/validation/rule.go`).

use super::rules::{self, Rule};
use super::{Attributes, Authorizer};
use crate::admission::Context;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{list, text};
use drydock_apimachinery::status::GroupResource;
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a write of a role or a binding that would give away too much.
pub fn check(
    authorizer: &Authorizer,
    context: &Context<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if context.resource.group != GROUP || !authorizer.has_rbac() || context.user.is_in("system:masters") {
        return Ok(());
    }
    match &*context.resource.plural {
        "roles" | "clusterroles" => role(authorizer, context, new, old),
        "rolebindings" | "clusterrolebindings" => binding(authorizer, context, new, old),
        _ => Ok(()),
    }
}

fn role(
    authorizer: &Authorizer,
    context: &Context<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
    if same("rules") && same("aggregationRule") {
        return Ok(());
    }
    if may(authorizer, context, "escalate", &context.resource.plural, context.namespace, context.name) {
        return Ok(());
    }
    if new.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        let all = vec!["*".to_string()];
        let everything = [
            Rule { verbs: all.clone(), groups: all.clone(), resources: all.clone(), ..Rule::default() },
            Rule { verbs: all.clone(), urls: all, ..Rule::default() },
        ];
        if !lacking(authorizer, context, &everything).is_empty() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Status::forbidden(context.resource.group_resource(), context.name, why));
        }
    }
    confirm(authorizer, context, &Rule::all_of(new))
}

fn binding(
    authorizer: &Authorizer,
    context: &Context<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let same = |field: &str| {
        let empty = |value: Option<&Value>| value.is_none_or(|value| value.is_null());
        old.is_some_and(|old| {
            old.get(field) == new.get(field) || (empty(old.get(field)) && empty(new.get(field)))
        })
    };
    if same("subjects") && same("roleRef") {
        return Ok(());
    }
    let (kind, name) = (text(new, &["roleRef", "kind"]), text(new, &["roleRef", "name"]));
    let (plural, namespace) = match kind {
        "ClusterRole" => ("clusterroles", context.namespace),
        "Role" => ("roles", context.namespace),
        // Validation says what is wrong with it.
        _ => return Ok(()),
    };
    if may(authorizer, context, "bind", plural, namespace, name) {
        return Ok(());
    }
    let rules = authorizer.role(namespace, kind, name);
    let rules =
        rules.ok_or_else(|| Status::not_found(GroupResource { group: GROUP, resource: plural }, name))?;
    confirm(authorizer, context, &rules)
}

fn may(
    authorizer: &Authorizer,
    context: &Context<'_>,
    verb: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let asked = Attributes {
        user: context.user,
        verb,
        is_resource: true,
        path: "",
        group: GROUP,
        version: "*",
        resource,
        subresource: "",
        namespace,
        name,
    };
    authorizer.decide(&asked).is_allowed()
}

fn lacking(authorizer: &Authorizer, context: &Context<'_>, wanted: &[Rule]) -> Vec<String> {
    rules::missing(&authorizer.rules_of(context.user, context.namespace), wanted)
}

fn confirm(authorizer: &Authorizer, context: &Context<'_>, wanted: &[Rule]) -> Result<(), Status> {
    let lacking = lacking(authorizer, context, wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = context.user.groups.iter().map(|group| format!("{group:?}")).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        context.user.name,
        groups.join(" "),
        lacking.join("\n")
    );
    Err(Status::forbidden(context.resource.group_resource(), context.name, &why))
}

/// True if a role's rules come from others.
pub fn is_aggregated(role: &Value) -> bool {
    !list(role, &["aggregationRule", "clusterRoleSelectors"]).is_empty()
}
