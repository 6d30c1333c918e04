//! `/etc/docker/daemon.json`, read when the engine starts and when it is told to look again (SIGHUP). What is wrong with it is said in
//! dockerd's words, and then there is no engine; what a node can't do is refused too, and what has no effect is noted in the log.

mod keys;
mod reload;

pub use reload::watch;

use crate::containers::model::{HostConfig, LogConfig, Ulimit};
use drydock_go::io_text;
use drydock_network::{AddressPool, DefaultBridge};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, Read},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

/// Where it lies.
pub const FILE: &str = "/etc/docker/daemon.json";
/// More of it is not read.
const MAX: u64 = 1 << 20;

/// What it may say of what an engine of a node does.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DaemonConfig {
    /// Log driver of containers that name none; empty: `json-file`.
    pub log_driver: String,
    /// Its options.
    pub log_opts: BTreeMap<String, String>,
    default_address_pools: Vec<PoolText>,
    bip: String,
    fixed_cidr: String,
    fixed_cidr_v6: String,
    ipv6: bool,
    default_gateway: Option<Ipv4Addr>,
    mtu: i64,
    ip: Option<IpAddr>,
    icc: Option<bool>,
    ip_masq: Option<bool>,
    /// Name servers of containers that name none.
    pub dns: Vec<IpAddr>,
    /// Options of `resolv.conf`.
    pub dns_opts: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    default_ulimits: BTreeMap<String, Ulimit>,
    /// What `docker info` shows as labels of the engine.
    pub labels: Vec<String>,
    /// What it shows as the engine's debug mode.
    pub debug: bool,
    /// See [`Self::keeps_containers`].
    live_restore: Option<bool>,
    /// Shown, and told to clients, which have more to offer then.
    pub experimental: bool,
    features: BTreeMap<String, bool>,
    default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    default_shm_size: Option<Value>,
    default_ipc_mode: String,
    default_cgroupns_mode: String,
    init: bool,
    /// Holds for all containers.
    pub no_new_privileges: bool,
    /// The filter of containers that name none: a file, `builtin` (also if empty) or `unconfined`.
    pub seccomp_profile: String,
    /// What that file says.
    #[serde(skip)]
    pub seccomp_text: String,
    /// Asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Spoken to without TLS, or without a known certificate.
    pub insecure_registries: Vec<String>,
    /// Shown.
    pub proxies: Proxies,
}

/// Proxies are shown, and asked for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Proxies {
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct PoolText {
    base: String,
    size: u8,
}

/// What the engine has read, for all who ask.
#[derive(Debug, Default)]
pub struct Config(RwLock<Arc<DaemonConfig>>);

impl Config {
    /// One that has been read.
    pub fn new(config: DaemonConfig) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<DaemonConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, config: DaemonConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// The file, read.
#[derive(Debug, Default)]
pub struct Settings {
    /// What it says.
    pub config: DaemonConfig,
    /// Its settings that have no effect here.
    pub idle: Vec<String>,
    /// Its settings as they are written.
    fields: Map<String, Value>,
}

/// Reads the file; none is an empty one. The error is dockerd's last line.
pub fn read(path: &Path) -> Result<Settings, String> {
    let name = path.display();
    let failed = |why: String| format!("unable to configure the Docker daemon with file {name}: {why}");
    let text = match read_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Settings::default()),
        text => text.map_err(|error| failed(format!("open {name}: {}", io_text(&error))))?,
    };
    let (mut config, fields) = parse(&text).map_err(failed)?;
    keys::check_possible(&fields)?;
    let idle = keys::without_effect(&fields);
    let profile = config.seccomp_profile.as_str();
    if !matches!(profile, "" | "builtin" | "unconfined") {
        let text = read_file(Path::new(profile)).map_err(|error| {
            format!(
                "failed to start daemon: opening seccomp profile ({profile}) failed: open {profile}: {}",
                io_text(&error)
            )
        })?;
        config.seccomp_text = String::from_utf8_lossy(&text).into_owned();
    }
    Ok(Settings { config, idle, fields })
}

/// A learner may have made a link of it, which is followed, or a FIFO, which is not waited for.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(nix::libc::EISDIR));
    }
    let mut text = Vec::new();
    file.take(MAX).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Result<(DaemonConfig, Map<String, Value>), String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
    if text.is_empty() {
        return Ok(Default::default());
    }
    let fields = keys::parse(text)?;
    keys::check_names(&fields)?;
    keys::check_types(&fields)?;
    let config: DaemonConfig =
        serde_json::from_value(Value::Object(fields.clone())).map_err(|e| e.to_string())?;
    let wrong = "merged configuration validation from file and command line flags failed";
    config.validate(&fields).map_err(|why| format!("{wrong}: {why}"))?;
    Ok((config, fields))
}

