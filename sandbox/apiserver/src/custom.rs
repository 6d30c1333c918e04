//! What a CustomResourceDefinition says of one version of its resource, in the form in which the engine asks.

use crate::resource::{ColumnText, Resource};
use drydock_apimachinery::crd::Structural;
use drydock_apimachinery::decode::Decoded;
use drydock_apimachinery::field::ErrorList;
use drydock_apis::{Cell, Column};
use jiff::Timestamp;
use serde_json::Value;

/// A version of a custom resource.
#[derive(Debug, Default)]
pub struct CustomKind {
    /// Whether writes to the object leave its status alone.
    pub has_status: bool,
}

impl CustomKind {
    /// Fills in what the schema says.
    pub fn default(&self, _object: &mut Value) {}

    /// Keeps the status out of writes that are not its own.
    pub fn prepare(&self, object: &mut Value, old: Option<&Value>) {
        if !self.has_status {
            return;
        }
        let Some(map) = object.as_object_mut() else { return };
        match old.and_then(|old| old.get("status")) {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.remove("status"),
        };
    }

    /// What the schema says against it.
    pub fn validate(&self, _object: &Value, _old: Option<&Value>) -> ErrorList {
        ErrorList::default()
    }

    /// The value of a selectable field.
    pub fn field(&self, _object: &Value, _name: &str) -> Option<String> {
        None
    }

    /// Whether field selectors may name it.
    pub fn knows_field(&self, _name: &str) -> bool {
        false
    }

    /// Its schema.
    pub fn schema(&self) -> Option<&Structural> {
        None
    }

    /// Drops what the schema does not know.
    pub fn prune(&self, _decoded: &mut Decoded) {}

    /// Its schemas as OpenAPI publishes them, by name.
    pub fn openapi(&self, _resource: &Resource) -> Vec<(String, Value)> {
        Vec::new()
    }

    /// Wanted and present replicas, and the selector of their pods; none: it has no scale.
    pub fn scale(&self, _object: &Value) -> Option<(i64, i64, String)> {
        None
    }

    /// Sets the wanted replicas.
    pub fn set_scale(&self, _object: &mut Value, _replicas: i64) {}

    /// Columns of tables.
    pub fn columns(&self) -> Vec<ColumnText> {
        vec![ColumnText::from(&Column::NAME), ColumnText::from(&Column::AGE)]
    }

    /// Cells of an object.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        drydock_apis::printers::object_meta(object, now)
    }
}
