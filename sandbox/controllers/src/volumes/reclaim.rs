//! What becomes of a volume whose claim is gone: kept, emptied for the next claim, or deleted with its data. Data of volumes made here lies
//! on a node's disk, which only a pod on that node reaches: so one is run there that removes the directory, as local-path-provisioner does.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::matching::reachable;
use super::provision::{DIRECTORY, PROVISIONED_BY, PROVISIONER};
use super::{phase as phases, recycle};
use crate::context::Context;
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::phase;

/// Where the pods that remove directories run.
const NAMESPACE: &str = "kube-system";
/// The label with the volume that such a pod works on.
const VOLUME: &str = "drydock.dev/reclaims";
/// An image that every node finds without Internet.
const IMAGE: &str = "busybox:latest";

/// Deletes volumes.
pub struct Reclaimer {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    recorder: Recorder,
}

impl Reclaimer {
    /// One that puts a volume back into the queue when its pod has got on.
    pub fn new(context: &Context, recorder: Recorder, queue: &WorkQueue<ObjectKey>) -> Self {
        let pods = context.informer::<Pod>();
        let queue = queue.clone();
        pods.subscribe(move |event| {
            let pod = event.object();
            let recycled =
                || pod.name().strip_prefix(recycle::PREFIX).filter(|_| pod.namespace() == recycle::NAMESPACE);
            if let Some(volume) = pod.label(VOLUME).or_else(recycled) {
                queue.add(ObjectKey::new("", volume));
            }
        });
        Self { client: context.client.clone(), pods, nodes: context.informer(), recorder }
    }

    /// The next step for a volume that is released.
    pub async fn reclaim(&self, volume: &Arc<PersistentVolume>) -> Result<Option<Duration>, Error> {
        let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        match (policy, volume.annotation(PROVISIONED_BY)) {
            (Some("Delete"), Some(PROVISIONER)) => self.delete(volume).await,
            _ if volume.deleting() => Ok(None),
            (Some("Delete"), None) => match undeletable(volume) {
                Some(why) => self.fail(volume, "VolumeFailedDelete", &why).await,
                None => self.delete_volume(volume).await.map(|()| None),
            },
            (Some("Recycle"), _) => self.recycle(volume).await,
            // It is kept, or whoever made it deletes it.
            _ => Ok(None),
        }
    }

    /// Says that a volume cannot be reclaimed, and why (`updateVolumePhaseWithEvent`).
    async fn fail(
        &self,
        volume: &Arc<PersistentVolume>,
        reason: &str,
        why: &str,
    ) -> Result<Option<Duration>, Error> {
        if !phases::is_in(volume, "Failed") {
            phases::set(&self.client, volume, "Failed", Some(why)).await?;
            self.recorder.event(&**volume, EventType::Warning, reason, why);
        }
        Ok(None)
    }

