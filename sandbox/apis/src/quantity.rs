//! Quantities as they stand in objects.

use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;

/// True if both are quantities of the same value.
pub fn same(one: &Value, other: &Value) -> bool {
    Quantity::of(one).is_some_and(|one| Quantity::of(other) == Some(one))
}

/// True if it is less than 0.
pub fn is_negative(value: &Value) -> bool {
    Quantity::of(value).is_some_and(Quantity::is_negative)
}

/// Its canonical form; `0` if there is none.
pub fn shown(value: &Value) -> String {
    Quantity::of(value).unwrap_or_default().to_string()
}
