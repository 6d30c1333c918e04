//! Rows of volumes, claims and their classes.

use super::{NONE, UNSET, age, is_deleting, name};
use crate::kind::{Cell, Column};
use crate::tree::{at, flag, get, has, list, text, texts};
use drydock_apimachinery::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Value, json};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Columns of persistent volumes.
pub const VOLUME: &[Column] = &[
    Column::NAME,
    Column::text("Capacity", "capacity is the description of the persistent volume's resources and capacity."),
    Column::text("Access Modes", "accessModes contains all ways the volume can be mounted."),
    Column::text("Reclaim Policy", "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim."),
    Column::text("Status", "phase indicates if a volume is available, bound to a claim, or released by a claim."),
    Column::text("Claim", "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim."),
    Column::text("StorageClass", "StorageClass of the pv"),
    Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
    Column::text("Reason", "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI."),
    Column::AGE,
    Column::text("VolumeMode", "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state.").wide(),
];

fn storage(resources: &Value) -> String {
    Quantity::of(get(resources, "storage")).unwrap_or_default().to_string()
}

/// `RWO,ROX,RWX,RWOP`, in this order.
fn access_modes(holder: &Value) -> String {
    let modes = texts(holder, "accessModes");
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .iter()
    .filter(|(mode, _)| modes.contains(mode))
    .map(|(_, short)| *short)
    .collect::<Vec<_>>()
    .join(",")
}

/// The class that an object names, in the field or in the annotation of old.
fn class(object: &Value) -> &str {
    let old = at(object, &["metadata", "annotations", BETA_CLASS]);
    old.as_str().unwrap_or_else(|| text(get(object, "spec"), "storageClassName"))
}

fn or_unset<'a>(holder: &'a Value, field: &str) -> &'a str {
    get(holder, field).as_str().unwrap_or(UNSET)
}

fn phase(object: &Value) -> &str {
    if is_deleting(object) { "Terminating" } else { text(get(object, "status"), "phase") }
}

/// A persistent volume.
pub fn volume(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let claim = get(spec, "claimRef");
    let claim = if has(spec, "claimRef") {
        format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
    } else {
        String::new()
    };
    vec![
        name(object),
        json!(storage(get(spec, "capacity"))),
        json!(access_modes(spec)),
        json!(text(spec, "persistentVolumeReclaimPolicy")),
        json!(phase(object)),
        json!(claim),
        json!(class(object)),
        json!(or_unset(spec, "volumeAttributesClassName")),
        json!(text(get(object, "status"), "reason")),
        age(object, now),
        json!(or_unset(spec, "volumeMode")),
    ]
}

/// Columns of persistent volume claims.
pub const CLAIM: &[Column] = &[
    Column::NAME,
    Column::text("Status", "phase represents the current phase of PersistentVolumeClaim."),
    Column::text("Volume", "volumeName is the binding reference to the PersistentVolume backing this claim."),
    Column::text("Capacity", "capacity represents the actual resources of the underlying volume."),
    Column::text("Access Modes", "accessModes contains the actual access modes the volume backing the PVC has."),
    Column::text("StorageClass", "StorageClass of the pvc"),
    Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
    Column::AGE,
    Column::text("VolumeMode", "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.").wide(),
];

/// A persistent volume claim.
pub fn claim(object: &Value, now: Timestamp) -> Vec<Cell> {
    let (spec, status) = (get(object, "spec"), get(object, "status"));
    let volume = text(spec, "volumeName");
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (storage(get(status, "capacity")), access_modes(status))
    };
    vec![
        name(object),
        json!(phase(object)),
        json!(volume),
        json!(capacity),
        json!(modes),
        json!(class(object)),
        json!(or_unset(spec, "volumeAttributesClassName")),
        age(object, now),
        json!(or_unset(spec, "volumeMode")),
    ]
}

/// Columns of storage classes.
pub const STORAGE_CLASS: &[Column] = &[
    Column::NAME,
    Column::text("Provisioner", "provisioner indicates the type of the provisioner."),
    Column::text(
        "ReclaimPolicy",
        "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class. Defaults to Delete.",
    ),
    Column::text(
        "VolumeBindingMode",
        "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.",
    ),
    Column::text(
        "AllowVolumeExpansion",
        "allowVolumeExpansion shows whether the storage class allow volume expand.",
    ),
    Column::AGE,
];

fn name_with_default(object: &Value, annotations: &[&str]) -> Cell {
    let is_default =
        annotations.iter().any(|key| at(object, &["metadata", "annotations", key]) == &json!("true"));
    let name = text(get(object, "metadata"), "name");
    if is_default { json!(format!("{name} (default)")) } else { json!(name) }
}

/// A storage class.
pub fn storage_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    const DEFAULT: &[&str] =
        &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    vec![
        name_with_default(object, DEFAULT),
        json!(text(object, "provisioner")),
        json!(get(object, "reclaimPolicy").as_str().unwrap_or("Delete")),
        json!(get(object, "volumeBindingMode").as_str().unwrap_or("Immediate")),
        json!(flag(object, "allowVolumeExpansion")),
        age(object, now),
    ]
}

/// Columns of volume attributes classes.
pub const ATTRIBUTES_CLASS: &[Column] =
    &[Column::NAME, Column::text("DriverName", "Name of the CSI driver"), Column::AGE];

