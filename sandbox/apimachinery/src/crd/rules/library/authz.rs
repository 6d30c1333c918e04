//! `authorizer`: what an expression of an admission policy may ask of the cluster's rules (k8s.io/apiserver `pkg/cel/library/authz.go`).

use super::{Result, fail, text_value};
use crate::names;
use cel::extractors::This;
use cel::objects::Opaque;
use cel::{Context, DeclarationError, Value};
use std::sync::Arc;

/// Who says what one may do.
pub trait Authorizer: Send + Sync {
    /// Whether it is allowed, and why.
    fn decide(&self, asked: &Question) -> (bool, String);
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Of which service account (namespace and name); none: of who writes.
    pub account: Option<(String, String)>,
    /// Such as `get`.
    pub verb: String,
    /// On what.
    pub on: Target,
}

/// What somebody wants to do something with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A path that is no resource.
    Path(String),
    /// A resource.
    Resource(Resource),
}

/// A resource; what is empty is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its API group.
    pub group: String,
    /// Its name in paths: `pods`.
    pub resource: String,
    /// `status`, `exec` and so on.
    pub subresource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

type Account = Option<(String, String)>;

opaque!(AuthorizerValue, Account, "kubernetes.authorization.Authorizer");
opaque!(PathCheck, (Account, String), "kubernetes.authorization.PathCheck");
opaque!(GroupCheck, (Account, String), "kubernetes.authorization.GroupCheck");
opaque!(ResourceCheck, (Account, Resource), "kubernetes.authorization.ResourceCheck");
opaque!(Decision, (bool, String), "kubernetes.authorization.Decision");

/// Names what there is to ask, of who writes this resource.
pub fn add(
    context: &mut Context<'_, '_>,
    authorizer: Arc<dyn Authorizer>,
    request: &Resource,
) -> std::result::Result<(), DeclarationError> {
    context.add_variable_from_value("authorizer", AuthorizerValue::value(None));
    let request = ResourceCheck::value((None, request.clone()));
    context.add_variable_from_value("authorizer.requestResource", request);
    context.add_function("path", |This(this): This<Value>, path: Arc<String>| -> Result {
        let account = AuthorizerValue::from(&this, "path")?;
        if path.trim().is_empty() {
            return fail("path", "path must not be empty");
        }
        Ok(PathCheck::value((account.clone(), path.to_string())))
    })?;
    context.add_function("group", |This(this): This<Value>, group: Arc<String>| -> Result {
        Ok(GroupCheck::value((AuthorizerValue::from(&this, "group")?.clone(), group.to_string())))
    })?;
    context.add_function(
        "serviceAccount",
        |This(this): This<Value>, namespace: Arc<String>, name: Arc<String>| -> Result {
            AuthorizerValue::from(&this, "serviceAccount")?;
            if !names::is_dns1123_subdomain(&name).is_empty() {
                return fail("serviceAccount", "Invalid service account name");
            }
            if !names::is_dns1123_label(&namespace).is_empty() {
                return fail("serviceAccount", "Invalid service account namespace");
            }
            Ok(AuthorizerValue::value(Some((namespace.to_string(), name.to_string()))))
        },
    )?;
    resources(context)?;
    context.add_function("check", move |This(this): This<Value>, verb: Arc<String>| -> Result {
        let (account, on) = match PathCheck::from(&this, "check") {
            Ok((account, path)) => (account, Target::Path(path.clone())),
            Err(_) => {
                let (account, resource) = ResourceCheck::from(&this, "check")?;
                (account, Target::Resource(resource.clone()))
            }
        };
        let asked = Question { account: account.clone(), verb: verb.to_string(), on };
        Ok(Decision::value(authorizer.decide(&asked)))
    })?;
    context.add_function("allowed", |This(this): This<Value>| -> Result {
        Ok(Value::Bool(Decision::from(&this, "allowed")?.0))
    })?;
    context.add_function("reason", |This(this): This<Value>| -> Result {
        Ok(text_value(&Decision::from(&this, "reason")?.1))
    })?;
    // Our rules are in the server's own memory: there is nothing to go wrong.
    context.add_function("errored", |This(this): This<Value>| -> Result {
        Decision::from(&this, "errored").map(|_| Value::Bool(false))
    })?;
    context.add_function("error", |This(this): This<Value>| -> Result {
        Decision::from(&this, "error").map(|_| text_value(""))
    })
}

/// `authorizer.group('').resource('pods').namespace('default')`.
fn resources(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    context.add_function("resource", |This(this): This<Value>, resource: Arc<String>| -> Result {
        let (account, group) = GroupCheck::from(&this, "resource")?;
        if resource.trim().is_empty() {
            return fail("resource", "resource must not be empty");
        }
        let resource =
            Resource { group: group.clone(), resource: resource.to_string(), ..Resource::default() };
        Ok(ResourceCheck::value((account.clone(), resource)))
    })?;
    type Set = fn(&mut Resource, String);
    let parts: [(&'static str, Set); 5] = [
        ("subresource", |resource, text| resource.subresource = text),
        ("namespace", |resource, text| resource.namespace = text),
        ("name", |resource, text| resource.name = text),
        // No rule of ours looks at selectors.
        ("fieldSelector", |_, _| {}),
        ("labelSelector", |_, _| {}),
    ];
    for (part, set) in parts {
        context.add_function(part, move |This(this): This<Value>, text: Arc<String>| -> Result {
            let mut check = ResourceCheck::from(&this, part)?.clone();
            set(&mut check.1, text.to_string());
            Ok(ResourceCheck::value(check))
        })?;
    }
    Ok(())
}
