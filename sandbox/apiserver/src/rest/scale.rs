//! `scale`: how many replicas there are to be, in the same form for every kind that has some
//! (`pkg/registry/apps/deployment/storage/storage.go`; apiextensions-apiserver `pkg/registry/customresource/etcd.go`).

use super::call::Call;
use super::options::{WriteOptions, Writing};
use super::update::{self, Applied, Change, View};
use super::{get, meta, patch, table};
use crate::codec::{self, Expected};
use crate::http::negotiate::{Input, Shape};
use crate::http::respond::{self, Answer};
use crate::resource::Resource;
use drydock_apimachinery::Status;
use drydock_apimachinery::decode::{self, Format};
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, int, map_mut, text};
use drydock_apimachinery::selectors::LabelSelector;
use drydock_apimachinery::status::GroupResource;
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Value, json};

const SCALE: Expected<'static> = Expected { group: "autoscaling", version: "v1", kind: "Scale" };

/// Admission, too, is asked about the scale.
const VIEW: View = View { kind: SCALE, of: of_object, set: scaled };

/// Answers with the scale of the object that the path names.
pub async fn get(call: &Call) -> Result<Answer, Status> {
    let tree = call.object(get::read(call)?).await?;
    if let Some(path) = call.resource.custom().and_then(|custom| custom.served.missing_replicas(&tree)) {
        return Err(Status::internal(format!("the spec replicas field {path:?} does not exist")));
    }
    answer(call, of_object(&call.resource, &tree)?)
}

/// A scale as the client wants it.
fn answer(call: &Call, scale: Value) -> Result<Answer, Status> {
    let Shape::Table(version) = call.style.output.shape else {
        return call.answer_tree(StatusCode::OK, scale);
    };
    let options = table::Options::new(&call.query, version)?;
    Ok(respond::value(StatusCode::OK, &table::of_scale(scale, &options), call.style))
}

/// The scale of an object.
fn of_object(resource: &Resource, tree: &Value) -> Result<Value, Status> {
    if let Some(custom) = resource.custom() {
        let scale = custom.served.scale(tree);
        return scale.ok_or_else(|| Status::not_found(resource.group_resource(), object::name(tree)));
    }
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = tree["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let replicas = int(tree, &["spec", "replicas"]).unwrap_or(0);
    let mut status = json!({"replicas": int(tree, &["status", "replicas"]).unwrap_or(0)});
    let selector = selector(tree)?;
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        // As Go leaves zero out.
        "spec": if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) },
        "status": status,
    }))
}

/// Of ReplicationControllers it is a map of labels, of all others a selector.
fn selector(tree: &Value) -> Result<String, Status> {
    let selector = &tree["spec"]["selector"];
    let parsed = if text(tree, &["kind"]) == "ReplicationController" {
        LabelSelector::of_labels(selector)
    } else {
        LabelSelector::of_object(selector)
    };
    Ok(parsed.map_err(Status::internal)?.to_string())
}

/// Replaces the scale by that of the body.
pub async fn update(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let options = WriteOptions::new(&call.query, Writing::Update)?;
    let (input, bytes) = call.body(incoming).await?;
    let scale = codec::decode_typed(&SCALE, input, &bytes, options.field_validation, &mut call.warnings)?;
    write(call, &options, None, |_, _| Ok(scale.clone())).await
}

/// Patches the scale.
pub async fn patch(call: &mut Call, incoming: Incoming) -> Result<Answer, Status> {
    let patch = patch::Patch::read(call, incoming).await?;
    if patch.form == patch::Form::Apply {
        return apply(call, &patch).await;
    }
    write(call, &patch.options, None, |old, warnings| patch.of_typed(&SCALE, old, warnings)).await
}

/// Server-side apply: its manager owns the number of replicas in the object itself (k8s.io/apimachinery
/// `pkg/util/managedfields/scalehandler.go`).
async fn apply(call: &mut Call, patch: &patch::Patch) -> Result<Answer, Status> {
    let options = &patch.options;
    let validation = options.field_validation;
    let scale = codec::decode_typed(&SCALE, Input::Yaml, &patch.body, validation, &mut call.warnings)?;
    // As it was written: of a scale that was read, Go leaves zero out.
    let written = decode::decode_untyped(&patch.body, Format::Yaml);
    let written = written.map_err(|error| error.status(SCALE.kind, &patch.body))?.object;
    let replicas = int(&written, &["spec", "replicas"]);
    let resource = &call.resource;
    let mut wanted = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {}});
    if let Some(replicas) = replicas {
        set_replicas(resource, &mut wanted, replicas);
    }
    let applied = Applied { wanted, force: options.force };
    write(call, options, Some(applied), |old, _| {
        let mut new = old.clone();
        for field in ["name", "namespace", "uid", "resourceVersion"] {
            if let Some(value) = scale["metadata"].get(field) {
                new["metadata"][field] = value.clone();
            }
        }
        if let Some(replicas) = replicas {
            new["spec"]["replicas"] = replicas.into();
        }
        Ok(new)
    })
    .await
}

async fn write(
    call: &mut Call,
    options: &WriteOptions,
    applied: Option<Applied>,
    mut make: impl FnMut(&Value, &mut Vec<String>) -> Result<Value, Status>,
) -> Result<Answer, Status> {
    let change = Change { view: Some(VIEW), applied, ..Change::default() };
    let (written, _) = update::apply(call, options, &change, |old, warnings| {
        make(old.ok_or_else(|| Status::internal("a scale creates nothing"))?, warnings)
    })
    .await?;
    let tree = match written {
        super::write::Written::Stored(record) => call.object(record).await?,
        super::write::Written::Imagined(tree) => tree,
    };
    answer(call, of_object(&call.resource, &tree)?)
}

/// Writes a number of replicas to where the kind has it.
fn set_replicas(resource: &Resource, object: &mut Value, replicas: i64) {
    match resource.custom() {
        Some(custom) => custom.served.set_scale(object, replicas),
        None => {
            map_mut(object, &["spec"]).insert("replicas".into(), replicas.into());
        }
    }
}

/// The object with the scale's replicas.
fn scaled(resource: &Resource, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = int(scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let mut errors = ErrorList::default();
        let why = "must be greater than or equal to 0";
        errors.invalid(&Path::new("spec.replicas"), replicas, why);
        let of = GroupResource { group: "autoscaling", resource: "Scale" };
        return Err(Status::invalid(of, object::name(scale), &errors));
    }
    let uid = object::uid(scale);
    if !uid.is_empty() && uid != object::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(old)
        );
        return Err(Status::conflict(resource.group_resource(), object::name(old), &why));
    }
    let mut new = old.clone();
    set_replicas(resource, &mut new, replicas);
    let version = text(scale, &["metadata", "resourceVersion"]);
    // A scale without version overwrites, whatever the kind's rule.
    let version = if version.is_empty() {
        text(old, &["metadata", "resourceVersion"]).to_string()
    } else {
        version.into()
    };
    meta::of(&mut new).insert("resourceVersion".into(), version.into());
    Ok(new)
}