impl DaemonConfig {
    /// Whether containers outlive their engine: on a node they do, unless somebody says otherwise (dockerd's own default is no).
    pub fn keeps_containers(&self) -> bool {
        self.live_restore.unwrap_or(true)
    }

    /// `config.Validate` of moby.
    fn validate(&self, fields: &Map<String, Value>) -> Result<(), String> {
        let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        let level = text("log-level").to_lowercase();
        if !["", "panic", "fatal", "error", "warn", "info", "debug", "trace"].contains(&level.as_str()) {
            return Err(format!("invalid logging level: {}", text("log-level")));
        }
        if !["", "text", "json"].contains(&text("log-format")) {
            return Err(format!("invalid log format: {}", text("log-format")));
        }
        if let Some(label) = self.labels.iter().find(|label| !label.contains('=')) {
            return Err(format!("bad attribute format: {label}"));
        }
        for (key, what) in [
            ("max-concurrent-downloads", "max concurrent downloads"),
            ("max-concurrent-uploads", "max concurrent uploads"),
            ("max-download-attempts", "max download attempts"),
        ] {
            if let Some(number @ ..0) = fields.get(key).and_then(Value::as_i64) {
                return Err(format!("invalid {what}: {number}"));
            }
        }
        for mirror in &self.registry_mirrors {
            let rest = mirror.strip_prefix("http://").or_else(|| mirror.strip_prefix("https://"));
            if rest.is_none_or(str::is_empty) {
                return Err(format!(
                    "invalid mirror: no scheme specified for {mirror:?}: must use either 'https://' or 'http://'"
                ));
            }
        }
        for option in fields.get("exec-opts").and_then(Value::as_array).into_iter().flatten() {
            let option = option.as_str().unwrap_or_default();
            let name = option.split('=').next().unwrap_or_default().trim().to_lowercase();
            if name != "native.cgroupdriver" {
                return Err(format!("unknown option: '{name}'"));
            }
        }
        let hint = "use \"shareable\" or \"private\"";
        match self.default_ipc_mode.as_str() {
            "" | "private" | "shareable" => {}
            mode @ ("host" | "none") => {
                return Err(format!("IPC mode \"{mode}\" is not supported as default value; {hint}"));
            }
            mode => return Err(format!("default IPC mode setting ({mode}) is invalid; {hint}")),
        }
        if !["", "host", "private"].contains(&self.default_cgroupns_mode.as_str()) {
            return Err(format!(
                "invalid default cgroup namespace ({}): use \"host\" or \"private\"",
                self.default_cgroupns_mode
            ));
        }
        if self.mtu < 0 {
            return Err(format!("invalid default MTU: {}", self.mtu));
        }
        self.shm_size()?;
        self.pools()?;
        self.default_bridge()?;
        let mut log = LogConfig::default();
        self.complete_log(&mut log);
        crate::containers::log_options::check_log(&mut HostConfig {
            log_config: log,
            ..HostConfig::default()
        })
        .map_err(|error| format!("failed to set log opts: {}", error.message))
    }

    /// Whether clients are told to build with BuildKit.
    pub fn buildkit(&self) -> bool {
        self.features.get("buildkit").copied().unwrap_or(true)
    }

    /// Options of new networks that name no others; `driver` is `bridge` if empty.
    pub fn network_options(&self, driver: &str) -> BTreeMap<String, String> {
        let driver = if driver.is_empty() { "bridge" } else { driver };
        self.default_network_opts.get(driver).cloned().unwrap_or_default()
    }

    /// Puts the defaults into what a client has left open.
    pub fn complete(&self, host: &mut HostConfig) {
        self.complete_log(&mut host.log_config);
        if host.shm_size == 0
            && let Ok(Some(size)) = self.shm_size()
        {
            host.shm_size = size;
        }
        if host.ipc_mode.is_empty() {
            host.ipc_mode.clone_from(&self.default_ipc_mode);
        }
        if host.cgroupns_mode.is_empty() {
            host.cgroupns_mode.clone_from(&self.default_cgroupns_mode);
        }
        if self.init {
            host.init.get_or_insert(true);
        }
        let ulimits = host.resources.ulimits.get_or_insert_default();
        for limit in self.default_ulimits.values() {
            if !ulimits.iter().any(|other| other.name == limit.name) {
                ulimits.push(limit.clone());
            }
        }
    }

