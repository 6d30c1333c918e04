//! On which nodes a DaemonSet's pod belongs, and what it looks like there. Pure.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Toleration,
};

use crate::node::taints::{
    NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE, taints, tolerates,
};
use crate::shared::meta::{Meta, controller_ref};
use crate::shared::node_selector::fits_pod;
use crate::shared::pods::{from_template, node as bound_to};

/// The label with the hash of the template that a pod is of.
pub const HASH: &str = "controller-revision-hash";
const TEMPLATE_GENERATION: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// Whether a pod belongs on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// One is to be made.
    pub should_run: bool,
    /// One that is there may stay.
    pub should_continue: bool,
}

/// Tolerations that each pod of a DaemonSet has: it stays on a node that is not well (`AddOrUpdateDaemonPodTolerations`).
fn add_tolerations(spec: &mut PodSpec) {
    let pressure = |name| format!("node.kubernetes.io/{name}");
    let mut wanted = vec![
        (NOT_READY.to_owned(), NO_EXECUTE),
        (UNREACHABLE.to_owned(), NO_EXECUTE),
        (pressure("disk-pressure"), NO_SCHEDULE),
        (pressure("memory-pressure"), NO_SCHEDULE),
        (pressure("pid-pressure"), NO_SCHEDULE),
        (UNSCHEDULABLE.to_owned(), NO_SCHEDULE),
    ];
    if spec.host_network == Some(true) {
        wanted.push((pressure("network-unavailable"), NO_SCHEDULE));
    }
    let list = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        let same = |other: &&mut Toleration| other.key == toleration.key && other.effect == toleration.effect;
        match list.iter_mut().find(same) {
            Some(other) => *other = toleration,
            None => list.push(toleration),
        }
    }
}

/// Whether the set's pod belongs on a node (`NodeShouldRunDaemonPod`).
pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let no = Fit { should_run: false, should_continue: false };
    let Some(mut spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.clone()) else { return no };
    if spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != node.name()) {
        return no;
    }
    add_tolerations(&mut spec);
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let untolerated = |effects: &[&str]| {
        taints(node)
            .iter()
            .filter(|taint| effects.contains(&&*taint.effect))
            .any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    };
    if !fits_pod(&spec, node) {
        return no;
    }
    Fit { should_run: !untolerated(&[NO_SCHEDULE, NO_EXECUTE]), should_continue: !untolerated(&[NO_EXECUTE]) }
}

/// The node that a pod is on or is pinned to.
pub fn target(pod: &Pod) -> Option<&str> {
    let bound = bound_to(pod);
    if !bound.is_empty() {
        return Some(bound);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut fields = selector.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    match field.values.as_deref()? {
        [name] => Some(name),
        _ => None,
    }
}

/// The hash of the template that a pod is of.
pub fn hash(pod: &Pod) -> &str {
    pod.label(HASH).unwrap_or_default()
}

/// A pod for a node: the scheduler binds it, but nowhere else.
pub fn new_pod(set: &DaemonSet, hash: &str, node: &str) -> Option<Pod> {
    let owner = controller_ref("apps/v1", "DaemonSet", &set.metadata);
    let mut pod = from_template(&set.spec.as_ref()?.template, set.name(), set.namespace(), owner);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.into());
    if let Some(generation) = set.annotation(GENERATION_ANNOTATION) {
        labels.insert(TEMPLATE_GENERATION.into(), generation.into());
    }
    let spec = pod.spec.get_or_insert_default();
    add_tolerations(spec);
    let pin = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.into()]),
        }]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    // What the template asked for was checked: this node fits.
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![pin] });
    Some(pod)
}
