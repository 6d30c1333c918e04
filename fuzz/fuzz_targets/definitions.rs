//! Custom resource definitions, and an object of each that is accepted. An odd first byte: an object of a fixed definition.
#![no_main]

use drydock_apimachinery::crd::{Served, default_definition, validate_definition};
use drydock_apimachinery::decode::{Format, decode, decode_untyped};
use drydock_apimachinery::field::ErrorList;
use drydock_apimachinery::schema::find;
use drydock_fuzz::{definition, widget};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn check(served: &Served, object: &Value) {
    let mut object = object.clone();
    served.prune(&mut object);
    served.fill_defaults(&mut object);
    let mut again = object.clone();
    assert!(served.prune(&mut again).is_empty());
    served.fill_defaults(&mut again);
    assert_eq!(again, object);
    served.validate(&object, None, ErrorList::default());
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    if choice % 2 == 1 {
        let Ok(decoded) = decode_untyped(body, Format::Json) else { return };
        let mut definition = definition();
        default_definition(&mut definition);
        return Served::of(&definition).iter().for_each(|served| check(served, &decoded.object));
    }
    let schema = find("apiextensions.k8s.io", "v1", "CustomResourceDefinition").expect("a kind of ours");
    let Ok(decoded) = decode(body, Format::Json, schema) else { return };
    let mut definition = decoded.object;
    default_definition(&mut definition);
    if validate_definition(&definition, None).is_empty() {
        Served::of(&definition).iter().for_each(|served| check(served, &widget()));
    }
});
