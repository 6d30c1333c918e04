//! How fast an autoscaler gets where it wants (`normalizeDesiredReplicasWithBehaviors`): the most that was wanted within a window on the way
//! down, the least on the way up, and so many pods or percent within a time. Pure.

use std::collections::VecDeque;

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// What an autoscaler remembers.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What was wanted, and when.
    recommendations: VecDeque<(Timestamp, i32)>,
    /// By how much it was changed, and when.
    changes: VecDeque<(Timestamp, i32)>,
}

/// More is not remembered: an hour of the longest window at the shortest period is less.
const MOST: usize = 1000;
/// The longest window.
const HOUR: SignedDuration = SignedDuration::from_secs(3600);

/// Rules of one direction.
#[derive(Debug, Clone)]
struct Way {
    window: SignedDuration,
    policies: Vec<HPAScalingPolicy>,
    /// `Max`, `Min` or `Disabled`.
    select: String,
}

fn way(rules: Option<&HPAScalingRules>, window: SignedDuration, policies: Vec<HPAScalingPolicy>) -> Way {
    let seconds = rules.and_then(|rules| rules.stabilization_window_seconds);
    Way {
        window: seconds.map_or(window, |seconds| SignedDuration::from_secs(seconds.into())),
        policies: rules
            .and_then(|rules| rules.policies.clone())
            .filter(|all| !all.is_empty())
            .unwrap_or(policies),
        select: rules.and_then(|rules| rules.select_policy.clone()).unwrap_or_else(|| "Max".into()),
    }
}

fn policy(type_: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: type_.into(), value, period_seconds: 15 }
}

/// What is to be done, and why it is not what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How many replicas.
    pub replicas: i32,
    /// Why a window changed that: reason and message.
    pub stabilized: Option<(&'static str, &'static str)>,
    /// Why a limit changed that: reason and message.
    pub limited: Option<(&'static str, &'static str)>,
}

/// How many replicas there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At least.
    pub min: i32,
    /// At most.
    pub max: i32,
    /// The window on the way down, where the autoscaler says none.
    pub window: SignedDuration,
}

