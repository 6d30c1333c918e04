//! SIGHUP (`systemctl reload docker`): the file is read again, and what may change while the engine runs does (moby's
//! `daemon/reload.go`). A file that is wrong changes nothing.

use super::{DaemonConfig, FILE, keys};
use crate::{engine::Engine, journal};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use tokio::signal::unix::Signal;

/// Reloads each time that the signal comes.
pub async fn watch(engine: Arc<Engine>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        journal::info("Got signal to reload configuration, reloading from: /etc/docker/daemon.json");
        match reload(&engine, Path::new(FILE)) {
            Ok(()) => journal::info("Reloaded configuration"),
            Err(why) => journal::error(&why),
        }
    }
}

fn reload(engine: &Engine, path: &Path) -> Result<(), String> {
    let super::Settings { config: new, fields, .. } = super::read(path)?;
    let config = engine.config.get().reloaded(new, &fields);
    engine.registries.replace(&engine.root, &config);
    let attributes = config.attributes(&fields);
    let id = crate::api::system::info::engine_id(&engine.root);
    let name = crate::api::system::info::host_name();
    engine.config.set(config);
    let attributes = attributes.into_iter().chain([("name".to_owned(), name)]).collect();
    engine.events.emit("daemon", "reload", &id, attributes);
    Ok(())
}

impl DaemonConfig {
    /// This one with those settings of a newer one that may change. What the file does not name stays.
    fn reloaded(&self, new: Self, fields: &Map<String, Value>) -> Self {
        let mut config = self.clone();
        let is_set = |name: &str| keys::is_set(fields, name);
        if is_set("debug") {
            config.debug = new.debug;
        }
        if is_set("labels") {
            config.labels = new.labels;
        }
        if is_set("live-restore") {
            config.live_restore = new.live_restore;
        }
        if is_set("insecure-registries") {
            config.insecure_registries = new.insecure_registries;
        }
        if is_set("registry-mirrors") {
            config.registry_mirrors = new.registry_mirrors;
        }
        config
    }

    /// Attributes of the event.
    fn attributes(&self, fields: &Map<String, Value>) -> BTreeMap<String, String> {
        let number = |name: &str, default: i64| fields.get(name).and_then(Value::as_i64).unwrap_or(default);
        [
            ("debug", self.debug.to_string()),
            ("insecure-registries", json!(self.insecure_registries).to_string()),
            ("labels", json!(self.labels).to_string()),
            ("live-restore", self.keeps_containers().to_string()),
            ("max-concurrent-downloads", number("max-concurrent-downloads", 3).to_string()),
            ("max-concurrent-uploads", number("max-concurrent-uploads", 5).to_string()),
            ("max-download-attempts", number("max-download-attempts", 5).to_string()),
            ("registry-mirrors", json!(self.registry_mirrors).to_string()),
            ("shutdown-timeout", number("shutdown-timeout", 15).to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_may_change_changes_and_what_is_not_named_stays() {
        let read = |text: &str| super::super::parse(text.as_bytes()).unwrap();
        let (old, _) = read(r#"{"labels": ["a=b"], "debug": true, "log-driver": "local"}"#);
        let (new, fields) =
            read(r#"{"labels": ["c=d"], "log-driver": "none", "insecure-registries": ["x"]}"#);
        let config = old.reloaded(new, &fields);
        assert_eq!(
            (config.labels, config.debug, config.log_driver),
            (vec!["c=d".to_owned()], true, "local".to_owned())
        );
        assert_eq!(config.insecure_registries, ["x"]);
    }
}
