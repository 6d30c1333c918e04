//! What happened: `docker events`.

use std::collections::BTreeMap;

/// The log of what happened.
#[derive(Debug, Default)]
pub struct Events {}

impl Events {
    /// Tells that something happened to an object. `kind`: `container`, `image`, `volume`, `network` …
    pub fn emit(&self, _kind: &str, _action: &str, _id: &str, _attributes: BTreeMap<String, String>) {}
}
