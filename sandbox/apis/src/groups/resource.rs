//! `resource.k8s.io/v1`: devices that pods claim.

use crate::defaults::resource as defaults;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::printers;
use crate::tree::{get, text};
use crate::validation;

const BASE: Kind = Kind { group: "resource.k8s.io", ..Kind::BASE };

pub static DEVICE_CLASS: Kind = Kind {
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    scope: Scope::Cluster,
    generation: Generation::Spec,
    columns: printers::resource::NAMED,
    row: printers::resource::named,
    validate: validation::resource::validate_class,
    ..BASE
};

pub static RESOURCE_CLAIM: Kind = Kind {
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    subresources: &[Subresource::status("ResourceClaim")],
    defaults: defaults::claim,
    prepare: defaults::prepare_claim,
    columns: printers::resource::CLAIM,
    row: printers::resource::claim,
    validate: validation::resource::validate_claim,
    validate_status: validation::resource::validate_claim_status,
    ..BASE
};

pub static RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    defaults: defaults::template,
    columns: printers::resource::NAMED,
    row: printers::resource::named,
    validate: validation::resource::validate_template,
    ..BASE
};

pub static RESOURCE_SLICE: Kind = Kind {
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    scope: Scope::Cluster,
    generation: Generation::Spec,
    fields: &[
        ("spec.nodeName", |slice| text(get(slice, "spec"), "nodeName").into()),
        ("spec.driver", |slice| text(get(slice, "spec"), "driver").into()),
    ],
    columns: printers::resource::SLICE,
    row: printers::resource::slice,
    validate: validation::resource::validate_slice,
    ..BASE
};
