//! Quantities: fixed-point numbers with a suffix (`500m`, `1.5Gi`, `2e3`), as k8s.io/apimachinery `pkg/api/resource` has them. Called by
//! whoever adds up, compares or shows resources. A quantity is kept in billionths, the finest that the API knows; what is finer is
//! rounded up, and what is larger than 2^63-1 is that.

use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const MOST: i128 = (i64::MAX as i128) * NANO;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`, `500m`.
    #[default]
    DecimalSi,
}

/// A fixed-point number. Two are equal if their values are, however they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// Nobody knows the suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    /// Thousandths.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// What stands in an object: a text, or a number that somebody wrote without quotes.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    /// The same value written in another way.
    #[must_use]
    pub fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// As a whole number, rounded up (away from 0).
    pub fn value(self) -> i64 {
        clamp(divide_up(self.nanos, NANO))
    }

    /// As thousandths, rounded up.
    pub fn millis(self) -> i64 {
        clamp(divide_up(self.nanos, NANO / 1000))
    }

    /// As thousandths, rounded up, however many they are.
    pub fn wide_millis(self) -> i128 {
        divide_up(self.nanos, NANO / 1000)
    }

    /// How it is written.
    pub fn format(self) -> Format {
        self.format
    }

    /// As a floating-point number.
    #[allow(clippy::cast_precision_loss)] // that is what the caller asks for
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// True if it is 0.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// True if it is less than 0.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// True if it is a whole number.
    pub fn is_whole(self) -> bool {
        divided(self.nanos, NANO).1 == 0
    }

    /// The sum, written as the first is (a 0 takes the second's way).
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MOST, MOST), format }
    }

    /// The difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos - other.nanos).clamp(-MOST, MOST), format }
    }

    /// Rounded up to thousandths, as the API stores resources.
    #[must_use]
    pub fn round_up_to_millis(self) -> Self {
        Self { nanos: divide_up(self.nanos, NANO / 1000) * (NANO / 1000), ..self }
    }

    /// Rounded up to whole numbers.
    #[must_use]
    pub fn round_up(self) -> Self {
        Self { nanos: divide_up(self.nanos, NANO) * NANO, ..self }
    }
}

/// Quotient and rest. Most numbers fit what a processor counts with.
fn divided(number: i128, by: i128) -> (i128, i128) {
    match (i64::try_from(number), i64::try_from(by)) {
        (Ok(number), Ok(by)) => ((number / by).into(), (number % by).into()),
        _ => (number / by, number % by),
    }
}

fn divide_up(number: i128, by: i128) -> i128 {
    let (whole, rest) = divided(number, by);
    whole + rest.signum()
}

/// A number without a power of `base` that divides it, the largest up to `most`; and which.
fn taken_apart(mut number: i128, base: i128, most: usize) -> (i128, usize) {
    for power in 0..most {
        let (whole, rest) = divided(number, base);
        if rest != 0 {
            return (number, power);
        }
        number = whole;
    }
    (number, most)
}

fn clamp(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Power of ten, or of two, that a suffix stands for.
enum Scale {
    Ten(i32),
    Two(u32),
}

fn suffix_scale(suffix: &str) -> Option<(Scale, Format)> {
    let decimal = |exponent| Some((Scale::Ten(exponent), Format::DecimalSi));
    let binary = |exponent| Some((Scale::Two(exponent), Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = digits.strip_prefix('+').unwrap_or(digits).parse().ok()?;
            (!digits.starts_with("+-")).then_some((Scale::Ten(exponent), Format::DecimalExponent))
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let (whole, rest) = digits(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
        if suffix.starts_with('.') {
            return Err(QuantityError::Numeric);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Format);
        }
        let Some((scale, format)) = suffix_scale(suffix) else {
            let is_possible = suffix.bytes().all(|byte| b"eEinumkKMGTP+-0123456789".contains(&byte));
            return Err(if is_possible { QuantityError::Suffix } else { QuantityError::Format });
        };
        let digits =
            if fraction.is_empty() { Cow::Borrowed(whole) } else { [whole, fraction].concat().into() };
        let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let nanos = scaled(digits.trim_start_matches('0'), places, &scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// The digits that a text begins with, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Digits, of which the last `places` stand behind the point, times the scale, in billionths; capped, and rounded up.
fn scaled(digits: &str, places: i32, scale: &Scale) -> i128 {
    if digits.is_empty() {
        return 0;
    }
    let (mut exponent, factor) = match scale {
        Scale::Ten(exponent) => (9 + exponent.clamp(&-1000, &1000) - places, 1),
        Scale::Two(exponent) => (9 - places, 1_i128 << exponent),
    };
    // More digits than an i128 holds: the last ones only matter for rounding, or the number is beyond all anyway.
    let mut rest = digits;
    let mut inexact = false;
    if rest.len() > 28 {
        inexact = rest[28..].bytes().any(|byte| byte != b'0');
        exponent += i32::try_from(rest.len() - 28).unwrap_or(i32::MAX / 2);
        rest = &rest[..28];
    }
    // Most fit what a processor counts with.
    let mut number = rest.parse::<u64>().map(i128::from).or_else(|_| rest.parse()).unwrap_or(MOST);
    // None: more than an i128 holds.
    let power = match exponent.unsigned_abs() {
        small @ 0..=19 => Some(10_u64.pow(small).into()),
        large => 10_i128.checked_pow(large),
    };
    if exponent > 0 {
        number = power.map_or(MOST, |power| number.saturating_mul(power));
    }
    number = number.min(MOST * 10);
    if factor != 1 {
        number = number.saturating_mul(factor);
    }
    if exponent < 0 {
        let (whole, rest) = power.map_or((0, number), |power| (number / power, number % power));
        inexact |= rest != 0;
        number = whole;
    }
    (number + i128::from(inexact)).min(MOST)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::BinarySi && self.is_whole() && self.nanos.abs() >= 1024 * NANO;
        if binary {
            let (number, power) = taken_apart(self.nanos / NANO, 1024, 6);
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (number, power) = taken_apart(self.nanos, 1000, 9);
        if self.format == Format::DecimalExponent {
            let exponent = 3 * power as i32 - 9;
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        write!(f, "{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    // Cases of pkg/api/resource/quantity_test.go.
    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("0n", "0"),
            ("0Ki", "0"),
            ("1n", "1n"),
            ("1024Mi", "1Gi"),
            ("0.1", "100m"),
            ("1.5Gi", "1536Mi"),
            ("1Ki", "1Ki"),
            ("100Ki", "100Ki"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1e-3", "1e-3"),
            ("0.001k", "1"),
            ("0.5Mi", "512Ki"),
            ("0.00001", "10u"),
            ("-1.01", "-1010m"),
            ("1.2Ki", "1228800m"),
            ("+0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("100", "100"),
            ("1000m", "1"),
            ("1001m", "1001m"),
            ("9223372036854775807", "9223372036854775807"),
            ("1e100", "9223372036854775807e0"),
            ("0.0000000001", "1n"),
            ("2048", "2048"),
            ("12E", "9223372036854775807"),
        ] {
            let want = canonical.strip_suffix("e0").unwrap_or(canonical);
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("Mi", QuantityError::Format),
            (".", QuantityError::Format),
            ("..", QuantityError::Numeric),
            ("..5", QuantityError::Numeric),
            ("1.1.M", QuantityError::Numeric),
            ("1+1.0M", QuantityError::Format),
            ("0.1mi", QuantityError::Suffix),
            ("0.1am", QuantityError::Format),
            ("aoeu", QuantityError::Format),
            (".5i", QuantityError::Suffix),
            ("-3.01i", QuantityError::Suffix),
            ("1 Gi", QuantityError::Format),
            ("1e", QuantityError::Suffix),
            ("1k3", QuantityError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        }
    }

    #[test]
    fn arithmetic_and_order() {
        let of = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(of("1000m"), of("1"));
        assert!(of("1Gi") > of("1G"));
        assert_eq!(of("1.5Gi").plus(of("512Mi")).to_string(), "2Gi");
        assert_eq!(of("1").minus(of("250m")).to_string(), "750m");
        assert_eq!(Quantity::default().plus(of("1Gi")).to_string(), "1Gi");
        assert_eq!(of("1100m").value(), 2);
        assert_eq!(of("-1100m").value(), -2);
        assert_eq!(of("100u").millis(), 1);
        assert_eq!((of("1E").millis(), of("1E").wide_millis()), (i64::MAX, 1_000_000_000_000_000_000_000));
        assert_eq!(of("1234567n").round_up_to_millis().to_string(), "2m");
        assert_eq!(Quantity::of(&serde_json::json!(0.5)).unwrap().millis(), 500);
    }
}
