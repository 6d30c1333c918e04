//! `autoscaling`: one stored kind in two versions.

use crate::conversion::autoscaling::{v1_to_v2, v2_to_v1};
use crate::defaults::others;
use crate::kind::{Conversion, Kind, Subresource};
use crate::printers;
use crate::validation::autoscaling as rules;
use serde_json::Value;

const BASE: Kind = Kind {
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short: &["hpa"],
    categories: &["all"],
    subresources: &[Subresource::status("HorizontalPodAutoscaler")],
    ..Kind::BASE
};

/// Does to an object of v1 what is known how to do in v2.
fn as_v2(object: &mut Value, change: impl FnOnce(&mut Value)) {
    let mut newer = v1_to_v2(object.take());
    change(&mut newer);
    *object = v2_to_v1(newer);
}

pub static HORIZONTAL_POD_AUTOSCALER_V2: Kind = Kind {
    version: "v2",
    defaults: others::autoscaler,
    prepare: others::prepare_autoscaler,
    columns: printers::workloads::AUTOSCALER,
    row: printers::workloads::autoscaler,
    validate: rules::validate,
    validate_status: rules::validate_status,
    ..BASE
};

pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Kind {
    version: "v1",
    stored_as: Some(Conversion { group: "autoscaling", version: "v2", store: v1_to_v2, load: v2_to_v1 }),
    defaults: |object| as_v2(object, others::autoscaler),
    prepare: |object, old| {
        let old = old.map(|old| v1_to_v2(old.clone()));
        as_v2(object, |object| others::prepare_autoscaler(object, old.as_ref()));
    },
    columns: printers::workloads::AUTOSCALER,
    row: |object, now| printers::workloads::autoscaler(&v1_to_v2(object.clone()), now),
    validate: |new, old| {
        let old = old.map(|old| v1_to_v2(old.clone()));
        rules::validate(&v1_to_v2(new.clone()), old.as_ref())
    },
    validate_status: |new, old| rules::validate_status(&v1_to_v2(new.clone()), &v1_to_v2(old.clone())),
    ..BASE
};
