//! Numbers that are written as a count or a percentage (`intstr.IntOrString`).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage of a count is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Down.
    Down,
    /// Up.
    Up,
}

/// The value of a count or percentage of `total`; `None` if it is neither (`GetScaledValueFromIntOrPercent`).
pub fn scaled(value: &IntOrString, total: i32, round: Round) -> Option<i32> {
    match value {
        IntOrString::Int(count) => Some(*count),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(i64::from(total))?;
            let result = match round {
                Round::Down => product.div_euclid(100),
                Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0),
            };
            i32::try_from(result).ok()
        }
    }
}

/// The sum of counts; what is more than a count can be is the largest one.
pub fn sum(counts: impl IntoIterator<Item = i32>) -> i32 {
    counts.into_iter().fold(0, i32::saturating_add)
}

/// How many pods a rolling update may have too many and too few (`ResolveFenceposts`): if both came out as 0, one may be missing.
pub fn fenceposts(
    surge: Option<&IntOrString>,
    unavailable: Option<&IntOrString>,
    desired: i32,
) -> (i32, i32) {
    let zero = IntOrString::Int(0);
    let surge = scaled(surge.unwrap_or(&zero), desired, Round::Up).unwrap_or(0);
    let unavailable = scaled(unavailable.unwrap_or(&zero), desired, Round::Down).unwrap_or(0);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> IntOrString {
        text.parse().map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int)
    }

    /// The cases of upstream's `TestResolveFenceposts`.
    #[test]
    fn fenceposts_of_upstream() {
        for (surge, unavailable, desired, expected) in [
            ("0%", "0%", 0, (0, 1)),
            ("39%", "39%", 10, (4, 3)),
            ("50%", "70%", 10, (5, 7)),
            ("100%", "100%", 10, (10, 10)),
            ("0", "2", 0, (0, 2)),
            ("25%", "25%", 3, (1, 0)),
            ("oops", "20%", 20, (0, 4)),
        ] {
            assert_eq!(
                fenceposts(Some(&of(surge)), Some(&of(unavailable)), desired),
                expected,
                "{surge} {unavailable} {desired}"
            );
        }
        assert_eq!(scaled(&of("-5%"), 10, Round::Up), Some(0));
        assert_eq!(scaled(&of("%"), 10, Round::Up), None);
    }
}
