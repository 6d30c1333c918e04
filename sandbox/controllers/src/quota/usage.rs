//! What objects use of a quota (pkg/quota/v1/evaluator/core). Pure.

use std::collections::BTreeMap;

use drydock_apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, ResourceQuota, ResourceRequirements, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::shared::pods::is_terminal;
use crate::volumes::matching::class_of_claim;

/// Amounts by name of resource.
pub type Amounts = BTreeMap<String, Quantity>;

fn add(all: &mut Amounts, name: &str, amount: Quantity) {
    let sum = all.get(name).map_or(amount, |sum| sum.plus(amount));
    all.insert(name.to_owned(), sum);
}

fn count(all: &mut Amounts, name: &str, number: usize) {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    add(all, name, Quantity::new(number, drydock_apimachinery::quantity::Format::DecimalSi));
}

fn read(map: Option<&BTreeMap<String, Text>>) -> Amounts {
    let parse = |(name, text): (&String, &Text)| Some((name.clone(), text.0.parse().ok()?));
    map.into_iter().flatten().filter_map(parse).collect()
}

fn largest(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = into.entry(name.clone()).or_default();
        if *amount > *entry {
            *entry = *amount;
        }
    }
}

fn sum(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        add(into, name, *amount);
    }
}

/// What a pod asks for (`PodRequests`): its containers and sidecars together, or its largest init container if that is more; and its overhead.
fn pod_amounts(pod: &Pod, of: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let amounts = |container: &Container| read(container.resources.as_ref().and_then(of));
    let mut all = Amounts::new();
    for container in &spec.containers {
        sum(&mut all, &amounts(container));
    }
    let (mut sidecars, mut init) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = amounts(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum(&mut sidecars, &own);
            largest(&mut init, &sidecars);
        } else {
            let mut together = sidecars.clone();
            sum(&mut together, &own);
            largest(&mut init, &together);
        }
    }
    sum(&mut all, &sidecars);
    largest(&mut all, &init);
    // What is said for the whole pod counts instead.
    for (name, amount) in read(spec.resources.as_ref().and_then(of)) {
        all.insert(name, amount);
    }
    sum(&mut all, &read(spec.overhead.as_ref()));
    all
}

/// Whether a pod uses anything: one that has ended does not, nor one whose time to go is over (`QuotaV1Pod`).
fn counts(pod: &Pod, now: Timestamp) -> bool {
    let over = pod.metadata.deletion_timestamp.as_ref().is_some_and(|time| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        now.duration_since(time.0) > SignedDuration::from_secs(grace)
    });
    !is_terminal(pod) && !over
}

/// What pods use.
fn pods(all: &mut Amounts, pods: &[&Pod], now: Timestamp) {
    count(all, "count/pods", pods.len());
    let using: Vec<_> = pods.iter().filter(|pod| counts(pod, now)).collect();
    count(all, "pods", using.len());
    for pod in using {
        for (name, amount) in pod_amounts(pod, |resources| resources.requests.as_ref()) {
            add(all, &format!("requests.{name}"), amount);
            if matches!(&*name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
                add(all, &name, amount);
            }
        }
        for (name, amount) in pod_amounts(pod, |resources| resources.limits.as_ref()) {
            add(all, &format!("limits.{name}"), amount);
        }
    }
}

fn claims(all: &mut Amounts, claims: &[&PersistentVolumeClaim]) {
    count(all, "persistentvolumeclaims", claims.len());
    for claim in claims {
        let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        let storage = read(requests).get("storage").copied().unwrap_or_default();
        add(all, "requests.storage", storage);
        let class = class_of_claim(claim);
        if !class.is_empty() {
            add(all, &format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
            count(all, &format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), 1);
        }
    }
}

fn services(all: &mut Amounts, services: &[&Service]) {
    count(all, "services", services.len());
    for spec in services.iter().filter_map(|service| service.spec.as_ref()) {
        let ports = spec.ports.as_ref().map_or(0, Vec::len);
        match spec.type_.as_deref() {
            Some("NodePort") => count(all, "services.nodeports", ports),
            Some("LoadBalancer") => {
                count(all, "services.loadbalancers", 1);
                if spec.allocate_load_balancer_node_ports != Some(false) {
                    count(all, "services.nodeports", ports);
                }
            }
            _ => {}
        }
    }
}

/// Whether a pod is within the scopes of a quota.
fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else { return true };
    let plain = spec.scopes.iter().flatten().all(|scope| fits(scope, "Exists", &[], pod));
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten())
        .all(|one| fits(&one.scope_name, &one.operator, one.values.as_deref().unwrap_or_default(), pod));
    plain && selected
}

