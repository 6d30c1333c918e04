//! Quantities as they stand in objects.

use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;

/// True if both are quantities of the same value.
pub fn same(one: &Value, other: &Value) -> bool {
    Quantity::of(one).is_some_and(|one| Quantity::of(other) == Some(one))
}
