//! `metadata.managedFields`: who owns which field. This is where the engine calls the rules of `drydock_apimachinery`.

use crate::resource::Resource;
use crate::rest::meta;
use drydock_apimachinery::Status;
use serde_json::Value;

/// A writer made `new` of `old`: what it changed is its own from now on.
pub fn update(
    _resource: &Resource,
    _subresource: &str,
    old: Option<&Value>,
    new: &mut Value,
    _manager: &str,
) -> Result<(), Status> {
    let had = old.and_then(|old| old["metadata"].get("managedFields")).cloned();
    match had {
        Some(had) => meta::of(new).insert("managedFields".into(), had),
        None => meta::of(new).remove("managedFields"),
    };
    Ok(())
}

/// Times alone are no change.
pub fn keep_times(_new: &mut Value, _old: &Value) {}
