//! From a record to the description that the container's child reads ([`drydock_runtime::container::spec`]).

use super::{
    files,
    model::{HostConfig, Ulimit},
    record::{Mounted, Record},
    seccomp, sources,
    words::{CAPABILITIES, DEFAULT_CAPABILITIES, capability, parse_bool},
};
use crate::{
    engine::Engine,
    error::{Error, Result},
    wasm,
};
use drydock_protocol::frame::Size;
use drydock_runtime::container::spec::{
    Below, ContainerSpec, Mount, MountSource, Namespace, Namespaces, ProcessSpec,
};
use std::path::Path;

/// Where programs are looked for if neither image nor request says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Describes a container whose root is mounted at `root`.
pub fn container(engine: &Engine, record: &Record, root: &Path) -> Result<ContainerSpec> {
    let host = &record.host;
    let namespaces = namespaces(engine, record)?;
    let domainname =
        if namespaces.uts == Namespace::New { record.config.domainname.clone() } else { String::new() };
    let mut sysctls: Vec<(String, String)> =
        host.sysctls.iter().flatten().map(|(k, v)| (k.replace('/', "."), v.clone())).collect();
    // As dockerd: programs without privileges may listen on port 80 of their own network.
    let low_ports = "net.ipv4.ip_unprivileged_port_start";
    if namespaces.net == Namespace::New && !sysctls.iter().any(|(name, _)| name == low_ports) {
        sysctls.push((low_ports.into(), "0".into()));
    }
    Ok(ContainerSpec {
        hostname: if namespaces.uts == Namespace::New {
            record.config.hostname.clone()
        } else {
            String::new()
        },
        domainname,
        process: first_process(engine, record)?,
        root: root.to_string_lossy().into_owned(),
        read_only: host.readonly_rootfs,
        mounts: mounts(engine, record),
        namespaces,
        cgroup: engine.groups.name(&record.id),
        masked: host.masked_paths.clone().unwrap_or_default(),
        read_only_paths: host.readonly_paths.clone().unwrap_or_default(),
        sysctls,
        shm_size: if host.ipc_mode == "none" { 0 } else { u64::try_from(host.shm_size).unwrap_or(64 << 20) },
        init: host.init == Some(true),
        wasm: wasm::is_runtime(&host.runtime),
        privileged: host.privileged,
        writable_cgroups: is_set(host, "writable-cgroups"),
    })
}

/// Process of another container that one shares a namespace with, and what is said if it has none.
fn pid_of(engine: &Engine, name: &str, not_running: impl FnOnce(&str) -> String) -> Result<i32> {
    // Not as what is not found: it is not the container that was to start.
    let other = engine.containers.get(name).map_err(|error| Error::internal(error.message))?;
    let live = other.live();
    live.map(|live| engine.way_in(&other, &live)).ok_or_else(|| Error::conflict(not_running(name)))
}

/// Where each namespace comes from.
fn namespaces(engine: &Engine, record: &Record) -> Result<Namespaces> {
    let host = &record.host;
    let of = |mode: &str, not_running: fn(&str) -> String| -> Result<Namespace> {
        match mode.strip_prefix("container:") {
            Some(other) => pid_of(engine, other, not_running).map(Namespace::Of),
            None if mode == "host" => Ok(Namespace::Host),
            None => Ok(Namespace::New),
        }
    };
    if let Some(other) = host.ipc_mode.strip_prefix("container:") {
        check_shareable(&engine.containers.get(other)?.record().host.ipc_mode, other)?;
    }
    let net_of = host.network_mode.strip_prefix("container:");
    if net_of.is_some_and(|other| engine.containers.get(other).is_ok_and(|other| other.id == record.id)) {
        return Err(Error::internal("cannot join own network namespace"));
    }
    let net = of(&host.network_mode, |name| {
        format!("cannot join network namespace of a non running container: {name}")
    })?;
    Ok(Namespaces {
        pid: of(&host.pid_mode, |name| format!("cannot join PID of a non running container: {name}"))?,
        ipc: of(&host.ipc_mode, |name| format!("container {name} is not running"))?,
        net,
        uts: match net {
            _ if host.uts_mode == "host" => Namespace::Host,
            // Who shares another container's network has its host name too.
            Namespace::Of(pid) => Namespace::Of(pid),
            Namespace::New | Namespace::Host => Namespace::New,
        },
        cgroup: if host.cgroupns_mode == "host" { Namespace::Host } else { Namespace::New },
    })
}

