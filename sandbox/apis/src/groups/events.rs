//! `events.k8s.io/v1`: the core group's events under newer names of their fields.

use crate::kind::{Conversion, Kind};
use crate::printers;
use drydock_apimachinery::object::text;

pub static EVENT: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    create_on_update: true,
    // Selectors are asked of the stored (core) form.
    fields: &[
        ("regarding.kind", |o| text(o, &["involvedObject", "kind"]).into()),
        ("regarding.namespace", |o| text(o, &["involvedObject", "namespace"]).into()),
        ("regarding.name", |o| text(o, &["involvedObject", "name"]).into()),
        ("regarding.uid", |o| text(o, &["involvedObject", "uid"]).into()),
        ("regarding.apiVersion", |o| text(o, &["involvedObject", "apiVersion"]).into()),
        ("regarding.resourceVersion", |o| text(o, &["involvedObject", "resourceVersion"]).into()),
        ("regarding.fieldPath", |o| text(o, &["involvedObject", "fieldPath"]).into()),
        ("reason", |o| text(o, &["reason"]).into()),
        ("reportingController", |o| text(o, &["reportingComponent"]).into()),
        ("type", |o| text(o, &["type"]).into()),
    ],
    stored_as: Some(Conversion {
        group: "",
        version: "v1",
        store: crate::conversion::events::to_core,
        load: crate::conversion::events::from_core,
    }),
    columns: printers::core::EVENT,
    row: printers::core::event,
    ..Kind::BASE
};
