//! By which labels pods of one kind are known: the selectors of the Services, ReplicaSets, StatefulSets and ReplicationControllers that
//! a pod belongs to (scheduler `plugins/helper/spread.go`, DefaultSelector). Filled by the event loop; asked for pods that do not say
//! themselves how they are to be spread.

use std::collections::HashMap;

use drydock_apimachinery::selectors::LabelSelector;
use drydock_kubeclient::ObjectKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Value, json};

use crate::pod::PodInfo;
use crate::terms::Labels;

/// Selectors of services and of owners.
#[derive(Default)]
pub struct OwnerSelectors {
    /// By namespace, then name.
    services: HashMap<String, HashMap<String, Labels>>,
    /// By kind and name.
    owners: HashMap<(&'static str, ObjectKey), meta::LabelSelector>,
}

impl OwnerSelectors {
    /// A service selects these labels, or is gone (or selects nothing).
    pub fn set_service(&mut self, key: &ObjectKey, selector: Option<Labels>) {
        let services = self.services.entry(key.namespace.clone()).or_default();
        match selector.filter(|selector| !selector.is_empty()) {
            Some(selector) => services.insert(key.name.clone(), selector),
            None => services.remove(&key.name),
        };
        if services.is_empty() {
            self.services.remove(&key.namespace);
        }
    }

    /// An owner of pods has this selector, or is gone.
    pub fn set_owner(&mut self, kind: &'static str, key: ObjectKey, selector: Option<meta::LabelSelector>) {
        match selector {
            Some(selector) => self.owners.insert((kind, key), selector),
            None => self.owners.remove(&(kind, key)),
        };
    }

    /// The labels of the pod's kind; none if nobody selects it.
    pub(crate) fn of(&self, pod: &PodInfo) -> Option<LabelSelector> {
        let mut labels = Labels::new();
        for selector in self.services.get(&pod.key.namespace).into_iter().flat_map(HashMap::values) {
            if selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)) {
                labels.extend(selector.clone());
            }
        }
        let mut expressions = Vec::new();
        if let Some(selector) = self.owner(pod) {
            labels.extend(selector.match_labels.clone().unwrap_or_default());
            expressions = selector.match_expressions.clone().unwrap_or_default();
        }
        if labels.is_empty() && expressions.is_empty() {
            return None;
        }
        let expressions = serde_json::to_value(expressions).unwrap_or(Value::Null);
        LabelSelector::of_object(&json!({"matchLabels": labels, "matchExpressions": expressions})).ok()
    }

    fn owner(&self, pod: &PodInfo) -> Option<&meta::LabelSelector> {
        let owner = pod.controller()?;
        let kind = match owner.kind.as_str() {
            "ReplicaSet" => "ReplicaSet",
            "StatefulSet" => "StatefulSet",
            "ReplicationController" => "ReplicationController",
            _ => return None,
        };
        self.owners.get(&(kind, ObjectKey::new(&pod.key.namespace, &owner.name)))
    }
}
