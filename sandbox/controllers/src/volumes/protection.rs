//! Claims that pods use and volumes that claims use are not deleted under them (pkg/controller/volume/{pvc,pv}protection): a finalizer holds them.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::{is_terminal, node};

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";

struct Claims {
    client: Client,
    claims: Informer<PersistentVolumeClaim>,
    pods: Informer<Pod>,
}

struct Volumes {
    client: Client,
    volumes: Informer<PersistentVolume>,
}

/// The names of the claims that a pod uses, those of its ephemeral volumes too.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", pod.name(), volume.name)),
            (None, None) => None,
        })
        .collect()
}

/// Sets the protection of claims up.
pub fn start_claims(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let claims = context.informer::<PersistentVolumeClaim>();
    let to_queue = queue.clone();
    claims.subscribe(move |event| to_queue.add(event.object().key()));
    let pods = context.informer::<Pod>();
    let to_queue = queue.clone();
    pods.subscribe(move |event| {
        // Only a pod that is done, or gone, lets a claim go.
        let pod = event.object();
        if matches!(event, Event::Deleted(_)) || is_terminal(pod) {
            for name in claims_of(pod) {
                to_queue.add(ObjectKey::new(pod.namespace(), name));
            }
        }
    });
    work(Arc::new(Claims { client: context.client.clone(), claims, pods }), queue, 1)
}

/// Sets the protection of volumes up.
pub fn start_volumes(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let volumes = context.informer::<PersistentVolume>();
    let to_queue = queue.clone();
    volumes.subscribe(move |event| to_queue.add(event.object().key()));
    work(Arc::new(Volumes { client: context.client.clone(), volumes }), queue, 1)
}

/// The finalizers that an object shall have; `None`: it has them.
fn wanted(meta: &impl Meta, finalizer: &str, in_use: bool) -> Option<Vec<String>> {
    let mut all = meta.meta().finalizers.clone().unwrap_or_default();
    match (meta.deleting(), meta.has_finalizer(finalizer)) {
        (false, false) => all.push(finalizer.to_owned()),
        (true, true) if !in_use => all.retain(|other| other != finalizer),
        _ => return None,
    }
    Some(all)
}

impl Reconcile for Claims {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(None) };
        let uses =
            |pod: &Pod| !is_terminal(pod) && !node(pod).is_empty() && claims_of(pod).contains(&key.name);
        let mut in_use =
            claim.deleting() && self.pods.in_namespace(&key.namespace).iter().any(|pod| uses(pod));
        if claim.deleting() && !in_use {
            // Data is lost if the cache was late: the API server is asked.
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
            in_use = api.list(&Default::default()).await?.items.iter().any(uses);
        }
        let Some(finalizers) = wanted(&*claim, OF_CLAIMS, in_use) else { return Ok(None) };
        let patch = json!({"metadata": {"resourceVersion": claim.metadata.resource_version, "finalizers": finalizers}});
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        errors::unless_gone(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
        Ok(None)
    }
}

impl Reconcile for Volumes {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(volume) = self.volumes.get(key) else { return Ok(None) };
        let bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let Some(finalizers) = wanted(&*volume, OF_VOLUMES, bound) else { return Ok(None) };
        let patch = json!({"metadata": {"resourceVersion": volume.metadata.resource_version, "finalizers": finalizers}});
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        errors::unless_gone(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    #[test]
    fn held_while_in_use() {
        let meta = |deleting: bool, held: bool| ObjectMeta {
            deletion_timestamp: deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            finalizers: held.then(|| vec![OF_CLAIMS.to_owned(), "other".to_owned()]),
            ..ObjectMeta::default()
        };
        assert_eq!(wanted(&meta(false, false), OF_CLAIMS, false), Some(vec![OF_CLAIMS.to_owned()]));
        assert_eq!(wanted(&meta(false, true), OF_CLAIMS, false), None);
        assert_eq!(wanted(&meta(true, true), OF_CLAIMS, true), None);
        assert_eq!(wanted(&meta(true, true), OF_CLAIMS, false), Some(vec!["other".to_owned()]));
        assert_eq!(wanted(&meta(true, false), OF_CLAIMS, false), None);
    }
}