/// A container's IPC namespace is its own unless it was made to be shared, or is itself another's.
fn check_shareable(mode: &str, name: &str) -> Result<()> {
    if matches!(mode, "shareable" | "host") || mode.starts_with("container:") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    )))
}

/// Process whose pid namespace is joined.
pub fn join_pid(spec: &ContainerSpec) -> Option<i32> {
    if let Namespace::Of(pid) = spec.namespaces.pid { Some(pid) } else { None }
}

fn first_process(engine: &Engine, record: &Record) -> Result<ProcessSpec> {
    let (config, host) = (&record.config, &record.host);
    let [rows, columns] = host.console_size.map(|n| u16::try_from(n).unwrap_or(0));
    let size =
        if rows == 0 || columns == 0 { Size { cols: 80, rows: 24 } } else { Size { cols: columns, rows } };
    let daemon = engine.config.get();
    Ok(ProcessSpec {
        argv: std::iter::once(record.path.clone()).chain(record.args.iter().cloned()).collect(),
        env: environment(engine, record, config.tty),
        cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
        user: config.user.clone(),
        groups: host.group_add.clone().unwrap_or_default(),
        tty: config.tty.then_some(size),
        capabilities: capabilities(host, host.privileged),
        no_new_privileges: no_new_privileges(host) || daemon.no_new_privileges,
        seccomp: seccomp::filter(host, &daemon)?,
        rlimits: rlimits(host),
        oom_score_adj: (host.oom_score_adj != 0).then_some(host.oom_score_adj),
    })
}

/// Limits of every program in the container.
pub fn rlimits(host: &HostConfig) -> Vec<(String, u64, u64)> {
    host.resources.ulimits.iter().flatten().map(rlimit).collect()
}

/// What a program in the container finds in its environment.
pub fn environment(engine: &Engine, record: &Record, tty: bool) -> Vec<String> {
    let mut env = vec![PATH.to_string(), format!("HOSTNAME={}", record.config.hostname)];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.extend(link_variables(engine, record));
    replace(&mut env, record.config.env.as_deref().unwrap_or_default());
    env
}

/// Sets variables; a name without `=` takes it away.
pub fn replace(env: &mut Vec<String>, with: &[String]) {
    for variable in with {
        let name = variable.split('=').next().unwrap_or_default();
        let same = |v: &String| v.split('=').next() == Some(name);
        match (variable.contains('='), env.iter().position(same)) {
            (true, Some(at)) => env[at].clone_from(variable),
            (true, None) => env.push(variable.clone()),
            (false, Some(at)) => drop(env.remove(at)),
            (false, None) => {}
        }
    }
}

/// `DB_PORT=tcp://172.17.0.2:5432` … of `--link` on the default bridge.
fn link_variables(engine: &Engine, record: &Record) -> Vec<String> {
    if record.host.network_mode != "bridge" {
        return vec![];
    }
    let mut env = Vec::new();
    for (other, alias) in super::links::of(engine, record) {
        let other = other.record();
        let Some(address) = other.endpoints.iter().find_map(|e| e.address) else { continue };
        let prefix = alias.to_ascii_uppercase().replace('-', "_");
        env.push(format!("{prefix}_NAME=/{}/{alias}", record.name));
        let ports = other.config.exposed_ports.iter().flatten().map(|(port, _)| port);
        for (n, port) in ports.enumerate() {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let url = format!("{protocol}://{address}:{number}");
            if n == 0 {
                env.push(format!("{prefix}_PORT={url}"));
            }
            let name = format!("{prefix}_PORT_{number}_{}", protocol.to_ascii_uppercase());
            env.push(format!("{name}={url}"));
            env.push(format!("{name}_ADDR={address}"));
            env.push(format!("{name}_PORT={number}"));
            env.push(format!("{name}_PROTO={protocol}"));
        }
        for variable in other.config.env.iter().flatten() {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            if !matches!(name, "HOME" | "PATH") {
                env.push(format!("{prefix}_ENV_{name}={value}"));
            }
        }
    }
    env
}