    /// The next step for a volume that is emptied and then free again.
    async fn recycle(&self, volume: &Arc<PersistentVolume>) -> Result<Option<Duration>, Error> {
        const FAILED: &str = "VolumeFailedRecycle";
        let Some(pod) = recycle::pod(volume, IMAGE)? else {
            return self.fail(volume, FAILED, "No recycler plugin found for the volume!").await;
        };
        let key = ObjectKey::of(&pod);
        let Some(there) = self.pods.get(&key) else {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), recycle::NAMESPACE);
            return match api.create(&PostParams::default(), &pod).await {
                Ok(_) => Ok(None),
                Err(error) if errors::is_already_exists(&error) => Ok(None),
                Err(error) => Err(error.into()),
            };
        };
        if there.annotation(recycle::CLAIM) != pod.annotation(recycle::CLAIM) {
            // One of an earlier claim says nothing of what lies there now. When it is gone, this is looked at again.
            self.delete_pod(&key).await?;
            return Ok(None);
        }
        let succeeded = phase(&there) == "Succeeded";
        if there.deleting() || !succeeded && phase(&there) != "Failed" {
            return Ok(None);
        }
        if succeeded {
            let api: Api<PersistentVolume> = Api::all(self.client.clone());
            api.replace(volume.name(), &PostParams::default(), &recycle::unbound(volume)).await?;
        }
        let events: Api<Event> = Api::namespaced(self.client.clone(), recycle::NAMESPACE);
        let of_pod = ListParams::default().fields(&format!("involvedObject.uid={}", there.uid()));
        for (warns, message) in recycle::told(events.list(&of_pod).await?.items) {
            let kind = if warns { EventType::Warning } else { EventType::Normal };
            self.recorder.event(&**volume, kind, "RecyclerPod", message);
        }
        if succeeded {
            self.recorder.event(&**volume, EventType::Normal, "VolumeRecycled", "Volume recycled");
            self.delete_pod(&key).await?;
            return Ok(None);
        }
        let said = there.status.as_ref().and_then(|status| status.message.as_deref());
        let why = format!("Recycle failed: {}", said.unwrap_or("pod failed, pod.Status.Message unknown"));
        self.fail(volume, FAILED, &why).await?;
        self.delete_pod(&key).await?;
        Ok(Some(Duration::from_secs(15)))
    }

    /// The next step for a volume that was made here and goes with its data.
    async fn delete(&self, volume: &PersistentVolume) -> Result<Option<Duration>, Error> {
        let key = ObjectKey::new(NAMESPACE, format!("reclaim-{}", volume.name()));
        match self.pods.get(&key) {
            Some(pod) if phase(&pod) == "Succeeded" => {
                self.delete_volume(volume).await?;
                self.delete_pod(&key).await?;
            }
            Some(pod) if phase(&pod) == "Failed" => {
                let message = "the directory of the volume could not be removed";
                self.recorder.event(volume, EventType::Warning, "VolumeFailedDelete", message);
                self.delete_pod(&key).await?;
                return Ok(Some(Duration::from_secs(15)));
            }
            Some(_) => {}
            None => self.remove_directory(volume, &key).await?,
        }
        Ok(None)
    }

    async fn remove_directory(&self, volume: &PersistentVolume, key: &ObjectKey) -> Result<(), Error> {
        let path =
            volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref()).map(|host| host.path.clone());
        let directory = path
            .as_deref()
            .and_then(|path| path.strip_prefix(DIRECTORY))
            .and_then(|path| path.strip_prefix('/'));
        // Somebody may have written another path: nothing but a directory of ours is ever removed.
        let safe =
            directory.filter(|name| !name.is_empty() && !name.contains('/') && *name != "." && *name != "..");
        let node = self.nodes.all().into_iter().find(|node| reachable(volume, node));
        let (Some(directory), Some(node)) = (safe, node) else {
            // The node is gone, and its disk with it.
            return self.delete_volume(volume).await;
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": key.name, "namespace": NAMESPACE, "labels": {VOLUME: volume.name()}},
            "spec": {
                "nodeName": node.name(),
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "remove",
                    "image": IMAGE,
                    "command": ["rm", "-rf", format!("/volumes/{directory}")],
                    "volumeMounts": [{"name": "volumes", "mountPath": "/volumes"}],
                }],
                "volumes": [{"name": "volumes", "hostPath": {"path": DIRECTORY, "type": "DirectoryOrCreate"}}],
            },
        }))
        .map_err(|error| Error::Object(error.to_string()))?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => Ok(()),
            Err(error) if errors::is_already_exists(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete_pod(&self, key: &ObjectKey) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        errors::unless_gone(api.delete(&key.name, &DeleteParams::default()).await)?;
        Ok(())
    }

    async fn delete_volume(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        errors::unless_gone(api.delete(volume.name(), &DeleteParams::default()).await)?;
        Ok(())
    }
}

/// Why Kubernetes cannot delete a volume that nobody's provisioner made (`findDeletablePlugin`; `Delete` of pkg/volume/hostpath); `None`: it
/// can. Of a directory below `/tmp` it removes what is there where the controller manager runs. That is a container, which has nothing
/// there: what is on the nodes stays.
fn undeletable(volume: &PersistentVolume) -> Option<String> {
    let Some(host) = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref()) else {
        return Some(format!(
            "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
            volume.name()
        ));
    };
    let deletable = host.path.split_once("/tmp/").is_some_and(|(_, below)| !below.is_empty());
    (!deletable)
        .then(|| format!("host_path deleter only supports /tmp/.+ but received provided {}", host.path))
}
