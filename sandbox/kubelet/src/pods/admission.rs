//! Whether the node takes a pod that it is told of (`canAdmitPod`; `pkg/kubelet/lifecycle/predicate.go`, `pkg/kubelet/sysctl`). The
//! scheduler asks the same before it binds a pod; but a pod may name its node itself, and a node may have changed since.

use super::{eviction, pod};
use crate::kubelet::Kubelet;
use drydock_kubeclient::EventType;
use drydock_scheduler::{
    admission::{Refusal, refusals},
    node::NodeInfo,
    pod::PodInfo,
};
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use kube::api::Api;
use std::sync::Arc;

/// Kernel parameters that a pod may set: they have no effect outside of it (`SafeSysctlAllowlist`).
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why a pod is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

impl Refused {
    fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message }
    }
}

/// Whether the question is still to be asked: a pod that was taken stays when the kubelet starts anew.
pub fn is_due(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_none_or(|s| s.start_time.is_none()) && pod.metadata.deletion_timestamp.is_none()
}

/// Why the node does not take a pod; `others` came before it. Tells of it.
pub async fn refusal(kubelet: &Kubelet, pod: &Arc<Pod>, others: &[Arc<Pod>]) -> Option<Refused> {
    let known = kubelet.own_node();
    let mut refused = check(pod, known.as_ref(), others);
    if refused.is_some() && known.is_some() {
        // What is known of the node may be older than what the scheduler knew.
        let nodes: Api<Node> = Api::all(kubelet.client.clone());
        if let Ok(node) = nodes.get(&kubelet.node).await {
            refused = check(pod, Some(&Arc::new(node)), others);
        }
    }
    let refused = refused?;
    tracing::warn!(pod = pod::described(pod), reason = refused.reason, "{}", refused.message);
    kubelet.event(pod, EventType::Warning, &refused.reason, &refused.message);
    Some(refused)
}

fn check(pod: &Arc<Pod>, node: Option<&Arc<Node>>, others: &[Arc<Pod>]) -> Option<Refused> {
    sysctls(pod)
        .or_else(|| {
            let os = pod::spec(pod).os.as_ref().map_or("linux", |os| os.name.as_str());
            if os != "linux" {
                let message = "Failed to admit pod as the OS field doesn't match node OS";
                return Some(Refused::new("PodOSNotSupported", message.into()));
            }
            node.and_then(|node| rules(pod, node, others))
        })
        .or_else(|| app_armor(pod))
}

/// Nodes have no AppArmor, and what asks for it must not run without (`pkg/security/apparmor/validate.go`).
fn app_armor(pod: &Pod) -> Option<Refused> {
    let of_pod =
        pod::spec(pod).security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    let wants = |container: &Container| {
        let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
        let key = format!("container.apparmor.security.beta.kubernetes.io/{}", container.name);
        let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(&key));
        match (own, annotation) {
            (Some(profile), _) => profile.type_ != "Unconfined",
            (None, Some(profile)) => profile != "unconfined",
            (None, None) => of_pod.is_some_and(|profile| profile.type_ != "Unconfined"),
        }
    };
    let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    pod::all_containers(pod).iter().any(wants).then(|| Refused::new("AppArmor", message.into()))
}

fn sysctls(pod: &Pod) -> Option<Refused> {
    let wanted = pod::spec(pod).security_context.as_ref()?.sysctls.iter().flatten();
    let of_host = |name: &str| pod::is_host_network(pod) && name.starts_with("net.");
    wanted.map(|sysctl| sysctl.name.replace('/', ".")).find_map(|name| {
        let message = if !SAFE_SYSCTLS.contains(&&*name) {
            format!("forbidden sysctl: \"{name}\" not allowlisted")
        } else if of_host(&name) {
            format!("forbidden sysctl: \"{name}\" not allowed with host net enabled")
        } else {
            return None;
        };
        Some(Refused::new("SysctlForbidden", message))
    })
}

