//! `flowcontrol.apiserver.k8s.io/v1`: what is stored and shown; how many requests are worked on is not told by it.

use crate::defaults::flowcontrol as defaults;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::prepare;
use crate::printers::flowcontrol as printers;
use crate::validation::flowcontrol as validation;

const BASE: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    generation: Generation::Spec,
    unconditional_update: true,
    prepare: prepare::empty_status,
    ..Kind::BASE
};

pub static FLOW_SCHEMA: Kind = Kind {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    subresources: &[Subresource::status("FlowSchema")],
    defaults: defaults::flow_schema,
    columns: printers::FLOW_SCHEMA,
    row: printers::flow_schema,
    row_order: Some(printers::precedence),
    validate: validation::validate_flow_schema,
    validate_status: validation::validate_status,
    ..BASE
};

pub static PRIORITY_LEVEL: Kind = Kind {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    subresources: &[Subresource::status("PriorityLevelConfiguration")],
    defaults: defaults::priority_level,
    columns: printers::PRIORITY_LEVEL,
    row: printers::priority_level,
    validate: validation::validate_priority_level,
    validate_status: validation::validate_status,
    ..BASE
};