impl Memory {
    /// What was there when it was first looked at counts as wanted: a new autoscaler takes nothing away within its window
    /// (`recordInitialRecommendation`).
    pub fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            remember(&mut self.recommendations, (now, current));
        }
    }

    /// Notes a change that was made.
    pub fn changed(&mut self, by: i32, now: Timestamp) {
        remember(&mut self.changes, (now, by));
    }

    /// How many replicas to have, when so many are there and so many would be right.
    pub fn settle(
        &mut self,
        current: i32,
        wanted: i32,
        behaviour: Option<&HorizontalPodAutoscalerBehavior>,
        limits: Limits,
        now: Timestamp,
    ) -> Outcome {
        let up = way(
            behaviour.and_then(|one| one.scale_up.as_ref()),
            SignedDuration::ZERO,
            vec![policy("Percent", 100), policy("Pods", 4)],
        );
        let down = way(
            behaviour.and_then(|one| one.scale_down.as_ref()),
            limits.window,
            vec![policy("Percent", 100)],
        );
        let (stable, stabilized) = self.stabilize(current, wanted, &up, &down, now);
        let (replicas, limited) = self.limit(current, stable, &up, &down, limits, now);
        Outcome { replicas, stabilized, limited }
    }

    fn stabilize(
        &mut self,
        current: i32,
        wanted: i32,
        up: &Way,
        down: &Way,
        now: Timestamp,
    ) -> (i32, Option<(&'static str, &'static str)>) {
        remember(&mut self.recommendations, (now, wanted));
        let within = |window: SignedDuration| {
            self.recommendations
                .iter()
                .filter(move |(at, _)| now.duration_since(*at) <= window)
                .map(|(_, wanted)| *wanted)
        };
        let least = within(up.window).min().unwrap_or(wanted);
        let most = within(down.window).max().unwrap_or(wanted);
        // Up no further than the least that was wanted, down no further than the most.
        let stable = current.max(least).min(most);
        if stable == wanted {
            return (stable, None);
        }
        let why = if wanted < current {
            (
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            )
        } else {
            (
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            )
        };
        (stable, Some(why))
    }

    fn limit(
        &self,
        current: i32,
        wanted: i32,
        up: &Way,
        down: &Way,
        limits: Limits,
        now: Timestamp,
    ) -> (i32, Option<(&'static str, &'static str)>) {
        if wanted > current {
            let fast = self.up_limit(current, up, now).max(current);
            return if fast < limits.max && wanted > fast {
                (
                    fast,
                    Some((
                        "ScaleUpLimit",
                        "the desired replica count is increasing faster than the maximum scale rate",
                    )),
                )
            } else if wanted > limits.max {
                (
                    limits.max,
                    Some((
                        "TooManyReplicas",
                        "the desired replica count is more than the maximum replica count",
                    )),
                )
            } else {
                (wanted, None)
            };
        }
        if wanted < current {
            let fast = self.down_limit(current, down, now).min(current);
            return if fast > limits.min && wanted < fast {
                (
                    fast,
                    Some((
                        "ScaleDownLimit",
                        "the desired replica count is decreasing faster than the maximum scale rate",
                    )),
                )
            } else if wanted < limits.min {
                (
                    limits.min,
                    Some((
                        "TooFewReplicas",
                        "the desired replica count is less than the minimum replica count",
                    )),
                )
            } else {
                (wanted, None)
            };
        }
        (wanted, None)
    }

    /// By how much it was changed upwards (or downwards) within a time.
    fn change_within(&self, seconds: i32, upwards: bool, now: Timestamp) -> i32 {
        let window = SignedDuration::from_secs(seconds.into());
        let recent =
            self.changes.iter().filter(|(at, _)| now.duration_since(*at) < window).map(|(_, by)| *by);
        recent.filter(|by| (*by > 0) == upwards).map(i32::saturating_abs).fold(0, i32::saturating_add)
    }

    fn up_limit(&self, current: i32, way: &Way, now: Timestamp) -> i32 {
        let of = |policy: &HPAScalingPolicy| {
            let before = current.saturating_sub(self.change_within(policy.period_seconds, true, now));
            if policy.type_ == "Pods" {
                before.saturating_add(policy.value)
            } else {
                percent(before, 100_i64 + i64::from(policy.value), true)
            }
        };
        let all = way.policies.iter().map(of);
        match &*way.select {
            "Disabled" => current,
            "Min" => all.min().unwrap_or(current),
            _ => all.max().unwrap_or(current),
        }
    }

    fn down_limit(&self, current: i32, way: &Way, now: Timestamp) -> i32 {
        let of = |policy: &HPAScalingPolicy| {
            let before = current.saturating_add(self.change_within(policy.period_seconds, false, now));
            if policy.type_ == "Pods" {
                before.saturating_sub(policy.value)
            } else {
                percent(before, 100_i64 - i64::from(policy.value), false)
            }
        };
        let all = way.policies.iter().map(of);
        match &*way.select {
            "Disabled" => current,
            // The one that changes least.
            "Min" => all.max().unwrap_or(current),
            _ => all.min().unwrap_or(current),
        }
    }
}

/// Percent of a count, rounded up on the way up and down on the way down.
fn percent(count: i32, percent: i64, up: bool) -> i32 {
    let product = i64::from(count).saturating_mul(percent.max(0));
    let result = product / 100 + i64::from(up && product % 100 != 0);
    i32::try_from(result).unwrap_or(if result < 0 { i32::MIN } else { i32::MAX })
}

