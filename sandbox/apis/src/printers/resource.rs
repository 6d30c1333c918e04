//! Rows of claims of devices and of what drivers offer.

use super::{age, is_deleting, name};
use crate::kind::{Cell, Column};
use crate::tree::{at, get, has, list, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of classes and of templates.
pub const NAMED: &[Column] = &[Column::NAME, Column::AGE];

/// A class or a template.
pub fn named(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![name(object), age(object, now)]
}

/// Columns of claims.
pub const CLAIM: &[Column] = &[
    Column::NAME,
    Column::text("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
    Column::AGE,
];

/// A claim.
pub fn claim(object: &Value, now: Timestamp) -> Vec<Cell> {
    let status = get(object, "status");
    let (is_deleted, is_allocated) = (is_deleting(object), has(status, "allocation"));
    let states = [
        ("deleted", is_deleted),
        ("pending", !is_deleted && !is_allocated),
        ("allocated", is_allocated),
        ("reserved", is_allocated && !list(status, "reservedFor").is_empty()),
    ];
    let states: Vec<&str> = states.iter().filter(|(_, is)| *is).map(|(state, _)| *state).collect();
    vec![name(object), json!(states.join(",")), age(object, now)]
}

/// Columns of slices.
pub const SLICE: &[Column] = &[
    Column::NAME,
    Column::text(
        "Node",
        "NodeName identifies the node which provides the resources in this pool. A field selector can be used to list only \
         ResourceSlice objects belonging to a certain node.\n\nThis field can be used to limit access from nodes to \
         ResourceSlices with the same node name. It also indicates to autoscalers that adding new nodes of the same type as \
         some old node might also make new resources available.\n\nExactly one of NodeName, NodeSelector, AllNodes, and \
         PerDeviceNodeSelection must be set. This field is immutable.",
    ),
    Column::text(
        "Driver",
        "Driver identifies the DRA driver providing the capacity information. A field selector can be used to list only \
         ResourceSlice objects with a certain driver name.\n\nMust be a DNS subdomain and should end with a DNS domain owned \
         by the vendor of the driver. It should use only lower case characters. This field is immutable.",
    ),
    Column::text("Pool", "Pool describes the pool that this ResourceSlice belongs to."),
    Column::AGE,
];

/// A slice.
pub fn slice(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    vec![
        name(object),
        json!(text(spec, "nodeName")),
        json!(text(spec, "driver")),
        json!(text(at(spec, &["pool"]), "name")),
        age(object, now),
    ]
}
