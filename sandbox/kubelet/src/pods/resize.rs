//! Changing what a running pod may use (`kubectl patch pod --subresource resize`; `pkg/kubelet/allocation`). Its specification says what is
//! wanted; the kubelet allots it if the node has as much, and containers follow. Until then everything goes on with what was allotted.

use super::{
    admission::{self, Refused},
    pod,
};
use crate::kubelet::Kubelet;
use drydock_scheduler::{
    admission::{Refusal, refusals},
    node::NodeInfo,
    pod::PodInfo,
};
use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Node, Pod, PodStatus, ResourceClaim, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Condition of a pod that waits for what it wants.
pub const PENDING: &str = "PodResizePending";
/// Condition of a pod whose containers do not have yet what was allotted.
pub const IN_PROGRESS: &str = "PodResizeInProgress";
/// How soon it is looked again whether the node has what a pod waits for.
pub const RETRY: Duration = Duration::from_secs(5);

/// What a pod may use: its containers by name, and it as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Allotted {
    containers: BTreeMap<String, Option<ResourceRequirements>>,
    whole: Option<ResourceRequirements>,
}

/// Nothing, if nothing is asked for.
fn any(resources: ResourceRequirements) -> Option<ResourceRequirements> {
    (resources != ResourceRequirements::default()).then_some(resources)
}

impl Allotted {
    /// What a pod's specification says.
    pub fn wanted(pod: &Pod) -> Self {
        let spec = pod::spec(pod);
        let all = pod::init_containers(pod).iter().chain(&spec.containers);
        Self {
            containers: all.map(|c| (c.name.clone(), c.resources.clone().and_then(any))).collect(),
            whole: spec.resources.clone(),
        }
    }

    /// What an earlier kubelet allotted, as the pod's status tells.
    pub fn told(pod: &Pod) -> Self {
        let mut allotted = Self::wanted(pod);
        let status = pod.status.iter();
        let lists = status.flat_map(|s| [&s.container_statuses, &s.init_container_statuses]);
        for ContainerStatus { name, resources, .. } in lists.flat_map(|list| list.iter().flatten()) {
            if let (Some(slot), Some(told)) = (allotted.containers.get_mut(name), resources) {
                *slot = any(told.clone());
            }
        }
        allotted
    }

    /// The pod with what it was allotted.
    pub fn applied(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        if let Some(spec) = &mut pod.spec {
            spec.resources.clone_from(&self.whole);
            let set = |container: &mut Container| {
                if let Some(resources) = self.containers.get(&container.name) {
                    container.resources.clone_from(resources);
                }
            };
            spec.init_containers.iter_mut().flatten().for_each(set);
            spec.containers.iter_mut().for_each(set);
        }
        pod
    }
}

/// A pod that wants something that it has not got yet counts with what it has.
pub fn with_what_it_has(kubelet: &Kubelet, uid: &str, pod: &Arc<Pod>) -> Arc<Pod> {
    match kubelet.status_of(uid) {
        Some(status) if waits(&status) => {
            let told = Pod { status: Some((*status).clone()), ..(**pod).clone() };
            Arc::new(Allotted::told(&told).applied(pod))
        }
        _ => pod.clone(),
    }
}

fn waits(status: &PodStatus) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == PENDING && condition.status == "True")
}

/// Why a pod can't have what it wants now (`canResizePod`).
pub fn refusal(kubelet: &Kubelet, wants: &Arc<Pod>) -> Option<Refused> {
    let Some(node) = kubelet.own_node() else {
        // A kubelet that has just started must not give what its predecessor has refused.
        return Some(Refused { reason: "Deferred".into(), message: "Kubelet cannot get node info.".into() });
    };
    check(wants, &node, &kubelet.pods.beside(kubelet, pod::uid(wants)))
}

fn check(wants: &Arc<Pod>, node: &Arc<Node>, others: &[Arc<Pod>]) -> Option<Refused> {
    if let Some(Refusal::Short { resource, requested, capacity, .. }) = short(wants, node, &[]).pop() {
        let message = format!(
            "Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}"
        );
        return Some(Refused { reason: "Infeasible".into(), message });
    }
    let first = short(wants, node, others).into_iter().next()?;
    Some(Refused { reason: "Deferred".into(), message: admission::said(first).message })
}

/// CPU or memory that the node has too little of.
fn short(wants: &Arc<Pod>, node: &Arc<Node>, others: &[Arc<Pod>]) -> Vec<Refusal> {
    let mut info = NodeInfo::new(node.clone());
    others.iter().for_each(|other| info.add(Arc::new(PodInfo::new(other.clone()))));
    // By its status a pod that was refused once would count with what it has.
    let wants = Arc::new(Pod { status: None, ..(**wants).clone() });
    let mut found = refusals(&PodInfo::new(wants), &info, true);
    found.retain(|refusal| {
        matches!(refusal, Refusal::Short { resource, .. } if resource == "cpu" || resource == "memory")
    });
    found
}

