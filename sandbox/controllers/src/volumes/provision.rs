//! The class `standard` and the volumes that it makes: directories on the disk of the node on which the pod will run, as local-path-provisioner
//! makes them. The kubelet of that node makes the directory when the volume is first mounted. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::matching::{class_of_claim, reachable};
use crate::node::taints::{NO_EXECUTE, NO_SCHEDULE, condition, taints};
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
/// What marks a class as the one for claims that name none.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// Where volumes are, on their node.
pub const DIRECTORY: &str = "/var/lib/kubernetes/volumes";

/// The class that a cluster has from the beginning.
pub fn standard_class() -> StorageClass {
    StorageClass {
        metadata: ObjectMeta {
            name: Some("standard".into()),
            annotations: Some([(DEFAULT_CLASS[0].to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.into(),
        reclaim_policy: Some("Delete".into()),
        volume_binding_mode: Some("WaitForFirstConsumer".into()),
        ..StorageClass::default()
    }
}

/// The class for claims that name none: of those that are marked the newest (pkg/volume/util `GetDefaultClass`).
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let marked =
        |class: &&Arc<StorageClass>| DEFAULT_CLASS.iter().any(|key| class.annotation(key) == Some("true"));
    classes
        .iter()
        .filter(marked)
        .min_by_key(|class| (std::cmp::Reverse(class.created()), class.name().to_owned()))
}

/// Whether a class waits for the pod.
pub fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The node for a volume whose class does not wait for a pod: one where pods may go, if there is any, with the fewest volumes.
pub fn place<'a>(nodes: &'a [Arc<Node>], volumes: &[Arc<PersistentVolume>]) -> Option<&'a Arc<Node>> {
    let ready = nodes.iter().filter(|node| condition(node, "Ready") == Some("True"));
    ready.min_by_key(|node| {
        let ours = volumes.iter().filter(|volume| volume.annotation(PROVISIONED_BY) == Some(PROVISIONER));
        (!takes_pods(node), ours.filter(|volume| reachable(volume, node)).count(), node.name())
    })
}

/// Whether a pod without tolerations may go to a node.
fn takes_pods(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    !cordoned && !taints(node).iter().any(|taint| [NO_SCHEDULE, NO_EXECUTE].contains(&&*taint.effect))
}

/// Why no volume is made for a claim (`canProvision` of sig-storage-lib-external-provisioner, `provisionClaimOperation` of pv_controller.go);
/// `None`: one is.
pub fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some(format!("{PROVISIONER} does not support block volume provisioning"));
    }
    let one = spec.data_source.as_ref().map(|source| (&source.api_group, &source.kind, &source.name));
    let other = spec.data_source_ref.as_ref().map(|source| (&source.api_group, &source.kind, &source.name));
    let (group, kind, name) = other.or(one)?;
    let group = group.as_deref().filter(|group| !group.is_empty());
    let kind = group.map_or_else(|| kind.clone(), |group| format!("{kind}.{group}"));
    Some(format!(
        "failed to provision volume with StorageClass {:?}: data source {kind} {name:?} is not supported: plugin {PROVISIONER:?} is not a CSI plugin. Only CSI plugin can provision a claim with a datasource",
        class.name()
    ))
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
    fn a_volume_for_no_pod_goes_where_pods_may_go() {
        let node = |name: &str, status: &str, spec: serde_json::Value| {
            let conditions = serde_json::json!([{"type": "Ready", "status": status}]);
            let metadata = serde_json::json!({"name": name, "labels": {"kubernetes.io/hostname": name}});
            let node =
                serde_json::json!({"metadata": metadata, "spec": spec, "status": {"conditions": conditions}});
            Arc::new(serde_json::from_value::<Node>(node).unwrap())
        };
        let taint = |effect: &str| serde_json::json!({"taints": [{"key": "k", "effect": effect}]});
        let free = serde_json::json!({});
        let nodes = [
            node("n1", "True", taint("NoSchedule")),
            node("n2", "True", serde_json::json!({"unschedulable": true})),
            node("n3", "False", free.clone()),
            node("n4", "True", taint("NoExecute")),
            node("n6", "True", taint("PreferNoSchedule")),
            node("n5", "True", free),
        ];
        let name = |node: Option<&Arc<Node>>| node.map(|node| node.name().to_owned());
        assert_eq!(name(place(&nodes, &[])).as_deref(), Some("n5"));
        let there =
            Arc::new(volume(&claim("1Mi", "standard", "ReadWriteOnce"), &standard_class(), &nodes[5]));
        assert_eq!(name(place(&nodes, std::slice::from_ref(&there))).as_deref(), Some("n6"));
        assert_eq!(name(place(&nodes[..4], &[there])).as_deref(), Some("n1"), "better there than nowhere");
        assert_eq!(name(place(&nodes[2..3], &[])), None);
    }

    #[test]
    fn the_newest_class_that_is_marked_is_the_default() {
        let class = |name: &str, made: &str, annotations: serde_json::Value| {
            let metadata =
                serde_json::json!({"name": name, "creationTimestamp": made, "annotations": annotations});
            let class = serde_json::json!({"metadata": metadata, "provisioner": "p"});
            Arc::new(serde_json::from_value::<StorageClass>(class).unwrap())
        };
        let (old, new) = ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");
        let marked = |key: &str| serde_json::json!({key: "true"});
        let classes = [
            class("old", old, marked(DEFAULT_CLASS[0])),
            class("b", new, marked(DEFAULT_CLASS[0])),
            class("a", new, marked(DEFAULT_CLASS[1])),
            class("no", new, serde_json::json!({DEFAULT_CLASS[0]: "false"})),
        ];
        assert_eq!(default_class(&classes).map(|class| class.name()), Some("a"));
        assert_eq!(default_class(&classes[3..]), None);
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let mut claim = claim("10Mi", "standard", "ReadWriteOnce");
        assert_eq!(refusal(&claim, &standard_class()), None);
        let spec = claim.spec.as_mut().unwrap();
        let source =
            serde_json::json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
        spec.data_source = Some(serde_json::from_value(source).unwrap());
        assert_eq!(
            refusal(&claim, &standard_class()).as_deref(),
            Some(
                "failed to provision volume with StorageClass \"standard\": data source VolumeSnapshot.snapshot.storage.k8s.io \"s\" is not supported: plugin \"drydock.dev/hostpath\" is not a CSI plugin. Only CSI plugin can provision a claim with a datasource"
            )
        );
        claim.spec.as_mut().unwrap().volume_mode = Some("Block".into());
        let words = "drydock.dev/hostpath does not support block volume provisioning";
        assert_eq!(refusal(&claim, &standard_class()).as_deref(), Some(words));
    }

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
