//! Whether a node fits the node selectors of a pod (k8s.io/component-helpers/scheduling/corev1/nodeaffinity). Pure.

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use super::meta::{Meta, has_all};

/// Whether a node fits a selector: one of its terms, of which all parts.
pub fn selects(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| fits_term(term, node))
}

fn fits_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let empty = |list: &Option<Vec<NodeSelectorRequirement>>| list.as_ref().is_none_or(Vec::is_empty);
    // A term without anything selects nothing.
    if empty(&term.match_expressions) && empty(&term.match_fields) {
        return false;
    }
    let labels = term.match_expressions.iter().flatten().all(|one| fits(one, node.label(&one.key)));
    // `metadata.name` is the only field.
    labels
        && term
            .match_fields
            .iter()
            .flatten()
            .all(|one| one.key == "metadata.name" && fits(one, Some(node.name())))
}

fn fits(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|other| other == value);
    let compared = |than: fn(&i64, &i64) -> bool| {
        let (Some(value), [other]) = (value, values) else { return false };
        matches!((value.parse::<i64>(), other.parse::<i64>()), (Ok(value), Ok(other)) if than(&value, &other))
    };
    match &*requirement.operator {
        "In" => value.is_some_and(listed),
        "NotIn" => value.is_none_or(|value| !listed(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

/// Whether a node fits `nodeSelector` and the required node affinity of a pod.
pub fn fits_pod(spec: &PodSpec, node: &Node) -> bool {
    let labels = spec.node_selector.as_ref().is_none_or(|wanted| has_all(wanted, node.labels()));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    labels && required.is_none_or(|selector| selects(selector, node))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn requirements() {
        let node = Node {
            metadata: ObjectMeta {
                name: Some("node2".into()),
                labels: Some(
                    [("disk".to_owned(), "ssd".to_owned()), ("cores".to_owned(), "8".to_owned())].into(),
                ),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        for (key, operator, values, expected) in [
            ("disk", "In", vec!["ssd", "hdd"], true),
            ("disk", "NotIn", vec!["hdd"], true),
            ("gpu", "NotIn", vec!["a"], true),
            ("gpu", "Exists", vec![], false),
            ("gpu", "DoesNotExist", vec![], true),
            ("cores", "Gt", vec!["4"], true),
            ("cores", "Lt", vec!["4"], false),
            ("disk", "Gt", vec!["4"], false),
            ("disk", "Near", vec!["ssd"], false),
        ] {
            let requirement = NodeSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.into_iter().map(Into::into).collect()),
            };
            let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
            assert_eq!(
                selects(&NodeSelector { node_selector_terms: vec![term] }, &node),
                expected,
                "{key} {operator}"
            );
        }
        assert!(!selects(&NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] }, &node));
        let name = NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec!["node2".into()]),
        };
        let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
        assert!(selects(&NodeSelector { node_selector_terms: vec![term] }, &node));
    }
}
