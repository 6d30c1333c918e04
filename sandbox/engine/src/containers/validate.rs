//! What a request for a container may ask for, and the words in which the rest is refused: Docker's own, as people search for
//! them. What a session can't give (devices, GPUs, real-time CPU) is refused clearly instead of being left out silently.

use super::{
    limits,
    model::{Config, HostConfig},
};
use crate::{
    cgroup::Groups,
    error::{Error, Result},
    wasm,
};

/// Capabilities that exist, in the order of their numbers.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Those of a container that asks for nothing.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// `CAP_NET_ADMIN`, `net_admin` → `NET_ADMIN`, if there is such a capability.
pub fn capability(text: &str) -> Option<&'static str> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    CAPABILITIES.into_iter().find(|name| *name == bare)
}

/// Checks a request, and puts in what Docker puts in. Returns warnings.
pub fn check(config: &mut Config, host: &mut HostConfig, groups: &Groups) -> Result<Vec<String>> {
    check_config(config)?;
    check_modes(config, host)?;
    let warnings = limits::check(&mut host.resources, groups)?;
    check_restart(host)?;
    check_log(host)?;
    check_security(host)?;
    check_extra_hosts(host)?;
    sysctls(host)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if host.shm_size == 0 {
        host.shm_size = 64 << 20;
    }
    if host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()) {
        return Err(Error::internal(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    Ok(warnings)
}

fn check_config(config: &Config) -> Result<()> {
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.stop_signal.is_empty() {
        super::signals::parse(&config.stop_signal)?;
    }
    check_hostname(&config.hostname)?;
    let Some(health) = &config.healthcheck else { return Ok(()) };
    const SHORTEST: i64 = 1_000_000;
    let spans = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, value) in spans {
        if value != 0 && value < SHORTEST {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

fn check_hostname(name: &str) -> Result<()> {
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.is_empty() || (name.len() <= 63 && name.split('.').all(label)) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid hostname: {name}")))
}

fn check_modes(config: &Config, host: &mut HostConfig) -> Result<()> {
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = "bridge".into();
    }
    if !host.isolation.is_empty() && host.isolation != "default" {
        return Err(Error::invalid(format!(
            "invalid isolation mode: {}: isolation mode is not supported on linux",
            host.isolation
        )));
    }
    if host.runtime.is_empty() {
        host.runtime = "runc".into();
    }
    if !matches!(host.runtime.as_str(), "runc" | "io.containerd.runc.v2") && !wasm::is_runtime(&host.runtime)
    {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
    }
    check_shared_network(config, host)?;
    let mode = |text: &str, what: &str, fixed: &[&str]| -> Result<()> {
        let ok = fixed.contains(&text) || text.strip_prefix("container:").is_some_and(|c| !c.is_empty());
        if ok { Ok(()) } else { Err(Error::invalid(format!("invalid {what} mode: {text}"))) }
    };
    mode(&host.pid_mode, "PID", &["", "host"])?;
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "private".into();
    }
    mode(&host.ipc_mode, "IPC", &["none", "private", "shareable", "host"])?;
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid("conflicting options: hostname and the UTS mode"));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid userns mode: {}", host.userns_mode)));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "host" | "private") {
        return Err(Error::invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode)));
    }
    Ok(())
}

/// What makes no sense beside a network that is another container's or the node's (`runconfig.validateNetMode`).
fn check_shared_network(config: &Config, host: &HostConfig) -> Result<()> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let invalid = |text: &str| Err(Error::invalid(text));
    let network = host.network_mode.as_str();
    if network == "container" || network == "container:" {
        return invalid("invalid network mode: invalid container format container:<name|id>");
    }
    if network == "host" && some(&host.links) {
        return invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if !network.starts_with("container:") {
        return Ok(());
    }
    if !config.hostname.is_empty() {
        return invalid("conflicting options: hostname and the network mode");
    }
    if some(&host.links) {
        return invalid(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        );
    }
    if some(&host.dns) {
        return invalid("conflicting options: dns and the network mode");
    }
    if some(&host.extra_hosts) {
        return invalid("conflicting options: custom host-to-IP mapping and the network mode");
    }
    if host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) || host.publish_all_ports {
        return invalid("conflicting options: port publishing and the container type network mode");
    }
    Ok(())
}

