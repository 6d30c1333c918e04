//! Which volume fits a claim (pkg/volume/persistentvolume `FindMatchingVolume`). Pure.

use std::sync::Arc;

use drydock_apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::shared::meta::{Meta, selects};
use crate::shared::node_selector;

/// The annotation that names the class of old objects.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a claim; empty: none is wanted.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim
        .annotation(BETA_CLASS)
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

/// Whether a claim says what class it wants, if only that it wants none.
pub fn has_class(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some());
    named || claim.annotation(BETA_CLASS).is_some()
}

/// The class of a volume.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    volume
        .annotation(BETA_CLASS)
        .or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default()
}

fn amount(text: Option<&Text>) -> Quantity {
    text.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

/// How much a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    amount(requests.and_then(|requests| requests.get("storage")))
}

/// How much a volume holds.
pub fn capacity(volume: &PersistentVolume) -> Quantity {
    amount(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage")))
}

/// Whether a volume is bound to that claim, or kept for it.
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name.as_deref() == Some(claim.name())
        && reference.namespace.as_deref() == Some(claim.namespace())
        && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == claim.uid())
}

/// Whether what a claim says of a volume fits it (`checkVolumeSatisfyClaim`); else why not.
pub fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), &'static str> {
    if capacity(volume) < requested(claim) {
        return Err("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Err("storageClassName does not match");
    }
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    let volume_mode = mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()));
    if volume_mode != mode(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) {
        return Err("incompatible volumeMode");
    }
    let modes = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let has = modes(volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()));
    let wants = modes(claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()));
    if !wants.iter().all(|mode| has.contains(mode)) {
        return Err("incompatible accessMode");
    }
    Ok(())
}

/// Whether a volume can be reached from a node.
pub fn reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    required.is_none_or(|selector| node_selector::selects(selector, node))
}

/// The volume for a claim: that which is kept for it, else the smallest that is free and fits; with a node, one that it reaches.
pub fn find(
    volumes: &[Arc<PersistentVolume>],
    claim: &PersistentVolumeClaim,
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let mut best: Option<&Arc<PersistentVolume>> = None;
    for volume in volumes.iter().filter(|volume| !volume.deleting()) {
        let reserved = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        if reserved {
            if is_for(volume, claim) && satisfies(volume, claim).is_ok() {
                return Some(volume.clone());
            }
            continue;
        }
        let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let fits = satisfies(volume, claim).is_ok()
            && selector.is_none_or(|selector| selects(selector, volume.labels()))
            && node.is_none_or(|node| reachable(volume, node))
            // One that nobody has looked at yet may still turn out not to be free.
            && matches!(phase, Some("Available"));
        let smaller =
            |than: &Arc<PersistentVolume>| (capacity(volume), volume.name()) < (capacity(than), than.name());
        if fits && best.is_none_or(smaller) {
            best = Some(volume);
        }
    }
    best.cloned()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A volume with a size, a class, and modes.
    pub(crate) fn volume(name: &str, size: &str, class: &str, mode: &str) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"capacity": {"storage": size}, "storageClassName": class, "accessModes": [mode]},
            "status": {"phase": "Available"},
        }))
        .unwrap()
    }

    /// A claim for a size, a class, and a mode.
    pub(crate) fn claim(size: &str, class: &str, mode: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "default", "uid": "c"},
            "spec": {"resources": {"requests": {"storage": size}}, "storageClassName": class, "accessModes": [mode]},
        }))
        .unwrap()
    }

    #[test]
    fn the_smallest_that_fits() {
        let mut kept = volume("kept", "5Gi", "", "ReadWriteOnce");
        kept.spec.as_mut().unwrap().claim_ref =
            Some(serde_json::from_value(json!({"namespace": "default", "name": "data"})).unwrap());
        let volumes: Vec<_> = [
            volume("big", "10Gi", "", "ReadWriteOnce"),
            volume("right", "2Gi", "", "ReadWriteOnce"),
            volume("small", "500Mi", "", "ReadWriteOnce"),
            volume("shared", "1Gi", "", "ReadWriteMany"),
            volume("fast", "1Gi", "fast", "ReadWriteOnce"),
        ]
        .map(Arc::new)
        .into();
        let found = |claim: &PersistentVolumeClaim| {
            find(&volumes, claim, None).map(|volume| volume.name().to_owned())
        };
        assert_eq!(found(&claim("1Gi", "", "ReadWriteOnce")).as_deref(), Some("right"));
        assert_eq!(found(&claim("1Gi", "fast", "ReadWriteOnce")).as_deref(), Some("fast"));
        assert_eq!(found(&claim("20Gi", "", "ReadWriteOnce")), None);
        assert_eq!(found(&claim("1Gi", "", "ReadOnlyMany")), None);
        let mut with = volumes.clone();
        with.push(Arc::new(kept));
        let reserved = find(&with, &claim("1Gi", "", "ReadWriteOnce"), None).unwrap();
        assert_eq!(reserved.name(), "kept", "what is kept for it comes first");
    }
}
