//! The checks of the Pod Security Standards, with the texts of k8s.io/pod-security-admission `policy/check_*.go`, in its order.

use drydock_apimachinery::object::{at, int, list, map, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// Something that a standard does not allow.
pub struct Violation {
    /// What, in short.
    pub reason: String,
    /// Who does it.
    pub detail: String,
}

/// All that the baseline forbids, in the order of the checks' ids (`policy/registry.go`).
pub fn baseline(pod: &Value) -> Vec<Violation> {
    let capabilities = added_capabilities(pod);
    in_order(pod, capabilities, host_paths(pod), seccomp(pod, false))
}

/// All that the restricted standard forbids: the baseline, but for what it is stricter about, and then that.
pub fn restricted(pod: &Value) -> Vec<Violation> {
    let mut found = in_order(pod, None, None, None);
    let is_windows = text(pod, &["spec", "os", "name"]) == "windows";
    if !is_windows {
        found.extend(escalation(pod));
        found.extend(capabilities(pod));
    }
    found.extend(volumes(pod));
    found.extend(non_root(pod));
    found.extend(root_user(pod));
    if !is_windows {
        found.extend(seccomp(pod, true));
    }
    found
}

/// Checks of the baseline, with those at their place that the restricted standard replaces.
fn in_order(
    pod: &Value,
    capabilities: Option<Violation>,
    host_paths: Option<Violation>,
    seccomp: Option<Violation>,
) -> Vec<Violation> {
    [
        app_armor(pod),
        capabilities,
        host_namespaces(pod),
        host_paths,
        host_ports(pod),
        host_probes(pod),
        privileged(pod),
        proc_mount(pod),
        se_linux(pod),
        seccomp,
        sysctls(pod),
        host_process(pod),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail })
}

/// All containers in the order in which upstream visits them.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let all = |field: &'static str| list(pod, &["spec", field]).iter();
    all("initContainers").chain(all("containers")).chain(all("ephemeralContainers"))
}

/// Names of the containers of which something holds.
fn names(pod: &Value, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(pod).filter(|one| holds(one)).map(|one| text(one, &["name"]).into()).collect()
}

fn plural(one: &str, n: usize) -> String {
    if n == 1 { one.into() } else { format!("{one}s") }
}

fn quoted<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|one| format!("{:?}", one.as_ref())).collect();
    quoted.join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn said(names: &[String]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

/// `pod and container "a"`.
fn setters(pod_does: bool, names: &[String]) -> Option<String> {
    let containers = (!names.is_empty()).then(|| said(names));
    match (pod_does, containers) {
        (true, Some(containers)) => Some(format!("pod and {containers}")),
        (true, None) => Some("pod".into()),
        (false, containers) => containers,
    }
}

fn context<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a Value> {
    at(&tree["securityContext"], path).filter(|value| !value.is_null())
}

fn app_armor(pod: &Value) -> Option<Violation> {
    const KEY: &str = "container.apparmor.security.beta.kubernetes.io/";
    let annotations = map(pod, &["metadata", "annotations"]).into_iter().flatten();
    let is_bad = |profile: &str| {
        !profile.is_empty() && profile != "runtime/default" && !profile.starts_with("localhost/")
    };
    let mut bad: Vec<String> = annotations
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| key.starts_with(KEY) && is_bad(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    bad.sort();
    let mut types = BTreeSet::new();
    let mut unconfined = |tree: &Value| {
        let kind = context(tree, &["appArmorProfile", "type"]).and_then(Value::as_str).unwrap_or_default();
        let is_bad = !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        if is_bad {
            types.insert(kind.to_string());
        }
        is_bad
    };
    let pod_does = unconfined(&pod["spec"]);
    let names: Vec<String> =
        containers(pod).filter(|one| unconfined(one)).map(|one| text(one, &["name"]).into()).collect();
    let mut details = Vec::new();
    if let Some(who) = setters(pod_does, &names) {
        details.push(format!("{who} must not set AppArmor profile type to {}", quoted(&types)));
    }
    let count = bad.len() + types.len();
    details.extend(bad);
    if details.is_empty() {
        return None;
    }
    violation(&plural("forbidden AppArmor profile", count), details.join(", "))
}

fn host_namespaces(pod: &Value) -> Option<Violation> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod["spec"][**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if used.is_empty() { None } else { violation("host namespaces", used.join(", ")) }
}

fn host_ports(pod: &Value) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = list(container, &["ports"]).iter();
        ports.filter_map(|port| int(port, &["hostPort"])).filter(|port| *port != 0).collect()
    };
    let names = names(pod, |container| !ports(container).is_empty());
    let all: BTreeSet<String> = containers(pod).flat_map(ports).map(|port| port.to_string()).collect();
    if names.is_empty() {
        return None;
    }
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let ports = all.iter().cloned().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {uses} {} {ports}", said(&names), plural("hostPort", all.len())))
}

