//! What a request for a container may ask for, and the words in which the rest is refused: Docker's own, as people search for
//! them. What a session can't give (devices, GPUs, real-time CPU) is refused clearly instead of being left out silently.

use super::{
    addresses::SYSCTLS,
    limits,
    log_options::check_log,
    model::{Config, HostConfig},
    mounts,
    words::{capability, parse_bool},
};
use crate::{
    cgroup::Groups,
    error::{Error, Result},
    wasm,
};

/// Checks a request, and puts in what Docker puts in. Returns warnings.
pub fn check(config: &mut Config, host: &mut HostConfig, groups: &Groups) -> Result<Vec<String>> {
    check_config(config)?;
    check_modes(config, host)?;
    let mut warnings = limits::check(&mut host.resources, groups)?;
    warnings.extend(limits::bound_ulimits(&mut host.resources));
    check_restart(host)?;
    check_log(host)?;
    check_security(host)?;
    check_extra_hosts(host)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.oom_score_adj < 0 {
        warnings.push(
            "An OOM score below 0 needs a privilege that no session has. OOM score adjustment discarded."
                .into(),
        );
        host.oom_score_adj = 0;
    }
    if host.mounts.iter().flatten().any(|mount| mount.kind == "image") {
        warnings.push("Image mount is an experimental feature".into());
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

fn check_config(config: &mut Config) -> Result<()> {
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
    }
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            )));
        }
        config.working_dir = mounts::clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        super::signals::parse(&config.stop_signal)?;
    }
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

fn check_modes(config: &Config, host: &mut HostConfig) -> Result<()> {
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = "bridge".into();
    }
    if !host.isolation.is_empty() && host.isolation != "default" {
        return Err(Error::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
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

/// Settings of one interface belong to its network, where the API has a place for them (`handleSysctlBC`).
pub fn check_interface_sysctls(host: &HostConfig) -> Result<()> {
    let private = host.network_mode != "host" && !host.network_mode.starts_with("container:");
    for name in host.sysctls.iter().flatten().map(|(name, _)| name).filter(|_| private) {
        let parts: Vec<&str> = name.splitn(5, '.').collect();
        if matches!(parts[..], ["net", _, _, interface, _] if interface.starts_with("eth")) {
            return Err(Error::internal(format!(
                "interface specific sysctl setting {name:?} must be supplied using driver option '{SYSCTLS}'"
            )));
        }
    }
    Ok(())
}

/// Only those of the container's own namespaces, as runc says when it starts (`libcontainer/configs/validate`).
pub fn check_sysctls(host: &HostConfig) -> Result<()> {
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
    fn any_hostname_is_taken() {
        for name in ["bad_host!", "-bad", "a b"] {
            let mut config = Config { hostname: name.into(), ..Config::default() };
            assert_eq!(check_config(&mut config), Ok(()), "{name}");
        }
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
        assert_eq!(
            refusal(|c, _| c.working_dir = "app".into()),
            "the working directory 'app' is invalid, it needs to be an absolute path"
        );
        for runtime in ["kata", "io.containerd.wasmedge.v1", "io.containerd.spin.v2"] {
            assert_eq!(
                refusal(|_, h| h.runtime = runtime.into()),
                format!("unknown or invalid runtime name: {runtime}")
            );
        }
        assert!(refusal(|_, h| h.cap_add = Some(vec!["x".into()])).contains("unknown capability: \"CAP_X\""));
        assert!(
            refusal(|_, h| (h.auto_remove, h.restart_policy) =
                (true, RestartPolicy { name: "always".into(), ..Default::default() }))
            .contains("AutoRemove")
        );
    }

    #[test]
    fn settings_of_the_kernel_are_those_of_the_containers_own_namespaces() {
        let with = |name: &str, network: &str, ipc: &str| HostConfig {
            sysctls: Some([(name.to_owned(), "1".to_owned())].into()),
            network_mode: network.into(),
            ipc_mode: ipc.into(),
            ..HostConfig::default()
        };
        let refused = |name, network, ipc| check_sysctls(&with(name, network, ipc)).unwrap_err().message;
        assert!(
            refused("kernel.panic", "", "")
                .contains("\"kernel.panic\" is not in a separate kernel namespace")
        );
        assert!(refused("net.ipv4.ip_forward", "host", "").contains("not allowed in host network namespace"));
        assert!(refused("kernel.shmmax", "", "host").contains("is not allowed in the hosts ipc namespace"));
        assert_eq!(check_sysctls(&with("net.ipv4.ip_forward", "bridge", "host")), Ok(()));
        assert_eq!(
            check_interface_sysctls(&with("net.ipv4.conf.eth1.log_martians", "bridge", ""))
                .unwrap_err()
                .message,
            "interface specific sysctl setting \"net.ipv4.conf.eth1.log_martians\" must be supplied using driver option \
             'com.docker.network.endpoint.sysctls'"
        );
        assert_eq!(check_interface_sysctls(&with("net.ipv4.conf.all.log_martians", "bridge", "")), Ok(()));
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
}
