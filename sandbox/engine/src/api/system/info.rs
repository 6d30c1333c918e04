//! `docker info`: what the node is. All of it is looked up, so that it agrees with what `ps`, `images`, `uname` and
//! `/sys/fs/cgroup` show.

use crate::clock::Timestamp;
use crate::config::DaemonConfig;
use crate::containers::record::Phase;
use crate::engine::Engine;
use crate::http::{Answer, ApiVersion, Json, VERSION, answer};
use crate::images::SITE_REGISTRY;
use crate::wasm::RUNTIME as WASM_RUNTIME;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

pub(super) async fn info(State(engine): State<Arc<Engine>>, version: ApiVersion) -> Answer {
    let groups = Groups { weighs: engine.groups.weighs_devices(), ..Groups::detect(Path::new(CGROUP_ROOT)) };
    let forwarding = first_line("/proc/sys/net/ipv4/ip_forward").is_none_or(|line| line != "0");
    let mut info = machine(&engine);
    merge(&mut info, counts(&engine));
    merge(&mut info, groups.features());
    merge(&mut info, constants());
    merge(&mut info, configured(&engine.config.get()));
    if engine.wasm.is_some() {
        info["Runtimes"][WASM_RUNTIME] = json!({ "path": WASM_RUNTIME });
    }
    let mut warnings = groups.warnings();
    if !forwarding {
        warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
    }
    if !matches!(engine.config.get().seccomp_profile.as_str(), "" | "builtin") {
        warnings.push("WARNING: daemon is not using the default seccomp profile".to_owned());
    }
    info["IPv4Forwarding"] = json!(forwarding);
    info["Warnings"] = if warnings.is_empty() { Value::Null } else { json!(warnings) };
    if !version.at_least(49) {
        info.as_object_mut().map(|fields| fields.remove("FirewallBackend"));
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            info[commit]["Expected"] = json!("");
        }
    }
    if !version.at_least(50) {
        info["BridgeNfIptables"] = json!(false);
        info["BridgeNfIp6tables"] = json!(false);
    }
    Ok(answer(StatusCode::OK, &arranged(&info)))
}

/// The fields in the order of dockerd's structs.
fn arranged(info: &Value) -> Json {
    let mut json = Json::of(info).arranged(&FIELDS);
    for (name, order) in INNER {
        if let Some(inner) = info.get(name) {
            json.set(name, &Json::of(inner).arranged(order));
        }
    }
    let mut registries =
        Json::of(&info["RegistryConfig"]).arranged(&["InsecureRegistryCIDRs", "IndexConfigs"]);
    let mut indexes = Json::of(&info["RegistryConfig"]["IndexConfigs"]);
    for (name, index) in info["RegistryConfig"]["IndexConfigs"].as_object().into_iter().flatten() {
        indexes.set(name, &Json::of(index).arranged(&["Name", "Mirrors", "Secure", "Official"]));
    }
    registries.set("IndexConfigs", &indexes);
    json.set("RegistryConfig", &registries);
    json
}

/// Those of `system.Info`.
const FIELDS: [&str; 62] = [
    "ID",
    "Containers",
    "ContainersRunning",
    "ContainersPaused",
    "ContainersStopped",
    "Images",
    "Driver",
    "DriverStatus",
    "Plugins",
    "MemoryLimit",
    "SwapLimit",
    "KernelMemoryTCP",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "IPv4Forwarding",
    "BridgeNfIptables",
    "BridgeNfIp6tables",
    "Debug",
    "NFd",
    "OomKillDisable",
    "NGoroutines",
    "SystemTime",
    "LoggingDriver",
    "CgroupDriver",
    "CgroupVersion",
    "NEventsListener",
    "KernelVersion",
    "OperatingSystem",
    "OSVersion",
    "OSType",
    "Architecture",
    "IndexServerAddress",
    "RegistryConfig",
    "NCPU",
    "MemTotal",
    "GenericResources",
    "DockerRootDir",
    "HttpProxy",
    "HttpsProxy",
    "NoProxy",
    "Name",
    "Labels",
    "ExperimentalBuild",
    "ServerVersion",
    "Runtimes",
    "DefaultRuntime",
    "Swarm",
    "LiveRestoreEnabled",
    "Isolation",
    "InitBinary",
    "ContainerdCommit",
    "RuncCommit",
    "InitCommit",
    "SecurityOptions",
    "DefaultAddressPools",
    "FirewallBackend",
    "CDISpecDirs",
    "DiscoveredDevices",
    "Warnings",
];

