//! Claims that are made larger: their volume follows, if it is one of ours; of others it is said that somebody else must do it
//! (pkg/controller/volume/expand, and sig-storage's external-resizer for ours).

use std::sync::Arc;
use std::time::Duration;

use drydock_apimachinery::quantity::Quantity;
use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::matching::{capacity, requested};
use super::provision::{PROVISIONED_BY, PROVISIONER};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

const NOBODY: &str = "Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external \
                      controller to process this PVC.";

struct Controller {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    recorder: Recorder,
    resizer: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let claims = context.informer::<PersistentVolumeClaim>();
    let to_queue = queue.clone();
    claims.subscribe(move |event| {
        if let Event::Added(claim) | Event::Updated { new: claim, .. } = event
            && grows(claim)
        {
            to_queue.add(claim.key());
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        claims,
        volumes: context.informer(),
        recorder: context.recorder("volume_expand"),
        resizer: context.recorder("external-resizer drydock.dev/hostpath"),
    };
    work(Arc::new(controller), queue, 1)
}

/// Whether a claim wants more than it has.
fn grows(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let bound = status.and_then(|status| status.phase.as_deref()) == Some("Bound");
    let has = status.and_then(|status| status.capacity.as_ref()?.get("storage"));
    let has: Quantity = has.and_then(|has| has.0.parse().ok()).unwrap_or_default();
    bound && requested(claim) > has
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(claim) = self.claims.get(key).filter(|claim| !claim.deleting() && grows(claim)) else {
            return Ok(None);
        };
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        let Some(volume) = self.volumes.get(&ObjectKey::new("", name.as_str())) else { return Ok(None) };
        if volume.annotation(PROVISIONED_BY) != Some(PROVISIONER) {
            self.recorder.event(&*claim, EventType::Warning, "ExternalExpanding", NOBODY);
            return Ok(None);
        }
        let wanted =
            claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
        let params = PatchParams::default();
        if capacity(&volume) < requested(&claim) {
            let message = format!("External resizer is resizing volume {name}");
            self.resizer.event(&*claim, EventType::Normal, "Resizing", message);
            let patch = Patch::Merge(json!({"spec": {"capacity": {"storage": wanted}}}));
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            volumes.patch(&name, &params, &patch).await?;
        }
        let status =
            json!({"status": {"capacity": {"storage": wanted}, "allocatedResources": {"storage": wanted}}});
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let patched = claims.patch_status(&key.name, &params, &Patch::Merge(&status)).await;
        if errors::unless_gone(patched)?.is_some() {
            let message = "Resize volume succeeded";
            self.resizer.event(&*claim, EventType::Normal, "VolumeResizeSuccessful", message);
        }
        Ok(None)
    }
}
