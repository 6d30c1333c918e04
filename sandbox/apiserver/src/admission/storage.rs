//! Plug-ins for storage and ingress: DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize, DefaultIngressClass.

use super::{Context, Operation, forbidden, reader};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, at, list, map_mut, text};
use drydock_apimachinery::quantity::Quantity;
use drydock_etcd::Store;
use serde_json::{Value, json};

fn is_new(context: &Context<'_>, group: &str, plural: &str) -> bool {
    context.is(group, plural) && context.subresource.is_empty() && context.operation == Operation::Create
}

/// DefaultStorageClass: a claim that names no class gets the default one, if there is one.
pub fn default_class(store: &Store, context: &Context<'_>, claim: &mut Value) -> Result<(), Status> {
    const OLD: &str = "volume.beta.kubernetes.io/storage-class";
    let says = at(claim, &["spec", "storageClassName"]).is_some_and(|class| !class.is_null())
        || at(claim, &["metadata", "annotations", OLD]).is_some();
    if !is_new(context, "", "persistentvolumeclaims") || says {
        return Ok(());
    }
    let annotations =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    if let Some(class) = reader::default_class(store, "storageclasses", &annotations)? {
        map_mut(claim, &["spec"]).insert("storageClassName".into(), object::name(&class).into());
    }
    Ok(())
}

/// DefaultIngressClass: the same for ingresses.
pub fn default_ingress(store: &Store, context: &Context<'_>, ingress: &mut Value) -> Result<(), Status> {
    let says = at(ingress, &["spec", "ingressClassName"]).is_some_and(|class| !class.is_null())
        || at(ingress, &["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some();
    if !is_new(context, "networking.k8s.io", "ingresses") || says {
        return Ok(());
    }
    let annotations = ["ingressclass.kubernetes.io/is-default-class"];
    if let Some(class) = reader::default_class(store, "ingressclasses", &annotations)? {
        map_mut(ingress, &["spec"]).insert("ingressClassName".into(), object::name(&class).into());
    }
    Ok(())
}

/// StorageObjectInUseProtection: what is in use is not deleted before it is not.
pub fn protect(context: &Context<'_>, tree: &mut Value) {
    let finalizer = match () {
        () if is_new(context, "", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        () if is_new(context, "", "persistentvolumes") => "kubernetes.io/pv-protection",
        () if is_new(context, "storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
        () => return,
    };
    let mut finalizers = list(tree, &["metadata", "finalizers"]).to_vec();
    if !finalizers.contains(&json!(finalizer)) {
        finalizers.push(finalizer.into());
        map_mut(tree, &["metadata"]).insert("finalizers".into(), finalizers.into());
    }
}

/// PersistentVolumeClaimResize: only what the class allows to grow grows.
pub fn resize(
    store: &Store,
    context: &Context<'_>,
    claim: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(old) = old.filter(|_| {
        context.is("", "persistentvolumeclaims")
            && context.subresource.is_empty()
            && context.operation == Operation::Update
    }) else {
        return Ok(());
    };
    let size = |claim: &Value| {
        at(claim, &["spec", "resources", "requests", "storage"]).and_then(Quantity::of).unwrap_or_default()
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    if text(old, &["status", "phase"]) != "Bound" {
        return Err(forbidden(context, claim, "Only bound persistent volume claims can be expanded"));
    }
    let class = text(claim, &["spec", "storageClassName"]);
    let class = reader::get(store, &format!("storageclasses/{class}"))?.unwrap_or_default();
    if class["allowVolumeExpansion"] == true {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(forbidden(context, claim, why))
}
