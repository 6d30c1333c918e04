//! ServiceAccount: each pod has one, and gets a token of it (k8s.io/kubernetes `plugin/pkg/admission/serviceaccount`).

use super::pods::push;
use super::{Context, Operation, forbidden, reader};
use crate::rest::meta;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, at, list, map_mut, text};
use drydock_etcd::{KeyRange, Store};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A token that its kubelet renews (see `review`).
const SECONDS: i64 = 3607;
/// How long a new namespace may take to get its `default` account.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the pod stands for one that the kubelet runs without us.
pub fn is_mirror(pod: &Value) -> bool {
    at(pod, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some()
}

fn concerns(context: &Context<'_>) -> bool {
    context.is("", "pods") && context.subresource.is_empty() && context.operation == Operation::Create
}

/// Names the account and mounts its token.
pub async fn mutate(store: &Store, context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    if !concerns(context) {
        return Ok(());
    }
    if is_mirror(pod) {
        return check_mirror(context, pod);
    }
    if text(pod, &["spec", "serviceAccountName"]).is_empty() {
        let spec = map_mut(pod, &["spec"]);
        spec.insert("serviceAccountName".into(), "default".into());
    }
    let name = text(pod, &["spec", "serviceAccountName"]).to_string();
    // The old name of the same field.
    map_mut(pod, &["spec"]).insert("serviceAccount".into(), name.clone().into());
    let account = find(store, context.namespace, &name).await?.ok_or_else(|| {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            context.namespace
        );
        forbidden(context, pod, &why)
    })?;
    if mounts_token(&account, pod) {
        mount(pod)?;
    }
    if list(pod, &["spec", "imagePullSecrets"]).is_empty() {
        let secrets = list(&account, &["imagePullSecrets"]);
        if !secrets.is_empty() {
            map_mut(pod, &["spec"]).insert("imagePullSecrets".into(), secrets.into());
        }
    }
    Ok(())
}

async fn find(store: &Store, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, Status> {
    let path = format!("serviceaccounts/{namespace}/{name}");
    let found = reader::get(store, &path)?;
    if found.is_some() || name != "default" {
        return Ok(found);
    }
    // Somebody who makes a namespace and a pod in it is quicker than the controller.
    let Ok(mut watch) = store.watch(&KeyRange::key(format!("/registry/{path}")), None) else {
        return Ok(None);
    };
    // It may have come before it was watched.
    if let Some(found) = reader::get(store, &path)? {
        return Ok(Some(found));
    }
    let _made_or_not = tokio::time::timeout(PATIENCE, watch.next()).await;
    reader::get(store, &path)
}

fn mounts_token(account: &Value, pod: &Value) -> bool {
    let said = |tree: &Value, path: &[&str]| at(tree, path).and_then(Value::as_bool);
    said(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| said(account, &["automountServiceAccountToken"]))
        .unwrap_or(true)
}

fn mount(pod: &mut Value) -> Result<(), Status> {
    let is_ours = |volume: &Value| {
        text(volume, &["name"]).starts_with("kube-api-access-") && volume.get("projected").is_some()
    };
    let there = list(pod, &["spec", "volumes"]).iter().find(|volume| is_ours(volume));
    let is_there = there.is_some();
    let name = match there {
        Some(volume) => text(volume, &["name"]).to_string(),
        None => meta::generate_name("kube-api-access-")?,
    };
    let mut is_needed = false;
    for field in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let has = list(container, &["volumeMounts"])
                .iter()
                .any(|mount| text(mount, &["mountPath"]) == MOUNT_PATH);
            if has {
                continue;
            }
            is_needed = true;
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            push(container, &[], "volumeMounts", mount);
        }
    }
    if is_needed && !is_there {
        push(pod, &["spec"], "volumes", volume(&name));
    }
    Ok(())
}

/// `TokenVolumeSource`.
fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

/// A pod that the kubelet runs without us can use nothing of ours.
fn check_mirror(context: &Context<'_>, pod: &Value) -> Result<(), Status> {
    if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Err(forbidden(context, pod, "a mirror pod may not reference service accounts"));
    }
    if let Some(what) = referenced(pod) {
        return Err(forbidden(context, pod, &format!("a mirror pod may not reference {what}")));
    }
    let has_token = list(pod, &["spec", "volumes"]).iter().any(|volume| {
        list(volume, &["projected", "sources"])
            .iter()
            .any(|source| source.get("serviceAccountToken").is_some())
    });
    if has_token {
        let why = "a mirror pod may not use ServiceAccountToken volume projections";
        return Err(forbidden(context, pod, why));
    }
    Ok(())
}

/// What of the API a pod refers to, if anything.
pub fn referenced(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    let volumes = list(spec, &["volumes"]);
    let in_volume = |field: &str| {
        volumes.iter().any(|volume| {
            volume.get(field).is_some()
                || list(volume, &["projected", "sources"]).iter().any(|source| source.get(field).is_some())
        })
    };
    let in_environment = |variable: &str, from: &str| {
        ["containers", "initContainers"].iter().flat_map(|field| list(spec, &[field])).any(|container| {
            list(container, &["env"]).iter().any(|one| at(one, &["valueFrom", variable]).is_some())
                || list(container, &["envFrom"]).iter().any(|one| one.get(from).is_some())
        })
    };
    if in_volume("secret")
        || in_environment("secretKeyRef", "secretRef")
        || !list(spec, &["imagePullSecrets"]).is_empty()
    {
        return Some("secrets");
    }
    if in_volume("configMap") || in_environment("configMapKeyRef", "configMapRef") {
        return Some("configmaps");
    }
    in_volume("persistentVolumeClaim").then_some("persistentvolumeclaims")
}

/// Refuses secrets that the account does not list, if it insists on that.
pub fn validate(store: &Store, context: &Context<'_>, pod: &Value) -> Result<(), Status> {
    if !concerns(context) || is_mirror(pod) {
        return Ok(());
    }
    let name = text(pod, &["spec", "serviceAccountName"]);
    let Some(account) = reader::get(store, &format!("serviceaccounts/{}/{name}", context.namespace))? else {
        return Ok(());
    };
    const INSISTS: &str = "kubernetes.io/enforce-mountable-secrets";
    if text(&account, &["metadata", "annotations", INSISTS]) != "true" {
        return Ok(());
    }
    let mountable: Vec<&str> = list(&account, &["secrets"]).iter().map(|one| text(one, &["name"])).collect();
    for volume in list(pod, &["spec", "volumes"]) {
        let secret = text(volume, &["secret", "secretName"]);
        if !secret.is_empty() && !mountable.contains(&secret) {
            let why = format!(
                "volume with secret.secretName={secret:?} is not allowed because service account {} does not reference that \
                 secret",
                object::name(&account)
            );
            return Err(forbidden(context, pod, &why));
        }
    }
    Ok(())
}
