//! Reading pods: defaults that a pod from a file lacks, and the questions that the kubelet asks of every pod.

use k8s_openapi::{
    api::core::v1::{Container, ObjectReference, Pod, PodSpec, Probe},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use std::sync::LazyLock;

/// Where a pod came from: `api` or `file`.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// When the kubelet saw it first.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// Digest of a static pod.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// On the API server's picture of a static pod: the digest of what it shows.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Pods from this priority on are the cluster's own (`SystemCriticalPriority`).
pub const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// When containers that ended are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// When they failed.
    OnFailure,
    /// Never.
    Never,
}

/// Its name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Its namespace.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// Its uid.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as the kubelet writes it in messages.
pub fn described(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// Its specification; of a pod without one, an empty one.
pub fn spec(pod: &Pod) -> &PodSpec {
    static NONE: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&NONE)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether something of a pod has changed that its containers may follow (`podsDifferSemantically`): its own status the kubelet knows.
pub fn differ(old: &Pod, new: &Pod) -> bool {
    let metadata =
        |pod: &Pod| ObjectMeta { resource_version: None, managed_fields: None, ..pod.metadata.clone() };
    // Readiness gates.
    let others = |pod: &Pod| -> Vec<(String, String)> {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let others = conditions.filter(|c| !OWN_CONDITIONS.contains(&&*c.type_));
        others.map(|c| (c.type_.clone(), c.status.clone())).collect()
    };
    old.spec != new.spec || metadata(old) != metadata(new) || others(old) != others(new)
}

/// Conditions that the kubelet writes.
const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// A condition that the kubelet alone writes.
pub fn is_own_condition(kind: &str) -> bool {
    OWN_CONDITIONS.contains(&kind)
}

/// It comes from a file of the node.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// It is the API server's picture of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

/// Digest of what a mirror pod shows.
pub fn mirror_of(pod: &Pod) -> Option<&str> {
    annotation(pod, CONFIG_MIRROR)
}

/// Digest of a static pod.
pub fn static_hash(pod: &Pod) -> Option<&str> {
    annotation(pod, CONFIG_HASH)
}

/// It shares the node's network.
pub fn is_host_network(pod: &Pod) -> bool {
    spec(pod).host_network == Some(true)
}

/// When its containers are started again.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match spec(pod).restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// Whether a container that ended is to be started again: by the first of its own rules that fits, its own policy, or its pod's
/// (`ContainerShouldRestart` of `pkg/api/v1/pod`).
pub fn should_restart(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if let Some(own) = container.restart_policy.as_deref() {
        let rule = container.restart_policy_rules.iter().flatten().find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
                match codes.operator.as_str() {
                    "In" => listed,
                    "NotIn" => !listed,
                    _ => false,
                }
            })
        });
        if rule.is_some_and(|rule| rule.action == "Restart") {
            return true;
        }
        match own {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match restart_policy(pod) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// How long it may take to stop.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let asked = pod.metadata.deletion_grace_period_seconds;
    asked.or(spec(pod).termination_grace_period_seconds).unwrap_or(30).max(0)
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Its init containers.
pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Its ephemeral containers, as ordinary ones.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let list = spec(pod).ephemeral_containers.as_deref().unwrap_or_default();
    let plain = list.iter().filter_map(|c| serde_json::from_str(&serde_json::to_string(c).ok()?).ok());
    plain.collect()
}

/// Every container that its specification names.
pub fn all_containers(pod: &Pod) -> Vec<Container> {
    let spec = spec(pod);
    let ordinary = init_containers(pod).iter().chain(&spec.containers).cloned();
    ordinary.chain(ephemeral_containers(pod)).collect()
}

/// The container of this name.
pub fn container(pod: &Pod, name: &str) -> Option<Container> {
    all_containers(pod).into_iter().find(|c| c.name == name)
}

