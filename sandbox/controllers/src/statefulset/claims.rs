//! Claims of a StatefulSet: made before the pods that use them, and, if the learner wants so, deleted with the set or with the pods that are too
//! many (`persistentVolumeClaimRetentionPolicy`).

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{EventType, ObjectKey, Recorder, errors};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use kube::{Api, Client};

use super::identity::{claims, ordinal, pod_name};
use crate::error::{Error, text};
use crate::shared::meta::{Meta, controller_ref};

/// Claims at the API server.
pub struct Claims {
    /// The way there.
    pub client: Client,
    /// Those that are known.
    pub known: Informer<PersistentVolumeClaim>,
    /// For events of the set.
    pub recorder: Recorder,
}

/// Whether a policy says `Delete` when the set is deleted, and when it shrinks.
fn deletes(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let is = |text: Option<&String>| text.is_some_and(|text| text == "Delete");
    policy
        .map_or((false, false), |policy| (is(policy.when_deleted.as_ref()), is(policy.when_scaled.as_ref())))
}

/// The owners that a claim shall have: those that are not ours stay; the set or the pod is one if the claim is to go with it.
pub fn owners(
    set: &StatefulSet,
    pod: Option<&Pod>,
    condemned: bool,
    current: &[OwnerReference],
) -> Vec<OwnerReference> {
    let (with_set, with_scale) = deletes(set);
    let ours = |owner: &&OwnerReference| {
        (owner.kind == "StatefulSet" && owner.name == set.name())
            || (owner.kind == "Pod" && owner.name.starts_with(set.name()))
    };
    let mut all: Vec<_> = current.iter().filter(|owner| !ours(owner)).cloned().collect();
    let plain = |mut owner: OwnerReference| {
        owner.controller = None;
        owner.block_owner_deletion = None;
        owner
    };
    if condemned && with_scale {
        all.extend(pod.map(|pod| plain(controller_ref("v1", "Pod", &pod.metadata))));
    } else if with_set {
        let mut owner = controller_ref("apps/v1", "StatefulSet", &set.metadata);
        owner.block_owner_deletion = Some(true);
        all.push(OwnerReference { controller: Some(true), ..owner });
    }
    all
}

impl Claims {
    /// Makes the claims of an ordinal that are missing.
    pub async fn ensure(&self, set: &StatefulSet, ordinal: i32) -> Result<(), Error> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), set.namespace());
        for (_, mut claim) in claims(set, ordinal) {
            match self.known.get(&claim.key()) {
                Some(known) if known.deleting() => {
                    return Err(Error::NotYet(format!("pvc {} is being deleted", claim.name())));
                }
                Some(_) => continue,
                None => {}
            }
            let owners = owners(set, None, false, &[]);
            claim.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
            let about = format!(
                "Claim {} Pod {} in StatefulSet {}",
                claim.name(),
                pod_name(set, ordinal),
                set.name()
            );
            match api.create(&PostParams::default(), &claim).await {
                Ok(_) => {
                    let message = format!("create {about} success");
                    self.recorder.event(set, EventType::Normal, "SuccessfulCreate", message);
                }
                Err(error) if errors::is_already_exists(&error) => {}
                Err(error) => {
                    let message = format!("create {about} failed error: {}", text(&error));
                    self.recorder.event(set, EventType::Warning, "FailedCreate", message);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Gives the claims of a pod the owners that they shall have.
    pub async fn own(&self, set: &StatefulSet, pod: &Pod, condemned: bool) -> Result<(), Error> {
        let Some(ordinal) = ordinal(set, pod) else { return Ok(()) };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), set.namespace());
        for (_, claim) in claims(set, ordinal) {
            let Some(known) = self.known.get(&ObjectKey::new(set.namespace(), claim.name())) else {
                continue;
            };
            let wanted = owners(set, Some(pod), condemned, known.owners());
            if wanted == known.owners() {
                continue;
            }
            let mut copy = PersistentVolumeClaim::clone(&known);
            copy.metadata.owner_references = Some(wanted).filter(|owners| !owners.is_empty());
            errors::unless_gone(api.replace(copy.name(), &PostParams::default(), &copy).await)?;
        }
        Ok(())
    }
}
