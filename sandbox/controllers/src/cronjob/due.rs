//! Which time of a schedule is due (pkg/controller/cronjob/utils.go). Pure.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

use super::schedule::Schedule;
use crate::shared::meta::Meta;

/// From so many missed times on, the learner is told.
const TOO_MANY: usize = 100;

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The latest time that has passed and that no Job was made for.
    pub at: Option<Timestamp>,
    /// Whether there were very many of those.
    pub too_many: bool,
    /// The next one.
    pub next: Option<Timestamp>,
}

/// What is due of a CronJob.
pub fn due(job: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Due {
    let mut earliest = job
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref())
        .map_or_else(|| job.created(), |time| time.0);
    let deadline = job.spec.as_ref().and_then(|spec| spec.starting_deadline_seconds);
    if let Some(seconds) = deadline {
        let from = now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::UNIX_EPOCH);
        earliest = earliest.max(from);
    }
    let next_after =
        |time: Timestamp| schedule.next(&time.to_zoned(zone.clone())).map(|next| next.timestamp());
    let next = next_after(now);
    let Some(first) = next_after(earliest).filter(|first| *first <= now) else {
        return Due { at: None, too_many: false, next };
    };
    let Some(second) = next_after(first).filter(|second| *second <= now) else {
        return Due { at: Some(first), too_many: false, next };
    };
    // Of very many only the last matters: it is looked for near the end, one period before now, as far as periods are alike.
    let period = second.duration_since(first).max(SignedDuration::from_secs(1));
    let missed = usize::try_from(now.duration_since(first).as_secs() / period.as_secs().max(1))
        .unwrap_or(usize::MAX)
        + 1;
    let mut at = second;
    if missed > TOO_MANY {
        let near = now.checked_sub(period * 10).unwrap_or(at);
        at = next_after(near).filter(|time| *time <= now && *time > at).unwrap_or(at);
    }
    let mut steps = 0;
    while let Some(later) = next_after(at).filter(|later| *later <= now) {
        at = later;
        steps += 1;
        // Schedules are unlike their first period (`0 0 1,2 1 *`): the way is never longer than a year of minutes.
        if steps > 600_000 {
            break;
        }
    }
    let too_many = deadline.is_none_or(|seconds| seconds > 0) && missed > TOO_MANY;
    Due { at: Some(at), too_many, next }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::{CronJobSpec, CronJobStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn job(created: &str, last: Option<&str>, deadline: Option<i64>) -> CronJob {
        CronJob {
            metadata: ObjectMeta { creation_timestamp: Some(Time(at(created))), ..ObjectMeta::default() },
            spec: Some(CronJobSpec { starting_deadline_seconds: deadline, ..CronJobSpec::default() }),
            status: Some(CronJobStatus {
                last_schedule_time: last.map(|last| Time(at(last))),
                ..CronJobStatus::default()
            }),
        }
    }

    /// After upstream's `TestMostRecentScheduleTime`: on the hour, created at ten.
    #[test]
    fn due_times() {
        let created = "2016-05-19T10:00:00Z";
        for (last, deadline, now, expected, too_many) in [
            (None, None, "2016-05-19T10:00:00Z", None, false),
            (None, None, "2016-05-19T10:30:00Z", None, false),
            (None, None, "2016-05-19T11:00:05Z", Some("2016-05-19T11:00:00Z"), false),
            (Some("2016-05-19T11:00:00Z"), None, "2016-05-19T11:30:00Z", None, false),
            (None, None, "2016-05-19T16:30:00Z", Some("2016-05-19T16:00:00Z"), false),
            (None, Some(7200), "2016-05-19T16:30:00Z", Some("2016-05-19T16:00:00Z"), false),
            (None, Some(60), "2016-05-19T16:30:00Z", None, false),
            (None, None, "2016-06-19T16:30:00Z", Some("2016-06-19T16:00:00Z"), true),
        ] {
            let schedule = Schedule::parse("0 * * * *").unwrap();
            let due = due(&job(created, last, deadline), &schedule, &TimeZone::UTC, at(now));
            assert_eq!(due.at, expected.map(at), "{last:?} {deadline:?} {now}");
            assert_eq!(due.too_many, too_many, "{now}");
            assert!(due.next.unwrap() > at(now));
        }
    }

    #[test]
    fn a_time_that_never_comes() {
        let schedule = Schedule::parse("59 23 31 2 *").unwrap();
        let created = "2016-05-19T10:00:00Z";
        let due = due(&job(created, None, None), &schedule, &TimeZone::UTC, at(created));
        assert_eq!(due, Due { at: None, too_many: false, next: None });
    }

    #[test]
    fn a_time_in_the_zone_that_is_asked_for() {
        let schedule = Schedule::parse("30 9 * * *").unwrap();
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        let due = due(&job("2016-05-19T00:00:00Z", None, None), &schedule, &zone, at("2016-05-19T04:00:01Z"));
        assert_eq!(due.at, Some(at("2016-05-19T04:00:00Z")));
    }
}