/// The hostname that its containers see.
pub fn hostname(pod: &Pod) -> String {
    let own = spec(pod).hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(name(pod));
    let wanted = overridden(pod).unwrap_or(own);
    // Linux' limit (`truncatePodHostnameIfNeeded`).
    wanted.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// The name that comes before all others.
fn overridden(pod: &Pod) -> Option<&str> {
    spec(pod).hostname_override.as_deref().filter(|name| !name.is_empty())
}

/// The hostname as the kernel has it: with `setHostnameAsFQDN` the whole name, if the kernel takes names so long
/// (`GetNodenameForKernel`).
pub fn kernel_hostname(pod: &Pod, domain: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let full = fqdn(pod, domain).filter(|_| spec(pod).set_hostname_as_fqdn == Some(true));
    match full {
        None => Ok(hostname(pod)),
        Some(name) if name.len() <= LONGEST => Ok(name),
        Some(name) => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({LONGEST} characters is the max, {} characters requested)",
            name.len()
        )),
    }
}

/// The whole name, of a pod with a subdomain in the cluster's domain. A name that overrides all others is whole already.
pub fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    if overridden(pod).is_some() {
        return None;
    }
    let subdomain = spec(pod).subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{domain}", hostname(pod), namespace(pod)))
}

/// The pull policy of a container whose pod did not pass through the API server's defaults.
pub fn pull_policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ => policy_of_tag(container.image.as_deref().unwrap_or_default()),
    }
}

/// The pull policy of an image that has none said: what `latest` is changes.
pub fn policy_of_tag(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or_default();
    let tagged = last.split_once(':').map(|(_, tag)| tag);
    if image.contains('@') || tagged.is_some_and(|tag| tag != "latest") { "IfNotPresent" } else { "Always" }
}

/// Of a pod: what events and the like refer to.
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Of a container of a pod (`spec.containers{nginx}`).
pub fn container_reference(pod: &Pod, container: &str) -> ObjectReference {
    let list = if init_containers(pod).iter().any(|c| c.name == container) {
        "initContainers"
    } else if spec(pod).containers.iter().any(|c| c.name == container) {
        "containers"
    } else {
        "ephemeralContainers"
    };
    ObjectReference { field_path: Some(format!("spec.{list}{{{container}}}")), ..reference(pod) }
}

/// A probe's numbers with their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTimes {
    /// Seconds before the first.
    pub initial_delay: u64,
    /// Seconds between two.
    pub period: u64,
    /// Seconds for one.
    pub timeout: u64,
    /// So many good ones in a row count.
    pub successes: i32,
    /// So many bad ones in a row count.
    pub failures: i32,
}

/// The numbers of a probe.
pub fn probe_times(probe: &Probe) -> ProbeTimes {
    let seconds = |value: Option<i32>, default: u64| {
        value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
    };
    ProbeTimes {
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10),
        timeout: seconds(probe.timeout_seconds, 1),
        successes: probe.success_threshold.filter(|n| *n > 0).unwrap_or(1),
        failures: probe.failure_threshold.filter(|n| *n > 0).unwrap_or(3),
    }
}

