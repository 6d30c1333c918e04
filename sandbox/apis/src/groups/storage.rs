//! `storage.k8s.io/v1`.

use crate::defaults::others;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::prepare;

const BASE: Kind = Kind { group: "storage.k8s.io", scope: Scope::Cluster, ..Kind::BASE };

pub static CSI_DRIVER: Kind = Kind {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    generation: Generation::Spec,
    unconditional_update: false,
    defaults: others::csi_driver,
    ..BASE
};

pub static CSI_NODE: Kind =
    Kind { kind: "CSINode", plural: "csinodes", singular: "csinode", unconditional_update: false, ..BASE };

pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    scope: Scope::Namespaced,
    unconditional_update: false,
    ..BASE
};

pub static STORAGE_CLASS: Kind = Kind {
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short: &["sc"],
    defaults: others::storage_class,
    ..BASE
};

pub static VOLUME_ATTACHMENT: Kind = Kind {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    subresources: &[Subresource::status("VolumeAttachment")],
    unconditional_update: false,
    prepare: prepare::attachment,
    ..BASE
};

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short: &["vac"],
    ..BASE
};
