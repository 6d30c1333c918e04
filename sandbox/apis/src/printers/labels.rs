//! Labels and selectors as one line of text (`labels.FormatLabels`, `metav1.FormatLabelSelector`).

use crate::tree::get;
use drydock_apimachinery::selectors::LabelSelector;
use serde_json::Value;

/// `a=b,c=d`, or `<none>`.
pub fn format(labels: &Value) -> String {
    let all: Vec<_> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if all.is_empty() { super::NONE.into() } else { all.join(",") }
}

/// A label selector as a query, or `<none>`; `<error>` if it is none.
pub fn format_selector(selector: &Value) -> String {
    match selector_text(selector) {
        None => "<error>".into(),
        Some(text) if text.is_empty() => super::NONE.into(),
        Some(text) => text,
    }
}

/// A label selector as a query; absent if it is none.
pub fn selector_text(selector: &Value) -> Option<String> {
    LabelSelector::of_object(selector).ok().map(|selector| selector.to_string())
}

/// `spec.selector` of an object whose selector is a label selector.
pub fn of_spec(object: &Value) -> String {
    format_selector(get(get(object, "spec"), "selector"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_read_as_queries() {
        for (selector, want) in [
            (json!(null), "<none>"),
            (json!({}), "<none>"),
            (json!({"matchLabels": {"b": "1", "a": "2"}}), "a=2,b=1"),
            (
                json!({"matchLabels": {"m": "1"}, "matchExpressions": [
                    {"key": "z", "operator": "In", "values": ["b", "a"]}, {"key": "e", "operator": "Exists"},
                    {"key": "d", "operator": "DoesNotExist"}, {"key": "n", "operator": "NotIn", "values": ["x"]}]}),
                "!d,e,m=1,n notin (x),z in (a,b)",
            ),
            (json!({"matchExpressions": [{"key": "e", "operator": "Like"}]}), "<error>"),
        ] {
            assert_eq!(format_selector(&selector), want);
        }
        assert_eq!(format(&json!({"x": "y"})), "x=y");
        assert_eq!(format(&json!({})), "<none>");
    }
}
