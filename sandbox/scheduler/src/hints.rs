//! What happens in the cluster, and whom it may help (each plugin's `EventsToRegister` and its queueing hints). Asked by the queue; pure.

use crate::node::NodeInfo;
use crate::plugins::{Plugin, node_alone};
use crate::pod::PodInfo;
use crate::terms::{Labels, PodTerm, selects};

/// Something that may make pods schedulable.
#[derive(Clone, Copy)]
pub enum ClusterEvent<'a> {
    /// A node came.
    NodeAdded(&'a NodeInfo),
    /// A node changed, in these respects.
    NodeChanged {
        /// The node as it is.
        node: &'a NodeInfo,
        /// It has more or less to give.
        allocatable: bool,
        /// It has other labels.
        labels: bool,
        /// It has other taints, or was cordoned or uncordoned.
        taints: bool,
    },
    /// A node is gone.
    NodeRemoved,
    /// A pod came to a node, or has changed there.
    PodPlaced {
        /// The pod as it was there before.
        old: Option<&'a PodInfo>,
        /// The pod as it is.
        pod: &'a PodInfo,
        /// Labels of namespaces.
        namespaces: &'a dyn Fn(&str) -> Option<Labels>,
    },
    /// A pod left its node.
    PodRemoved {
        /// The pod as it was.
        pod: &'a PodInfo,
        /// Labels of namespaces.
        namespaces: &'a dyn Fn(&str) -> Option<Labels>,
    },
    /// A claim, a volume or a class changed.
    Storage,
    /// A namespace has other labels.
    Namespace,
    /// A claim or a class of devices changed.
    Devices,
}

/// True if the event may change what the plugin said of `pod`.
pub fn may_help(plugin: Plugin, event: ClusterEvent<'_>, pod: &PodInfo) -> bool {
    use ClusterEvent::{
        Devices, Namespace, NodeAdded, NodeChanged, NodeRemoved, PodPlaced, PodRemoved, Storage,
    };
    match event {
        NodeAdded(node) => node_alone(plugin, pod, node),
        NodeChanged { node, allocatable, labels, taints } => {
            let looks = match plugin {
                Plugin::NodeResourcesFit => allocatable,
                Plugin::NodeUnschedulable | Plugin::TaintToleration => taints,
                Plugin::NodeAffinity | Plugin::VolumeBinding | Plugin::InterPodAffinity => labels,
                Plugin::PodTopologySpread | Plugin::DynamicResources => labels || taints,
                Plugin::SchedulingGates
                | Plugin::NodeName
                | Plugin::NodePorts
                | Plugin::VolumeRestrictions => false,
            };
            looks && node_alone(plugin, pod, node)
        }
        NodeRemoved => plugin == Plugin::PodTopologySpread,
        PodPlaced { old, pod: other, namespaces } => match plugin {
            Plugin::NodeResourcesFit => old.is_some_and(|old| frees(old, other, pod)),
            Plugin::PodTopologySpread => match old {
                None => is_spread_with(pod, other),
                Some(old) => is_counted_otherwise(pod, old, other),
            },
            Plugin::InterPodAffinity => match old {
                None => matches_all(&pod.required_affinity, other, namespaces),
                Some(old) => {
                    let near = |other| matches_all(&pod.required_affinity, other, namespaces);
                    let far = |other| matches_all(&pod.required_anti_affinity, other, namespaces);
                    !near(old) && near(other) || far(old) && !far(other)
                }
            },
            _ => false,
        },
        PodRemoved { pod: other, namespaces } => match plugin {
            // Whatever it asked for, it was one pod of the node's number.
            Plugin::NodeResourcesFit | Plugin::VolumeRestrictions => true,
            Plugin::NodePorts => other
                .host_ports
                .iter()
                .any(|taken| pod.host_ports.iter().any(|wanted| wanted.conflicts(taken))),
            Plugin::PodTopologySpread => is_spread_with(pod, other),
            Plugin::InterPodAffinity => {
                matches_all(&pod.required_anti_affinity, other, namespaces)
                    || matches_any(&other.required_anti_affinity, pod, namespaces)
            }
            _ => false,
        },
        Storage => matches!(plugin, Plugin::VolumeBinding | Plugin::VolumeRestrictions),
        Namespace => plugin == Plugin::InterPodAffinity,
        Devices => plugin == Plugin::DynamicResources,
    }
}

/// Whether a pod that was changed asks for less of what another waits for (`isSchedulableAfterPodScaleDown`).
fn frees(old: &PodInfo, new: &PodInfo, waiting: &PodInfo) -> bool {
    let (old, new, wanted) = (&old.requests, &new.requests, &waiting.requests);
    wanted.milli_cpu > 0 && old.milli_cpu > new.milli_cpu
        || wanted.memory > 0 && old.memory > new.memory
        || wanted.ephemeral_storage > 0 && old.ephemeral_storage > new.ephemeral_storage
        || wanted.scalars.iter().any(|(name, amount)| *amount > 0 && old.scalar(name) > new.scalar(name))
}

