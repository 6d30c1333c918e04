//! What pods use, as `metrics.k8s.io` tells it.

use std::collections::BTreeMap;

use drydock_apimachinery::quantity::Quantity;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

/// A pod's use of a resource, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// How much.
    pub millis: i64,
    /// Measured until.
    pub at: Timestamp,
    /// Over so many seconds.
    pub window: i64,
}

/// Uses by name of pod.
pub type Uses = BTreeMap<String, Use>;

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Meta,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

/// `30s`, `1m0.5s` in whole seconds.
fn seconds(text: &str) -> i64 {
    text.parse::<k8s_openapi::jiff::SignedDuration>().map_or(60, |duration| duration.as_secs())
}

/// The uses in an answer: of one container, which each pod must have, or of all together. A pod of which a container does not tell the
/// resource is left out.
fn uses(list: List, resource: &str, container: Option<&str>) -> Result<Uses, String> {
    let mut all = Uses::new();
    for item in list.items {
        let mut containers =
            item.containers.iter().filter(|one| container.is_none_or(|name| name == one.name)).peekable();
        if containers.peek().is_none() {
            let Some(container) = container else { continue };
            let Meta { namespace, name } = &item.metadata;
            return Err(format!(
                "failed to get container metrics: container {container} not present in metrics for pod {namespace}/{name}"
            ));
        }
        let mut amounts =
            containers.map(|one| one.usage.get(resource)?.parse::<Quantity>().ok().map(Quantity::millis));
        if let Some(millis) = amounts.try_fold(0_i64, |sum, amount| Some(sum.saturating_add(amount?))) {
            all.insert(item.metadata.name, Use { millis, at: item.timestamp, window: seconds(&item.window) });
        }
    }
    Ok(all)
}

/// What the pods of a selector use of a resource.
pub async fn fetch(
    client: &Client,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Uses, String> {
    let mut path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector=");
    // Everything but the unreserved characters of RFC 3986 is written in hexadecimal.
    for byte in selector.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte))
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    let unable = |what: &str| format!("unable to get metrics for resource {resource}: {what}");
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| unable(&error.to_string()))?;
    let list: List = client.request(request).await.map_err(|error| {
        unable(&format!("unable to fetch metrics from resource metrics API: {}", crate::error::text(&error)))
    })?;
    if list.items.is_empty() {
        return Err(unable("no metrics returned from resource metrics API"));
    }
    uses(list, resource, container).map_err(|why| unable(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_added_up() {
        let list = serde_json::json!({"items": [
            {"metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "containers": [
                {"name": "x", "usage": {"cpu": "100m", "memory": "1Mi"}}, {"name": "y", "usage": {"cpu": "250000000n"}},
            ]},
            {"metadata": {"name": "b", "namespace": "ns"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "containers": []},
        ]});
        let of = |resource: &str, container: Option<&str>| {
            let list = serde_json::from_value(list.clone()).unwrap();
            uses(list, resource, container)
                .map(|all| all.into_iter().map(|(name, one)| (name, one.millis)).collect::<Vec<_>>())
        };
        assert_eq!(of("cpu", None).unwrap(), [("a".to_owned(), 350)]);
        let missing = "failed to get container metrics: container y not present in metrics for pod ns/b";
        assert_eq!(of("cpu", Some("y")).unwrap_err(), missing);
        assert!(of("memory", None).unwrap().is_empty(), "one container does not tell");
        assert_eq!(seconds("30s"), 30);
        assert_eq!(seconds("1m0.5s"), 60);
    }
}
