//! Which writes an admission policy or webhook is about, and what they are told of one (k8s.io/apiserver
//! `pkg/admission/plugin/webhook/{predicates,request}`, `pkg/admission/plugin/policy/matching`).

use super::{Context, Operation, reader};
use crate::server::Server;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{list, text};
use drydock_apimachinery::selectors::LabelSelector;
use serde_json::{Value, json};

/// What is about to be written.
pub(super) struct Write<'a> {
    pub context: &'a Context<'a>,
    pub object: &'a Value,
    pub old: &'a Value,
    pub namespace: Value,
}

/// The namespace of a write as an object: its own, if it is one.
pub(super) fn namespace_of(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<Value, Status> {
    if context.is("", "namespaces") {
        return Ok(if object.is_null() { old.cloned().unwrap_or_default() } else { object.clone() });
    }
    if context.namespace.is_empty() {
        return Ok(Value::Null);
    }
    let found = reader::get(&server.store, &format!("namespaces/{}", context.namespace))?;
    Ok(found.map(|namespace| (*namespace).clone()).unwrap_or_default())
}

/// `AdmissionRequest`, as far as it says something.
pub(super) fn request(write: &Write<'_>) -> Value {
    let context = write.context;
    let of = context.resource;
    let kind = context.kind();
    let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let resource = json!({"group": of.group, "version": of.version, "resource": of.plural});
    let mut request = json!({
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": context.name,
        "namespace": context.namespace,
        "operation": operation(context.operation),
        "userInfo": serde_json::to_value(context.user).unwrap_or_default(),
        "dryRun": context.dry_run,
    });
    if let Some(options) = context.options.to_value(context.operation) {
        request["options"] = options;
    }
    if !context.subresource.is_empty() {
        request["subResource"] = context.subresource.into();
        request["requestSubResource"] = context.subresource.into();
    }
    request
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Whether a write is among these (`matching.Matcher`).
pub(super) fn matches(write: &Write<'_>, resources: &Value) -> bool {
    selects(&resources["namespaceSelector"], &[&write.namespace])
        && selects(&resources["objectSelector"], &[write.object, write.old])
        && !list(resources, &["excludeResourceRules"]).iter().any(|rule| is_of(write, rule))
        && (resources.get("resourceRules").is_none_or(Value::is_null)
            || list(resources, &["resourceRules"]).iter().any(|rule| is_of(write, rule)))
}

/// Whether one of these has the labels; what is in no namespace is not left out for that.
fn selects(selector: &Value, of: &[&Value]) -> bool {
    let Ok(parsed) = LabelSelector::of_object(selector) else { return false };
    let is_empty = selector.as_object().is_none_or(|selector| selector.values().all(is_nothing));
    let mut there = of.iter().filter(|object| !object.is_null()).peekable();
    is_empty || of.len() == 1 && there.peek().is_none() || there.any(|object| parsed.matches_object(object))
}

fn is_nothing(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

/// `rules.Matcher`.
fn is_of(write: &Write<'_>, rule: &Value) -> bool {
    let context = write.context;
    let has = |field: &str, wanted: &str| list(rule, &[field]).iter().any(|one| one == "*" || one == wanted);
    let scope = text(rule, &["scope"]);
    let namespaced = context.resource.namespaced && !context.is("", "namespaces");
    let names = list(rule, &["resourceNames"]);
    has("operations", operation(context.operation))
        && has("apiGroups", &context.resource.group)
        && has("apiVersions", &context.resource.version)
        && (matches!(scope, "" | "*") || (scope == "Namespaced") == namespaced)
        && (names.is_empty() || names.iter().any(|name| name == context.name))
        && list(rule, &["resources"]).iter().filter_map(Value::as_str).any(|resource| {
            let (plural, sub) = resource.split_once('/').unwrap_or((resource, ""));
            let fits = |wanted: &str, is: &str| wanted == is || wanted == "*";
            fits(plural, &context.resource.plural)
                && (sub == context.subresource || sub == "*" || resource == "*/*")
        })
}
