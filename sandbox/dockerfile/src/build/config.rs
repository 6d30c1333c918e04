//! The configuration of an image, as the builder changes it and as the cache compares it.

use crate::language::Health;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The `config` of an image (`Config` of `docker image inspect`). What the builder has no use for is kept in `other`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// `USER`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `EXPOSE`: `80/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `ENV`, in order.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    pub cmd: Option<Vec<String>>,
    /// `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// `VOLUME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// `WORKDIR`.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `ONBUILD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// `SHELL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// `STOPSIGNAL`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Fields that no instruction changes (`StopTimeout`, `ArgsEscaped`, …).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// `PATH` where an image says none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Config {
    /// The shell of the shell forms.
    pub fn shell(&self) -> Vec<String> {
        match &self.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".into(), "-c".into()],
        }
    }

    /// Bytes of what instructions may fill without end.
    pub(crate) fn size(&self) -> usize {
        let triggers = self.on_build.as_deref().unwrap_or_default();
        let lists = self.env.iter().chain(triggers).map(String::len);
        let labels = self.labels.iter().flatten().map(|(name, value)| name.len() + value.len());
        let volumes = self.volumes.iter().flatten().map(|(name, _)| name.len());
        lists.chain(labels).chain(volumes).sum()
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let line = format!("{name}={value}");
        match self.env.iter_mut().find(|e| e.split('=').next() == Some(name)) {
            Some(entry) => *entry = line,
            None => self.env.push(line),
        }
    }
}

/// What a step is looked up by in the cache, beside its parent image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheKey {
    /// The `container_config` of the classic builder: `Cmd` says what the step does (`/bin/sh -c #(nop) COPY file:… in /x `).
    pub config: Config,
    /// What the classic builder does not know: mounts, `--network`, `--chmod` ….
    pub extra: Vec<String>,
}

impl CacheKey {
    /// Names the key in an index: equal keys have equal digests.
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(&self.comparable()).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether an image with this `container_config` was made by this step, as the classic builder compares them (for images of
    /// `--cache-from`, which are in no index).
    pub fn is_of(&self, container_config: &Config) -> bool {
        let other = Self { config: container_config.clone(), extra: Vec::new() };
        self.extra.is_empty() && self.comparable() == other.comparable()
    }

    /// Without what differs from container to container, and without the difference between nothing and an empty list.
    fn comparable(&self) -> Self {
        let mut key = self.clone();
        for name in ["Image", "Hostname", "Domainname", "MacAddress"] {
            key.config.other.remove(name);
        }
        key.config.other.retain(|_, v| !matches!(v, Value::Null | Value::Bool(false)));
        let config = &mut key.config;
        for list in [&mut config.entrypoint, &mut config.cmd, &mut config.on_build, &mut config.shell] {
            list.get_or_insert_default();
        }
        config.volumes.get_or_insert_default();
        config.exposed_ports.get_or_insert_default();
        config.labels.get_or_insert_default();
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(json: Value) -> Config {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn configurations_of_real_images_are_read_and_kept() {
        let image = json!({
            "ArgsEscaped": true, "Cmd": ["cat", "out"], "Entrypoint": null, "Env": ["PATH=/bin", "FOO=bar"],
            "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5}, "Labels": null,
            "OnBuild": null, "User": "", "Volumes": null, "WorkingDir": "/app", "StopTimeout": 3,
        });
        let read = config(image);
        assert_eq!((read.env.len(), read.healthcheck.as_ref().unwrap().interval), (2, 5));
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!((&written["StopTimeout"], &written["ArgsEscaped"]), (&json!(3), &json!(true)));
        assert_eq!(config(written), read);
        assert_eq!(config(json!({"Env": null, "User": null})), Config::default());
    }

    #[test]
    fn keys_are_equal_where_docker_finds_a_step_in_the_cache() {
        let key = |json: Value| CacheKey { config: config(json), extra: Vec::new() };
        let base = key(json!({"Cmd": ["/bin/sh", "-c", "x"], "Env": ["A=1"]}));
        let same = json!({
            "Cmd": ["/bin/sh", "-c", "x"], "Env": ["A=1"], "Entrypoint": [], "Volumes": {}, "Hostname": "abc", "Image": "sha256:1",
            "Tty": false,
        });
        assert_eq!(base.digest(), key(same.clone()).digest());
        assert!(base.is_of(&config(same)));
        for other in [
            json!({"Cmd": ["/bin/sh", "-c", "y"], "Env": ["A=1"]}),
            json!({"Cmd": ["/bin/sh", "-c", "x"], "Env": ["A=2"]}),
            json!({"Cmd": ["/bin/sh", "-c", "x"], "Env": ["A=1"], "User": "me"}),
            json!({"Cmd": ["/bin/sh", "-c", "x"], "Env": ["A=1"], "Tty": true}),
        ] {
            assert_ne!(base.digest(), key(other.clone()).digest());
            assert!(!base.is_of(&config(other)));
        }
        let more = CacheKey { extra: vec!["network None".into()], ..base.clone() };
        assert_ne!(base.digest(), more.digest());
        assert!(!more.is_of(&base.config));
    }
}
