//! A validation rule on the objects of a custom resource: compiled, and run on one object.
#![no_main]

use drydock_apimachinery::crd::{Served, default_definition, validate_definition};
use drydock_apimachinery::field::ErrorList;
use drydock_fuzz::{definition, widget};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|rule: &str| {
    let mut definition = definition();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-validations"] = json!([{"rule": rule}]);
    default_definition(&mut definition);
    if validate_definition(&definition, None).is_empty() {
        for served in Served::of(&definition) {
            served.validate(&widget(), Some(&widget()), ErrorList::default());
        }
    }
});