/// `--cap-add`, `--cap-drop`, `--privileged`, as Docker combines them.
pub fn capabilities(host: &HostConfig, privileged: bool) -> Vec<String> {
    let names = |list: &Option<Vec<String>>| -> Vec<&'static str> {
        list.iter().flatten().filter_map(|text| capability(text)).collect()
    };
    let all = |list: &Option<Vec<String>>| list.iter().flatten().any(|text| text.eq_ignore_ascii_case("all"));
    let (add, drop) = (names(&host.cap_add), names(&host.cap_drop));
    let have: Vec<&str> = if privileged {
        CAPABILITIES.to_vec()
    } else if all(&host.cap_add) {
        CAPABILITIES.into_iter().filter(|c| !drop.contains(c)).collect()
    } else if all(&host.cap_drop) {
        add
    } else {
        let kept = DEFAULT_CAPABILITIES.into_iter().filter(|c| !drop.contains(c) && !add.contains(c));
        kept.chain(add.iter().copied()).collect()
    };
    have.into_iter().map(Into::into).collect()
}

/// `--security-opt no-new-privileges`
pub fn no_new_privileges(host: &HostConfig) -> bool {
    is_set(host, "no-new-privileges")
}

/// Whether a `--security-opt` is there that can be true or false, and is true.
fn is_set(host: &HostConfig, name: &str) -> bool {
    host.security_opt.iter().flatten().rev().find_map(|option| {
        let value = option.strip_prefix(name)?;
        value.strip_prefix(['=', ':']).map_or(Some(true), parse_bool)
    }) == Some(true)
}

fn rlimit(limit: &Ulimit) -> (String, u64, u64) {
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    (limit.name.to_ascii_lowercase(), value(limit.soft), value(limit.hard))
}

/// All mounts, so that what is mounted in a directory that is itself mounted comes after it.
fn mounts(engine: &Engine, record: &Record) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = record.mount_points.iter().map(mount).collect();
    for (target, options) in record.host.tmpfs.iter().flatten() {
        let mut options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(Into::into).collect();
        let read_only = options.iter().any(|o| o == "ro");
        options.retain(|o| !matches!(o.as_str(), "ro" | "rw"));
        for default in ["noexec", "nosuid", "nodev"] {
            let opposite = default.trim_start_matches("no");
            if !options.iter().any(|o| o == default || o == opposite) {
                options.push(default.into());
            }
        }
        let propagation = options.iter().find(|o| super::mounts::PROPAGATIONS.contains(&o.as_str())).cloned();
        let source = MountSource::Tmpfs(options);
        mounts.push(Mount {
            source,
            target: super::mounts::clean(target),
            read_only,
            propagation,
            below: Below::Same,
        });
    }
    mounts.extend(devices(&record.host));
    mounts.sort_by_key(|m| m.target.matches('/').count());
    let mounted = |target: &str| mounts.iter().any(|m| m.target == target);
    let own: Vec<Mount> = files::NAMES
        .into_iter()
        .filter(|name| !mounted(&format!("/etc/{name}")))
        .filter_map(|name| {
            let source = files_of(engine, record)?.join(name);
            Some(Mount {
                source: MountSource::Bind(source.to_string_lossy().into_owned()),
                target: format!("/etc/{name}"),
                read_only: record.host.readonly_rootfs,
                propagation: None,
                below: Below::Same,
            })
        })
        .collect();
    mounts.extend(own);
    mounts
}