/// The same of ports: those that are asked for, not those of the image.
pub fn check_exposed(config: &Config, host: &HostConfig) -> Result<()> {
    check_shared_network(config, host)?;
    if host.network_mode.starts_with("container:")
        && config.exposed_ports.as_ref().is_some_and(|p| !p.is_empty())
    {
        return Err(Error::invalid("conflicting options: port exposing and the container type network mode"));
    }
    Ok(())
}

/// Checks a restart policy; used for `docker update` too.
pub fn check_restart(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    let invalid = |text: String| Err(Error::invalid(text));
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" if policy.maximum_retry_count != 0 => {
            let mut text =
                "invalid restart policy: maximum retry count can only be used with 'on-failure'".to_string();
            if policy.maximum_retry_count < 0 {
                text += " and cannot be negative";
            }
            return invalid(text);
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            return invalid("invalid restart policy: maximum retry count cannot be negative".into());
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return invalid(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    if host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return invalid("can't create 'AutoRemove' container with restart policy".into());
    }
    Ok(())
}

/// `logger.ValidateLogOpts`.
pub fn check_log(host: &mut HostConfig) -> Result<()> {
    if host.log_config.driver.is_empty() {
        host.log_config.driver = "json-file".into();
    }
    let (driver, options) = (host.log_config.driver.as_str(), &host.log_config.config);
    if driver == "none" {
        return Ok(());
    }
    let invalid = |text: String| Err(Error::invalid(text));
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return invalid(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".into(),
            );
        }
        if parse_size(size).is_none() {
            return invalid(format!("error parsing option max-buffer-size: invalid size: '{size}'"));
        }
    }
    let (known, name): (&[&str], _) = match driver {
        "json-file" => (
            &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"],
            "for json-file log driver",
        ),
        "local" => (&["max-file", "max-size", "compress"], "for log driver local"),
        other => return invalid(format!("logger: no log driver named '{other}' is registered")),
    };
    let common = ["mode", "max-buffer-size"];
    if let Some(key) = options.keys().map(String::as_str).find(|k| !known.contains(k) && !common.contains(k))
    {
        return invalid(format!("unknown log opt '{key}' {name}"));
    }
    Ok(())
}

/// What a log driver itself refuses, which it does when the container starts.
pub fn check_log_driver(host: &HostConfig) -> Result<()> {
    let (driver, options) = (host.log_config.driver.as_str(), &host.log_config.config);
    if driver == "none" {
        return Ok(());
    }
    let failed = |text: String| {
        let before = "failed to create task for container: failed to initialize logging driver";
        Err(Error::internal(format!("{before}: {text}")))
    };
    let size = match options.get("max-size").map(|text| (text, human_size(text))) {
        Some((text, None)) => return failed(format!("invalid size: '{text}'")),
        Some((_, Some(..=0))) if driver == "json-file" => {
            return failed("max-size must be a positive number".into());
        }
        size => size,
    };
    let files = match options.get("max-file").map(|text| (text, text.parse::<i64>())) {
        Some((text, Err(_))) => {
            return failed(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"));
        }
        Some((_, Ok(..=0))) => return failed("max-file cannot be less than 1".into()),
        Some((_, Ok(files))) => files,
        None if driver == "local" => 5,
        None => 1,
    };
    let compress = match options.get("compress").map(|text| (text, parse_bool(text))) {
        Some((_, Some(compress))) => compress,
        None => driver == "local",
        Some((text, None)) => {
            return failed(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax"));
        }
    };
    match driver {
        "json-file" if compress && (files == 1 || size.is_none()) => {
            failed("compress cannot be true when max-file is less than 2 or max-size is not set".into())
        }
        "local" if compress && files == 1 => {
            failed("compression cannot be enabled when max file count is 1".into())
        }
        _ => Ok(()),
    }
}

fn check_security(host: &HostConfig) -> Result<()> {
    for (field, list) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        for text in list.iter().flatten() {
            if !text.eq_ignore_ascii_case("all") && capability(text).is_none() {
                return Err(Error::invalid(format!(
                    "invalid {field}: unknown capability: \"CAP_{}\"",
                    text.to_ascii_uppercase().trim_start_matches("CAP_")
                )));
            }
        }
    }
    for option in host.security_opt.iter().flatten() {
        if matches!(option.as_str(), "no-new-privileges" | "writable-cgroups" | "disable") {
            continue;
        }
        let Some((key, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
            return Err(Error::invalid(format!("invalid --security-opt 1: {option:?}")));
        };
        let known = match key {
            "no-new-privileges" | "writable-cgroups" => parse_bool(value).is_some(),
            // What is wrong with a profile is told at the start.
            "seccomp" | "apparmor" | "label" | "systempaths" => true,
            _ => false,
        };
        if !known {
            return Err(Error::invalid(format!("invalid --security-opt 2: {option:?}")));
        }
    }
    Ok(())
}

fn check_extra_hosts(host: &HostConfig) -> Result<()> {
    for entry in host.extra_hosts.iter().flatten() {
        let (name, address) = entry.split_once(':').unwrap_or((entry, ""));
        if name.is_empty() || address.is_empty() {
            return Err(Error::invalid(format!("bad format for add-host: \"{entry}\"")));
        }
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
        }
    }
    for address in host.dns.iter().flatten() {
        if address.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid DNS address: {address}")));
        }
    }
    Ok(())
}

