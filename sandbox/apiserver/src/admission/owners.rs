//! OwnerReferencesPermissionEnforcement: who sets `blockOwnerDeletion` must be able to set the owner's finalizers. Off unless it is
//! enabled, as upstream has it.

use super::{Context, forbidden};
use crate::authz::Attributes;
use crate::resource::group_version;
use crate::server::Server;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{list, text};
use serde_json::Value;

/// Refuses references that hold up the deletion of somebody else's object.
pub fn check(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let blocking = |tree: &Value| -> Vec<Value> {
        let owners = list(tree, &["metadata", "ownerReferences"]).iter();
        owners.filter(|owner| owner["blockOwnerDeletion"] == true).cloned().collect()
    };
    let before = old.map(blocking).unwrap_or_default();
    for owner in blocking(object).iter().filter(|owner| !before.contains(owner)) {
        let (group, version) = group_version(text(owner, &["apiVersion"]));
        let kind = text(owner, &["kind"]);
        let snapshot = server.registry.snapshot();
        let Some(resource) = snapshot.by_kind(group, version, kind) else {
            let why = format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {} Kind {kind}",
                text(owner, &["apiVersion"])
            );
            return Err(forbidden(context, object, &why));
        };
        let asked = Attributes {
            user: context.user,
            verb: "update",
            is_resource: true,
            path: "",
            group,
            version,
            resource: &resource.plural,
            subresource: "finalizers",
            namespace: if resource.namespaced { context.namespace } else { "" },
            name: text(owner, &["name"]),
        };
        if !server.authorizer.decide(&asked).is_allowed() {
            let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: ";
            return Err(forbidden(context, object, why));
        }
    }
    Ok(())
}
