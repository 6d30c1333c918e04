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

/// The uses in an answer: of one container, or of all together. A pod of which a container does not tell the resource is left out.
fn uses(list: List, resource: &str, container: Option<&str>) -> Uses {
    let of = |item: Item| {
        let mut containers =
            item.containers.iter().filter(|one| container.is_none_or(|name| name == one.name)).peekable();
        containers.peek()?;
        let mut amounts =
            containers.map(|one| one.usage.get(resource)?.parse::<Quantity>().ok().map(Quantity::millis));
        let millis = amounts.try_fold(0_i64, |sum, amount| Some(sum.saturating_add(amount?)))?;
        Some((item.metadata.name, Use { millis, at: item.timestamp, window: seconds(&item.window) }))
    };
    list.items.into_iter().filter_map(of).collect()
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
    Ok(uses(list, resource, container))
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
            {"metadata": {"name": "b"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "containers": []},
        ]});
        let of = |resource: &str, container: Option<&str>| {
            uses(serde_json::from_value(list.clone()).unwrap(), resource, container)
                .into_iter()
                .map(|(name, one)| (name, one.millis))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("cpu", None), [("a".to_owned(), 350)]);
        assert_eq!(of("cpu", Some("y")), [("a".to_owned(), 250)]);
        assert!(of("memory", None).is_empty(), "one container does not tell");
        assert_eq!(seconds("30s"), 30);
        assert_eq!(seconds("1m0.5s"), 60);
    }
}
