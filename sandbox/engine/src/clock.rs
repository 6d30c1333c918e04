//! Points in time as Docker writes them: RFC 3339 with nanoseconds, UTC; and as it reads them (`since`, `until`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Nanoseconds since 1970. [`Timestamp::ZERO`] is Go's zero time, `0001-01-01T00:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const SECOND: i64 = 1_000_000_000;

impl Timestamp {
    /// Go's zero time. Below every real one.
    pub const ZERO: Self = Self(i64::MIN);

    /// Now.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// From seconds and nanoseconds since 1970.
    pub fn from_unix(seconds: i64, nanos: i64) -> Self {
        Self(seconds.saturating_mul(SECOND).saturating_add(nanos))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        if self == Self::ZERO { -62_135_596_800 } else { self.0.div_euclid(SECOND) }
    }

    /// For the kernel and libraries; what is before 1970 is 1970.
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// Nanoseconds since 1970.
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Whether it is Go's zero time.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// How long ago `earlier` was; nothing if it is later or zero.
    pub fn since(self, earlier: Self) -> Duration {
        if earlier.is_zero() || self.is_zero() {
            return Duration::ZERO;
        }
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads a `since` or `until` parameter: seconds with an optional fraction, RFC 3339, or a duration before now (`10m`).
    pub fn from_query(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
            return Some(Self::from_unix(sign * whole.parse::<i64>().ok()?, sign * nanos));
        }
        text.parse().ok().or_else(|| {
            let before = i64::try_from(parse_duration(text)?.as_nanos()).ok()?;
            Some(Self(Self::now().0.saturating_sub(before)))
        })
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN + 1, |n| -n),
        };
        Self(nanos)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

/// (year, month, day) of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// Day since 1970 of (year, month, day).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

impl fmt::Display for Timestamp {
    /// As Go's `time.RFC3339Nano`: no trailing zeros in the fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let rest = seconds.rem_euclid(86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)?;
        let nanos = if self.is_zero() { 0 } else { self.0.rem_euclid(SECOND) };
        if nanos != 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |range: std::ops::Range<usize>| -> Result<i64, ()> {
            let part = text.get(range).ok_or(())?;
            if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().map_err(|_| ()) } else { Err(()) }
        };
        let mark = |at: usize, c: u8| if text.as_bytes().get(at) == Some(&c) { Ok(()) } else { Err(()) };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        mark(4, b'-')?;
        mark(7, b'-')?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(());
        }
        let midnight = days(year, month, day) * 86_400;
        if text.len() == 10 {
            return Ok(Self::from_unix(midnight, 0));
        }
        mark(10, b'T')?;
        let mut clock = number(11..13)? * 3600 + number(14..16)? * 60;
        let mut at = 16;
        if text.as_bytes().get(16) == Some(&b':') {
            clock += number(17..19)?;
            at = 19;
        }
        let mut rest = text.get(at..).ok_or(())?;
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
            nanos = format!("{:0<9}", &fraction[..len]).get(..9).ok_or(())?.parse().map_err(|_| ())?;
            rest = &fraction[len..];
        }
        let offset = match rest.as_bytes() {
            [] | [b'Z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
                if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
            {
                let two = |a: u8, b: u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
                let east = two(*h1, *h2) * 3600 + two(*m1, *m2) * 60;
                if *sign == b'+' { east } else { -east }
            }
            _ => return Err(()),
        };
        let seconds = midnight + clock - offset;
        // Go's zero time, and all that a 64 bit count of nanoseconds can't hold.
        if seconds < -9_000_000_000 { Ok(Self::ZERO) } else { Ok(Self::from_unix(seconds, nanos)) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format!("parsing time {text:?}")))
    }
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100ms`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let value: f64 = rest[..len].parse().ok()?;
        rest = &rest[len..];
        let unit = rest.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        total += value
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

/// How long something took, in people's words, as go-units' `HumanDuration`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Go rounds hours to the nearest.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// As Go's `time.Duration` prints it: `200ms`, `1m30s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let scaled = |unit: u128| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        (nanos / unit, format!("{point}{fraction}"))
    };
    let text = |unit: u128, name: &str| {
        let (whole, fraction) = scaled(unit);
        format!("{whole}{fraction}{name}")
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => text(1_000, "µs"),
        1_000_000..1_000_000_000 => text(1_000_000, "ms"),
        _ => {
            let (seconds, fraction) = scaled(1_000_000_000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}{fraction}s"),
                (0, _) => format!("{minutes}m{seconds}{fraction}s"),
                _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_docker_does() {
        for text in [
            "2026-11-20T14:16:32.293481294Z",
            "2024-02-29T00:00:00Z",
            "1999-12-31T23:59:59.5Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        assert_eq!(
            "2026-11-20T14:16:32+02:00".parse::<Timestamp>().unwrap().to_string(),
            "2026-11-20T12:16:32Z"
        );
        assert_eq!(Timestamp::from_query("1795184199.5").unwrap().nanos(), 1_795_184_199_500_000_000);
        assert!(Timestamp::from_query("yesterday").is_none());
        assert!(Timestamp::now().since(Timestamp::from_query("10m").unwrap()) >= Duration::from_secs(599));
        assert_eq!(Timestamp::default().to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn durations_in_peoples_words() {
        assert_eq!(human(Duration::from_secs(65)), "About a minute");
        assert_eq!(human(Duration::from_secs(3 * 86_400)), "3 days");
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("5"), None);
        for (millis, text) in
            [(200, "200ms"), (90_000, "1m30s"), (1_500, "1.5s"), (3_600_000, "1h0m0s"), (0, "0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1.5µs");
        assert_eq!(go_duration(Duration::from_nanos(1_050_000)), "1.05ms");
    }
}
