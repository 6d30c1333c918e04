//! A volume that is to be recycled: a pod empties it, then it can be claimed again (`RecycleVolumeByWatchingPodUntilCompletion` of
//! pkg/volume/util/recyclerclient, `recycleVolumeOperation` of pv_controller.go). The pod runs where the scheduler puts it, as upstream's
//! does, unless the volume says where it is.

use k8s_openapi::api::core::v1::{Event, PersistentVolume, Pod};
use serde_json::json;

use super::matching::capacity;
use super::provision::BOUND_BY;
use crate::error::Error;
use crate::shared::meta::Meta;

/// Where the pods run that empty volumes.
pub const NAMESPACE: &str = "default";
/// What their names begin with; the volume's name follows.
pub const PREFIX: &str = "recycler-for-";
/// The annotation with the uid of the claim after which such a pod empties its volume.
pub const CLAIM: &str = "drydock.dev/recycles-after";
const GIBIBYTE: i64 = 1 << 30;

/// The pod that empties a volume; none: volumes of its type cannot be recycled.
pub fn pod(volume: &PersistentVolume, image: &str) -> Result<Option<Pod>, Error> {
    let Some(spec) = &volume.spec else { return Ok(None) };
    // The least and the increment for each GiB of `--pv-recycler-*`.
    let (source, least) = match (&spec.host_path, &spec.nfs) {
        (Some(host), _) => (json!({"name": "vol", "hostPath": {"path": host.path}}), 60),
        (None, Some(nfs)) => (json!({"name": "vol", "nfs": nfs}), 300),
        (None, None) => return Ok(None),
    };
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    let claim = spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_deref()).unwrap_or_default();
    let pod = json!({
        "metadata": {
            "name": format!("{PREFIX}{}", volume.name()), "namespace": NAMESPACE, "annotations": {CLAIM: claim},
        },
        "spec": {
            "activeDeadlineSeconds": (capacity(volume).value() / GIBIBYTE * 30).max(least),
            "restartPolicy": "Never",
            "affinity": required.map(|required| json!({
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required},
            })),
            "containers": [{
                "name": "pv-recycler",
                "image": image,
                "command": ["/bin/sh"],
                "args": ["-c", "test -e /scrub && rm -rf /scrub/..?* /scrub/.[!.]* /scrub/* && test -z \"$(ls -A /scrub)\" || exit 1"],
                "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
            }],
            "volumes": [source],
        },
    });
    serde_json::from_value(pod).map(Some).map_err(|error| Error::Object(error.to_string()))
}

/// What a volume's pod was told of, in that order.
pub fn told(mut events: Vec<Event>) -> Vec<(bool, String)> {
    events.sort_by_key(|event| event.first_timestamp.as_ref().map(|time| time.0));
    let message = |event: Event| format!("Recycler pod: {}", event.message.unwrap_or_default());
    events.into_iter().map(|event| (event.type_.as_deref() == Some("Warning"), message(event))).collect()
}

/// The volume without its claim (`unbindVolume`); one that the learner had kept for a claim stays kept for one of that name.
pub fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut copy = volume.clone();
    let by_us = copy.metadata.annotations.as_mut().and_then(|all| all.remove(BOUND_BY)).is_some();
    let spec = copy.spec.get_or_insert_default();
    if by_us {
        spec.claim_ref = None;
    } else if let Some(claim) = &mut spec.claim_ref {
        claim.uid = None;
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(spec: serde_json::Value) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "disk", "annotations": {BOUND_BY: "yes"}}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn what_can_be_recycled_and_for_how_long() {
        let of = |spec| pod(&volume(spec), "busybox").unwrap().and_then(|pod| pod.spec);
        let made = of(json!({"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}})).unwrap();
        assert_eq!(made.active_deadline_seconds, Some(60));
        assert_eq!(made.volumes.unwrap()[0].host_path.as_ref().unwrap().path, "/data");
        let big = json!({"capacity": {"storage": "10Gi"}, "hostPath": {"path": "/data"}});
        assert_eq!(of(big).unwrap().active_deadline_seconds, Some(300));
        assert_eq!(of(json!({"local": {"path": "/data"}})), None);
    }

    #[test]
    fn a_volume_is_free_again_or_kept_for_the_claim_it_was_kept_for() {
        let claim = json!({"namespace": "default", "name": "data", "uid": "c"});
        let mut taken = volume(json!({"claimRef": claim}));
        let free = unbound(&taken);
        assert_eq!(free.annotation(BOUND_BY), None);
        assert_eq!(free.spec.unwrap().claim_ref, None);
        taken.metadata.annotations = None;
        let kept = unbound(&taken).spec.unwrap().claim_ref.unwrap();
        assert_eq!((kept.name.as_deref(), kept.uid), (Some("data"), None));
    }
}