    /// `mergeAndVerifyLogConfig`
    fn complete_log(&self, log: &mut LogConfig) {
        let driver = self.driver();
        if log.driver.is_empty() {
            log.driver = driver.into();
        }
        if log.driver == driver {
            for (key, value) in &self.log_opts {
                log.config.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }

    /// The log driver of containers that name none.
    pub fn driver(&self) -> &str {
        if self.log_driver.is_empty() { "json-file" } else { &self.log_driver }
    }

    fn shm_size(&self) -> Result<Option<i64>, String> {
        match &self.default_shm_size {
            Some(Value::Number(number)) => Ok(number.as_i64().filter(|size| *size > 0)),
            Some(Value::String(text)) => match crate::containers::words::parse_size(text) {
                Some(size) => Ok(Some(size).filter(|size| *size > 0)),
                None => Err(format!("invalid size: '{text}'")),
            },
            _ => Ok(None),
        }
    }

    /// Where networks that name no subnet get theirs; none: Docker's own pools.
    pub fn pools(&self) -> Result<Vec<AddressPool>, String> {
        let parse = |pool: &PoolText| AddressPool::new(&pool.base, pool.size);
        self.default_address_pools.iter().map(parse).collect()
    }

    /// The same as they are written.
    pub fn pool_texts(&self) -> impl Iterator<Item = (&str, u8)> {
        self.default_address_pools.iter().map(|pool| (pool.base.as_str(), pool.size))
    }

    /// The network `bridge`.
    pub fn default_bridge(&self) -> Result<DefaultBridge, String> {
        let mut bridge = DefaultBridge::new(&self.bip, &self.fixed_cidr)?;
        if self.ipv6 {
            bridge = bridge.with_ipv6(&self.fixed_cidr_v6)?;
        }
        bridge.gateway = self.default_gateway;
        bridge.mtu = u32::try_from(self.mtu).ok().filter(|mtu| *mtu > 0);
        bridge.host_binding = self.ip;
        bridge.icc = self.icc.unwrap_or(true);
        bridge.masquerade = self.ip_masq.unwrap_or(true);
        Ok(bridge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_said_in_dockerds_words() {
        let merged = "merged configuration validation from file and command line flags failed: ";
        for (text, why) in [
            ("{", "unexpected end of JSON input"),
            ("{\"debug\": true,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"debug\": yes}", "invalid character 'y' looking for beginning of value"),
            ("[]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
            ("{\"x\": 1}", "the following directives don't match any configuration option: x"),
            (
                "{\"debug\": \"yes\"}",
                "json: cannot unmarshal string into Go struct field Config.debug of type bool",
            ),
            (
                "{\"dns\": \"1.1.1.1\"}",
                "json: cannot unmarshal string into Go struct field Config.dns of type []net.IP",
            ),
            (
                "{\"log-opts\": {\"max-file\": 3}}",
                "json: cannot unmarshal number into Go struct field Config.log-opts of type string",
            ),
            (
                "{\"hosts\": [\"tcp://0.0.0.0:2375\"]}",
                "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [fd://], from file: [tcp://0.0.0.0:2375])",
            ),
        ] {
            assert_eq!(refused(text), why, "{text}");
        }
        for (text, why) in [
            ("{\"log-level\": \"loud\"}", "invalid logging level: loud"),
            ("{\"labels\": [\"x\"]}", "bad attribute format: x"),
            ("{\"max-concurrent-downloads\": -1}", "invalid max concurrent downloads: -1"),
            (
                "{\"default-ipc-mode\": \"host\"}",
                "IPC mode \"host\" is not supported as default value; use \"shareable\" or \"private\"",
            ),
            (
                "{\"log-driver\": \"splunk\"}",
                "failed to set log opts: error looking up logging plugin splunk: plugin \"splunk\" not found",
            ),
        ] {
            assert_eq!(refused(text), format!("{merged}{why}"), "{text}");
        }
        assert!(parse(b"\xef\xbb\xbf {}").is_ok() && parse(b" ").is_ok());
    }

    #[test]
    fn networks_have_options_by_driver() {
        let text = r#"{"default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1234"}}}"#;
        let (config, _) = parse(text.as_bytes()).unwrap();
        let mtu = BTreeMap::from([("com.docker.network.driver.mtu".to_owned(), "1234".to_owned())]);
        assert_eq!((config.network_options(""), config.network_options("bridge")), (mtu.clone(), mtu));
        assert!(config.network_options("null").is_empty());
    }

    #[test]
    fn defaults_are_for_what_a_client_has_left_open() {
        let text = r#"{"log-driver": "local", "log-opts": {"max-size": "5m"}, "default-shm-size": "32m",
            "default-ipc-mode": "shareable", "init": true, "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 99, "Soft": 98}}}"#;
        let (config, _) = parse(text.as_bytes()).unwrap();
        let mut host = HostConfig::default();
        config.complete(&mut host);
        assert_eq!(
            (host.log_config.driver.as_str(), host.log_config.config["max-size"].as_str()),
            ("local", "5m")
        );
        assert_eq!((host.shm_size, host.ipc_mode.as_str(), host.init), (32 << 20, "shareable", Some(true)));
        assert_eq!(host.resources.ulimits.as_ref().unwrap()[0].soft, 98);
        let mut host = HostConfig { init: Some(false), ..HostConfig::default() };
        host.log_config.driver = "json-file".into();
        config.complete(&mut host);
        assert!(
            host.log_config.config.is_empty() && host.init == Some(false),
            "another driver has its own options"
        );
    }
}
