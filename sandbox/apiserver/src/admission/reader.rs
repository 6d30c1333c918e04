//! Reading other objects from the store while a write is admitted.

use crate::rest::write::refusal;
use crate::storage::decode;
use drydock_apimachinery::Status;
use drydock_etcd::{KeyRange, Query, Store};
use serde_json::Value;

/// An object by its place below `/registry/`: `limitranges/NAMESPACE/NAME`. None: there is none, or it can't be read.
pub fn get(store: &Store, path: &str) -> Result<Option<Value>, Status> {
    let key = format!("/registry/{path}");
    let found = store.get(key.as_bytes(), None).map_err(refusal)?;
    found.map(|record| decode(&record)).transpose()
}

/// All objects below a place.
pub fn list(store: &Store, path: &str) -> Result<Vec<Value>, Status> {
    let found = store.range(&KeyRange::prefix(format!("/registry/{path}/")), &Query::default());
    // What somebody wrote past us and is no object counts for nothing.
    Ok(found.map_err(refusal)?.records.iter().filter_map(|record| decode(record).ok()).collect())
}

/// Of several that are marked as default by one of these annotations, the newest (`GetDefaultClass` of component-helpers).
pub fn default_class(store: &Store, path: &str, annotations: &[&str]) -> Result<Option<Value>, Status> {
    use drydock_apimachinery::object::{name, text};
    let is_default = |class: &Value| {
        annotations.iter().any(|annotation| text(class, &["metadata", "annotations", annotation]) == "true")
    };
    let mut classes = list(store, path)?;
    classes.retain(is_default);
    let time = |class: &Value| text(class, &["metadata", "creationTimestamp"]).to_string();
    classes.sort_by(|a, b| time(b).cmp(&time(a)).then_with(|| name(a).cmp(name(b))));
    Ok(classes.into_iter().next())
}
