//! Claims of devices (`pkg/apis/resource/v1/defaults.go`).

use super::others::keep_status;
use crate::tree::{Object, child, default_zero, each, within};
use serde_json::{Value, json};

/// What is asked of one kind of device.
fn request(request: &mut Object) {
    default_zero(request, "allocationMode", "ExactCount");
    if request.get("allocationMode").is_some_and(|mode| mode == "ExactCount") {
        default_zero(request, "count", 1);
    }
    each(request, "tolerations", |toleration| default_zero(toleration, "operator", "Equal"));
}

fn devices(devices: &mut Object) {
    each(devices, "requests", |one| {
        if let Some(exactly) = child(one, "exactly") {
            request(exactly);
        }
        each(one, "firstAvailable", request);
    });
}

/// Claims.
pub fn claim(object: &mut Value) {
    within(object, &["spec", "devices"], devices);
}

/// Templates of claims.
pub fn template(object: &mut Value) {
    within(object, &["spec", "spec", "devices"], devices);
}

/// A new claim has nothing yet.
pub fn prepare_claim(new: &mut Value, old: Option<&Value>) {
    keep_status(new, old, json!({}));
}