fn rules(pod: &Arc<Pod>, node: &Arc<Node>, others: &[Arc<Pod>]) -> Option<Refused> {
    let mut info = NodeInfo::new(node.clone());
    others.iter().for_each(|other| info.add(Arc::new(PodInfo::new(other.clone()))));
    let found = refusals(&PodInfo::new(pod.clone()), &info, pod::is_static(pod));
    // What the cluster itself runs is not refused for what it would have to take from others.
    let counts = |refusal: &Refusal| !eviction::is_critical(pod) || matches!(refusal, Refusal::Rule { .. });
    found.into_iter().find(counts).map(said)
}

/// A refusal in the kubelet's words.
pub fn said(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Short { resource, requested, used, capacity } => Refused {
            reason: format!("OutOf{resource}"),
            message: format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        },
        Refusal::Rule { name, reason } => Refused::new(name, format!("Predicate {name} failed: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: &Value) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "1" }, "spec": spec })).unwrap(),
        )
    }

    fn node() -> Arc<Node> {
        let allocatable = json!({ "cpu": "2", "memory": "1Gi", "pods": "110" });
        let node = json!({ "metadata": { "name": "node1" }, "status": { "allocatable": allocatable } });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn asks(cpu: &str, more: &Value) -> Arc<Pod> {
        let mut spec =
            json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod(&spec)
    }

    #[test]
    fn a_pod_that_names_its_node_may_be_too_large_for_it() {
        let refused = check(&asks("4", &json!({ "nodeName": "node1" })), Some(&node()), &[]).unwrap();
        assert_eq!(refused.reason, "OutOfcpu");
        assert_eq!(
            refused.message,
            "Node didn't have enough resource: cpu, requested: 4000, used: 0, capacity: 2000"
        );
        assert_eq!(check(&asks("4", &json!({ "priority": pod::SYSTEM_CRITICAL })), Some(&node()), &[]), None);
        let others = [asks("1500m", &json!({}))];
        assert_eq!(check(&asks("500m", &json!({})), Some(&node()), &others), None);
        assert!(check(&asks("600m", &json!({})), Some(&node()), &others).is_some());
    }

    #[test]
    fn a_port_has_one_pod() {
        let web =
            json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 80 }] }] });
        let refused = check(&pod(&web), Some(&node()), &[pod(&web)]).unwrap();
        assert_eq!(
            (refused.reason.as_str(), refused.message.as_str()),
            (
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
            )
        );
    }

    #[test]
    fn only_kernel_parameters_of_the_pod_alone() {
        let with = |name: &str, host_network: bool| {
            let context = json!({ "sysctls": [{ "name": name, "value": "1" }] });
            let spec = json!({ "containers": [], "hostNetwork": host_network, "securityContext": context });
            check(&pod(&spec), None, &[]).map(|refused| refused.message)
        };
        assert_eq!(with("kernel.shm_rmid_forced", false), None);
        assert_eq!(with("net/ipv4/ping_group_range", false), None);
        assert_eq!(
            with("kernel.msgmax", false).as_deref(),
            Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted")
        );
        assert!(
            with("net.ipv4.tcp_syncookies", true).unwrap().ends_with("not allowed with host net enabled")
        );
    }

    #[test]
    fn what_asks_for_a_profile_of_app_armor_is_refused() {
        let with = |of_pod: &Value, own: &Value| {
            let container = json!({ "name": "c", "securityContext": own });
            let spec = json!({ "containers": [container], "securityContext": of_pod });
            check(&pod(&spec), None, &[]).map(|refused| (refused.reason, refused.message))
        };
        let profile = |kind: &str| json!({ "appArmorProfile": { "type": kind } });
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        let refused = Some(("AppArmor".to_owned(), message.to_owned()));
        assert_eq!(with(&json!({}), &profile("RuntimeDefault")), refused);
        assert_eq!(with(&profile("RuntimeDefault"), &json!({})), refused);
        assert_eq!(with(&profile("RuntimeDefault"), &profile("Unconfined")), None);
        assert_eq!(with(&json!({}), &json!({})), None);
    }

    #[test]
    fn pods_that_run_already_are_not_asked_again() {
        let mut known = (*pod(&json!({ "containers": [] }))).clone();
        assert!(is_due(&known));
        known.status = serde_json::from_value(json!({ "startTime": "2026-01-01T00:00:00Z" })).unwrap();
        assert!(!is_due(&known));
    }
}
