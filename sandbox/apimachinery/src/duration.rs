//! Durations for people and as Go writes them.

use std::fmt::Write;

/// A duration as `kubectl get` shows ages (k8s.io/apimachinery `pkg/util/duration`, `HumanDuration`).
pub fn human_duration(seconds: i64) -> String {
    // As upstream: a clock that is a little behind is no error.
    if seconds < -1 {
        return "<invalid>".into();
    }
    if seconds < 0 {
        return "0s".into();
    }
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s / MINUTE % 60, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// A duration as Go's `time.Duration` writes itself: `1h0m0.5s`, `250ms`.
pub fn go_duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let mut out = String::new();
    if nanos < 0 {
        out.push('-');
    }
    let _infallible = match magnitude {
        0 => write!(out, "0s"),
        n if n < 1_000 => write!(out, "{n}ns"),
        n if n < 1_000_000 => write!(out, "{}µs", decimal(n, 1_000)),
        n if n < 1_000_000_000 => write!(out, "{}ms", decimal(n, 1_000_000)),
        n => {
            let (seconds, rest) = (n / 1_000_000_000, n % 1_000_000_000);
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let last = decimal(seconds % 60 * 1_000_000_000 + rest, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => write!(out, "{last}s"),
                (0, minutes) => write!(out, "{minutes}m{last}s"),
                (hours, minutes) => write!(out, "{hours}h{minutes}m{last}s"),
            }
        }
    };
    out
}

/// A fraction without trailing zeros.
fn decimal(number: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let (whole, rest) = (number / unit, number % unit);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

/// A duration that is written as Go writes it.
pub fn parse(text: &str) -> Option<chrono::Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(chrono::Duration::zero());
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("\u{b5}s", 1e3),
            ("\u{3bc}s", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 60e9),
            ("h", 3600e9),
        ];
        let (unit, after) =
            units.iter().find_map(|(unit, nanos)| Some((*nanos, rest[end..].strip_prefix(unit)?)))?;
        nanos += number * unit;
        rest = after;
    }
    Some(chrono::Duration::nanoseconds((if negative { -nanos } else { nanos }) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's cases (`pkg/util/duration/duration_test.go`).
    #[test]
    fn ages_are_kubectls() {
        const M: i64 = 60;
        const H: i64 = 60 * M;
        const D: i64 = 24 * H;
        for (seconds, shown) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (70, "70s"),
            (119, "119s"),
            (2 * M, "2m"),
            (2 * M + 1, "2m1s"),
            (10 * M - 1, "9m59s"),
            (10 * M, "10m"),
            (3 * H - 1, "179m"),
            (3 * H, "3h"),
            (3 * H + 5 * M, "3h5m"),
            (8 * H - 1, "7h59m"),
            (8 * H, "8h"),
            (2 * D - 1, "47h"),
            (2 * D, "2d"),
            (2 * D + H, "2d1h"),
            (8 * D - 1, "7d23h"),
            (8 * D, "8d"),
            (2 * 365 * D - 1, "729d"),
            (2 * 365 * D, "2y"),
            (2 * 365 * D + 23 * H, "2y"),
            (2 * 365 * D + D, "2y1d"),
            (8 * 365 * D - 1, "7y364d"),
            (8 * 365 * D, "8y"),
        ] {
            assert_eq!(human_duration(seconds), shown);
        }
    }

    #[test]
    fn gos_durations() {
        for (nanos, shown) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(go_duration(nanos), shown);
        }
    }
}
