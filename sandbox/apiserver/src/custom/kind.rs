//! A version of a custom resource.

use super::conversion::Webhook;
use crate::resource::{ALL_VERBS, GET_PATCH_UPDATE};
use crate::resource::{Below, ColumnText, Resource, api_version};
use crate::storage::keys;
use drydock_apimachinery::crd::{Served, Structural, version_order};
use drydock_apimachinery::decode::Decoded;
use drydock_apimachinery::field::ErrorList;
use drydock_apis::Column;
use serde_json::Value;
use std::sync::Arc;

/// A version of a custom resource.
#[derive(Debug)]
pub struct CustomKind {
    /// What its definition says.
    pub served: Served,
    /// `apiVersion` of the objects in the store.
    pub stored_version: String,
    /// Who converts its objects between versions; none: nothing but `apiVersion` differs.
    pub webhook: Option<Arc<Webhook>>,
    /// Objects that were written before this revision of the store may not be as the schema has it now.
    pub since: i64,
    /// The definition is being deleted: no new objects.
    pub is_terminating: bool,
}

impl CustomKind {
    /// The resources of a definition that is established.
    pub fn resources(definition: &Value, since: i64, is_terminating: bool) -> Vec<Resource> {
        let all = Served::of(definition);
        let versions = definition["spec"]["versions"].as_array();
        let storage = versions.into_iter().flatten().find(|version| version["storage"] == true);
        let storage = storage.and_then(|version| version["name"].as_str()).unwrap_or_default().to_string();
        let webhook = Webhook::of(definition).map(Arc::new);
        let mut resources: Vec<Resource> = all
            .into_iter()
            .map(|served| {
                let stored_version = api_version(&served.group, &storage);
                Self { served, stored_version, webhook: webhook.clone(), since, is_terminating }.resource()
            })
            .collect();
        resources.sort_by_key(|one| std::cmp::Reverse(version_order(&one.version)));
        resources
    }

    fn resource(self) -> Resource {
        let served = &self.served;
        let texts = |all: &[String]| all.iter().map(|one| one.clone().into()).collect();
        let mut subresources = Vec::new();
        if served.scale.is_some() {
            subresources.push(Below {
                name: "scale".into(),
                group_version: Some(("autoscaling".into(), "v1".into())),
                kind: "Scale".into(),
                verbs: GET_PATCH_UPDATE,
            });
        }
        if served.status {
            subresources.push(Below {
                name: "status".into(),
                group_version: None,
                kind: served.kind.clone().into(),
                verbs: GET_PATCH_UPDATE,
            });
        }
        Resource {
            group: served.group.clone().into(),
            version: served.version.clone().into(),
            kind: served.kind.clone().into(),
            list_kind: served.list_kind.clone().into(),
            plural: served.plural.clone().into(),
            singular: served.singular.clone().into(),
            short: texts(&served.short),
            categories: texts(&served.categories),
            namespaced: served.namespaced,
            verbs: ALL_VERBS,
            subresources,
            api_version: api_version(&served.group, &served.version),
            prefix: keys::custom_prefix(&served.group, &served.plural),
            form: crate::resource::Form::Custom(Box::new(self)),
        }
    }

    /// Its schema.
    pub fn schema(&self) -> Option<&Structural> {
        Some(&self.served.schema)
    }

    /// Fills in what the schema says.
    pub fn default(&self, object: &mut Value) {
        self.served.fill_defaults(object);
    }

    /// Drops what the schema does not know; it is told as what is no field.
    pub fn prune(&self, decoded: &mut Decoded) {
        let unknown = self.served.prune(&mut decoded.object);
        decoded.strict.extend(unknown);
    }

    /// Drops what the schema does not know, and tells nobody.
    pub fn drop_unknown(&self, object: &mut Value) {
        let _dropped = self.served.prune(object);
    }

    /// Keeps the status out of writes that are not its own.
    pub fn prepare(&self, object: &mut Value, old: Option<&Value>) {
        if !self.served.status {
            return;
        }
        let Some(map) = object.as_object_mut() else { return };
        match old.and_then(|old| old.get("status")) {
            Some(status) => map.insert("status".into(), status.clone()),
            None => map.remove("status"),
        };
    }

    /// What the schema says against it; `before`: what is wrong with its metadata.
    pub fn validate(&self, object: &Value, old: Option<&Value>, before: ErrorList) -> ErrorList {
        self.served.validate(object, old, before)
    }

    /// The text for `Warning` headers of all its requests.
    pub fn deprecation(&self) -> Option<&str> {
        self.served.deprecated.as_deref()
    }

    /// An object that was written before the schema was as it is, as it is to be now.
    pub fn refresh(&self, object: &mut Value) {
        self.drop_unknown(object);
        self.served.fill_defaults(object);
    }

    /// The value of a selectable field.
    pub fn field(&self, object: &Value, name: &str) -> Option<String> {
        self.served.field(name, object)
    }

    /// Whether field selectors may name it.
    pub fn knows_field(&self, name: &str) -> bool {
        self.served.selectable.iter().any(|(known, _)| known == name)
    }

    /// Its schemas as OpenAPI publishes them, by name.
    pub fn openapi(&self) -> (drydock_apimachinery::openapi::Resource, Vec<(String, Value)>) {
        self.served.openapi()
    }

    /// Columns of tables.
    pub fn columns(&self) -> Vec<ColumnText> {
        let own = self.served.columns.iter().map(|column| ColumnText {
            name: column.name.clone().into(),
            type_: column.type_.clone().into(),
            format: column.format.clone().into(),
            description: column.description.clone().into(),
            priority: column.priority,
        });
        std::iter::once(ColumnText::from(&Column::NAME)).chain(own).collect()
    }
}