/// The node's devices under other names (`--device /dev/null:/dev/foo`); under their own every container has them.
fn devices(host: &HostConfig) -> impl Iterator<Item = Mount> {
    host.resources.devices.iter().flatten().filter_map(|device| {
        let target = super::mounts::clean(&device.path_in_container);
        (!device.path_in_container.is_empty() && target != device.path_on_host).then(|| Mount {
            source: MountSource::Bind(device.path_on_host.clone()),
            target,
            read_only: false,
            propagation: None,
            below: Below::Same,
        })
    })
}

/// Directory of the files in `/etc`: those of the container whose network is shared, if so.
pub fn files_of(engine: &Engine, record: &Record) -> Option<std::path::PathBuf> {
    let id = match super::links::donor(engine, &record.host.network_mode) {
        Some(donor) => donor.ok()?.id.clone(),
        None => record.id.clone(),
    };
    Some(engine.containers.dir(&id))
}

fn mount(mounted: &Mounted) -> Mount {
    let point = &mounted.point;
    let spec = mounted.spec.as_ref();
    let source = if point.kind == "tmpfs" {
        let asked = spec.and_then(|s| s.tmpfs_options.clone()).unwrap_or_default();
        let mut options = vec!["noexec".to_string(), "nosuid".to_string(), "nodev".to_string()];
        if asked.size_bytes > 0 {
            options.push(format!("size={}", asked.size_bytes));
        }
        if asked.mode > 0 {
            options.push(format!("mode={:o}", asked.mode));
        }
        options.extend(asked.options.iter().flatten().filter(|o| !o.is_empty()).map(|o| o.join("=")));
        MountSource::Tmpfs(options)
    } else {
        let subpath = sources::subpath(mounted).unwrap_or_default();
        MountSource::Bind(match subpath.trim_start_matches('/') {
            // Joining nothing would append a slash, which a file must not have.
            "" => point.source.clone(),
            subpath => Path::new(&point.source).join(subpath).to_string_lossy().into_owned(),
        })
    };
    let propagation = Some(point.propagation.as_str()).filter(|p| !matches!(*p, "" | "private"));
    Mount {
        source,
        target: point.destination.clone(),
        read_only: !point.rw,
        propagation: propagation.map(Into::into),
        below: match spec.and_then(|spec| spec.bind_options.as_ref()) {
            Some(options) if options.non_recursive => Below::Left,
            Some(options) if options.read_only_non_recursive => Below::AsTheyAre,
            _ => Below::Same,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_combined_as_docker_does() {
        let host = |add: &[&str], drop: &[&str]| HostConfig {
            cap_add: Some(add.iter().map(|s| (*s).to_string()).collect()),
            cap_drop: Some(drop.iter().map(|s| (*s).to_string()).collect()),
            ..HostConfig::default()
        };
        assert_eq!(capabilities(&HostConfig::default(), false).len(), 14);
        assert_eq!(capabilities(&host(&["CAP_CHOWN"], &["ALL"]), false), ["CHOWN"]);
        let most = capabilities(&host(&["all"], &["net_raw"]), false);
        assert_eq!(most.len(), 40);
        assert!(!most.contains(&"NET_RAW".to_string()));
        assert_eq!(capabilities(&host(&["NET_ADMIN"], &["MKNOD"]), false).len(), 14);
    }

    #[test]
    fn a_private_ipc_namespace_is_not_joined() {
        assert_eq!(
            check_shareable("private", "donor").unwrap_err().message,
            "container donor: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        );
        assert!(check_shareable("none", "donor").is_err());
        assert_eq!(check_shareable("shareable", "donor"), Ok(()));
    }

    #[test]
    fn variables_are_set_and_taken_away() {
        let mut env = vec!["A=1".to_string(), "B=2".to_string()];
        replace(&mut env, &["B=3".to_string(), "A".to_string(), "C=".to_string()]);
        assert_eq!(env, ["B=3", "C="]);
    }
}
