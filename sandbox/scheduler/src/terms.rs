//! Selectors and affinity terms, read once for each pod: node selectors (component-helpers `scheduling/corev1/nodeaffinity`), terms of
//! pod affinity (scheduler `framework/types.go`), spread constraints, tolerations. Called while a pod's [`crate::pod::PodInfo`] is made
//! and by the plugins.

use std::collections::{BTreeMap, BTreeSet};

use drydock_apimachinery::selectors::LabelSelector;
use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Value, json};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// True if a selector takes these labels.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches(|key| labels.get(key).map(String::as_str))
}

/// Reads a selector; none selects nothing. A selector that is invalid (the API server lets none through) selects nothing either.
pub fn selector(selector: Option<&meta::LabelSelector>) -> LabelSelector {
    let value =
        selector.map_or(Value::Null, |selector| serde_json::to_value(selector).unwrap_or(Value::Null));
    LabelSelector::of_object(&value).unwrap_or_else(|_| nothing())
}

fn nothing() -> LabelSelector {
    LabelSelector::of_object(&Value::Null).unwrap_or_default()
}

/// One alternative of a node selector: everything in it must hold.
#[derive(Clone, Debug)]
pub struct NodeTerm {
    labels: Vec<NodeSelectorRequirement>,
    fields: Vec<NodeSelectorRequirement>,
}

impl NodeTerm {
    /// Reads a term; an empty one selects no node.
    pub fn of(term: &NodeSelectorTerm) -> Option<Self> {
        let labels = term.match_expressions.clone().unwrap_or_default();
        let fields = term.match_fields.clone().unwrap_or_default();
        (!labels.is_empty() || !fields.is_empty()).then_some(Self { labels, fields })
    }

    /// True if the node is selected.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.labels
            .iter()
            .all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
            && self
                .fields
                .iter()
                .all(|requirement| holds(requirement, (requirement.key == "metadata.name").then_some(name)))
    }

    /// The node that alone can be meant, if the term names one (as the DaemonSet controller's does).
    pub fn names(&self) -> Option<Vec<&str>> {
        let named =
            self.fields.iter().find(|field| field.key == "metadata.name" && field.operator == "In")?;
        Some(named.values.iter().flatten().map(String::as_str).collect())
    }
}

/// A requirement of a node selector (`labels.Requirement`).
fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |is: fn(i64, i64) -> bool| {
        let limit = values.first().and_then(|limit| number(limit));
        value.and_then(number).zip(limit).is_some_and(|(value, limit)| is(value, limit))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|other| other == value)),
        "NotIn" => value.is_none_or(|value| values.iter().all(|other| other != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, limit| value > limit),
        "Lt" => compare(|value, limit| value < limit),
        _ => false,
    }
}

/// Which nodes a pod may run on: its node selector and its required node affinity.
#[derive(Clone, Debug, Default)]
pub struct RequiredNodes {
    selector: Labels,
    /// One of them must hold, if there are any.
    terms: Option<Vec<NodeTerm>>,
}

impl RequiredNodes {
    /// Reads a pod's.
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let affinity =
            spec.and_then(|spec| spec.affinity.as_ref()).and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            selector: spec.and_then(|spec| spec.node_selector.clone()).unwrap_or_default(),
            terms: required
                .map(|required| required.node_selector_terms.iter().filter_map(NodeTerm::of).collect()),
        }
    }

    /// True if any node will do.
    pub fn is_empty(&self) -> bool {
        self.selector.is_empty() && self.terms.is_none()
    }

    /// True if the node will do.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// The nodes that alone can be meant, if every alternative names some.
    pub fn names(&self) -> Option<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for term in self.terms.as_ref().filter(|terms| !terms.is_empty())? {
            names.extend(term.names()?.into_iter().map(ToOwned::to_owned));
        }
        Some(names)
    }
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug)]
pub struct PodTerm {
    namespaces: BTreeSet<String>,
    /// Namespaces by their labels; none: only those that are named.
    namespace_selector: Option<LabelSelector>,
    selector: LabelSelector,
    /// Pods are together if their nodes have the same value of this label.
    pub topology_key: String,
    /// Weight of a preferred term.
    pub weight: i64,
}