/// What an event says of a change: what each container was allotted, or wants (`pkg/kubelet/events`).
pub fn told(prefix: &str, pod: &Pod, error: &str) -> String {
    #[derive(Serialize)]
    struct Resources<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        limits: Option<&'a BTreeMap<String, Quantity>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        requests: Option<&'a BTreeMap<String, Quantity>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        claims: Option<&'a [ResourceClaim]>,
    }
    #[derive(Serialize)]
    struct Allocation<'a> {
        name: &'a str,
        resources: Resources<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<Allocation<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<Allocation<'a>>,
        generation: i64,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'a str,
    }
    fn of(container: &Container) -> Allocation<'_> {
        let resources = container.resources.as_ref();
        Allocation {
            name: &container.name,
            resources: Resources {
                limits: resources.and_then(|r| r.limits.as_ref()).filter(|map| !map.is_empty()),
                requests: resources.and_then(|r| r.requests.as_ref()).filter(|map| !map.is_empty()),
                claims: resources.and_then(|r| r.claims.as_deref()).filter(|list| !list.is_empty()),
            },
        }
    }
    let summary = Summary {
        init_containers: pod::init_containers(pod).iter().map(of).collect(),
        containers: pod::spec(pod).containers.iter().map(of).collect(),
        generation: pod.metadata.generation.unwrap_or_default(),
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(summary) => format!("{prefix}: {summary}"),
        Err(_) => prefix.to_owned(),
    }
}

/// Whether a container is to be started anew to get other limits.
pub fn restarts(container: &Container, cpu: bool, memory: bool) -> bool {
    container.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && (cpu && policy.resource_name == "cpu" || memory && policy.resource_name == "memory")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wants(cpu: &str) -> Arc<Pod> {
        let container = json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
        let pod = json!({ "metadata": { "name": "p", "uid": "1" }, "spec": { "containers": [container] } });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_node_gives_what_it_has() {
        let node =
            json!({ "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "2", "pods": "9" } } });
        let node: Arc<Node> = Arc::new(serde_json::from_value(node).unwrap());
        assert_eq!(check(&wants("2"), &node, &[]), None);
        let refused = check(&wants("3"), &node, &[]).unwrap();
        assert_eq!(
            (refused.reason.as_str(), refused.message.as_str()),
            ("Infeasible", "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000")
        );
        let mut again = (*wants("3")).clone();
        again.status = serde_json::from_value(json!({
            "conditions": [{ "type": PENDING, "status": "True", "reason": "Infeasible" }],
            "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": { "requests": { "cpu": "1" } } }],
        }))
        .unwrap();
        assert_eq!(check(&Arc::new(again), &node, &[]), Some(refused));
        let refused = check(&wants("2"), &node, &[wants("500m")]).unwrap();
        assert_eq!(
            (refused.reason.as_str(), refused.message.as_str()),
            ("Deferred", "Node didn't have enough resource: cpu, requested: 2000, used: 500, capacity: 2000")
        );
    }

    #[test]
    fn what_was_allotted_stays_until_there_is_more() {
        let (before, now) = (Allotted::wanted(&wants("1")), wants("9"));
        assert_ne!(before, Allotted::wanted(&now));
        assert_eq!(before.applied(&now).spec, wants("1").spec);
        // An earlier kubelet's word counts.
        let mut restarted = (*now).clone();
        let status = json!({ "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "resources": { "requests": { "cpu": "1" } } }] });
        restarted.status = serde_json::from_value(status).unwrap();
        assert_eq!(Allotted::told(&restarted), before);
        // So it counts for the others until then.
        let conditions = json!([{ "type": PENDING, "status": "True", "reason": "Infeasible" }]);
        let mut status = restarted.status.clone().unwrap();
        assert!(!waits(&status));
        status.conditions = serde_json::from_value(conditions).unwrap();
        assert!(waits(&status));
    }

    #[test]
    fn events_tell_resources_as_upstream_writes_them() {
        let pod = json!({ "metadata": { "name": "p", "generation": 2 }, "spec": { "containers": [
            { "name": "app", "resources": { "requests": { "cpu": "1", "memory": "1Mi" }, "limits": { "cpu": "2" } } }, { "name": "b" }] } });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(
            told("Pod resize started", &pod, ""),
            r#"Pod resize started: {"containers":[{"name":"app","resources":{"limits":{"cpu":"2"},"requests":{"cpu":"1","memory":"1Mi"}}},{"name":"b","resources":{}}],"generation":2}"#
        );
        assert!(told("Pod resize Deferred", &pod, "no").ends_with(r#""generation":2,"error":"no"}"#));
    }

    #[test]
    fn who_restarts() {
        let container = json!({ "name": "c", "resizePolicy": [
            { "resourceName": "cpu", "restartPolicy": "NotRequired" },
            { "resourceName": "memory", "restartPolicy": "RestartContainer" },
        ] });
        let container: Container = serde_json::from_value(container).unwrap();
        assert!(!restarts(&container, true, false));
        assert!(restarts(&container, true, true));
    }
}
