//! What becomes of a volume whose claim is gone: kept, or deleted with its data. Data of volumes made here lies on a node's disk, which only a
//! pod on that node reaches: so one is run there that removes the directory, as local-path-provisioner does.

use std::time::Duration;

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::matching::reachable;
use super::provision::{DIRECTORY, PROVISIONED_BY, PROVISIONER};
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
            if let Some(volume) = event.object().label(VOLUME) {
                queue.add(ObjectKey::new("", volume));
            }
        });
        Self { client: context.client.clone(), pods, nodes: context.informer(), recorder }
    }

    /// The next step for a volume that is released.
    pub async fn reclaim(&self, volume: &PersistentVolume) -> Result<Option<Duration>, Error> {
        let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        let ours = volume.annotation(PROVISIONED_BY) == Some(PROVISIONER);
        if policy != Some("Delete") || !ours {
            if policy == Some("Delete") && volume.annotation(PROVISIONED_BY).is_none() {
                let message =
                    "error getting deleter volume plugin for volume: no deletable volume plugin matched";
                self.recorder.event(volume, EventType::Warning, "VolumeFailedDelete", message);
            }
            return Ok(None);
        }
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
