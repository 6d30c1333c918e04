//! When a container is probed, and what several probes in a row tell.

use super::Kind;
use crate::pods::pod::ProbeTimes;
use std::time::Duration;

/// Once more between two ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Soon {
    /// Counted from the container's start.
    pub after: Duration,
    /// A failure counts, and is told. Otherwise only what is good does.
    pub counts: bool,
}

/// When a probe is carried out, counted from the container's start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Before its first tick.
    pub soon: Vec<Soon>,
    /// Its first tick; the others follow by its period.
    pub first: Duration,
}

impl Plan {
    /// Upstream's workers tick from when the pod came, a moment before its containers run, so a process has about a period for its start;
    /// readiness is asked for besides, when the container is seen to run (`prober_manager.go`, `UpdatePodStatus`). What is quickly up
    /// need not wait for that here, and what is not is not told before anybody would expect it to be.
    pub fn of(kind: Kind, times: ProbeTimes) -> Self {
        let (initial, period) = (Duration::from_secs(times.initial_delay), Duration::from_secs(times.period));
        match kind {
            Kind::Liveness => Self { soon: vec![], first: initial.max(period) },
            Kind::Startup | Kind::Readiness if !initial.is_zero() => Self { soon: vec![], first: initial },
            Kind::Startup | Kind::Readiness => {
                let at = |millis, counts| Soon { after: Duration::from_millis(millis), counts };
                let soon = [at(100, false), at(300, false), at(1000, kind == Kind::Readiness)];
                Self { soon: soon.into_iter().filter(|soon| soon.after < period).collect(), first: period }
            }
        }
    }
}

/// Results in a row.
#[derive(Debug, Default)]
pub(super) struct Row {
    last: Option<bool>,
    length: i32,
}

impl Row {
    /// What is certain with this one, if something is.
    pub fn verdict(&mut self, good: bool, times: ProbeTimes) -> Option<bool> {
        self.length = if self.last == Some(good) { self.length + 1 } else { 1 };
        self.last = Some(good);
        (self.length >= if good { times.successes } else { times.failures }).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(initial_delay: u64, period: u64) -> ProbeTimes {
        ProbeTimes { initial_delay, period, timeout: 1, successes: 1, failures: 3 }
    }

    #[test]
    fn processes_have_a_period_to_come_up() {
        for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
            let plan = Plan::of(kind, times(0, 10));
            assert_eq!(plan.first, Duration::from_secs(10));
            assert_eq!(plan.soon.is_empty(), kind == Kind::Liveness);
            // A failure counts after a second at the soonest, and costs no container its life.
            let counts = plan.soon.iter().filter(|soon| soon.counts).map(|soon| soon.after.as_secs());
            assert_eq!(counts.collect::<Vec<_>>(), if kind == Kind::Readiness { vec![1] } else { vec![] });
        }
        assert!(Plan::of(Kind::Readiness, times(0, 1)).soon.iter().all(|soon| !soon.counts));
        assert_eq!(
            Plan::of(Kind::Readiness, times(5, 10)),
            Plan { soon: vec![], first: Duration::from_secs(5) }
        );
        assert_eq!(Plan::of(Kind::Liveness, times(5, 10)).first, Duration::from_secs(10));
        assert_eq!(Plan::of(Kind::Liveness, times(15, 10)).first, Duration::from_secs(15));
    }

    #[test]
    fn a_verdict_wants_as_many_in_a_row_as_are_asked_for() {
        let (mut row, times) = (Row::default(), times(0, 1));
        assert_eq!(row.verdict(false, times), None);
        assert_eq!(row.verdict(false, times), None);
        assert_eq!(row.verdict(true, times), Some(true));
        assert_eq!([false; 3].map(|good| row.verdict(good, times)), [None, None, Some(false)]);
    }
}