/// Only those of the container's own namespaces (runc: `libcontainer/configs/validate`).
fn sysctls(host: &HostConfig) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for name in host.sysctls.iter().flatten().map(|(name, _)| name) {
        let dotted = name.replace('/', ".");
        let own_ipc = !matches!(host.ipc_mode.as_str(), "host");
        let refused = |why: String| {
            Err(Error::internal(format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: {why}: unknown"
            )))
        };
        if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            if own_ipc {
                continue;
            }
            return refused(format!("sysctl \"{name}\" is not allowed in the hosts ipc namespace"));
        }
        if dotted.starts_with("net.") {
            if host.network_mode != "host" {
                continue;
            }
            return refused(format!("sysctl \"{name}\" not allowed in host network namespace"));
        }
        if dotted == "kernel.domainname" && host.uts_mode != "host" {
            continue;
        }
        return refused(format!("sysctl \"{name}\" is not in a separate kernel namespace"));
    }
    Ok(())
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `10m`, `1.5gb`, `512` in bytes, with units of 1024 as go-units' `RAMInBytes`.
pub fn parse_size(text: &str) -> Option<i64> {
    size(text, 1024.0)
}

/// The same with units of 1000, as go-units' `FromHumanSize`, which limits of logs are given in.
pub fn human_size(text: &str) -> Option<i64> {
    size(text, 1000.0)
}

