//! What `kubectl get` prints: columns and cells per kind, as `pkg/printers/internalversion/printers.go` has them. Called by the
//! API server for `as=Table`; it computes every cell (also the age), the client prints them as they are.

use crate::kind::{Cell, Column};
use drydock_apimachinery::object;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of a kind that has none of its own.
pub const OBJECT_META: &[Column] = &[
    Column::NAME,
    Column {
        name: "Created At",
        type_: "date",
        format: "",
        description: Column::AGE.description,
        priority: 0,
    },
];

/// Cells of [`OBJECT_META`].
pub fn object_meta(object: &Value, _now: Timestamp) -> Vec<Cell> {
    vec![json!(object::name(object)), json!(object::text(object, &["metadata", "creationTimestamp"]))]
}