/// A volume attributes class.
pub fn attributes_class(object: &Value, now: Timestamp) -> Vec<Cell> {
    let named = name_with_default(object, &["volumeattributesclass.alpha.kubernetes.io/is-default-class"]);
    vec![named, json!(text(object, "driverName")), age(object, now)]
}

/// Columns of volume attachments.
pub const ATTACHMENT: &[Column] = &[
    Column::NAME,
    Column::text(
        "Attacher",
        "attacher indicates the name of the volume driver that MUST handle this request.",
    ),
    Column::text("PV", "persistentVolumeName represents the name of the persistent volume to attach."),
    Column::text("Node", "nodeName represents the node that the volume should be attached to."),
    Column {
        type_: "boolean",
        ..Column::text("Attached", "attached indicates the volume is successfully attached.")
    },
    Column::AGE,
];

/// A volume attachment.
pub fn attachment(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    vec![
        name(object),
        json!(text(spec, "attacher")),
        json!(text(get(spec, "source"), "persistentVolumeName")),
        json!(text(spec, "nodeName")),
        json!(flag(get(object, "status"), "attached")),
        age(object, now),
    ]
}

/// Columns of CSI nodes.
pub const CSI_NODE: &[Column] = &[
    Column::NAME,
    Column::integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"),
    Column::AGE,
];

/// A CSI node.
pub fn csi_node(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), json!(list(get(object, "spec"), "drivers").len()), age(object, now)]
}

/// Columns of CSI drivers.
pub const CSI_DRIVER: &[Column] = &[
    Column::NAME,
    Column {
        type_: "boolean",
        ..Column::text(
            "AttachRequired",
            "attachRequired indicates this CSI volume driver requires an attach operation.",
        )
    },
    Column {
        type_: "boolean",
        ..Column::text(
            "PodInfoOnMount",
            "podInfoOnMount indicates this CSI volume driver requires additional pod information during mount operations.",
        )
    },
    Column {
        type_: "boolean",
        ..Column::text(
            "StorageCapacity",
            "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity.",
        )
    },
    Column::text(
        "TokenRequests",
        "tokenRequests indicates the CSI driver needs pods' service account tokens.",
    ),
    Column {
        type_: "boolean",
        ..Column::text(
            "RequiresRepublish",
            "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called.",
        )
    },
    Column::text(
        "Modes",
        "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports.",
    ),
    Column::AGE,
];

/// A CSI driver.
pub fn csi_driver(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let tokens = if has(spec, "tokenRequests") {
        list(spec, "tokenRequests").iter().map(|one| text(one, "audience")).collect::<Vec<_>>().join(",")
    } else {
        UNSET.into()
    };
    vec![
        name(object),
        json!(get(spec, "attachRequired").as_bool().unwrap_or(true)),
        json!(flag(spec, "podInfoOnMount")),
        json!(flag(spec, "storageCapacity")),
        json!(tokens),
        json!(flag(spec, "requiresRepublish")),
        json!(super::or(&texts(spec, "volumeLifecycleModes").join(","), NONE)),
        age(object, now),
    ]
}

/// Columns of CSI storage capacities.
pub const CSI_CAPACITY: &[Column] = &[
    Column::NAME,
    Column::text(
        "StorageClassName",
        "storageClassName represents the name of the StorageClass that the reported capacity applies to.",
    ),
    Column::text("Capacity", "capacity is the value reported by the CSI driver in its GetCapacityResponse."),
];

/// A CSI storage capacity.
pub fn csi_capacity(object: &Value, _now: Timestamp) -> Vec<Cell> {
    let capacity =
        Quantity::of(get(object, "capacity")).map_or_else(|| UNSET.to_string(), |one| one.to_string());
    vec![name(object), json!(text(object, "storageClassName")), json!(capacity)]
}

#[cfg(test)]
mod tests {
    use super::*;

    // Cases of TestPrintPersistentVolume and TestPrintPersistentVolumeClaim.
    #[test]
    fn volumes_and_claims() {
        let object = json!({"metadata": {"name": "pv"}, "spec": {"capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "default", "name": "c"}, "storageClassName": "fast",
            "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}});
        assert_eq!(
            Value::from(volume(&object, Timestamp::UNIX_EPOCH)),
            json!([
                "pv",
                "4Gi",
                "ROX,RWX",
                "Delete",
                "Bound",
                "default/c",
                "fast",
                "<unset>",
                "",
                "<unknown>",
                "Filesystem"
            ])
        );
        let mut object = json!({"metadata": {"name": "c"}, "spec": {"volumeName": "pv", "storageClassName": "fast"},
            "status": {"phase": "Bound", "capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteOnce"]}});
        assert_eq!(
            Value::from(claim(&object, Timestamp::UNIX_EPOCH)),
            json!(["c", "Bound", "pv", "4Gi", "RWO", "fast", "<unset>", "<unknown>", "<unset>"])
        );
        object["spec"] = json!({});
        object["status"] = json!({"phase": "Pending"});
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            Value::from(claim(&object, Timestamp::UNIX_EPOCH)),
            json!(["c", "Terminating", "", "", "", "", "<unset>", "<unknown>", "<unset>"])
        );
    }

    #[test]
    fn classes() {
        let object = json!({"metadata": {"name": "sc", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"});
        assert_eq!(
            Value::from(storage_class(&object, Timestamp::UNIX_EPOCH)),
            json!(["sc (default)", "p", "Delete", "WaitForFirstConsumer", false, "<unknown>"])
        );
    }
}
