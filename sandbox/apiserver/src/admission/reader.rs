//! Reading other objects from the store while a write is admitted.

use crate::rest::write::refusal;
use crate::storage::{decode, shared};
use drydock_apimachinery::Status;
use drydock_etcd::{Record, Store};
use serde_json::Value;
use std::sync::Arc;

/// An object by its place below `/registry/`: `limitranges/NAMESPACE/NAME`. None: there is none.
pub fn get(store: &Store, path: &str) -> Result<Option<Arc<Value>>, Status> {
    record(store, path)?.map(|record| shared(&record)).transpose()
}

/// A pod. It is not kept in memory: there are many.
pub fn pod(store: &Store, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    record(store, &format!("pods/{namespace}/{name}"))?.map(|record| decode(&record)).transpose()
}

fn record(store: &Store, path: &str) -> Result<Option<Arc<Record>>, Status> {
    store.get(["/registry/", path].concat().as_bytes(), None).map_err(refusal)
}

/// All objects below a place, of kinds of which there are few and that change seldom.
pub fn list(store: &Store, path: &str) -> Result<Vec<Arc<Value>>, Status> {
    // What somebody wrote past us and is no object counts for nothing.
    Ok(records(store, path).iter().filter_map(|record| shared(record).ok()).collect())
}

/// At most so many of them, read for this time only: of what is many, or changes with every write, nothing is kept in memory.
pub fn once(store: &Store, path: &str, most: usize) -> Result<Vec<Value>, Status> {
    Ok(records(store, path).iter().take(most).filter_map(|record| decode(record).ok()).collect())
}

fn records(store: &Store, path: &str) -> Vec<Arc<Record>> {
    store.below(["/registry/", path, "/"].concat().as_bytes())
}

/// Of several that are marked as default by one of these annotations, the newest (`GetDefaultClass` of component-helpers).
pub fn default_class(store: &Store, path: &str, annotations: &[&str]) -> Result<Option<Arc<Value>>, Status> {
    use drydock_apimachinery::object::{name, text};
    let is_default = |class: &Arc<Value>| {
        annotations.iter().any(|annotation| text(class, &["metadata", "annotations", annotation]) == "true")
    };
    let mut classes = list(store, path)?;
    classes.retain(is_default);
    let time = |class: &Value| text(class, &["metadata", "creationTimestamp"]).to_string();
    classes.sort_by(|a, b| time(b).cmp(&time(a)).then_with(|| name(a).cmp(name(b))));
    Ok(classes.into_iter().next())
}