fn size(text: &str, unit_of: f64) -> Option<i64> {
    let text = text.trim();
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    let bytes = value * unit_of.powi(power);
    (0.0..9e18).contains(&bytes).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::model::{DeviceRequest, RestartPolicy};

    fn refusal(change: impl FnOnce(&mut Config, &mut HostConfig)) -> String {
        let (mut config, mut host) = (Config::default(), HostConfig::default());
        change(&mut config, &mut host);
        check(&mut config, &mut host, &Groups::detect()).unwrap_err().message
    }

    #[test]
    fn refusals_are_in_dockers_words() {
        assert_eq!(refusal(|_, h| h.resources.memory = 1 << 20), "Minimum memory limit allowed is 6MB");
        let gpus =
            DeviceRequest { count: -1, capabilities: Some(vec![vec!["gpu".into()]]), ..Default::default() };
        assert_eq!(
            refusal(|_, h| h.resources.device_requests = Some(vec![gpus])),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        assert_eq!(
            refusal(|_, h| h.oom_score_adj = 1001),
            "Invalid value 1001, range for oom score adj is [-1000, 1000]"
        );
        for runtime in ["kata", "io.containerd.wasmedge.v1", "io.containerd.spin.v2"] {
            assert_eq!(
                refusal(|_, h| h.runtime = runtime.into()),
                format!("unknown or invalid runtime name: {runtime}")
            );
        }
        assert!(
            refusal(|_, h| h.sysctls = Some([("kernel.panic".to_string(), "1".to_string())].into()))
                .contains("is not in a separate kernel namespace")
        );
        assert!(refusal(|_, h| h.cap_add = Some(vec!["x".into()])).contains("unknown capability: \"CAP_X\""));
        assert!(
            refusal(|_, h| (h.auto_remove, h.restart_policy) =
                (true, RestartPolicy { name: "always".into(), ..Default::default() }))
            .contains("AutoRemove")
        );
    }

    #[test]
    fn a_shared_network_rules_out_what_is_the_others_to_say() {
        let other = |h: &mut HostConfig| h.network_mode = "container:other".into();
        let links = Some(vec!["db".to_owned()]);
        assert_eq!(
            refusal(|_, h| (other(h), h.links.clone_from(&links)).0),
            "conflicting options: container type network can't be used with links. This would result in undefined behavior"
        );
        assert_eq!(
            refusal(|_, h| h.network_mode = "container".into()),
            "invalid network mode: invalid container format container:<name|id>"
        );
        let (mut config, mut host) = (Config::default(), HostConfig::default());
        other(&mut host);
        check_exposed(&config, &host).unwrap();
        config.exposed_ports = Some([("80/tcp".to_owned(), Default::default())].into());
        assert_eq!(
            check_exposed(&config, &host).unwrap_err().message,
            "conflicting options: port exposing and the container type network mode"
        );
    }

    #[test]
    fn log_options_are_refused_in_the_loggers_words() {
        let log = |driver: &str, options: &[(&str, &str)]| {
            let mut host = HostConfig::default();
            host.log_config.driver = driver.into();
            host.log_config.config =
                options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            check_log(&mut host).and_then(|()| check_log_driver(&host)).map_err(|error| error.message)
        };
        let refused = |driver: &str, options: &[(&str, &str)]| log(driver, options).unwrap_err();
        assert_eq!(refused("", &[("mode", "x")]), "logger: logging mode not supported: x");
        assert_eq!(
            refused("json-file", &[("max-buffer-size", "1m")]),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        );
        assert_eq!(refused("local", &[("tag", "x")]), "unknown log opt 'tag' for log driver local");
        assert_eq!(refused("syslog", &[]), "logger: no log driver named 'syslog' is registered");
        assert_eq!(
            refused("json-file", &[("compress", "true")]),
            "failed to create task for container: failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set"
        );
        assert_eq!(
            refused("json-file", &[("max-file", "0")]),
            "failed to create task for container: failed to initialize logging driver: max-file cannot be less than 1"
        );
        for good in [
            [("mode", "non-blocking"), ("max-buffer-size", "4m"), ("max-size", "1k")],
            [("compress", "true"), ("max-file", "3"), ("max-size", "10m")],
        ] {
            assert_eq!(log("json-file", &good), Ok(()));
        }
        assert_eq!(log("local", &[]), Ok(()));
        assert_eq!(log("none", &[("anything", "x")]), Ok(()));
    }

    #[test]
    fn defaults_are_those_of_docker() {
        let (mut config, mut host) = (Config::default(), HostConfig::default());
        host.resources.memory = 64 << 20;
        check(&mut config, &mut host, &Groups::detect()).unwrap();
        assert_eq!((host.resources.memory_swap, host.shm_size), (128 << 20, 64 << 20));
        assert_eq!(
            (host.network_mode.as_str(), host.ipc_mode.as_str(), host.runtime.as_str()),
            ("bridge", "private", "runc")
        );
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("10m"), Some(10 << 20));
        assert_eq!(parse_size("1.5KiB"), Some(1536));
        assert_eq!((human_size("1k"), human_size("10m")), (Some(1000), Some(10_000_000)));
        assert_eq!((parse_size("x"), parse_size("5q")), (None, None));
    }
}