/// The engine's times, RFC 3339; zero times are none.
pub fn time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|t| t.as_second() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_may_have_its_whole_name_as_hostname() {
        use serde_json::json;
        let with = |subdomain: &str, set: bool| {
            let spec = json!({ "containers": [], "subdomain": subdomain, "setHostnameAsFQDN": set });
            let pod = json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec });
            kernel_hostname(&serde_json::from_value(pod).unwrap(), "cluster.local")
        };
        assert_eq!(with("db", true).unwrap(), "web.db.shop.svc.cluster.local");
        assert_eq!(with("db", false).unwrap(), "web");
        assert_eq!(with("", true).unwrap(), "web");
        let long = format!("web.{}.shop.svc.cluster.local", "x".repeat(60));
        assert_eq!(
            with(&"x".repeat(60), true).unwrap_err(),
            format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {long} is too long (64 characters is the max, 87 characters requested)"
            )
        );
    }

    #[test]
    fn one_name_comes_before_all_others() {
        use serde_json::json;
        let spec = json!({ "containers": [], "hostname": "h", "subdomain": "db", "hostnameOverride": "over.ride", "setHostnameAsFQDN": true });
        let pod = json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(
            (kernel_hostname(&pod, "cluster.local"), fqdn(&pod, "cluster.local")),
            (Ok("over.ride".into()), None)
        );
    }

    #[test]
    fn the_pull_policy_follows_from_the_tag() {
        let of = |image: &str| {
            pull_policy(&Container { image: Some(image.into()), ..Container::default() }).to_owned()
        };
        assert_eq!(of("nginx"), "Always");
        assert_eq!(of("nginx:latest"), "Always");
        assert_eq!(of("localhost:5000/nginx"), "Always");
        assert_eq!(of("nginx:1.29"), "IfNotPresent");
        assert_eq!(of("nginx@sha256:00"), "IfNotPresent");
    }

    #[test]
    fn a_containers_own_rules_and_policy_come_before_its_pods() {
        use serde_json::{Value, json};
        let restarts = |policy: &str, container: Value| -> Vec<bool> {
            let spec = json!({ "restartPolicy": policy, "containers": [] });
            let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
            let container: Container = serde_json::from_value(container).unwrap();
            [0, 1, 42].map(|code| should_restart(&pod, &container, code)).into()
        };
        let rule = |operator: &str| json!([{ "action": "Restart", "exitCodes": { "operator": operator, "values": [42] } }]);
        for (policy, container, wanted) in [
            ("Always", json!({ "name": "c" }), [true, true, true]),
            ("OnFailure", json!({ "name": "c" }), [false, true, true]),
            ("Never", json!({ "name": "c" }), [false, false, false]),
            ("Never", json!({ "name": "c", "restartPolicy": "Always" }), [true, true, true]),
            ("Never", json!({ "name": "c", "restartPolicy": "OnFailure" }), [false, true, true]),
            ("Always", json!({ "name": "c", "restartPolicy": "Never" }), [false, false, false]),
            (
                "Never",
                json!({ "name": "c", "restartPolicy": "Never", "restartPolicyRules": rule("In") }),
                [false, false, true],
            ),
            (
                "Always",
                json!({ "name": "c", "restartPolicy": "Never", "restartPolicyRules": rule("NotIn") }),
                [true, true, false],
            ),
            // Without a policy of its own a container has no rules.
            ("Never", json!({ "name": "c", "restartPolicyRules": rule("In") }), [false, false, false]),
        ] {
            assert_eq!(restarts(policy, container.clone()), wanted, "{policy} {container}");
        }
    }

    #[test]
    fn a_pods_own_status_is_no_news() {
        use serde_json::{Value, json};
        let of = |version: &str, label: &str, image: &str, conditions: Value| -> Pod {
            let metadata = json!({ "resourceVersion": version, "labels": { "a": label } });
            let spec = json!({ "containers": [{ "name": "c", "image": image }] });
            serde_json::from_value(
                json!({ "metadata": metadata, "spec": spec, "status": { "conditions": conditions } }),
            )
            .unwrap()
        };
        let condition = |kind: &str, status: &str| json!([{ "type": kind, "status": status }]);
        let old = of("1", "x", "i", condition("Ready", "False"));
        assert!(!differ(&old, &of("2", "x", "i", condition("Ready", "True"))));
        assert!(differ(&old, &of("2", "y", "i", condition("Ready", "True"))));
        assert!(differ(&old, &of("2", "x", "j", condition("Ready", "True"))));
        assert!(differ(&old, &of("2", "x", "i", condition("example.com/gate", "True"))));
    }

    #[test]
    fn zero_times_are_none() {
        assert_eq!(time("0001-01-01T00:00:00Z"), None);
        assert!(time("2026-11-28T06:00:00.123456789Z").is_some());
    }
}