fn remember(list: &mut VecDeque<(Timestamp, i32)>, entry: (Timestamp, i32)) {
    let old = |at: &Timestamp| entry.0.duration_since(*at) > HOUR;
    while list.len() >= MOST || list.front().is_some_and(|(at, _)| old(at)) {
        list.pop_front();
    }
    list.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::pods::tests::at;

    const LIMITS: Limits = Limits { min: 1, max: 100, window: SignedDuration::from_secs(300) };

    #[test]
    fn down_waits_for_the_window_and_up_does_not() {
        let mut memory = Memory::default();
        assert_eq!(memory.settle(4, 8, None, LIMITS, at(0)).replicas, 8);
        let held = memory.settle(8, 2, None, LIMITS, at(100));
        assert_eq!((held.replicas, held.stabilized.map(|why| why.0)), (8, Some("ScaleDownStabilized")));
        assert_eq!(memory.settle(8, 2, None, LIMITS, at(301)).replicas, 2);
    }

    #[test]
    fn a_new_autoscaler_takes_nothing_away() {
        let mut memory = Memory::default();
        memory.begin(2, at(0));
        memory.begin(5, at(1));
        assert_eq!(memory.settle(2, 1, None, LIMITS, at(2)).replicas, 2);
        assert_eq!(memory.settle(2, 1, None, LIMITS, at(301)).replicas, 1);
    }

    #[test]
    fn rates() {
        let mut memory = Memory::default();
        let first = memory.settle(3, 50, None, LIMITS, at(0));
        assert_eq!(
            (first.replicas, first.limited.map(|why| why.0)),
            (7, Some("ScaleUpLimit")),
            "four pods, which is more than double"
        );
        memory.changed(4, at(0));
        assert_eq!(memory.settle(7, 50, None, LIMITS, at(10)).replicas, 7, "within the same fifteen seconds");
        assert_eq!(memory.settle(7, 50, None, LIMITS, at(15)).replicas, 14);
        let behaviour = HorizontalPodAutoscalerBehavior {
            scale_up: Some(HPAScalingRules {
                select_policy: Some("Disabled".into()),
                ..HPAScalingRules::default()
            }),
            scale_down: Some(HPAScalingRules {
                stabilization_window_seconds: Some(0),
                policies: Some(vec![HPAScalingPolicy { type_: "Pods".into(), value: 2, period_seconds: 60 }]),
                ..HPAScalingRules::default()
            }),
        };
        let mut memory = Memory::default();
        assert_eq!(memory.settle(10, 20, Some(&behaviour), LIMITS, at(0)).replicas, 10);
        assert_eq!(memory.settle(10, 1, Some(&behaviour), LIMITS, at(1)).replicas, 8);
        memory.changed(-2, at(1));
        assert_eq!(memory.settle(8, 1, Some(&behaviour), LIMITS, at(30)).replicas, 8);
        assert_eq!(memory.settle(8, 1, Some(&behaviour), LIMITS, at(61)).replicas, 6);
    }

    #[test]
    fn changes_as_large_as_can_be_do_not_wrap() {
        let (most, limits) = (i32::MAX, Limits { max: i32::MAX, ..LIMITS });
        let mut memory = Memory::default();
        for by in [most, -most, most, -most, most] {
            memory.changed(by, at(0));
        }
        assert_eq!(memory.settle(1, most, None, limits, at(1)).replicas, 1, "all that may change has");
        assert_eq!(memory.settle(most, 1, None, limits, at(500)).replicas, 1);
    }

    #[test]
    fn never_outside_of_the_limits() {
        let limits = Limits { min: 2, max: 5, window: SignedDuration::ZERO };
        let mut memory = Memory::default();
        let up = memory.settle(4, 8, None, limits, at(0));
        assert_eq!((up.replicas, up.limited.map(|why| why.0)), (5, Some("TooManyReplicas")));
        let down = memory.settle(4, 0, None, limits, at(1000));
        assert_eq!((down.replicas, down.limited.map(|why| why.0)), (2, Some("TooFewReplicas")));
    }
}
