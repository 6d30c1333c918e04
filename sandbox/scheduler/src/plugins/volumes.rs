//! VolumeBinding and VolumeRestrictions: a pod's claims must have, or get, volumes that its node can reach, and a volume for a single pod
//! has a single one (scheduler `plugins/volumebinding/volume_binding.go`, `plugins/volumerestrictions`).

use std::sync::Arc;

use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{Cycle, Plugin, Refusal, Rejection, Verdict};
use crate::cache::Cache;
use crate::node::NodeInfo;
use crate::pod::{Claim, PodInfo};
use crate::volumes::{ClaimPhase, Step, Volumes, reaches};

/// The claims of a pod.
#[derive(Clone, Default)]
pub(crate) struct ClaimState {
    bound: Vec<Arc<PersistentVolume>>,
    /// A claim is bound to a volume that is gone.
    is_missing: bool,
    waiting: Vec<Arc<PersistentVolumeClaim>>,
    /// A claim for a single pod has another.
    is_taken: bool,
}

impl ClaimState {
    pub(super) fn has_any(&self) -> bool {
        !self.bound.is_empty() || !self.waiting.is_empty() || self.is_missing
    }

    pub(super) fn has_exclusive(&self) -> bool {
        self.is_taken
    }
}

pub(crate) fn prepare(pod: &PodInfo, cache: &Cache, volumes: &Volumes) -> Result<ClaimState, Refusal> {
    let mut state = ClaimState::default();
    let mut is_pending = false;
    for claim in &pod.claims {
        let found = find(pod, claim, volumes)
            .map_err(|message| Refusal { plugin: Plugin::VolumeBinding, message })?;
        let modes = found.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
        if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
            state.is_taken |= cache.user_of_claim(&pod.key.namespace, &claim.name, &pod.uid).is_some();
        }
        match volumes.phase(found) {
            ClaimPhase::Bound(Some(volume)) => state.bound.push(volume),
            ClaimPhase::Bound(None) => state.is_missing = true,
            ClaimPhase::Waiting => state.waiting.push(found.clone()),
            ClaimPhase::Pending => is_pending = true,
        }
    }
    if is_pending {
        return Err(Refusal {
            plugin: Plugin::VolumeBinding,
            message: "pod has unbound immediate PersistentVolumeClaims".into(),
        });
    }
    Ok(state)
}

/// `podHasPVCs`.
fn find<'a>(
    pod: &PodInfo,
    claim: &Claim,
    volumes: &'a Volumes,
) -> Result<&'a Arc<PersistentVolumeClaim>, String> {
    let name = &claim.name;
    let key = ObjectKey::new(&pod.key.namespace, name);
    let Some(found) = volumes.claim(&key) else {
        return Err(if claim.is_ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
        } else {
            format!("persistentvolumeclaim \"{name}\" not found")
        });
    };
    if found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        let volume = found.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        return Err(format!(
            "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
        ));
    }
    if found.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    if claim.is_ephemeral && !drydock_kubeclient::meta::is_controlled_by(&**found, &*pod.pod) {
        return Err(format!("PVC {key} was not created for pod {} (pod is not owner)", pod.key));
    }
    Ok(found)
}

pub(super) fn restrictions(_: &Cycle<'_>, _: &NodeInfo) -> Verdict {
    const TAKEN: &str =
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    Err(Rejection::new(Plugin::VolumeRestrictions, false, TAKEN))
}

pub(super) fn binding(cycle: &Cycle<'_>, node: &NodeInfo) -> Verdict {
    let claims = &cycle.state.claims;
    let reject = |reason: &'static str| Err(Rejection::new(Plugin::VolumeBinding, true, reason));
    if claims.is_missing {
        return reject("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
    }
    if !claims.bound.iter().all(|volume| reaches(volume, node)) {
        return reject("node(s) didn't match PersistentVolume's node affinity");
    }
    if steps(cycle, node).is_none() {
        return reject("node(s) didn't find available persistent volumes to bind");
    }
    Ok(())
}

/// What must be done for the pod's claims on the node.
pub(crate) fn steps(cycle: &Cycle<'_>, node: &NodeInfo) -> Option<Vec<Step>> {
    cycle.volumes.plan(&cycle.state.claims.waiting, node)
}
