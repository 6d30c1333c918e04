//! Tables as `kubectl get` prints them, and objects reduced to their metadata (k8s.io/apiserver
//! `pkg/endpoints/handlers/response.go`).

use crate::http::Query;
use crate::resource::{ColumnText, Resource};
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::status::GroupResource;
use drydock_apis::printers::workloads;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What of an object is in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

/// `TableOptions`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of `meta.k8s.io`.
    pub version: &'static str,
    /// What of an object is in its row.
    pub include: Include,
    /// No column definitions.
    pub no_headers: bool,
}

impl Options {
    /// Reads and checks them.
    pub fn new(query: &Query, version: &'static str) -> Result<Self, Status> {
        let include = match query.text("includeObject") {
            "" | "Metadata" => Include::Metadata,
            "Object" => Include::Object,
            "None" => Include::None,
            other => {
                let mut errors = ErrorList::default();
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                errors.invalid(&Path::new("includeObject"), other, why);
                let of = GroupResource { group: "meta.k8s.io", resource: "TableOptions" };
                return Err(Status::invalid(of, "", &errors));
            }
        };
        Ok(Self { version, include, no_headers: query.flag("noHeaders") })
    }
}

/// The definitions of a resource's columns.
pub fn columns(resource: &Resource) -> Value {
    resource.columns().into_iter().map(definition).collect()
}

fn definition(column: ColumnText) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

/// An object's row.
pub fn row(resource: &Resource, tree: Value, options: &Options, now: Timestamp) -> Value {
    let cells = resource.row(&tree, now);
    let conditions = resource.row_conditions(&tree);
    let mut row = json!({"cells": cells, "object": included(tree, options)});
    if let Some(conditions) = conditions {
        row["conditions"] = conditions;
    }
    row
}

fn included(tree: Value, options: &Options) -> Value {
    match options.include {
        Include::None => Value::Null,
        Include::Object => tree,
        Include::Metadata => metadata_of(tree, options.version),
    }
}

/// A table of a scale, which has columns of its own.
pub fn of_scale(scale: Value, options: &Options) -> Value {
    let definitions = match options.no_headers {
        true => Value::Null,
        false => workloads::SCALE.iter().map(|column| definition(column.into())).collect(),
    };
    let revision = scale["metadata"]["resourceVersion"].clone();
    let cells = workloads::scale(&scale, Timestamp::now());
    let row = json!({"cells": cells, "object": included(scale, options)});
    whole(options, &revision, definitions, row)
}

/// A table of one object.
pub fn of_object(resource: &Resource, tree: Value, options: &Options) -> Value {
    let revision = tree["metadata"]["resourceVersion"].clone();
    let definitions = if options.no_headers { Value::Null } else { columns(resource) };
    one_row(resource, tree, options, &revision, definitions)
}

/// The same with these definitions: watches tell them once.
pub fn one_row(
    resource: &Resource,
    tree: Value,
    options: &Options,
    revision: &Value,
    definitions: Value,
) -> Value {
    whole(options, revision, definitions, row(resource, tree, options, Timestamp::now()))
}

fn whole(options: &Options, revision: &Value, definitions: Value, row: Value) -> Value {
    let metadata = if revision.is_null() { json!({}) } else { json!({"resourceVersion": revision}) };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": [row],
    })
}

/// An object's metadata as an object.
pub fn metadata_of(mut tree: Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": tree["metadata"].take(),
    })
}
