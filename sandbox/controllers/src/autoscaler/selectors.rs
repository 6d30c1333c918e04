//! Whose pods an autoscaler looks at: two of them over the same pods would pull in two directions (`validateAndParseSelector`). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use drydock_apimachinery::selectors::LabelSelector;
use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::core::v1::Pod;

use crate::shared::meta::Meta;

/// The selectors of all autoscalers that were looked at.
#[derive(Debug, Default)]
pub struct Selectors(Mutex<BTreeMap<(String, String), LabelSelector>>);

impl Selectors {
    /// Remembers the selector of an autoscaler's target. The names of all autoscalers that the pods belong to, if they are several.
    pub fn put(&self, key: &ObjectKey, selector: LabelSelector, pods: &[Arc<Pod>]) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((key.namespace.clone(), key.name.clone()), selector);
        let names: BTreeSet<_> = all
            .iter()
            .filter(|((namespace, _), _)| *namespace == key.namespace)
            .filter(|(_, selector)| pods.iter().any(|pod| selector.matches(|label| pod.label(label))))
            .map(|((namespace, name), _)| format!("{namespace}/{name}"))
            .collect();
        (names.len() > 1).then(|| names.into_iter().collect::<Vec<_>>().join(" "))
    }

    /// Forgets an autoscaler.
    pub fn remove(&self, key: &ObjectKey) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(key.namespace.clone(), key.name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_two_autoscalers_are_ambiguous() {
        let all = Selectors::default();
        let key = |name: &str| ObjectKey { namespace: "ns".into(), name: name.into() };
        let selector = || LabelSelector::parse("app=d").unwrap();
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"metadata": {"namespace": "ns", "labels": {"app": "d"}}}),
        )
        .unwrap();
        let pods = [Arc::new(pod)];
        assert_eq!(all.put(&key("h1"), selector(), &pods), None);
        assert_eq!(all.put(&key("h2"), selector(), &[]), None, "without pods nothing is shared");
        assert_eq!(all.put(&key("h2"), selector(), &pods).as_deref(), Some("ns/h1 ns/h2"));
        assert_eq!(all.put(&key("h3"), LabelSelector::parse("app=e").unwrap(), &[]), None);
        assert_eq!(all.put(&key("h1"), selector(), &pods).as_deref(), Some("ns/h1 ns/h2"));
        all.remove(&key("h2"));
        assert_eq!(all.put(&key("h1"), selector(), &pods), None);
    }
}
