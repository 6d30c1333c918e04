//! Server-side apply of a Deployment.
#![no_main]

use drydock_apimachinery::decode::{Format, complete, decode, decode_untyped};
use drydock_apimachinery::managed_fields::{Place, Tracker};
use drydock_apimachinery::schema::find;
use drydock_fuzz::deployment;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::OnceLock;

fn tracker() -> Tracker<'static> {
    Tracker {
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        schema: Place::of(find("apps", "v1", "Deployment").expect("a kind of ours")),
        reset: &[&["status"]],
        now: "2026-11-20T13:03:48Z",
    }
}

/// A stored object with an owner of its fields.
fn live() -> &'static Value {
    static LIVE: OnceLock<Value> = OnceLock::new();
    LIVE.get_or_init(|| {
        let schema = find("apps", "v1", "Deployment").expect("a kind of ours");
        let mut live =
            decode(deployment().to_string().as_bytes(), Format::Json, schema).expect("sound").object;
        complete(&mut live, schema);
        let mut empty = json!({});
        complete(&mut empty, schema);
        tracker().update(&empty, &mut live, "one");
        live["metadata"]["uid"] = "u".into();
        live
    })
}

fuzz_target!(|body: &[u8]| {
    let Ok(config) = decode_untyped(body, Format::Json) else { return };
    let Ok(applied) = tracker().apply(live(), &config.object, "two", true) else { return };
    let again = tracker().apply(&applied, &config.object, "two", false).expect("it was applied before");
    assert_eq!(again["spec"], applied["spec"]);
    assert_eq!(again["metadata"]["managedFields"], applied["metadata"]["managedFields"]);
});