impl PodTerm {
    /// Reads a term of `pod`. No namespaces and no selector of namespaces mean the pod's own.
    pub fn of(pod: &Pod, term: &PodAffinityTerm, weight: i32) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.metadata.namespace.clone().unwrap_or_default());
        }
        // matchLabelKeys and mismatchLabelKeys are made part of the label selector by the API server.
        Self {
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map(|namespaces| selector(Some(namespaces))),
            selector: selector(term.label_selector.as_ref()),
            topology_key: term.topology_key.clone(),
            weight: weight.into(),
        }
    }

    /// True if a pod with these labels in this namespace is meant. `namespaces` gives the labels of a namespace.
    pub fn matches(
        &self,
        namespace: &str,
        labels: &Labels,
        namespaces: &impl Fn(&str) -> Option<Labels>,
    ) -> bool {
        let in_namespace = self.namespaces.contains(namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_empty() || namespaces(namespace).is_some_and(|labels| selects(selector, &labels))
            });
        in_namespace && selects(&self.selector, labels)
    }
}

/// A constraint on how pods are spread.
#[derive(Clone, Debug)]
pub struct Spread {
    /// How uneven it may be.
    pub max_skew: i64,
    /// Label whose values are the domains.
    pub topology_key: String,
    /// True: nodes that break it are out. False: they only score less.
    pub is_hard: bool,
    /// Which pods are counted.
    pub selector: LabelSelector,
    /// With fewer domains than this, an empty one is taken to exist.
    pub min_domains: i64,
    /// Count only nodes that the pod's node affinity takes.
    pub honors_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honors_taints: bool,
}

impl Spread {
    /// Reads a constraint of `pod`; labels that `matchLabelKeys` names must be as the pod's own.
    pub fn of(pod: &Pod, constraint: &TopologySpreadConstraint) -> Self {
        let mut value = constraint
            .label_selector
            .as_ref()
            .map_or(Value::Null, |selector| serde_json::to_value(selector).unwrap_or_default());
        for key in constraint.match_label_keys.iter().flatten() {
            if let (Some(own), Value::Object(selector)) =
                (pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)), &mut value)
            {
                let expression = json!({"key": key, "operator": "In", "values": [own]});
                if let Value::Array(list) = selector.entry("matchExpressions").or_insert_with(|| json!([])) {
                    list.push(expression);
                }
            }
        }
        Self {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.clone(),
            is_hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector: LabelSelector::of_object(&value).unwrap_or_else(|_| nothing()),
            min_domains: constraint.min_domains.unwrap_or(1).into(),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

/// True if one of the tolerations tolerates the taint (`Toleration.ToleratesTaint`).
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref().unwrap_or_default() {
                "Exists" => true,
                "" | "Equal" => {
                    toleration.value.as_deref().unwrap_or_default()
                        == taint.value.as_deref().unwrap_or_default()
                }
                _ => false,
            }
    })
}

/// The first taint that keeps the pod away.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    taints.iter().filter(keeps_away).find(|taint| !tolerates(tolerations, taint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_of_node_selectors() {
        let cases = [
            ("In", &["a", "b"][..], Some("a"), true),
            ("In", &["a"], None, false),
            ("NotIn", &["a"], None, true),
            ("NotIn", &["a"], Some("a"), false),
            ("Exists", &[], Some(""), true),
            ("DoesNotExist", &[], Some("x"), false),
            ("Gt", &["5"], Some("6"), true),
            ("Gt", &["5"], Some("5"), false),
            ("Lt", &["5"], Some("x"), false),
            ("Lt", &["5"], Some("-1"), true),
        ];
        for (operator, values, value, expected) in cases {
            let values = Some(values.iter().map(ToString::to_string).collect());
            let requirement = NodeSelectorRequirement { key: "k".into(), operator: operator.into(), values };
            assert_eq!(holds(&requirement, value), expected, "{operator} {value:?}");
        }
    }

    #[test]
    fn tolerations_of_taints() {
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| Toleration {
            key: Some(key.into()),
            operator: Some(operator.into()),
            value: Some(value.into()),
            effect: Some(effect.into()),
            toleration_seconds: None,
        };
        let cases = [
            (toleration("k", "Equal", "v", "NoSchedule"), true),
            (toleration("k", "", "v", ""), true),
            (toleration("k", "Equal", "other", ""), false),
            (toleration("k", "Exists", "", ""), true),
            (toleration("", "Exists", "", ""), true),
            (toleration("k", "Exists", "", "NoExecute"), false),
        ];
        for (toleration, expected) in cases {
            assert_eq!(tolerates(std::slice::from_ref(&toleration), &taint), expected, "{toleration:?}");
        }
        let soft = Taint { effect: "PreferNoSchedule".into(), ..taint.clone() };
        assert!(untolerated(&[soft], &[]).is_none(), "a soft taint keeps nobody away");
        assert_eq!(untolerated(std::slice::from_ref(&taint), &[]), Some(&taint));
    }
}
