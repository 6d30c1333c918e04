//! The configuration of an image (image-spec, config.md, with Docker's additions): what its id is the digest of. Read from
//! anywhere, so every field may be missing or null; unknown fields are kept, since a child image inherits them.

use crate::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An image's configuration. The stored bytes are what counts: writing a parsed one again may give other bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `amd64`, `arm64`, `wasm`.
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What was said when it was made (`docker commit -m`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// How containers of it run.
    #[serde(deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The version of the engine that made it; empty for other makers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Its steps, first one first.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// `linux`, `wasi`.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// Its layers.
    #[serde(deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// `v7` of an ARM, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of an image by the digests of their uncompressed tars, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The digests.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// It made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// How containers of an image run. What is absent or null is `None`; an empty list stays one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `name`, `uid:gid` and so on; empty: root.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp` and so on; the values are empty objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// First words of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or arguments for the entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// How to see that a container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The command is one string that a shell splits (Windows).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Paths that become volumes; the values are empty objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Where the command starts; empty: `/`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Instructions for builds on top of this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks a container to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds until a container that was asked to stop is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// What runs the shell form of commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Everything else, such as `Hostname` and `Tty` in images of old engines.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How to see that a container is well; times in nanoseconds, 0 is the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", command]`; absent or empty: inherited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl ImageConfig {
    /// The configuration of an image with one more step: with a layer, or without one.
    pub fn child(&self, layer: Option<&Digest>, mut step: HistoryEntry) -> Self {
        let mut child = self.clone();
        step.empty_layer = layer.is_none();
        child.created.clone_from(&step.created);
        child.rootfs.diff_ids.extend(layer.cloned());
        child.history.push(step);
        // What an old engine noted of the container that the parent was made from is not true of the child.
        for stale in ["id", "parent", "container", "container_config", "Size"] {
            child.other.remove(stale);
        }
        child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields() {
        let text = r#"{"architecture":"amd64","os":"linux","os.features":["x"],"history":null,
            "config":{"Env":null,"Cmd":["sh"],"Entrypoint":[],"Tty":true,"Labels":{"a":"b"}},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.env, None);
        assert_eq!(config.config.entrypoint, Some(vec![]));
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(again["os.features"][0], "x");
        assert_eq!(again["config"]["Tty"], true);
        assert!(again["config"].get("Env").is_none() && again["config"]["Cmd"][0] == "sh");
        assert_eq!(serde_json::from_value::<ImageConfig>(again).unwrap().config, config.config);
        let empty: ImageConfig = serde_json::from_str(r#"{"config":null}"#).unwrap();
        assert_eq!(empty, ImageConfig::default());
    }

    #[test]
    fn a_child_has_one_step_and_perhaps_one_layer_more() {
        let step = |by: &str| HistoryEntry { created_by: Some(by.into()), ..HistoryEntry::default() };
        let layer = Digest::of(b"layer");
        let child = ImageConfig::default().child(None, step("ENV")).child(Some(&layer), step("RUN"));
        assert_eq!(child.rootfs.diff_ids, [layer]);
        assert_eq!(child.history.iter().map(|h| h.empty_layer).collect::<Vec<_>>(), [true, false]);
    }
}
