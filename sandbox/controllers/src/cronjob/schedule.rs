//! The language of schedules, as github.com/robfig/cron's `ParseStandard` has it: five fields, `@hourly` and its kin, `@every 5m`. The crates
//! that exist accept more (seconds, `L`, `#`, Sunday as 7) and treat clock changes differently; what a schedule means must not depend on that.

use jiff::civil::Weekday;
use jiff::{SignedDuration, ToSpan, Zoned};

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Times whose fields are all in the sets.
    Fields(Box<Fields>),
    /// Again and again after that time.
    Every(SignedDuration),
}

/// The sets of a schedule, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Whether days of the month (of the week) are given by a star: then both must fit, else one of them is enough.
    any_day: bool,
    any_weekday: bool,
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

impl Bounds {
    /// A number or a name.
    fn number(&self, text: &str) -> Result<u32, ParseError> {
        let lower = text.to_lowercase();
        if let Some(index) = self.names.iter().position(|name| *name == lower) {
            return Ok(self.low + u32::try_from(index).unwrap_or(0));
        }
        text.parse().map_err(|_| ParseError(format!("failed to parse int from {text}: invalid syntax")))
    }

    /// `*`, `5`, `1-5`, each with `/STEP`: the bits, and whether it was a star.
    fn range(&self, text: &str) -> Result<(u64, bool), ParseError> {
        let mut parts = text.split('/');
        let (range, step, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        if more.is_some() {
            return Err(ParseError(format!("too many slashes: {text}")));
        }
        let mut ends = range.split('-');
        let (first, last, more) = (ends.next().unwrap_or_default(), ends.next(), ends.next());
        if more.is_some() {
            return Err(ParseError(format!("too many hyphens: {text}")));
        }
        let star = matches!(range, "*" | "?");
        let (low, mut high) = if star {
            (self.low, self.high)
        } else {
            let low = self.number(first)?;
            (low, last.map_or(Ok(low), |last| self.number(last))?)
        };
        let step = match step {
            None => 1,
            Some(step) => {
                // `N/STEP` means from N to the end.
                if !star && last.is_none() {
                    high = self.high;
                }
                self.step(step, text)?
            }
        };
        if low < self.low {
            return Err(ParseError(format!(
                "beginning of range ({low}) below minimum ({}): {text}",
                self.low
            )));
        }
        if high > self.high {
            return Err(ParseError(format!("end of range ({high}) above maximum ({}): {text}", self.high)));
        }
        if low > high {
            return Err(ParseError(format!(
                "beginning of range ({low}) beyond end of range ({high}): {text}"
            )));
        }
        let bits = (low..=high).step_by(step).fold(0, |bits, number| bits | (1 << number));
        Ok((bits, star && step == 1))
    }

    fn step(&self, step: &str, text: &str) -> Result<usize, ParseError> {
        let step: usize = step
            .parse()
            .map_err(|_| ParseError(format!("failed to parse int from {step}: invalid syntax")))?;
        if step == 0 {
            return Err(ParseError(format!("step of range should be a positive number: {text}")));
        }
        Ok(step)
    }

    /// Ranges with commas between them.
    fn field(&self, text: &str) -> Result<(u64, bool), ParseError> {
        let mut all = (0, false);
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (bits, star) = self.range(part)?;
            all = (all.0 | bits, all.1 | star);
        }
        Ok(all)
    }
}

impl Schedule {
    /// Reads a schedule.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError("empty spec string".into()));
        }
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            return Err(ParseError(
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into(),
            ));
        }
        let spelled = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match other.strip_prefix('@') {
                Some(_) => return Self::every(other),
                None => other,
            },
        };
        let fields: Vec<&str> = spelled.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ParseError(format!(
                "expected exactly 5 fields, found {}: [{}]",
                fields.len(),
                fields.join(" ")
            )));
        };
        let bounds = |low, high, names| Bounds { low, high, names };
        let (day, any_day) = bounds(1, 31, &[]).field(day)?;
        let (weekday, any_weekday) = bounds(0, 6, &DAYS).field(weekday)?;
        Ok(Self::Fields(Box::new(Fields {
            minute: bounds(0, 59, &[]).field(minute)?.0,
            hour: bounds(0, 23, &[]).field(hour)?.0,
            day,
            month: bounds(1, 12, &MONTHS).field(month)?.0,
            weekday,
            any_day,
            any_weekday,
        })))
    }

    fn every(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError(format!("unrecognized descriptor: {text}"));
        let duration: SignedDuration =
            text.strip_prefix("@every ").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        // Whole seconds, one at least.
        Ok(Self::Every(SignedDuration::from_secs(duration.as_secs().max(1))))
    }

    /// The next time after that one; `None`: there is none within five years.
    pub fn next(&self, after: &Zoned) -> Option<Zoned> {
        match self {
            Self::Every(duration) => {
                let whole = after.timestamp().as_second();
                let next = jiff::Timestamp::from_second(whole).ok()?.checked_add(*duration).ok()?;
                Some(next.to_zoned(after.time_zone().clone()))
            }
            Self::Fields(fields) => fields.next(after),
        }
    }
}

fn has(bits: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| bits & (1 << number) != 0)
}

