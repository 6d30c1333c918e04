//! Flow schemas and priority levels (`pkg/apis/flowcontrol/v1/defaults.go`).

use crate::tree::{child, default, default_zero, with_spec};
use serde_json::Value;

/// Flow schemas.
pub fn flow_schema(object: &mut Value) {
    with_spec(object, |spec| default_zero(spec, "matchingPrecedence", 1000));
}

/// Priority levels.
pub fn priority_level(object: &mut Value) {
    with_spec(object, |spec| {
        if let Some(exempt) = child(spec, "exempt") {
            default(exempt, "nominalConcurrencyShares", 0);
            default(exempt, "lendablePercent", 0);
        }
        let Some(limited) = child(spec, "limited") else { return };
        default(limited, "nominalConcurrencyShares", 30);
        default(limited, "lendablePercent", 0);
        if let Some(queuing) = child(limited, "limitResponse").and_then(|answer| child(answer, "queuing")) {
            default_zero(queuing, "queues", 64);
            default_zero(queuing, "handSize", 8);
            default_zero(queuing, "queueLengthLimit", 50);
        }
    });
}