/// Those of the structs in it that are not in the alphabet's order anyway.
const INNER: [(&str, &[&str]); 2] = [
    ("Plugins", &["Volume", "Network", "Authorization", "Log"]),
    ("Swarm", &["NodeID", "NodeAddr", "LocalNodeState", "ControlAvailable", "Error", "RemoteManagers"]),
];

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// What the containers and images are.
fn counts(engine: &Engine) -> Value {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    let mut containers = engine.containers.all();
    // Those of a build are BuildKit's own.
    containers.retain(|container| !container.record().step);
    for container in &containers {
        match container.phase() {
            Phase::Paused => paused += 1,
            phase if phase.running() => running += 1,
            _ => stopped += 1,
        }
    }
    json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": crate::images::count(engine),
        "NEventsListener": engine.events.listeners(),
    })
}

/// What the node is.
fn machine(engine: &Engine) -> Value {
    let uname = nix::sys::utsname::uname().ok();
    let text = |text: Option<&std::ffi::OsStr>| text.map(|text| text.to_string_lossy().into_owned());
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    json!({
        "ID": engine_id(&engine.root),
        "Name": text(uname.as_ref().map(|uname| uname.nodename())).unwrap_or_default(),
        "KernelVersion": kernel(),
        "Architecture": text(uname.as_ref().map(|uname| uname.machine())).unwrap_or_default(),
        "OperatingSystem": release_field(&release, "PRETTY_NAME").unwrap_or("Linux"),
        "OSVersion": release_field(&release, "VERSION_ID").unwrap_or(""),
        "OSType": "linux",
        "NCPU": processors(),
        "MemTotal": memory(),
        "DockerRootDir": engine.root,
        "SystemTime": Timestamp::now(),
        "NFd": fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "NGoroutines": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", backing(&engine.root)],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "false"],
            ["userxattr", "true"],
        ],
    })
}

/// What is the same on every node.
fn constants() -> Value {
    json!({
        "ServerVersion": VERSION,
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "macvlan", "null"],
            "Authorization": null,
            "Log": ["fluentd", "gelf", "journald", "json-file", "local", "syslog"],
        },
        "CgroupDriver": "cgroupfs",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "GenericResources": null,
        "Runtimes": { "io.containerd.runc.v2": { "path": "runc" }, "runc": { "path": "runc" } },
        "DefaultRuntime": "runc",
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "FirewallBackend": { "Driver": "iptables" },
        "CDISpecDirs": [],
    })
}

/// What `daemon.json` says, or what dockerd does where it says nothing.
fn configured(config: &DaemonConfig) -> Value {
    let mirrors: Vec<String> =
        config.registry_mirrors.iter().map(|mirror| format!("{}/", mirror.trim_end_matches('/'))).collect();
    let mut index = json!({
        "docker.io": { "Mirrors": mirrors, "Name": "docker.io", "Official": true, "Secure": true },
    });
    let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for registry in config.insecure_registries.iter().map(String::as_str).chain([SITE_REGISTRY]) {
        if registry.contains('/') {
            cidrs.insert(cidrs.len() - 1, registry.to_owned());
        } else {
            index[registry] = json!({ "Mirrors": [], "Name": registry, "Official": false, "Secure": false });
        }
    }
    let profile = match config.seccomp_profile.as_str() {
        "" => "builtin",
        profile => profile,
    };
    let mut security = vec![format!("name=seccomp,profile={profile}"), "name=cgroupns".into()];
    if config.no_new_privileges {
        security.insert(1, "name=no-new-privileges".into());
    }
    let mirrors = if mirrors.is_empty() { Value::Null } else { json!(mirrors) };
    let mut info = json!({
        "Debug": config.debug,
        "LoggingDriver": config.driver(),
        "RegistryConfig": { "IndexConfigs": index, "InsecureRegistryCIDRs": cidrs, "Mirrors": mirrors },
        "HttpProxy": config.proxies.http_proxy,
        "HttpsProxy": config.proxies.https_proxy,
        "NoProxy": config.proxies.no_proxy,
        "Labels": config.labels,
        "ExperimentalBuild": config.experimental,
        "LiveRestoreEnabled": config.keeps_containers(),
        "SecurityOptions": security,
    });
    let pools: Vec<Value> =
        config.pool_texts().map(|(base, size)| json!({ "Base": base, "Size": size })).collect();
    if !pools.is_empty() {
        info["DefaultAddressPools"] = json!(pools);
    }
    info
}

/// The node's name.
pub(crate) fn host_name() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map_or_else(|_| String::new(), |uname| uname.nodename().to_string_lossy().into_owned())
}

/// Release of the kernel.
pub(super) fn kernel() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map_or_else(|_| String::new(), |uname| uname.release().to_string_lossy().into_owned())
}

/// The processor's architecture in Go's words, which are those of images too.
pub(super) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A field of `/etc/os-release`, without its quotes.
fn release_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim().trim_matches(['"', '\'']))
}