fn host_probes(pod: &Value) -> Option<Violation> {
    let hosts = |container: &Value| -> Vec<String> {
        let paths: [&[&str]; 5] = [
            &["livenessProbe"],
            &["readinessProbe"],
            &["startupProbe"],
            &["lifecycle", "postStart"],
            &["lifecycle", "preStop"],
        ];
        let handlers = paths.iter().filter_map(|path| at(container, path));
        let hosts = handlers.flat_map(|handler| {
            ["httpGet", "tcpSocket"].map(|kind| text(handler, &[kind, "host"]).to_string())
        });
        hosts.filter(|host| !host.is_empty()).collect()
    };
    let bad: BTreeSet<String> = names(pod, |container| !hosts(container).is_empty()).into_iter().collect();
    let all: BTreeSet<String> = containers(pod).flat_map(hosts).collect();
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<String> = bad.into_iter().collect();
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    let what = plural("probe or lifecycle host", all.len());
    violation("probe or lifecycle host", format!("{} {uses} {what} {}", said(&bad), quoted(&all)))
}

fn privileged(pod: &Value) -> Option<Violation> {
    let names = names(pod, |one| context(one, &["privileged"]) == Some(&true.into()));
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", said(&names)))
}

fn proc_mount(pod: &Value) -> Option<Violation> {
    let kind = |container: &Value| {
        let kind = context(container, &["procMount"]).and_then(Value::as_str).unwrap_or("Default");
        (kind != "Default").then(|| kind.to_string())
    };
    let names = names(pod, |container| kind(container).is_some());
    let kinds: BTreeSet<String> = containers(pod).filter_map(kind).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.procMount to {}", said(&names), quoted(&kinds));
    violation("procMount", detail)
}

fn se_linux(pod: &Value) -> Option<Violation> {
    const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let mut bad_types = BTreeSet::new();
    let (mut sets_user, mut sets_role) = (false, false);
    let mut is_bad = |tree: &Value| {
        let Some(options) = context(tree, &["seLinuxOptions"]) else { return false };
        let kind = text(options, &["type"]);
        let (user, role) = (!text(options, &["user"]).is_empty(), !text(options, &["role"]).is_empty());
        let bad_type = !TYPES.contains(&kind);
        if bad_type {
            bad_types.insert(kind.to_string());
        }
        sets_user |= user;
        sets_role |= role;
        bad_type || user || role
    };
    let pod_does = is_bad(&pod["spec"]);
    let names: Vec<String> =
        containers(pod).filter(|one| is_bad(one)).map(|one| text(one, &["name"]).into()).collect();
    let who = setters(pod_does, &names)?;
    let mut what = Vec::new();
    if !bad_types.is_empty() {
        what.push(format!("{} {}", plural("type", bad_types.len()), quoted(&bad_types)));
    }
    if sets_user {
        what.push("user may not be set".into());
    }
    if sets_role {
        what.push("role may not be set".into());
    }
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")),
    )
}

fn sysctls(pod: &Value) -> Option<Violation> {
    const SAFE: [&str; 12] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    let all = list(pod, &["spec", "securityContext", "sysctls"]).iter();
    let bad: Vec<&str> = all.map(|one| text(one, &["name"])).filter(|name| !SAFE.contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Value) -> Option<Violation> {
    let is_set = |tree: &Value| context(tree, &["windowsOptions", "hostProcess"]) == Some(&true.into());
    let who = setters(is_set(&pod["spec"]), &names(pod, is_set))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn added<'a>(container: &'a Value, list_: &str) -> impl Iterator<Item = &'a str> {
    list(container, &["securityContext", "capabilities", list_]).iter().filter_map(Value::as_str)
}

