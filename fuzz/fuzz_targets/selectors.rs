//! Short texts of queries and fields.
#![no_main]

use drydock_apimachinery::crd::JsonPath;
use drydock_apimachinery::quantity::Quantity;
use drydock_apimachinery::selectors::{FieldSelector, LabelSelector};
use drydock_fuzz::deployment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _either = LabelSelector::parse(text);
    let _either = FieldSelector::parse(text);
    if let Ok(path) = JsonPath::parse(text) {
        path.find(&deployment());
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        let canonical = quantity.to_string();
        let again: Quantity = canonical.parse().expect("what we write we read");
        assert_eq!(again.to_string(), canonical);
    }
});
