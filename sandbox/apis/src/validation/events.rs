//! Events (`pkg/apis/core/validation/events.go`), in their core form whichever group they came through.

use super::{immutable, qualified_name, same};
use crate::tree::{get, has, int, text};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object;
use serde_json::Value;

/// An event that came through the core group: no more is asked of it than ever was.
pub fn validate(object: &Value, _old: Option<&Value>) -> ErrorList {
    legacy(object, "reportingComponent")
}

/// One that came through `events.k8s.io`: the old fields are not for it, and little of it changes.
pub fn validate_strictly(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = legacy(object, "reportingController");
    match old {
        None => strict(&mut errors, object),
        Some(old) => {
            if !same(get(object, "series"), get(old, "series")) {
                series(&mut errors, object);
            }
            for field in FIXED {
                let shown = if *field == "reportingComponent" { "reportingController" } else { field };
                immutable(&mut errors, get(object, field), get(old, field), &Path::new(shown));
            }
        }
    }
    errors
}

/// What of an event stays as it is.
const FIXED: &[&str] = &[
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

fn strict(errors: &mut ErrorList, object: &Value) {
    const UNSET: &str = "needs to be unset";
    series(errors, object);
    if !has(object, "eventTime") {
        errors.required(&Path::new("eventTime"), "");
    }
    let kind = text(object, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    let source = get(object, "source");
    for (field, is_set) in [
        ("firstTimestamp", has(object, "firstTimestamp")),
        ("lastTimestamp", has(object, "lastTimestamp")),
        ("count", int(object, "count") != 0),
        ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
    ] {
        if is_set {
            errors.invalid(&Path::new(field), "", UNSET);
        }
    }
}

fn series(errors: &mut ErrorList, object: &Value) {
    let series = get(object, "series");
    if series.is_null() {
        return;
    }
    if int(series, "count") < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !has(series, "lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

/// `legacyValidateEvent`.
fn legacy(object: &Value, controller: &str) -> ErrorList {
    let mut errors = ErrorList::default();
    let (own, about) = (object::namespace(object), text(get(object, "involvedObject"), "namespace"));
    let is_new = has(object, "eventTime");
    let agrees = match (about, is_new) {
        ("", false) => matches!(own, "" | "default"),
        ("", true) => matches!(own, "default" | "kube-system"),
        (_, false) => own == about,
        (_, true) => true,
    };
    if !agrees {
        let path = Path::new("involvedObject.namespace");
        errors.invalid(&path, about, "does not match event.namespace");
    }
    if is_new {
        let path = Path::new(controller);
        let reporter = text(object, "reportingComponent");
        if reporter.is_empty() {
            errors.required(&path, "");
        }
        qualified_name(&mut errors, &path, reporter);
        for field in ["reportingInstance", "action", "reason"] {
            let value = text(object, field);
            if value.is_empty() {
                errors.required(&Path::new(field), "");
            } else if value.len() > 128 {
                errors.invalid(&Path::new(field), "", "can have at most 128 characters");
            }
        }
        if text(object, "message").len() > 1024 {
            errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts_of(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn of_the_core_group() {
        let event = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
        assert_eq!(
            texts_of(validate(&event, None)),
            ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
        );
        let event = json!({"metadata": {"namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingInstance": "x", "action": "a", "reason": "r"});
        assert_eq!(texts_of(validate(&event, None))[0], "reportingComponent: Required value");
    }

    #[test]
    fn of_the_newer_group() {
        let old =
            json!({"metadata": {"namespace": "default"}, "type": "Odd", "count": 1, "series": {"count": 1}});
        assert_eq!(
            texts_of(validate_strictly(&old, None)),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "eventTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
            ]
        );
        let mut new = old.clone();
        new["reason"] = "Other".into();
        assert_eq!(
            texts_of(validate_strictly(&new, Some(&old))),
            ["reason: Invalid value: \"Other\": field is immutable"]
        );
    }
}
