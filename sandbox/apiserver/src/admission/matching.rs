//! Which writes an admission policy or webhook is about, and what they are told of one (k8s.io/apiserver
//! `pkg/admission/plugin/webhook/{predicates,request}`, `pkg/admission/plugin/policy/matching`).

use super::{Context, Operation, reader};
use crate::custom::conversion;
use crate::resource::Resource;
use crate::server::Server;
use drydock_apimachinery::object::{list, text};
use drydock_apimachinery::selectors::LabelSelector;
use drydock_apimachinery::{Status, managed_fields};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

/// What is about to be written.
pub(super) struct Write<'a> {
    pub context: &'a Context<'a>,
    pub object: &'a Value,
    pub old: &'a Value,
    pub namespace: &'a Value,
}

/// The namespace of a write as an object: its own, if it is one.
pub(super) fn namespace_of(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<Value, Status> {
    if context.is("", "namespaces") {
        let mut own = if object.is_null() { old.cloned().unwrap_or_default() } else { object.clone() };
        managed_fields::without_texts(&mut own);
        return Ok(own);
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
    let requested = Context { resource: context.requested.unwrap_or(context.resource), ..*context };
    let kind = |context: &Context<'_>| {
        let kind = context.kind();
        json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
    };
    let resource = |context: &Context<'_>| {
        let of = context.resource;
        json!({"group": of.group, "version": of.version, "resource": of.plural})
    };
    let mut request = json!({
        "kind": kind(context),
        "resource": resource(context),
        "requestKind": kind(&requested),
        "requestResource": resource(&requested),
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

/// In what version of its resource somebody wants to be asked about a write.
pub(super) enum Version {
    /// That of the request.
    Requested,
    /// Another one.
    Other(Arc<Resource>),
}

impl Version {
    /// The context in this version.
    pub fn context<'a>(&'a self, context: &Context<'a>) -> Context<'a> {
        match self {
            Self::Requested => *context,
            Self::Other(resource) => Context { resource, requested: Some(context.resource), ..*context },
        }
    }

    /// An object of the request in this version, as others see it.
    pub async fn of<'a>(
        &self,
        server: &Server,
        context: &Context<'_>,
        object: &'a Value,
    ) -> Result<Cow<'a, Value>, Status> {
        let mut seen = match self {
            Self::Other(resource) if !object.is_null() && context.kind.is_none() => {
                Cow::Owned(conversion::between(server, context.resource, resource, object.clone()).await?)
            }
            _ => Cow::Borrowed(object),
        };
        if managed_fields::has_texts(&seen) {
            managed_fields::without_texts(seen.to_mut());
        }
        Ok(seen)
    }

    /// And back.
    pub async fn back(&self, server: &Server, context: &Context<'_>, object: Value) -> Result<Value, Status> {
        match self {
            Self::Other(resource) if !object.is_null() && context.kind.is_none() => {
                conversion::between(server, resource, context.resource, object).await
            }
            _ => Ok(object),
        }
    }
}

/// Whether a write is among these, and in what version (`matching.Matcher`). If `matchPolicy` is not `Exact`, it is by any version of
/// its resource.
pub(super) fn matches(server: &Server, write: &Write<'_>, resources: &Value) -> Option<Version> {
    if !selects(&resources["namespaceSelector"], &[write.namespace])
        || !selects(&resources["objectSelector"], &[write.object, write.old])
    {
        return None;
    }
    let exact = text(resources, &["matchPolicy"]) == "Exact";
    let version = |rules: &[Value]| {
        let own = write.context.resource;
        if rules.iter().any(|rule| is_of(write, own, rule)) {
            return Some(Version::Requested);
        }
        if exact || rules.is_empty() {
            return None;
        }
        let served = server.registry.snapshot();
        let mut others = served.all.iter().filter(|one| is_version_of(one, own, write.context.subresource));
        others.find(|one| rules.iter().any(|rule| is_of(write, one, rule))).cloned().map(Version::Other)
    };
    if version(list(resources, &["excludeResourceRules"])).is_some() {
        return None;
    }
    if resources.get("resourceRules").is_none_or(Value::is_null) {
        return Some(Version::Requested);
    }
    version(list(resources, &["resourceRules"]))
}

/// Whether the objects of two resources are the same.
fn is_version_of(one: &Resource, own: &Resource, subresource: &str) -> bool {
    one.prefix == own.prefix
        && (one.group != own.group || one.version != own.version)
        && (subresource.is_empty() || one.subresource(subresource).is_some())
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
fn is_of(write: &Write<'_>, of: &Resource, rule: &Value) -> bool {
    let context = write.context;
    let has = |field: &str, wanted: &str| list(rule, &[field]).iter().any(|one| one == "*" || one == wanted);
    let scope = text(rule, &["scope"]);
    let namespaced = of.namespaced && !context.is("", "namespaces");
    let names = list(rule, &["resourceNames"]);
    has("operations", operation(context.operation))
        && has("apiGroups", &of.group)
        && has("apiVersions", &of.version)
        && (matches!(scope, "" | "*") || (scope == "Namespaced") == namespaced)
        && (names.is_empty() || names.iter().any(|name| name == context.name))
        && list(rule, &["resources"]).iter().filter_map(Value::as_str).any(|resource| {
            let (plural, sub) = resource.split_once('/').unwrap_or((resource, ""));
            let fits = |wanted: &str, is: &str| wanted == is || wanted == "*";
            fits(plural, &of.plural) && (sub == context.subresource || sub == "*" || resource == "*/*")
        })
}
