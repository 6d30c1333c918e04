//! `events.k8s.io/v1`: the core group's events under newer names of their fields.

use crate::conversion::events::{from_core, to_core};
use crate::kind::{Conversion, Kind};
use crate::{defaults, printers, validation};
use drydock_apimachinery::object::text;
use serde_json::Value;

/// What the core group adds is seen under the newer names.
fn default(object: &mut Value) {
    let mut core = to_core(object.take());
    defaults::core::event(&mut core);
    *object = from_core(core);
}

pub static EVENT: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    create_on_update: true,
    fields: &[
        ("regarding.kind", |o| text(o, &["regarding", "kind"]).into()),
        ("regarding.namespace", |o| text(o, &["regarding", "namespace"]).into()),
        ("regarding.name", |o| text(o, &["regarding", "name"]).into()),
        ("regarding.uid", |o| text(o, &["regarding", "uid"]).into()),
        ("regarding.apiVersion", |o| text(o, &["regarding", "apiVersion"]).into()),
        ("regarding.resourceVersion", |o| text(o, &["regarding", "resourceVersion"]).into()),
        ("regarding.fieldPath", |o| text(o, &["regarding", "fieldPath"]).into()),
        ("reason", |o| text(o, &["reason"]).into()),
        ("reportingController", |o| text(o, &["reportingController"]).into()),
        ("type", |o| text(o, &["type"]).into()),
    ],
    stored_as: Some(Conversion { group: "", version: "v1", store: to_core, load: from_core }),
    defaults: default,
    validate: |new, old| {
        let old = old.map(|old| to_core(old.clone()));
        validation::events::validate_strictly(&to_core(new.clone()), old.as_ref())
    },
    columns: printers::core::EVENT,
    row: |event, now| printers::core::event(&to_core(event.clone()), now),
    ..Kind::BASE
};
