//! Taints that follow from a node's state, and what tolerates them. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The node does not take pods, or they leave.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Nobody has heard of the node.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// `kubectl cordon`.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Pods leave.
pub const NO_EXECUTE: &str = "NoExecute";
/// No new pods.
pub const NO_SCHEDULE: &str = "NoSchedule";

/// Conditions, their bad states, and the taints for these (`nodeConditionToTaintKeyStatusMap`).
const OF_CONDITIONS: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// The status of a node's condition; `None`: nobody has told it.
pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_).map(|condition| &*condition.status)
}

/// The taints of a node.
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn taint(key: &str, effect: &str, now: Timestamp) -> Taint {
    Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(Time(now)) }
}

/// Sets the taints of those keys and that effect to `wanted`; `None`: they are so already.
fn replaced(
    current: &[Taint],
    keys: &[&str],
    effect: &str,
    wanted: &[&str],
    now: Timestamp,
) -> Option<Vec<Taint>> {
    let ours = |taint: &Taint| taint.effect == effect && keys.contains(&&*taint.key);
    let there: Vec<&str> = current.iter().filter(|taint| ours(taint)).map(|taint| &*taint.key).collect();
    if there.len() == wanted.len() && wanted.iter().all(|key| there.contains(key)) {
        return None;
    }
    let mut new: Vec<Taint> =
        current.iter().filter(|taint| !ours(taint) || wanted.contains(&&*taint.key)).cloned().collect();
    new.extend(wanted.iter().filter(|key| !there.contains(key)).map(|key| {
        // `NoSchedule` taints that the API server's admission made have no time.
        if effect == NO_EXECUTE {
            taint(key, effect, now)
        } else {
            Taint { time_added: Some(Time(now)), ..taint(key, effect, now) }
        }
    }));
    Some(new)
}

/// The taints with those that keep new pods away as the conditions say (`doNoScheduleTaintingPass`); `None`: no change.
pub fn no_schedule(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let mut keys: Vec<&str> = OF_CONDITIONS.iter().map(|(_, _, key)| *key).collect();
    keys.push(UNSCHEDULABLE);
    let mut wanted: Vec<&str> = OF_CONDITIONS
        .iter()
        .filter(|(type_, status, _)| condition(node, type_) == Some(status))
        .map(|(_, _, key)| *key)
        .collect();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push(UNSCHEDULABLE);
    }
    replaced(taints(node), &keys, NO_SCHEDULE, &wanted, now)
}

/// The taints with that which makes pods leave: of a node in that state of `Ready` (`None`: healthy).
pub fn no_execute(node: &Node, bad: Option<&str>, now: Timestamp) -> Option<Vec<Taint>> {
    replaced(taints(node), &[NOT_READY, UNREACHABLE], NO_EXECUTE, bad.as_slice(), now)
}

/// The taint that fits the state of `Ready`; `None`: the node is healthy.
pub fn no_execute_key(node: &Node) -> Option<&'static str> {
    match condition(node, "Ready") {
        Some("True") => None,
        Some("False") => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    }
}

/// Whether a toleration tolerates a taint (`ToleratesTaint`).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given =
        |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if given(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// How long a pod stays on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// As long as it likes.
    Forever,
    /// So long.
    For(Duration),
    /// Not at all.
    No,
}

