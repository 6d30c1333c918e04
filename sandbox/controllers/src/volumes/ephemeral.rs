//! Makes the claims of pods' ephemeral volumes, which go with their pod (pkg/controller/volume/ephemeral).

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::{Context, Reconcile, Running, work};
use crate::error::{Error, text};
use crate::shared::meta::{Meta, controller_ref};

struct Controller {
    client: Client,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    recorder: Recorder,
}

fn has_ephemeral(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| volume.ephemeral.is_some())
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let pods = context.informer::<Pod>();
    let to_queue = queue.clone();
    pods.subscribe(move |event| {
        if let Event::Added(pod) = event
            && has_ephemeral(pod)
        {
            to_queue.add(pod.key());
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        pods,
        claims: context.informer(),
        recorder: context.recorder("ephemeral_volume"),
    };
    work(Arc::new(controller), queue, 1)
}

/// The claims of a pod's ephemeral volumes.
fn claims(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
            let meta = template.metadata.clone().unwrap_or_default();
            Some(PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{}", pod.name(), volume.name)),
                    namespace: pod.metadata.namespace.clone(),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: Some(vec![controller_ref("v1", "Pod", &pod.metadata)]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec.clone()),
                status: None,
            })
        })
        .collect()
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| !pod.deleting()) else { return Ok(None) };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        for claim in claims(&pod) {
            if let Some(there) = self.claims.get(&claim.key()) {
                if !there.controlled_by(pod.uid()) {
                    let message =
                        format!("PVC {} was not created for pod {key} (pod is not owner)", claim.key());
                    return Err(Error::Object(message));
                }
                continue;
            }
            match api.create(&PostParams::default(), &claim).await {
                Ok(_) => {}
                Err(error) if errors::is_already_exists(&error) => {}
                Err(error) => {
                    let message = format!("ephemeral volume: create PVC {}: {}", claim.name(), text(&error));
                    self.recorder.event(&*pod, EventType::Warning, "FailedBinding", message);
                    return Err(error.into());
                }
            }
        }
        Ok(None)
    }
}