fn fits(scope: &str, operator: &str, values: &[String], pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let terminating = spec.is_some_and(|spec| spec.active_deadline_seconds.is_some());
    let best_effort = pod_amounts(pod, |resources| resources.requests.as_ref()).is_empty()
        && pod_amounts(pod, |resources| resources.limits.as_ref()).is_empty();
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let class =
                spec.and_then(|spec| spec.priority_class_name.as_ref()).filter(|class| !class.is_empty());
            match operator {
                "In" => class.is_some_and(|class| values.contains(class)),
                "NotIn" => class.is_none_or(|class| !values.contains(class)),
                "DoesNotExist" => class.is_none(),
                _ => class.is_some(),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms =
        |required: Option<&Vec<k8s_openapi::api::core::v1::PodAffinityTerm>>,
         preferred: Option<&Vec<k8s_openapi::api::core::v1::WeightedPodAffinityTerm>>| {
            let preferred = preferred.into_iter().flatten().map(|one| &one.pod_affinity_term);
            required.into_iter().flatten().chain(preferred).any(|term| {
                term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
                    || term.namespace_selector.is_some()
            })
        };
    affinity.is_some_and(|affinity| {
        affinity.pod_affinity.as_ref().is_some_and(|one| {
            terms(
                one.required_during_scheduling_ignored_during_execution.as_ref(),
                one.preferred_during_scheduling_ignored_during_execution.as_ref(),
            )
        }) || affinity.pod_anti_affinity.as_ref().is_some_and(|one| {
            terms(
                one.required_during_scheduling_ignored_during_execution.as_ref(),
                one.preferred_during_scheduling_ignored_during_execution.as_ref(),
            )
        })
    })
}

/// What there is in the quota's namespace.
#[derive(Debug, Default)]
pub struct Objects<'a> {
    /// Pods.
    pub pods: Vec<&'a Pod>,
    /// Claims.
    pub claims: Vec<&'a PersistentVolumeClaim>,
    /// Services.
    pub services: Vec<&'a Service>,
    /// Of other kinds only how many there are: `configmaps` or `count/jobs.batch`.
    pub counts: BTreeMap<String, usize>,
}

/// What of the quota's resources is used.
pub fn used(quota: &ResourceQuota, objects: &Objects<'_>, now: Timestamp) -> BTreeMap<String, Text> {
    let mut all = Amounts::new();
    let scoped: Vec<&Pod> = objects.pods.iter().filter(|pod| in_scope(quota, pod)).copied().collect();
    pods(&mut all, &scoped, now);
    claims(&mut all, &objects.claims);
    services(&mut all, &objects.services);
    for (name, number) in &objects.counts {
        count(&mut all, name, *number);
    }
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let text = |name: &String| {
        let amount = all.get(name).copied().unwrap_or_default();
        (name.clone(), Text(amount.to_string()))
    };
    hard.into_iter().flat_map(BTreeMap::keys).map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod(phase: &str, cpu: &str) -> Pod {
        of(json!({
            "metadata": {},
            "spec": {
                "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}}}],
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "10m"}}},
                    {"name": "init", "resources": {"requests": {"cpu": "50m"}}},
                ],
            },
            "status": {"phase": phase},
        }))
    }

    #[test]
    fn what_is_used() {
        let hard = json!({
            "pods": "9", "requests.cpu": "2", "cpu": "2", "limits.memory": "9Gi", "count/pods": "9", "services.nodeports": "2",
            "requests.storage": "1Gi", "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "3", "configmaps": "5", "secrets": "1",
        });
        let quota: ResourceQuota = of(json!({"spec": {"hard": hard}}));
        let (large, small, done) = (pod("Running", "100m"), pod("Pending", "20m"), pod("Succeeded", "5"));
        let claim: PersistentVolumeClaim = of(
            json!({"metadata": {}, "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "10Mi"}}}}),
        );
        let service: Service =
            of(json!({"metadata": {}, "spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}}));
        let objects = Objects {
            pods: vec![&large, &small, &done],
            claims: vec![&claim, &claim],
            services: vec![&service],
            counts: [("configmaps".to_owned(), 4)].into(),
        };
        let used = used(&quota, &objects, Timestamp::UNIX_EPOCH);
        for (name, expected) in [
            ("pods", "2"),
            ("count/pods", "3"),
            ("requests.cpu", "170m"),
            ("cpu", "170m"),
            ("limits.memory", "2Gi"),
            ("services.nodeports", "2"),
            ("requests.storage", "20Mi"),
            ("fast.storageclass.storage.k8s.io/persistentvolumeclaims", "2"),
            ("configmaps", "4"),
            ("secrets", "0"),
        ] {
            assert_eq!(used[name].0, expected, "{name}");
        }
    }

    #[test]
    fn scopes() {
        let quota =
            |scope: &str| of::<ResourceQuota>(json!({"spec": {"hard": {"pods": "9"}, "scopes": [scope]}}));
        let bare: Pod =
            of(json!({"metadata": {}, "spec": {"containers": [{"name": "a"}], "activeDeadlineSeconds": 5}}));
        let rich = pod("Running", "1");
        let count = |scope: &str| {
            let objects = Objects { pods: vec![&bare, &rich, &rich], ..Objects::default() };
            used(&quota(scope), &objects, Timestamp::UNIX_EPOCH)["pods"].0.clone()
        };
        assert_eq!(
            ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "PriorityClass"].map(count),
            ["1", "2", "1", "2", "0"]
        );
    }
}
