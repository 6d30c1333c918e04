//! Builders of pods and nodes for this crate's tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// A pod of namespace `default`, to be built up.
pub(crate) struct PodBuilder(Value);

pub(crate) fn pod(name: &str) -> PodBuilder {
    PodBuilder(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {}},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "resources": {"requests": {}}}]},
        "status": {},
    }))
}

impl PodBuilder {
    pub(crate) fn with(mut self, path: &str, value: Value) -> Self {
        let (parent, name) = path.rsplit_once('/').unwrap();
        self.0.pointer_mut(parent).unwrap()[name] = value;
        self
    }

    pub(crate) fn cpu(self, amount: &str) -> Self {
        self.with("/spec/containers/0/resources/requests/cpu", json!(amount))
    }

    pub(crate) fn memory(self, amount: &str) -> Self {
        self.with("/spec/containers/0/resources/requests/memory", json!(amount))
    }

    pub(crate) fn on(self, node: &str) -> Self {
        self.with("/spec/nodeName", json!(node))
    }

    pub(crate) fn priority(self, priority: i32) -> Self {
        self.with("/spec/priority", json!(priority))
    }

    pub(crate) fn label(self, key: &str, value: &str) -> Self {
        let mut pod = self;
        pod.0["metadata"]["labels"][key] = json!(value);
        pod
    }

    pub(crate) fn gate(self, name: &str) -> Self {
        self.with("/spec/schedulingGates", json!([{"name": name}]))
    }

    pub(crate) fn nominated(self, node: &str) -> Self {
        self.with("/status/nominatedNodeName", json!(node))
    }

    pub(crate) fn raw(self) -> Arc<k8s_openapi::api::core::v1::Pod> {
        Arc::new(serde_json::from_value(self.0).unwrap())
    }

    pub(crate) fn build(self) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(self.raw()))
    }
}

/// A node with 110 places for pods, to be built up.
pub(crate) struct NodeBuilder(Value);

pub(crate) fn node(name: &str) -> NodeBuilder {
    NodeBuilder(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"pods": "110", "cpu": "4", "memory": "8Gi"}},
    }))
}

impl NodeBuilder {
    pub(crate) fn cpu(mut self, amount: &str) -> Self {
        self.0["status"]["allocatable"]["cpu"] = json!(amount);
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(crate) fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        self.0["spec"]["taints"] = json!([{"key": key, "value": value, "effect": effect}]);
        self
    }

    pub(crate) fn cordoned(mut self) -> Self {
        self.0["spec"]["unschedulable"] = json!(true);
        self
    }

    pub(crate) fn image(mut self, name: &str, megabytes: i64) -> Self {
        self.0["status"]["images"] = json!([{"names": [name], "sizeBytes": megabytes * 1024 * 1024}]);
        self
    }

    pub(crate) fn build(self) -> Arc<Node> {
        Arc::new(serde_json::from_value(self.0).unwrap())
    }
}