/// Capabilities that are added although they are none of those (names, containers).
fn forbidden_additions(pod: &Value, allowed: &[&str]) -> (BTreeSet<String>, Vec<String>) {
    let is_bad = |name: &&str| !allowed.contains(name);
    let names = names(pod, |container| added(container, "add").any(|name| is_bad(&name)));
    let all = containers(pod).flat_map(|one| added(one, "add").filter(is_bad)).map(String::from).collect();
    (all, names)
}

fn added_capabilities(pod: &Value) -> Option<Violation> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (bad, names) = forbidden_additions(pod, &DEFAULT);
    if names.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", said(&names), quoted(&bad));
    violation("non-default capabilities", detail)
}

fn host_paths(pod: &Value) -> Option<Violation> {
    let volumes = list(pod, &["spec", "volumes"]).iter().filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, &["name"])).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", names.len()), quoted(&names)))
}

fn escalation(pod: &Value) -> Option<Violation> {
    let names = names(pod, |one| context(one, &["allowPrivilegeEscalation"]) != Some(&false.into()));
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", said(&names));
    violation("allowPrivilegeEscalation != false", detail)
}

fn capabilities(pod: &Value) -> Option<Violation> {
    let keeping = names(pod, |container| !added(container, "drop").any(|name| name == "ALL"));
    let (bad, adding) = forbidden_additions(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", said(&keeping)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            said(&adding),
            quoted(&bad)
        ));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn volumes(pod: &Value) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let kind = |volume: &Value| {
        volume.as_object().and_then(|fields| {
            let mut kinds = fields.iter().filter(|(key, value)| *key != "name" && !value.is_null());
            let kind = kinds.next().map(|(key, _)| key.clone())?;
            (!ALLOWED.contains(&kind.as_str())).then_some(kind)
        })
    };
    let volumes = list(pod, &["spec", "volumes"]);
    let names: Vec<&str> =
        volumes.iter().filter(|one| kind(one).is_some()).map(|one| text(one, &["name"])).collect();
    let kinds: BTreeSet<String> = volumes.iter().filter_map(kind).collect();
    if names.is_empty() {
        return None;
    }
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let detail = format!(
        "{} {} {uses} {} {}",
        plural("volume", names.len()),
        quoted(&names),
        plural("restricted volume type", kinds.len()),
        quoted(&kinds)
    );
    violation("restricted volume types", detail)
}

fn non_root(pod: &Value) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let said_of = |tree: &Value| context(tree, &["runAsNonRoot"]).and_then(Value::as_bool);
    let of_pod = said_of(&pod["spec"]);
    let explicit = names(pod, |one| said_of(one) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &explicit) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let implicit = names(pod, |one| said_of(one).is_none() && of_pod != Some(true));
    if implicit.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", said(&implicit)))
}

fn root_user(pod: &Value) -> Option<Violation> {
    let is_root = |tree: &Value| context(tree, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let who = setters(is_root(&pod["spec"]), &names(pod, is_root))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

fn seccomp(pod: &Value, must_be_set: bool) -> Option<Violation> {
    const REASON: &str = "seccompProfile";
    let kind = |tree: &Value| -> Option<String> {
        context(tree, &["seccompProfile"]).map(|profile| text(profile, &["type"]).into())
    };
    let is_bad = |kind: &Option<String>| {
        kind.as_ref().is_some_and(|kind| kind != "RuntimeDefault" && kind != "Localhost")
    };
    let of_pod = kind(&pod["spec"]);
    let explicit = names(pod, |container| is_bad(&kind(container)));
    if let Some(who) = setters(is_bad(&of_pod), &explicit) {
        let kinds: BTreeSet<String> = std::iter::once(of_pod.clone())
            .chain(containers(pod).map(kind))
            .filter(is_bad)
            .flatten()
            .collect();
        let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&kinds));
        return violation(REASON, detail);
    }
    let implicit = names(pod, |container| kind(container).is_none() && of_pod.is_none());
    if !must_be_set || implicit.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        said(&implicit)
    );
    violation(REASON, detail)
}
