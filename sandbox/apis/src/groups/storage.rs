//! `storage.k8s.io/v1`.

use crate::defaults::others;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;

const BASE: Kind = Kind { group: "storage.k8s.io", scope: Scope::Cluster, ..Kind::BASE };

pub static CSI_DRIVER: Kind = Kind {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    generation: Generation::Spec,
    unconditional_update: false,
    defaults: others::csi_driver,
    columns: printers::storage::CSI_DRIVER,
    row: printers::storage::csi_driver,
    validate: validation::storage::validate_csi_driver,
    ..BASE
};

pub static CSI_NODE: Kind = Kind {
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    unconditional_update: false,
    columns: printers::storage::CSI_NODE,
    row: printers::storage::csi_node,
    ..BASE
};

pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    scope: Scope::Namespaced,
    unconditional_update: false,
    columns: printers::storage::CSI_CAPACITY,
    row: printers::storage::csi_capacity,
    ..BASE
};

pub static STORAGE_CLASS: Kind = Kind {
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short: &["sc"],
    defaults: others::storage_class,
    columns: printers::storage::STORAGE_CLASS,
    row: printers::storage::storage_class,
    validate: validation::storage::validate_class,
    ..BASE
};

pub static VOLUME_ATTACHMENT: Kind = Kind {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    subresources: &[Subresource::status("VolumeAttachment")],
    unconditional_update: false,
    prepare: prepare::attachment,
    columns: printers::storage::ATTACHMENT,
    row: printers::storage::attachment,
    validate: validation::storage::validate_attachment,
    ..BASE
};

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short: &["vac"],
    columns: printers::storage::ATTRIBUTES_CLASS,
    row: printers::storage::attributes_class,
    validate: validation::storage::validate_attributes_class,
    ..BASE
};