/// How long a pod with these tolerations stays on a node with these taints.
pub fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut least = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        // The first toleration that matches counts (`GetMatchingTolerations`).
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Stay::No;
        };
        if let Some(seconds) = toleration.toleration_seconds {
            least = Some(least.map_or(seconds, |least: i64| least.min(seconds)));
        }
    }
    match least {
        None => Stay::Forever,
        // Zero and negative values mean at once (`getMinTolerationTime`).
        Some(seconds) => match u64::try_from(seconds) {
            Err(_) | Ok(0) => Stay::No,
            Ok(seconds) => Stay::For(Duration::from_secs(seconds)),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeSpec, NodeStatus};

    use super::*;

    fn node(conditions: &[(&str, &str)], unschedulable: bool, taints: Vec<Taint>) -> Node {
        Node {
            spec: Some(NodeSpec {
                unschedulable: Some(unschedulable),
                taints: Some(taints),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                conditions: Some(
                    conditions
                        .iter()
                        .map(|(type_, status)| NodeCondition {
                            type_: (*type_).into(),
                            status: (*status).into(),
                            ..NodeCondition::default()
                        })
                        .collect(),
                ),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    fn keys(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        taints
            .map(|taints| taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect())
    }

    #[test]
    fn taints_follow_conditions() {
        let now = Timestamp::UNIX_EPOCH;
        let mine = taint("mine", NO_SCHEDULE, now);
        let ready = node(&[("Ready", "True")], false, vec![mine.clone()]);
        assert_eq!(no_schedule(&ready, now), None);
        let bad = node(&[("Ready", "False"), ("DiskPressure", "True")], true, vec![mine.clone()]);
        assert_eq!(
            keys(no_schedule(&bad, now)).unwrap(),
            [
                "mine:NoSchedule",
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/disk-pressure:NoSchedule",
                "node.kubernetes.io/unschedulable:NoSchedule"
            ]
        );
        let back = node(
            &[("Ready", "True")],
            false,
            vec![mine, taint(UNREACHABLE, NO_SCHEDULE, now), taint(UNREACHABLE, NO_EXECUTE, now)],
        );
        assert_eq!(
            keys(no_schedule(&back, now)).unwrap(),
            ["mine:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
        );
        assert_eq!(
            keys(no_execute(&back, None, now)).unwrap(),
            ["mine:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule"]
        );
        assert_eq!(
            keys(no_execute(&back, Some(NOT_READY), now)).unwrap().last().unwrap(),
            "node.kubernetes.io/not-ready:NoExecute",
            "one is swapped for the other"
        );
    }

    /// After upstream's `TestToleratesTaint`.
    #[test]
    fn tolerations() {
        let taint = Taint {
            key: "foo".into(),
            value: Some("bar".into()),
            effect: NO_SCHEDULE.into(),
            time_added: None,
        };
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(operator.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            toleration_seconds: None,
        };
        for (toleration, expected) in [
            (toleration("foo", "Exists", "", "NoSchedule"), true),
            (toleration("foo", "Exists", "", ""), true),
            (toleration("", "Exists", "", ""), true),
            (toleration("foo", "Equal", "bar", "NoSchedule"), true),
            (toleration("foo", "", "bar", "NoSchedule"), true),
            (toleration("foo", "Equal", "baz", "NoSchedule"), false),
            (toleration("foo", "Equal", "bar", "NoExecute"), false),
            (toleration("fizz", "Exists", "", "NoSchedule"), false),
        ] {
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        }
    }

    #[test]
    fn how_long_a_pod_stays() {
        let now = Timestamp::UNIX_EPOCH;
        let taints =
            [taint(NOT_READY, NO_EXECUTE, now), taint("x", NO_SCHEDULE, now), taint("y", NO_EXECUTE, now)];
        let tolerate = |key: &str, seconds| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let stays = |seconds| Stay::For(Duration::from_secs(seconds));
        for (tolerations, expected) in [
            (vec![], Stay::No),
            (vec![tolerate(NOT_READY, None)], Stay::No),
            (vec![tolerate(NOT_READY, None), tolerate("y", None)], Stay::Forever),
            (vec![tolerate(NOT_READY, Some(300)), tolerate("y", None)], stays(300)),
            (vec![tolerate(NOT_READY, Some(300)), tolerate("y", Some(5))], stays(5)),
            (vec![tolerate(NOT_READY, Some(300)), tolerate("y", Some(-1))], Stay::No),
            (vec![tolerate(NOT_READY, Some(300)), tolerate("y", Some(0))], Stay::No),
            (vec![tolerate(NOT_READY, Some(i64::MAX)), tolerate("y", None)], stays(i64::MAX.unsigned_abs())),
        ] {
            assert_eq!(stay(&taints, &tolerations), expected, "{tolerations:?}");
        }
        assert_eq!(stay(&[], &[]), Stay::Forever);
    }
}
