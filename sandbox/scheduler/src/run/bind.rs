//! Binding a pod to the node that was chosen: first its volumes (scheduler `plugins/volumebinding`, PreBind), then `pods/binding`. Runs
//! beside the loop, which is told if it fails.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::{EventType, ObjectKey, Report, errors};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{Context, report};
use crate::core::Change;
use crate::pod::PodInfo;
use crate::schedule::Placement;
use crate::volumes::{SELECTED_NODE, Step};

/// `BindTimeoutSeconds`.
const VOLUMES_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("running PreBind plugin \"VolumeBinding\": {0}")]
    Volumes(#[source] kube::Error),
    #[error("running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded")]
    VolumesTimeout,
    #[error("binding rejected: running Bind plugin \"DefaultBinder\": {0}")]
    Bind(#[source] kube::Error),
}

pub(super) async fn bind(context: &Context, pod: Arc<PodInfo>, placement: Placement) {
    match try_bind(context, &pod, &placement).await {
        Ok(()) => {
            let message = format!("Successfully assigned {} to {}", pod.key, placement.node);
            let (kind, reason, action) = (EventType::Normal, "Scheduled", "Binding");
            context.reporter.event(&*pod.pod, None, Report { kind, reason, action, note: &message });
        }
        Err(error) => {
            // A pod that was deleted meanwhile needs no report.
            let is_gone = matches!(&error, BindError::Bind(error) if errors::is_not_found(error));
            if !is_gone {
                tracing::warn!(pod = %pod.key, node = placement.node, %error, "pod could not be bound");
                report::error(context, &pod, &error.to_string()).await;
            }
            let _ = context.changes.send(Change::Unbound { uid: pod.uid.clone(), steps: placement.steps });
        }
    }
}

async fn try_bind(context: &Context, pod: &PodInfo, placement: &Placement) -> Result<(), BindError> {
    if !placement.steps.is_empty() {
        bind_volumes(context, placement).await?;
    }
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.key.name.clone()),
            namespace: Some(pod.key.namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(placement.node.clone()),
            ..ObjectReference::default()
        },
    };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &pod.key.namespace);
    let bound: Result<Value, _> =
        pods.create_subresource("binding", &pod.key.name, &PostParams::default(), &binding).await;
    bound.map(|_| ()).map_err(BindError::Bind)
}

/// Does what the claims need and waits until all have volumes: others (the volume controller, a provisioner) have their part in it.
async fn bind_volumes(context: &Context, placement: &Placement) -> Result<(), BindError> {
    for step in &placement.steps {
        start(context, step, &placement.node).await.map_err(BindError::Volumes)?;
    }
    let claims: Vec<ObjectKey> = placement
        .steps
        .iter()
        .map(|step| match step {
            Step::Bind { claim, .. } | Step::Provision { claim } => ObjectKey::of(&**claim),
        })
        .collect();
    let all_bound = async {
        loop {
            let changed = context.claim_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if claims.iter().all(|claim| is_bound(context, claim)) {
                return;
            }
            changed.await;
        }
    };
    tokio::time::timeout(VOLUMES_TIMEOUT, all_bound).await.map_err(|_| BindError::VolumesTimeout)
}

fn is_bound(context: &Context, claim: &ObjectKey) -> bool {
    context.claims.get(claim).is_some_and(|claim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    })
}

async fn start(context: &Context, step: &Step, node: &str) -> Result<(), kube::Error> {
    let params = PatchParams::default();
    match step {
        Step::Bind { volume, claim } => {
            let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
            let patch = json!({
                "metadata": {
                    // Whoever took the volume meanwhile must not lose it.
                    "resourceVersion": volume.metadata.resource_version,
                    "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
                },
                "spec": {"claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": claim.metadata.namespace,
                    "name": claim.metadata.name,
                    "uid": claim.metadata.uid,
                    "resourceVersion": claim.metadata.resource_version,
                }},
            });
            volumes
                .patch(volume.metadata.name.as_deref().unwrap_or_default(), &params, &Patch::Merge(patch))
                .await
                .map(|_| ())
        }
        Step::Provision { claim } => {
            let key = ObjectKey::of(&**claim);
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &key.namespace);
            let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
            claims.patch(&key.name, &params, &Patch::Merge(patch)).await.map(|_| ())
        }
    }
}
