//! Quantities (`100m`, `128Mi`, `1e3`) as whole thousandths: enough for what the kubelet counts with them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Requests or limits.
pub type Resources = BTreeMap<String, Quantity>;

/// Upstream's quantities end here, in thousandths (`maxAllowed`, 2⁶³−1).
const MOST: i128 = (i64::MAX as i128) * 1000;

/// Thousandths of a unit, rounded up; none if it is no quantity.
pub fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.contains(['+', '-'])
        || whole.is_empty() && fraction.is_empty()
        || whole.len() > 20
        || fraction.len() > 12
    {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let scaled = digits.saturating_mul(factor).saturating_mul(1000);
    let divisor = divisor.checked_mul(10_i128.pow(u32::try_from(fraction.len()).ok()?))?;
    Some(sign * scaled.saturating_add(divisor - 1).div_euclid(divisor).min(MOST))
}

/// (factor, divisor) of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|e| !e.is_empty()) {
        let exponent: i32 = exponent.parse().ok().filter(|e| (-12..=18).contains(e))?;
        let power = 10_i128.pow(exponent.unsigned_abs());
        return Some(if exponent < 0 { (1, power) } else { (power, 1) });
    }
    let powers = [("k", 1), ("M", 2), ("G", 3), ("T", 4), ("P", 5), ("E", 6)];
    if let Some(power) = powers.iter().find(|(name, _)| *name == suffix).map(|(_, power)| *power) {
        return Some((1000_i128.pow(power), 1));
    }
    let binary = [("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4), ("Pi", 5), ("Ei", 6)];
    if let Some(power) = binary.iter().find(|(name, _)| *name == suffix).map(|(_, power)| *power) {
        return Some((1024_i128.pow(power), 1));
    }
    match suffix {
        "" => Some((1, 1)),
        "m" => Some((1, 1000)),
        "u" => Some((1, 1_000_000)),
        "n" => Some((1, 1_000_000_000)),
        _ => None,
    }
}

/// Thousandths of a resource, if it is named.
pub fn milli_of(resources: Option<&Resources>, name: &str) -> Option<i128> {
    milli(&resources?.get(name)?.0)
}

/// Whole units of a resource, rounded up, if it is named.
pub fn units_of(resources: Option<&Resources>, name: &str) -> Option<i64> {
    let milli = milli_of(resources, name)?;
    i64::try_from((milli + 999).div_euclid(1000)).ok()
}

/// Whole units as upstream writes them, in powers of 1024 if the other one is written so.
pub fn written(units: i128, like: &str) -> String {
    let (step, suffixes) = if like.ends_with('i') {
        (1024, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else {
        (1000, ["", "k", "M", "G", "T", "P", "E"])
    };
    let (mut units, mut power) = (units, 0);
    while units != 0 && units % step == 0 && power + 1 < suffixes.len() {
        (units, power) = (units / step, power + 1);
    }
    format!("{units}{}", suffixes[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_upstream_reads_them() {
        for (text, wanted) in [
            ("0", 0),
            ("100m", 100),
            ("0.5", 500),
            ("1.5Gi", 1024 * 1024 * 1024 * 1500),
            ("128Mi", 128 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1n", 1),
            ("-1", -1000),
            (".5", 500),
        ] {
            assert_eq!(milli(text), Some(wanted), "{text}");
        }
        for large in ["9223372036854775807", "99999999999999999999", "99999999999999999999P", "9999E"] {
            assert_eq!(milli(large), Some(MOST), "{large}");
        }
        for bad in ["", "Mi", "1x", "1.2.3", "1e99", "--1"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
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
