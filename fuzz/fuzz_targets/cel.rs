//! A validation rule on the objects of a custom resource: checked against the schema, and run on one object.
#![no_main]

use drydock_apimachinery::crd::{Served, default_definition, validate_definition};
use drydock_apimachinery::field::ErrorList;
use drydock_fuzz::{definition, widget};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|rule: &str| {
    let mut definition = definition();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-validations"] =
        json!([{"rule": rule, "messageExpression": rule, "optionalOldSelf": true}, {"rule": rule}]);
    default_definition(&mut definition);
    // Its types and costs; then it is run even if it is refused: an older program may have accepted it.
    validate_definition(&definition, None);
    for served in Served::of(&definition) {
        served.validate(&widget(), Some(&widget()), ErrorList::default());
    }
});
