//! The time as Docker writes it: RFC 3339 with nanoseconds, in UTC, without trailing zeros.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    text(since.as_secs(), since.subsec_nanos())
}

fn text(seconds: u64, nanos: u32) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let time = seconds % 86_400;
    let mut fraction = format!(".{nanos:09}");
    fraction.truncate(fraction.trim_end_matches('0').trim_end_matches('.').len());
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Year, month and day of a day since 1970-01-01 ("days from civil", Howard Hinnant; eras of 400 years).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_docker_does() {
        assert_eq!(super::text(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(super::text(951_827_696, 500_000_000), "2000-02-29T12:34:56.5Z");
        assert_eq!(super::text(1_795_235_736, 823_496_420), "2026-11-21T04:35:36.82349642Z");
        assert_eq!(super::text(4_102_444_799, 1), "2099-12-31T23:59:59.000000001Z");
    }
}
