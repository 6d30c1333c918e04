//! Whether nodes are alive, by when their leases and conditions were last renewed; and how fast pods may be made to leave when several are
//! not (`monitorNodeHealth` and `ComputeZoneState`). Pure but for the clock that it is given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::shared::meta::Meta;

/// What a kubelet must tell of its node.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// When a node was last heard of, by our own clock.
#[derive(Debug, Clone)]
struct Heard {
    at: Instant,
    lease: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
    status: Option<String>,
}

/// When nodes were last heard of.
#[derive(Debug, Default)]
pub struct Health {
    heard: HashMap<String, Heard>,
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

impl Health {
    /// Notes what a node and its lease tell; how long it has been silent.
    pub fn silent_for(&mut self, node: &Node, renewed: Option<Timestamp>, now: Instant) -> Duration {
        let condition = ready(node);
        let heartbeat =
            condition.and_then(|condition| condition.last_heartbeat_time.as_ref()).map(|time| time.0);
        let status = condition.map(|condition| condition.status.clone());
        let heard = self.heard.entry(node.name().to_owned()).or_insert_with(|| Heard {
            at: now,
            lease: renewed,
            heartbeat,
            status: status.clone(),
        });
        // What we wrote ourselves (`Unknown`) is no word of the node.
        let spoke =
            heartbeat != heard.heartbeat || (status != heard.status && status.as_deref() != Some("Unknown"));
        if renewed > heard.lease || spoke {
            heard.at = now;
        }
        *heard = Heard { at: heard.at, lease: renewed.max(heard.lease), heartbeat, status };
        now.saturating_duration_since(heard.at)
    }

    /// Forgets nodes that are gone.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.heard.retain(|name, _| is_there(name));
    }
}

/// Whether a node was ever heard of: else it is given longer.
pub fn has_told(node: &Node) -> bool {
    ready(node).is_some()
}

/// The conditions of a node that has been silent too long; `None`: they say so already.
pub fn unknown(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let current = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut new = current.clone();
    for type_ in CONDITIONS {
        match new.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(Time(now));
            }
            None => new.push(NodeCondition {
                type_: type_.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (new != current).then_some(new)
}

/// How many nodes of a zone are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneState {
    /// Most.
    Normal,
    /// Too few: it is likelier that we cannot hear them.
    PartialDisruption,
    /// None.
    FullDisruption,
}

/// Above this size of a cluster, pods of partly disrupted zones leave slowly; below it not at all (`--large-cluster-size-threshold`).
const LARGE: usize = 50;
/// From this part of nodes on a zone is disrupted (`--unhealthy-zone-threshold`).
const UNHEALTHY_PERCENT: usize = 55;

/// The state of a zone with so many nodes that are not ready.
pub fn zone_state(not_ready: usize, all: usize) -> ZoneState {
    if all > 0 && not_ready == all {
        ZoneState::FullDisruption
    } else if not_ready > 2 && not_ready * 100 >= all * UNHEALTHY_PERCENT {
        ZoneState::PartialDisruption
    } else {
        ZoneState::Normal
    }
}

/// Time between two nodes of a zone whose pods must leave; `None`: none must, for now. When all zones are out, it is us who cannot hear.
pub fn pace(state: ZoneState, nodes: usize, all_zones_out: bool) -> Option<Duration> {
    match state {
        _ if all_zones_out => None,
        ZoneState::Normal | ZoneState::FullDisruption => Some(Duration::from_secs(10)),
        ZoneState::PartialDisruption if nodes > LARGE => Some(Duration::from_secs(100)),
        ZoneState::PartialDisruption => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::NodeStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::shared::pods::tests::at;

    fn node(status: &str, heartbeat: i64) -> Node {
        Node {
            metadata: ObjectMeta { name: Some("node2".into()), ..ObjectMeta::default() },
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".into(),
                    status: status.into(),
                    last_heartbeat_time: Some(Time(at(heartbeat))),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn a_lease_or_a_status_is_a_word() {
        let mut health = Health::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let silent = |health: &mut Health, node: &Node, lease, now| {
            health.silent_for(node, Some(at(lease)), after(now)).as_secs()
        };
        assert_eq!(silent(&mut health, &node("True", 0), 0, 0), 0);
        assert_eq!(silent(&mut health, &node("True", 0), 0, 40), 40);
        assert_eq!(silent(&mut health, &node("True", 0), 10, 45), 0, "its lease was renewed");
        assert_eq!(silent(&mut health, &node("Unknown", 0), 10, 60), 15, "our own word is none of its");
        assert_eq!(silent(&mut health, &node("True", 50), 10, 70), 0, "it told its state");
        health.keep(|_| false);
        assert_eq!(silent(&mut health, &node("True", 50), 10, 90), 0);
    }

    #[test]
    fn silence_makes_all_conditions_unknown_once() {
        let mut node = node("True", 0);
        let conditions = unknown(&node, at(60)).unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        node.status.as_mut().unwrap().conditions = Some(conditions);
        assert_eq!(unknown(&node, at(70)), None);
    }

    /// After upstream's `TestComputeZoneState` and `ReducedQPSFunc`.
    #[test]
    fn zones() {
        use ZoneState::{FullDisruption, Normal, PartialDisruption};
        for (bad, all, state) in [
            (0, 3, Normal),
            (1, 3, Normal),
            (2, 3, Normal),
            (3, 3, FullDisruption),
            (3, 5, PartialDisruption),
            (54, 100, Normal),
            (55, 100, PartialDisruption),
        ] {
            assert_eq!(zone_state(bad, all), state, "{bad} of {all}");
        }
        assert_eq!(pace(Normal, 3, false), Some(Duration::from_secs(10)));
        assert_eq!(pace(PartialDisruption, 5, false), None);
        assert_eq!(pace(PartialDisruption, 100, false), Some(Duration::from_secs(100)));
        assert_eq!(pace(FullDisruption, 3, true), None);
    }
}
