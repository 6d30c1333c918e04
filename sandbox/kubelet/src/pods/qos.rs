//! A pod's quality of service (`pkg/apis/core/v1/helper/qos`).

use super::pod;
use crate::quantity::{self, Resources};
use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

const NAMES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Pod) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let spec = pod::spec(pod);
    let of_containers =
        || pod::init_containers(pod).iter().chain(&spec.containers).map(|c| c.resources.as_ref());
    // What the pod says of itself as a whole counts alone.
    let all: Vec<Option<&ResourceRequirements>> = match of_pod(pod) {
        Some(whole) => vec![Some(whole)],
        None => of_containers().collect(),
    };
    for resources in all {
        let of = |map: Option<&Resources>, name| quantity::milli_of(map, name).filter(|v| *v > 0);
        for name in NAMES {
            let request = of(resources.and_then(|r| r.requests.as_ref()), name);
            let limit = of(resources.and_then(|r| r.limits.as_ref()), name);
            any |= request.is_some() || limit.is_some();
            // A request that is not given is the limit.
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What a pod says of itself as a whole (`spec.resources`), if it says anything.
pub fn of_pod(pod: &Pod) -> Option<&ResourceRequirements> {
    let resources = pod::spec(pod).resources.as_ref()?;
    let says = |map: &Option<Resources>| map.iter().flatten().next().is_some();
    (says(&resources.requests) || says(&resources.limits)).then_some(resources)
}

/// A container's limit; that of its pod if it has none of its own (`getMemoryLimit`, `getCPULimit`).
pub fn limit<'a>(pod: &'a Pod, container: &'a Container, name: &str) -> Option<&'a Quantity> {
    let of = |resources: &'a ResourceRequirements| resources.limits.as_ref()?.get(name);
    let own = container.resources.as_ref().and_then(of);
    let own = own.filter(|q| quantity::milli(&q.0).is_some_and(|m| m > 0));
    own.or_else(|| of_pod(pod).and_then(of))
}

/// The memory that a container has asked for, and its part of what its pod has asked for beside that (`GetContainerOOMScoreAdjust`).
pub fn memory_request(pod: &Pod, container: &Container) -> i64 {
    let bytes = |resources: Option<&ResourceRequirements>| {
        quantity::units_of(resources.and_then(|r| r.requests.as_ref()), "memory").unwrap_or(0)
    };
    let own = bytes(container.resources.as_ref());
    let whole = bytes(of_pod(pod));
    let sidecars = pod::init_containers(pod).iter().filter(|c| pod::is_sidecar(c));
    let all: Vec<i64> =
        pod::spec(pod).containers.iter().chain(sidecars).map(|c| bytes(c.resources.as_ref())).collect();
    let rest = whole.saturating_sub(all.iter().fold(0, |sum, one| one.saturating_add(sum))).max(0);
    own.saturating_add(rest / i64::try_from(all.len()).unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let of = |resources: serde_json::Value| {
            let pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "a", "resources": resources }] } });
            class(&serde_json::from_value(pod).unwrap())
        };
        let both = json!({ "cpu": "100m", "memory": "1Mi" });
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({ "limits": both })), "Guaranteed");
        assert_eq!(
            of(json!({ "limits": both, "requests": { "cpu": "0.1", "memory": "1Mi" } })),
            "Guaranteed"
        );
        assert_eq!(of(json!({ "limits": both, "requests": { "cpu": "50m" } })), "Burstable");
        assert_eq!(of(json!({ "requests": both })), "Burstable");
    }

    #[test]
    fn what_a_pod_says_as_a_whole_counts() {
        let pod = json!({ "metadata": {}, "spec": {
            "resources": { "requests": { "memory": "100" }, "limits": { "memory": "300", "cpu": "1" } },
            "containers": [{ "name": "a", "resources": { "requests": { "memory": "40" }, "limits": { "memory": "50" } } }, { "name": "b" }],
        } });
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(class(&pod), "Burstable");
        let (a, b) = (&pod::spec(&pod).containers[0], &pod::spec(&pod).containers[1]);
        let limit = |container, name| limit(&pod, container, name).map(|q| q.0.as_str());
        assert_eq!((limit(a, "memory"), limit(a, "cpu")), (Some("50"), Some("1")));
        assert_eq!((limit(b, "memory"), limit(b, "pods")), (Some("300"), None));
        assert_eq!((memory_request(&pod, a), memory_request(&pod, b)), (70, 30));
        pod.spec.as_mut().unwrap().resources.as_mut().unwrap().requests = None;
        assert_eq!(class(&pod), "Guaranteed");
        pod.spec.as_mut().unwrap().resources = None;
        assert_eq!((class(&pod), memory_request(&pod, &pod::spec(&pod).containers[0])), ("Burstable", 40));
    }
}
