//! A pod's quality of service (`pkg/apis/core/v1/helper/qos`).

use super::pod;
use crate::quantity::{self, Resources};
use k8s_openapi::api::core::v1::Pod;

const NAMES: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Pod) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for container in pod::init_containers(pod).iter().chain(&pod::spec(pod).containers) {
        let resources = container.resources.clone().unwrap_or_default();
        let of = |map: &Option<Resources>, name| quantity::milli_of(map.as_ref(), name).filter(|v| *v > 0);
        for name in NAMES {
            let (request, limit) = (of(&resources.requests, name), of(&resources.limits, name));
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
}
