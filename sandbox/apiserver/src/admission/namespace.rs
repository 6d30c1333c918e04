//! NamespaceLifecycle: nothing is made in a namespace that does not exist or goes, and some never go.

use super::{Context, Operation, forbidden, reader};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::text;
use drydock_apimachinery::status::GroupResource;
use drydock_etcd::Store;
use serde_json::Value;

const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Before an object is written.
pub fn check(store: &Store, context: &Context<'_>, object: &Value) -> Result<(), Status> {
    if context.namespace.is_empty() || context.is("", "namespaces") || is_review(context) {
        return Ok(());
    }
    let found = reader::get(store, &format!("namespaces/{}", context.namespace))?;
    let Some(namespace) = found else {
        return Err(Status::not_found(
            GroupResource { group: "", resource: "namespaces" },
            context.namespace,
        ));
    };
    if context.operation != Operation::Create || text(&namespace, &["status", "phase"]) != "Terminating" {
        return Ok(());
    }
    let name = context.namespace;
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    Err(forbidden(context, object, &why).cause(
        "NamespaceTerminating",
        format!("namespace {name} is being terminated"),
        "metadata.namespace",
    ))
}

/// Before one is deleted.
pub fn check_deletion(context: &Context<'_>) -> Result<(), Status> {
    if context.is("", "namespaces") && IMMORTAL.contains(&context.name) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden(context.resource.group_resource(), context.name, why));
    }
    Ok(())
}

fn is_review(context: &Context<'_>) -> bool {
    context.is("authorization.k8s.io", "localsubjectaccessreviews")
}