impl Fields {
    fn fits_day(&self, time: &Zoned) -> bool {
        let weekday = match time.weekday() {
            Weekday::Sunday => 0,
            other => other.to_monday_one_offset(),
        };
        let (day, weekday) = (has(self.day, time.day()), has(self.weekday, weekday));
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    /// Goes forward by the largest unit that does not fit (`SpecSchedule.Next`). Hours and minutes pass by the clock on the wall's own
    /// passing: a time that a change of clocks leaves out does not come that day.
    fn next(&self, after: &Zoned) -> Option<Zoned> {
        let whole = after.with().second(0).subsec_nanosecond(0).build().ok()?;
        let mut time = whole.checked_add(1.minute()).ok()?;
        let last = time.year() + 5;
        while time.year() <= last {
            if !has(self.month, time.month()) {
                time = time.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?;
            } else if !self.fits_day(&time) {
                time = time.checked_add(1.day()).ok()?.start_of_day().ok()?;
            } else if !has(self.hour, time.hour()) {
                // From the beginning of an hour to that of the next; an offset of half an hour keeps the minute at 0.
                time = time.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !has(self.minute, time.minute()) {
                time = time.checked_add(1.minute()).ok()?;
            } else {
                return Some(time);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(spec: &str, from: &str) -> Option<String> {
        let from: Zoned = from.parse().unwrap();
        Schedule::parse(spec).unwrap().next(&from).map(|time| time.datetime().to_string())
    }

    /// From robfig/cron's `TestNext`, without those that have seconds.
    #[test]
    fn next_times() {
        for (from, spec, expected) in [
            ("2012-07-09T14:45:00[UTC]", "0/15 * * * *", Some("2012-07-09T15:00:00")),
            ("2012-07-09T14:59:59[UTC]", "0/15 * * * *", Some("2012-07-09T15:00:00")),
            ("2012-07-09T15:45:00[UTC]", "20-35/15 * * * *", Some("2012-07-09T16:20:00")),
            ("2012-07-09T23:46:00[UTC]", "*/15 * * * *", Some("2012-07-10T00:00:00")),
            ("2012-07-09T23:45:51[UTC]", "20-35/15 1/2 */1 * *", Some("2012-07-10T01:20:00")),
            ("2012-07-09T23:35:51[UTC]", "0 0 9 Apr-Oct ?", Some("2012-08-09T00:00:00")),
            ("2012-07-09T23:35:00[UTC]", "0 0 */5 Apr,Aug,Oct Mon", Some("2012-08-01T00:00:00")),
            ("2012-07-09T23:35:00[UTC]", "0 0 * Feb Mon", Some("2013-02-04T00:00:00")),
            ("2012-07-09T23:35:00[UTC]", "0 0 29 Feb ?", Some("2016-02-29T00:00:00")),
            ("2012-12-31T23:59:45[UTC]", "* * * * *", Some("2013-01-01T00:00:00")),
            ("2012-07-09T23:35:00[UTC]", "0 0 30 Feb ?", None),
            ("2012-07-09T14:45:00[UTC]", "@hourly", Some("2012-07-09T15:00:00")),
            ("2012-07-09T14:45:10[UTC]", "@every 5m", Some("2012-07-09T14:50:10")),
            // Clocks go forward at two: what was to be then is not, that day.
            ("2012-03-11T00:00:00[America/New_York]", "30 2 11 Mar ?", Some("2013-03-11T02:30:00")),
            ("2012-03-11T01:00:00[America/New_York]", "0 * * * ?", Some("2012-03-11T03:00:00")),
            // And back at two.
            ("2012-11-04T00:00:00[America/New_York]", "0 1 4 Nov ?", Some("2012-11-04T01:00:00")),
            ("2012-11-04T00:00:00[America/New_York]", "0 3 4 Nov ?", Some("2012-11-04T03:00:00")),
            ("2021-10-24T10:00:00[Asia/Kolkata]", "30 9 * * *", Some("2021-10-25T09:30:00")),
        ] {
            assert_eq!(next(spec, from).as_deref(), expected, "{spec} from {from}");
        }
    }

    /// A day must fit both fields if one of them is a star, else either.
    #[test]
    fn days_of_month_and_week() {
        for (day, spec, expected) in [
            ("2012-07-15", "* * 1,15 * Sun", true),
            ("2012-06-15", "* * 1,15 * Sun", true),
            ("2012-08-01", "* * 1,15 * Sun", true),
            ("2012-07-14", "* * 1,15 * Sun", false),
            ("2012-07-15", "* * * * Mon", false),
            ("2012-07-15", "* * 1,15 * *", true),
            ("2012-07-15", "* * */10 * Sun", true),
            ("2012-07-09", "* * 1,15 * *", false),
        ] {
            let midnight = format!("{day}T00:00:00[UTC]").parse::<Zoned>().unwrap();
            let before = midnight.checked_sub(1.minute()).unwrap();
            let next = Schedule::parse(spec).unwrap().next(&before).unwrap();
            assert_eq!(next == midnight, expected, "{spec} on {day}");
        }
    }

    #[test]
    fn wrong_schedules() {
        for spec in [
            "",
            "xyz",
            "60 0 * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 7",
            "* * * *",
            "* * * * * *",
            "1-2-3 * * * *",
            "*/2/3 * * * *",
            "5-2 * * * *",
            "*/0 * * * *",
            "@never",
            "@every x",
            "TZ=UTC 0 0 * * *",
            "- * * * *",
            "99999999999 * * * *",
        ] {
            assert!(Schedule::parse(spec).is_err(), "{spec}");
        }
    }
}