/// The engine's own id, kept so that it stays the same.
pub(crate) fn engine_id(root: &Path) -> String {
    let path = root.join("engine-id");
    if let Some(id) = crate::volumes::read_small(&path).and_then(|bytes| String::from_utf8(bytes).ok()) {
        let id = id.trim();
        if id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return id.to_owned();
        }
    }
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        return String::new();
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let _was_garbage = fs::remove_file(&path);
    let _another_next_time = fs::write(&path, &id);
    id
}

fn backing(root: &Path) -> &'static str {
    use nix::sys::statfs;
    match statfs::statfs(root).map(|stat| stat.filesystem_type()) {
        Ok(statfs::BTRFS_SUPER_MAGIC) => "btrfs",
        Ok(statfs::EXT4_SUPER_MAGIC) => "extfs",
        Ok(statfs::XFS_SUPER_MAGIC) => "xfs",
        Ok(statfs::TMPFS_MAGIC) => "tmpfs",
        Ok(statfs::OVERLAYFS_SUPER_MAGIC) => "overlayfs",
        _ => "<unknown>",
    }
}

fn first_line(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().and_then(|text| text.lines().next().map(|line| line.trim().to_owned()))
}

/// Processors that the node may use: those it may run on, and no more than its quota is worth.
fn processors() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let root = Path::new(CGROUP_ROOT);
    let quota = first_line(root.join("cpu.max")).and_then(|line| share(&line)).or_else(|| {
        let cpu = Groups::v1_directory(root, "cpu")?;
        let (quota, period) =
            (first_line(cpu.join("cpu.cfs_quota_us"))?, first_line(cpu.join("cpu.cfs_period_us"))?);
        share(&format!("{quota} {period}"))
    });
    quota.map_or(allowed, |quota| quota.clamp(1, allowed))
}

/// `150000 100000` → 2.
fn share(line: &str) -> Option<usize> {
    let (quota, period) = line.split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    usize::try_from(quota.div_ceil(period.max(1))).ok()
}

/// Bytes of memory that the node may use.
pub fn memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total = kilobytes.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) * 1024;
    let root = Path::new(CGROUP_ROOT);
    let limit = first_line(root.join("memory.max")).or_else(|| {
        // Counts the limits of the groups around the node too.
        let stat = fs::read_to_string(Groups::v1_directory(root, "memory")?.join("memory.stat")).ok()?;
        stat.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit ")).map(str::to_owned)
    });
    limit.and_then(|limit| limit.parse().ok()).map_or(total, |limit: u64| limit.min(total))
}

/// What control groups there are.
#[derive(Debug, PartialEq, Eq)]
struct Groups {
    unified: bool,
    controllers: BTreeSet<String>,
    swap: bool,
    kernel_tcp: bool,
    oom_control: bool,
    throttle: bool,
    /// Told for version 2 only: nobody could do anything about it on version 1, where kernels since 5.0 have none.
    weighs: bool,
}

