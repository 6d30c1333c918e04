//! `autoscaling`: one stored kind in two versions.

use crate::defaults::others;
use crate::kind::{Conversion, Kind, Subresource};
use crate::printers;
use crate::validation;

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

pub static HORIZONTAL_POD_AUTOSCALER_V2: Kind = Kind {
    version: "v2",
    defaults: others::autoscaler,
    prepare: others::prepare_autoscaler,
    columns: printers::workloads::AUTOSCALER,
    row: printers::workloads::autoscaler,
    validate: validation::autoscaling::validate,
    validate_status: validation::autoscaling::validate_status,
    ..BASE
};

pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Kind {
    version: "v1",
    stored_as: Some(Conversion {
        group: "autoscaling",
        version: "v2",
        store: crate::conversion::autoscaling::v1_to_v2,
        load: crate::conversion::autoscaling::v2_to_v1,
    }),
    columns: printers::workloads::AUTOSCALER,
    row: printers::workloads::autoscaler,
    ..BASE
};
