//! Amounts of resources: what a node has and what a pod asks for (k8s.io/component-helpers `resource/helpers.go`, scheduler
//! `framework/types.go`). Whole numbers, computed once for each pod and node, because the scheduler compares them millions of times.

use std::collections::BTreeMap;

use drydock_apimachinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// What a container that asks for nothing is taken to need where nodes are compared (`DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// The largest amount that counts: no machine has as much (four pebibytes, of memory), and all that a node's pods ask for can be added up
/// and taken away again without running over.
const MOST: i64 = 1 << 52;

/// Amounts by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// How many pods a node takes.
    pub pods: i64,
    /// Extended resources and huge pages, by name.
    pub scalars: Vec<(String, i64)>,
}

impl Resources {
    /// Reads a resource list; what is no quantity (the API server lets none through) counts as nothing, more than [`MOST`] as that.
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut resources = Self::default();
        for (name, Text(text)) in list.into_iter().flatten() {
            let quantity: Quantity = text.parse().unwrap_or_default();
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.millis().min(MOST),
                "memory" => resources.memory = quantity.value().min(MOST),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value().min(MOST),
                "pods" => resources.pods = quantity.value().min(MOST),
                _ => resources.scalars.push((name.clone(), quantity.value().min(MOST))),
            }
        }
        resources
    }

    /// The amount of an extended resource.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.iter().find(|(other, _)| other == name).map_or(0, |(_, amount)| *amount)
    }

    fn merge(&mut self, other: &Self, merge: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = merge(self.milli_cpu, other.milli_cpu);
        self.memory = merge(self.memory, other.memory);
        self.ephemeral_storage = merge(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            match self.scalars.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = merge(*known, *amount),
                None => self.scalars.push((name.clone(), merge(0, *amount))),
            }
        }
    }

    /// Adds another's amounts.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    /// Takes another's amounts away.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    /// No amount above [`MOST`].
    fn cap(&mut self) {
        for amount in [&mut self.milli_cpu, &mut self.memory, &mut self.ephemeral_storage] {
            *amount = MOST.min(*amount);
        }
        for (_, amount) in &mut self.scalars {
            *amount = MOST.min(*amount);
        }
    }

    /// True if nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.scalars.iter().all(|(_, amount)| *amount == 0)
    }
}

/// CPU and memory as nodes are compared by: a pod that asks for nothing counts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NonZero {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
}

/// What a pod asks for: the containers together, or what an init container needs before them if that is more; a sidecar (an init
/// container that restarts always) counts from its own start on; and the pod's overhead.
pub fn pod_requests(pod: &Pod) -> (Resources, NonZero) {
    let Some(spec) = &pod.spec else { return (Resources::default(), NonZero::default()) };
    let requests = total(spec, |container| container_requests(pod, container));
    let non_zero = total(spec, |container| {
        let list = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let mut resources = container_requests(pod, container);
        let says = |name: &str| list.is_some_and(|list| list.contains_key(name));
        if !says("cpu") {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !says("memory") {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    });
    (requests, NonZero { milli_cpu: non_zero.milli_cpu, memory: non_zero.memory })
}

/// What a container asks for, and what it was given already if that is more; if it can never get what it asks for, only that
/// (`determineContainerReqs`).
fn container_requests(pod: &Pod, container: &Container) -> Resources {
    let asked = Resources::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let Some(status) = &pod.status else { return asked };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let known = lists.into_iter().flatten().flatten().find(|known| known.name == container.name);
    let Some((known, given)) = known.and_then(|known| Some((known, known.resources.as_ref()?))) else {
        return asked;
    };
    let infeasible = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
    });
    let mut requests = Resources::of(given.requests.as_ref());
    requests.raise_to(&Resources::of(known.allocated_resources.as_ref()));
    if !infeasible {
        requests.raise_to(&asked);
    }
    requests
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&of(container));
    }
    let (mut sidecars, mut most) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let requests = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&requests);
            sidecars.add(&requests);
            most.raise_to(&sidecars);
        } else {
            let mut with_sidecars = requests;
            with_sidecars.add(&sidecars);
            most.raise_to(&with_sidecars);
        }
    }
    sum.raise_to(&most);
    // Requests of the pod as a whole stand for those of its containers.
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let amounts = Resources::of(whole);
    for name in whole.into_iter().flat_map(BTreeMap::keys) {
        match name.as_str() {
            "cpu" => sum.milli_cpu = amounts.milli_cpu,
            "memory" => sum.memory = amounts.memory,
            _ => {}
        }
    }
    sum.add(&Resources::of(spec.overhead.as_ref()));
    sum.cap();
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(cpu: &str, memory: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    fn sidecar(cpu: &str, memory: &str) -> Value {
        let mut value = container(cpu, memory);
        value["restartPolicy"] = json!("Always");
        value
    }

    #[test]
    fn a_pod_that_can_not_grow_counts_with_what_it_has() {
        let pod = |reason: &str| -> Pod {
            let has = json!({"cpu": "100m", "memory": "1Gi"});
            let status = json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "resources": {"requests": has}, "allocatedResources": has});
            serde_json::from_value(json!({
                "spec": {"containers": [container("3", "1Mi")]},
                "status": {"containerStatuses": [status],
                    "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}]}
            }))
            .unwrap()
        };
        let of = |reason| {
            let (requests, non_zero) = pod_requests(&pod(reason));
            assert_eq!((requests.milli_cpu, requests.memory), (non_zero.milli_cpu, non_zero.memory));
            (requests.milli_cpu, requests.memory)
        };
        assert_eq!(of("Infeasible"), (100, 1 << 30));
        assert_eq!(of("Deferred"), (3000, 1 << 30));
    }

    #[test]
    fn requests_of_pods() {
        let cases = [
            (
                "containers add up",
                json!({"containers": [container("1", "1Gi"), container("500m", "1Gi")]}),
                (1500, 2 << 30),
            ),
            (
                "the largest init container counts if it is larger",
                json!({"containers": [container("1", "1Gi")], "initContainers": [container("3", "1Mi"), container("2", "2Gi")]}),
                (3000, 2 << 30),
            ),
            (
                "a sidecar counts with the containers and with later init containers",
                json!({"containers": [container("1", "1Gi")], "initContainers": [sidecar("1", "1Gi"), container("2", "1Mi")]}),
                (3000, 2 << 30),
            ),
            (
                "but not with earlier ones",
                json!({"containers": [container("1", "1Gi")], "initContainers": [container("2", "1Mi"), sidecar("1", "1Gi")]}),
                (2000, 2 << 30),
            ),
            (
                "overhead comes on top",
                json!({"containers": [container("1", "1Gi")], "overhead": {"cpu": "250m"}}),
                (1250, 1 << 30),
            ),
            (
                "requests of the whole pod replace its containers'",
                json!({"containers": [container("1", "1Gi")], "resources": {"requests": {"cpu": "2"}}}),
                (2000, 1 << 30),
            ),
        ];
        for (name, spec, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let (requests, _) = pod_requests(&pod);
            assert_eq!((requests.milli_cpu, requests.memory), expected, "{name}");
        }
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
        )
        .unwrap();
        let (requests, non_zero) = pod_requests(&pod);
        assert!(requests.is_zero());
        assert_eq!(non_zero, NonZero { milli_cpu: 200, memory: 400 * 1024 * 1024 });
    }
}