/// Whether a constraint of the pod counts the other one.
fn is_spread_with(pod: &PodInfo, other: &PodInfo) -> bool {
    let mut hard = pod.spread.iter().filter(|rule| rule.is_hard);
    pod.key.namespace == other.key.namespace && hard.any(|rule| selects(&rule.selector, other.labels()))
}

/// Whether a constraint of the pod counts one that has changed only now, or no longer.
fn is_counted_otherwise(pod: &PodInfo, old: &PodInfo, new: &PodInfo) -> bool {
    let mut hard = pod.spread.iter().filter(|rule| rule.is_hard);
    let counts = |selector, other: &PodInfo| selects(selector, other.labels()) && !other.is_terminating();
    pod.key.namespace == new.key.namespace
        && hard.any(|rule| counts(&rule.selector, old) != counts(&rule.selector, new))
}

type Namespaces<'a> = &'a dyn Fn(&str) -> Option<Labels>;

/// Terms of a pod that waits are met by one pod or by none (`podMatchesAllAffinityTerms`).
fn matches_all(terms: &[PodTerm], pod: &PodInfo, namespaces: Namespaces<'_>) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(&pod.key.namespace, pod.labels(), &namespaces))
}

fn matches_any(terms: &[PodTerm], pod: &PodInfo, namespaces: Namespaces<'_>) -> bool {
    terms.iter().any(|term| term.matches(&pod.key.namespace, pod.labels(), &namespaces))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::testing::pod;

    fn helps(plugin: Plugin, old: Option<&Arc<PodInfo>>, new: Option<&Arc<PodInfo>>, pod: &PodInfo) -> bool {
        let namespaces = &|_: &str| None::<Labels>;
        let old = old.map(Arc::as_ref);
        let event = match (old, new) {
            (_, Some(pod)) => ClusterEvent::PodPlaced { old, pod, namespaces },
            (Some(pod), None) => ClusterEvent::PodRemoved { pod, namespaces },
            (None, None) => return false,
        };
        may_help(plugin, event, pod)
    }

    fn with_term(kind: &str) -> Arc<PodInfo> {
        let term =
            json!([{"labelSelector": {"matchLabels": {"q": "q"}}, "topologyKey": "kubernetes.io/hostname"}]);
        let affinity = json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": term}});
        pod("p").with("/spec/affinity", affinity).build()
    }

    #[test]
    fn pods_near_and_far_help_only_if_they_are_meant() {
        use Plugin::InterPodAffinity as Near;
        let (meant, other) = (pod("a").label("q", "q").on("n").build(), pod("b").on("n").build());
        let near = with_term("podAffinity");
        assert!(helps(Near, None, Some(&meant), &near));
        assert!(helps(Near, Some(&other), Some(&meant), &near));
        assert!(!helps(Near, None, Some(&other), &near));
        assert!(!helps(Near, Some(&meant), Some(&meant), &near));
        assert!(!helps(Near, Some(&other), None, &near) && !helps(Near, Some(&meant), None, &near));
        let far = with_term("podAntiAffinity");
        assert!(helps(Near, Some(&meant), None, &far));
        assert!(helps(Near, Some(&meant), Some(&other), &far));
        assert!(!helps(Near, Some(&other), None, &far) && !helps(Near, None, Some(&meant), &far));
        assert!(helps(Near, Some(&far), None, &meant), "what did not want it near has gone");
    }

    #[test]
    fn spread_pods_are_helped_by_those_that_are_counted() {
        use Plugin::PodTopologySpread as Spread;
        let (counted, other) = (pod("a").label("q", "q").on("n").build(), pod("b").on("n").build());
        let rule = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"q": "q"}}}]);
        let spread = pod("p").with("/spec/topologySpreadConstraints", rule).build();
        assert!(helps(Spread, None, Some(&counted), &spread) && helps(Spread, Some(&counted), None, &spread));
        assert!(helps(Spread, Some(&counted), Some(&other), &spread));
        assert!(!helps(Spread, None, Some(&other), &spread) && !helps(Spread, Some(&other), None, &spread));
        assert!(!helps(Spread, Some(&counted), Some(&counted), &spread));
    }

    #[test]
    fn room_is_made_by_whoever_goes_or_asks_for_less() {
        use Plugin::NodeResourcesFit as Fit;
        let (large, small) = (pod("a").cpu("2").on("n").build(), pod("a").cpu("1").on("n").build());
        let waits = pod("p").cpu("3").build();
        assert!(helps(Fit, Some(&large), Some(&small), &waits));
        assert!(!helps(Fit, Some(&small), Some(&large), &waits) && !helps(Fit, None, Some(&large), &waits));
        assert!(helps(Fit, Some(&small), None, &waits));
        assert!(!helps(Fit, Some(&large), Some(&small), &pod("p").memory("3Gi").build()));
        let port = |name: &str, port: i32| {
            let ports = json!([{"containerPort": 80, "hostPort": port}]);
            pod(name).with("/spec/containers/0/ports", ports).build()
        };
        assert!(helps(Plugin::NodePorts, Some(&port("a", 80)), None, &port("p", 80)));
        assert!(!helps(Plugin::NodePorts, Some(&port("a", 81)), None, &port("p", 80)));
    }
}
