//! The class `standard` and the volumes that it makes: directories on the disk of the node on which the pod will run, as local-path-provisioner
//! makes them. The kubelet of that node makes the directory when the volume is first mounted. Pure.

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::matching::class_of_claim;
use crate::shared::meta::Meta;

/// The provisioner whose claims are served here.
pub const PROVISIONER: &str = "drydock.dev/hostpath";
/// Who made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Whether the binder bound it (and not the learner).
pub const BOUND_BY: &str = "pv.kubernetes.io/bound-by-controller";
/// Whether a claim has been bound.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node that the scheduler chose for the pod of a claim.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who is to make the volume of a claim.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Where volumes are, on their node.
pub const DIRECTORY: &str = "/var/lib/kubernetes/volumes";

/// The class that a cluster has from the beginning.
pub fn standard_class() -> StorageClass {
    StorageClass {
        metadata: ObjectMeta {
            name: Some("standard".into()),
            annotations: Some(
                [("storageclass.kubernetes.io/is-default-class".to_owned(), "true".to_owned())].into(),
            ),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.into(),
        reclaim_policy: Some("Delete".into()),
        volume_binding_mode: Some("WaitForFirstConsumer".into()),
        ..StorageClass::default()
    }
}

/// Whether a class waits for the pod.
pub fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The name of a claim's volume.
pub fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid())
}

/// The volume for a claim, on a node.
pub fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node) -> PersistentVolume {
    let name = volume_name(claim);
    let spec = claim.spec.as_ref();
    let requests = spec.and_then(|spec| spec.resources.as_ref()?.requests.clone()).unwrap_or_default();
    let host = node.label("kubernetes.io/hostname").unwrap_or_else(|| node.name());
    let pin = NodeSelectorRequirement {
        key: "kubernetes.io/hostname".into(),
        operator: "In".into(),
        values: Some(vec![host.to_owned()]),
    };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: Some(requests.into_iter().filter(|(resource, _)| resource == "storage").collect()),
            access_modes: spec.and_then(|spec| spec.access_modes.clone()),
            volume_mode: spec.and_then(|spec| spec.volume_mode.clone()),
            claim_ref: Some(reference(claim)),
            persistent_volume_reclaim_policy: Some(
                class.reclaim_policy.clone().unwrap_or_else(|| "Delete".into()),
            ),
            storage_class_name: Some(class_of_claim(claim).to_owned()),
            mount_options: class.mount_options.clone(),
            host_path: Some(HostPathVolumeSource {
                path: format!("{DIRECTORY}/{name}_{}_{}", claim.namespace(), claim.name()),
                type_: Some("DirectoryOrCreate".into()),
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector {
                    node_selector_terms: vec![NodeSelectorTerm {
                        match_expressions: Some(vec![pin]),
                        match_fields: None,
                    }],
                }),
            }),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// What a volume says of its claim.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::matching::tests::claim;
    use super::super::matching::{is_for, satisfies};
    use super::*;

    #[test]
    fn a_new_volume_is_for_its_claim_and_on_its_node() {
        let claim = claim("10Mi", "standard", "ReadWriteOnce");
        let node = Node {
            metadata: ObjectMeta { name: Some("node2".into()), ..ObjectMeta::default() },
            ..Node::default()
        };
        let volume = volume(&claim, &standard_class(), &node);
        assert!(is_for(&volume, &claim));
        assert_eq!(satisfies(&volume, &claim), Ok(()));
        assert_eq!(volume.name(), "pvc-c");
        let path = volume.spec.unwrap().host_path.unwrap().path;
        assert_eq!(path, "/var/lib/kubernetes/volumes/pvc-c_default_data");
    }
}
