//! What the scheduler knows of a pod, computed once when the pod arrives or changes (scheduler `framework/types.go`, PodInfo). Made by
//! the event loop; read by the queue, the cache and the plugins.

use std::sync::Arc;

use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PreferredSchedulingTerm, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;

use crate::resources::{NonZero, Resources, pod_requests};
use crate::terms::{Labels, NodeTerm, PodTerm, RequiredNodes, Spread};

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address; `0.0.0.0` is all.
    pub address: String,
    /// Number.
    pub port: i32,
}

impl HostPort {
    /// True if both cannot be taken on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == ALL || other.address == ALL)
    }
}

/// A claim of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Name of the PersistentVolumeClaim.
    pub name: String,
    /// True if it is made for this pod (a generic ephemeral volume).
    pub is_ephemeral: bool,
}

/// A pod and what follows from its specification.
#[derive(Debug)]
pub struct PodInfo {
    /// The pod itself.
    pub pod: Arc<Pod>,
    /// Namespace and name.
    pub key: ObjectKey,
    /// uid.
    pub uid: String,
    /// Priority; 0 if it has none.
    pub priority: i32,
    /// What it asks for.
    pub requests: Resources,
    /// What it counts for.
    pub non_zero: NonZero,
    /// Ports of the node that it takes.
    pub host_ports: Vec<HostPort>,
    /// Nodes that it may run on.
    pub required_nodes: RequiredNodes,
    /// Nodes that it would rather run on, with weights.
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    /// Pods that must be near.
    pub required_affinity: Vec<PodTerm>,
    /// Pods that must be far.
    pub required_anti_affinity: Vec<PodTerm>,
    /// Pods that should be near.
    pub preferred_affinity: Vec<PodTerm>,
    /// Pods that should be far.
    pub preferred_anti_affinity: Vec<PodTerm>,
    /// How it is to be spread.
    pub spread: Vec<Spread>,
    /// Images of its containers, with a tag each.
    pub images: Vec<String>,
    /// Its claims.
    pub claims: Vec<Claim>,
}

static NO_LABELS: Labels = Labels::new();
static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

impl PodInfo {
    /// Reads a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let (requests, non_zero) = pod_requests(&pod);
        let spec = pod.spec.as_ref().unwrap_or(&NO_SPEC);
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let term = |term| PodTerm::of(&pod, term, 0);
        Self {
            key: ObjectKey::of(&*pod),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            requests,
            non_zero,
            host_ports: host_ports(spec),
            required_nodes: RequiredNodes::of(&pod),
            preferred_nodes: preferred_nodes(spec),
            required_affinity: near
                .and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref())
                .map_or_else(Vec::new, |terms| terms.iter().map(term).collect()),
            required_anti_affinity: far
                .and_then(|far| far.required_during_scheduling_ignored_during_execution.as_ref())
                .map_or_else(Vec::new, |terms| terms.iter().map(term).collect()),
            preferred_affinity: near
                .and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref())
                .map_or_else(Vec::new, |terms| {
                    terms.iter().map(|term| PodTerm::of(&pod, &term.pod_affinity_term, term.weight)).collect()
                }),
            preferred_anti_affinity: far
                .and_then(|far| far.preferred_during_scheduling_ignored_during_execution.as_ref())
                .map_or_else(Vec::new, |terms| {
                    terms.iter().map(|term| PodTerm::of(&pod, &term.pod_affinity_term, term.weight)).collect()
                }),
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|constraint| Spread::of(&pod, constraint))
                .collect(),
            images: images(spec),
            claims: claims(spec, pod.metadata.name.as_deref().unwrap_or_default()),
            pod,
        }
    }

    /// Its specification.
    pub fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().unwrap_or(&NO_SPEC)
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        self.pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
    }

    /// Its tolerations.
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().tolerations.as_deref().unwrap_or_default()
    }

    /// The node that it is bound to.
    pub fn node(&self) -> Option<&str> {
        self.spec().node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The node that victims were removed from for it.
    pub fn nominated_node(&self) -> Option<&str> {
        self.pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref())
            .filter(|name| !name.is_empty())
    }

    /// True if it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// True if it has run to its end.
    pub fn is_finished(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// True if somebody holds it back.
    pub fn is_gated(&self) -> bool {
        self.spec().scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())
    }

    /// True if it cares which pods are near.
    pub fn has_affinity(&self) -> bool {
        !self.required_affinity.is_empty()
            || !self.required_anti_affinity.is_empty()
            || !self.preferred_affinity.is_empty()
            || !self.preferred_anti_affinity.is_empty()
    }

    /// The object that made it.
    pub fn controller(&self) -> Option<&OwnerReference> {
        drydock_kubeclient::meta::controller_of(&*self.pod)
    }

    /// When it began to run; a pod that has not begun is younger than any (`util.GetPodStartTime`).
    pub fn started(&self) -> Timestamp {
        let started = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        started.map_or(Timestamp::MAX, |time| time.0)
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            address: port
                .host_ip
                .clone()
                .filter(|address| !address.is_empty())
                .unwrap_or_else(|| "0.0.0.0".into()),
            port: number,
        })
    });
    taken.collect()
}

fn preferred_nodes(spec: &PodSpec) -> Vec<(i64, NodeTerm)> {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
    let term = |preferred: &PreferredSchedulingTerm| {
        Some((i64::from(preferred.weight), NodeTerm::of(&preferred.preference)?))
    };
    preferred.into_iter().flatten().filter_map(term).collect()
}

fn images(spec: &PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.filter_map(|container| container.image.as_deref()).map(with_tag).collect()
}

/// `normalizedImageName`.
pub(crate) fn with_tag(image: &str) -> String {
    let after_slash = image.rfind('/').map_or(image, |slash| &image[slash..]);
    if after_slash.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

fn claims(spec: &PodSpec, pod: &str) -> Vec<Claim> {
    let claims = spec.volumes.iter().flatten().filter_map(|volume| {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Claim { name: claim.claim_name.clone(), is_ephemeral: false });
        }
        volume
            .ephemeral
            .as_ref()
            .map(|_| Claim { name: format!("{pod}-{}", volume.name), is_ephemeral: true })
    });
    claims.collect()
}