impl Groups {
    fn detect(root: &Path) -> Self {
        if let Some(line) = first_line(root.join("cgroup.controllers")) {
            let controllers = line.split_whitespace().map(str::to_owned).collect();
            return Self {
                unified: true,
                controllers,
                // The root of a machine has no such file, a node's has.
                swap: root.join("memory.swap.max").exists() || Path::new("/proc/swaps").exists(),
                kernel_tcp: false,
                oom_control: false,
                throttle: line.split_whitespace().any(|name| name == "io"),
                weighs: line.split_whitespace().any(|name| name == "io"),
            };
        }
        let mut controllers = BTreeSet::new();
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                controllers.extend(entry.file_name().to_string_lossy().split(',').map(str::to_owned));
            }
        }
        let has = |controller: &str, file: &str| {
            Self::v1_directory(root, controller).is_some_and(|directory| directory.join(file).exists())
        };
        Self {
            unified: false,
            swap: has("memory", "memory.memsw.limit_in_bytes"),
            kernel_tcp: has("memory", "memory.kmem.tcp.limit_in_bytes"),
            oom_control: has("memory", "memory.oom_control"),
            throttle: has("blkio", "blkio.throttle.read_bps_device"),
            weighs: false,
            controllers,
        }
    }

    /// The directory of a version 1 controller; it may share one (`cpu,cpuacct`).
    fn v1_directory(root: &Path, controller: &str) -> Option<std::path::PathBuf> {
        let mut entries = fs::read_dir(root).into_iter().flatten().flatten();
        let named = |entry: &fs::DirEntry| {
            entry.file_name().to_string_lossy().split(',').any(|name| name == controller)
        };
        entries.find(named).map(|entry| entry.path())
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.contains(controller)
    }

    fn features(&self) -> Value {
        let mut features = json!({
            "CgroupVersion": if self.unified { "2" } else { "1" },
            "MemoryLimit": self.has("memory"),
            "SwapLimit": self.has("memory") && self.swap,
            "CpuCfsPeriod": self.has("cpu"),
            "CpuCfsQuota": self.has("cpu"),
            "CPUShares": self.has("cpu"),
            "CPUSet": self.has("cpuset"),
            "PidsLimit": self.has("pids"),
            "OomKillDisable": self.oom_control,
        });
        if self.kernel_tcp {
            features["KernelMemoryTCP"] = json!(true);
        }
        features
    }

    /// In the order and the words of dockerd.
    fn warnings(&self) -> Vec<String> {
        let v1 = !self.unified;
        let io = |two: &str, one: &str| {
            if self.unified { format!("io.max ({two})") } else { format!("blkio {one}") }
        };
        let missing = [
            (!self.has("memory"), "memory limit".to_owned()),
            (!self.has("memory") || !self.swap, "swap limit".to_owned()),
            (v1 && !self.kernel_tcp, "kernel memory TCP limit".to_owned()),
            (v1 && !self.oom_control, "oom kill disable".to_owned()),
            (!self.has("cpu"), "cpu cfs quota".to_owned()),
            (!self.has("cpu"), "cpu cfs period".to_owned()),
            (!self.has("cpu"), "cpu shares".to_owned()),
            (!self.has("cpuset"), "cpuset".to_owned()),
            (self.unified && !self.weighs, "io.weight".to_owned()),
            (self.unified && !self.weighs, "io.weight (per device)".to_owned()),
            (!self.throttle, io("rbps", "throttle.read_bps_device")),
            (!self.throttle, io("wbps", "throttle.write_bps_device")),
            (!self.throttle, io("riops", "throttle.read_iops_device")),
            (!self.throttle, io("wiops", "throttle.write_iops_device")),
        ];
        missing
            .into_iter()
            .filter(|(missing, _)| *missing)
            .map(|(_, what)| format!("WARNING: No {what} support"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_groups_are_told_apart_and_missing_ones_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cpu,cpuacct", "memory", "pids"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("memory/memory.oom_control"), "").unwrap();
        let groups = Groups::detect(dir.path());
        let features = groups.features();
        assert_eq!(features["CgroupVersion"], "1");
        assert_eq!((&features["CPUShares"], &features["CPUSet"]), (&json!(true), &json!(false)));
        assert_eq!(features["OomKillDisable"], true);
        assert_eq!(
            groups.warnings(),
            [
                "WARNING: No swap limit support",
                "WARNING: No kernel memory TCP limit support",
                "WARNING: No cpuset support",
                "WARNING: No blkio throttle.read_bps_device support",
                "WARNING: No blkio throttle.write_bps_device support",
                "WARNING: No blkio throttle.read_iops_device support",
                "WARNING: No blkio throttle.write_iops_device support",
            ]
        );
    }

    #[test]
    fn version_2_groups() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        fs::write(dir.path().join("memory.swap.max"), "0").unwrap();
        let groups = Groups::detect(dir.path());
        assert_eq!(groups.warnings(), Vec::<String>::new());
        assert_eq!(groups.features()["CgroupVersion"], "2");
    }

    #[test]
    fn fields_stand_in_dockerds_order() {
        let mut info = constants();
        merge(&mut info, configured(&DaemonConfig::default()));
        merge(&mut info, json!({ "ID": "x", "Warnings": null, "Containers": 0 }));
        let text = serde_json::to_string(&arranged(&info)).unwrap();
        assert!(text.starts_with(r#"{"ID":"x","Containers":0,"Plugins":{"Volume":["local"],"#), "{text}");
        assert!(text.ends_with(r#""CDISpecDirs":[],"Warnings":null}"#), "{text}");
        for index in [
            r#"{"Name":"docker.io","Mirrors":[],"Secure":true,"Official":true}"#,
            r#"{"Name":"registry:5000","Mirrors":[],"Secure":false,"Official":false}"#,
        ] {
            assert!(text.contains(index), "{text}");
        }
    }

    #[test]
    fn small_things_are_read_right() {
        assert_eq!(release_field("NAME=x\nPRETTY_NAME=\"Debian 13\"\n", "PRETTY_NAME"), Some("Debian 13"));
        assert_eq!((share("150000 100000"), share("max 100000"), share("-1 100000")), (Some(2), None, None));
        let dir = tempfile::tempdir().unwrap();
        let id = engine_id(dir.path());
        assert_eq!((id.len(), engine_id(dir.path())), (36, id));
    }
}
