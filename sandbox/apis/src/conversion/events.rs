//! `events.k8s.io/v1` and the core group's events (`pkg/apis/events/v1/conversion.go`): one storage, other names of fields.

use serde_json::{Map, Value};

/// Core name and events.k8s.io name of each field that has two.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(
    object: Value,
    to: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    let Value::Object(mut map) = object else { return object };
    let moved: Map<_, _> = NAMES
        .iter()
        .map(to)
        .filter_map(|(old, new)| map.remove(old).map(|value| (new.to_string(), value)))
        .collect();
    map.extend(moved);
    Value::Object(map)
}

fn set_version(mut object: Value, version: &str) -> Value {
    if let Some(map) = object.as_object_mut()
        && map.contains_key("apiVersion")
    {
        map.insert("apiVersion".into(), version.into());
    }
    object
}

/// To the stored form.
pub fn to_core(object: Value) -> Value {
    set_version(rename(object, |(core, events)| (*events, *core)), "v1")
}

/// From the stored form.
pub fn from_core(object: Value) -> Value {
    set_version(rename(object, |(core, events)| (*core, *events)), "events.k8s.io/v1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m",
            "count": 2, "source": {"component": "kubelet"}, "reason": "Started", "type": "Normal",
            "firstTimestamp": "2026-01-01T00:00:00Z", "eventTime": null});
        let events = from_core(core.clone());
        assert_eq!(
            events,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"kind": "Pod", "name": "p"}, "note": "m",
                "deprecatedCount": 2, "deprecatedSource": {"component": "kubelet"}, "reason": "Started", "type": "Normal",
                "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "eventTime": null})
        );
        assert_eq!(to_core(events), core);
    }
}
