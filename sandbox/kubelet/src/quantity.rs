//! Quantities as the kubelet counts with them: whole thousandths.

use drydock_apimachinery::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Requests or limits.
pub type Resources = BTreeMap<String, Quantity>;

/// Thousandths of a unit, rounded up; none if it is no quantity.
pub fn milli(text: &str) -> Option<i128> {
    text.parse().ok().map(quantity::Quantity::wide_millis)
}

/// Thousandths of a resource, if it is named.
pub fn milli_of(resources: Option<&Resources>, name: &str) -> Option<i128> {
    milli(&resources?.get(name)?.0)
}

/// Whole units of a resource, rounded up, if it is named.
pub fn units_of(resources: Option<&Resources>, name: &str) -> Option<i64> {
    let quantity: quantity::Quantity = resources?.get(name)?.0.parse().ok()?;
    Some(quantity.value())
}

/// Whole units, written in the way of another quantity.
pub fn written(units: i128, like: &str) -> String {
    let format = like.parse().map(quantity::Quantity::format).unwrap_or_default();
    quantity::Quantity::new(i64::try_from(units).unwrap_or(i64::MAX), format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_quantity_is_too_large_to_count_with() {
        assert_eq!(milli("1.5Gi"), Some(1024 * 1024 * 1024 * 1500));
        assert_eq!(milli("1E"), Some(1_000_000_000_000_000_000_000));
        assert_eq!(milli("99999999999999999999P"), Some(i128::from(i64::MAX) * 1000));
        assert_eq!((milli("1n"), milli("-1"), milli("1x")), (Some(1), Some(-1000), None));
    }

    #[test]
    fn sums_are_written_as_their_parts() {
        assert_eq!(written(6 << 20, "1Mi"), "6Mi");
        assert_eq!(written(1536 << 20, "1Gi"), "1536Mi");
        assert_eq!(written(2_000_000, "1M"), "2M");
        assert_eq!(written(1025, "1Ki"), "1025");
        assert_eq!(written(0, "0"), "0");
    }
}
