//! What the engine is asked to make for a pod: bodies of `POST /containers/create`, as dockershim made them.

use super::{
    env,
    expand::{expand, expand_all},
    fields::Here,
    identity::{self, Identity},
    labels, pod, qos,
};
use crate::{
    docker::{Image, Limits},
    kubelet::Kubelet,
    paths, quantity,
    volumes::{Volumes, sub_path},
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fs, io::Write, os::unix::fs::OpenOptionsExt};

/// The image of first containers.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// CFS period, in microseconds.
const PERIOD: i128 = 100_000;

/// The engine has no user namespaces for containers of their own (`pkg/kubelet/userns/userns_manager.go`).
fn no_user_namespaces(runtime: Option<&str>) -> String {
    let who = runtime.map_or("runtime".to_owned(), |handler| format!("RuntimeClass handler {handler:?}"));
    format!("can't set `spec.hostUsers: false`, {who} does not support user namespaces")
}

/// A pod's first container; `domain`: the cluster's; `runtime`: what runs it, if not what usually does.
pub fn sandbox(pod: &Pod, domain: &str, runtime: Option<&str>) -> Result<Value, String> {
    let spec = pod::spec(pod);
    if spec.host_users == Some(false) {
        return Err(no_user_namespaces(runtime));
    }
    let host_network = pod::is_host_network(pod);
    let mut marks = pod.metadata.labels.clone().unwrap_or_default();
    for (key, value) in pod.metadata.annotations.iter().flatten() {
        marks.insert(format!("annotation.{key}"), value.clone());
    }
    let own = [
        (labels::CONTAINER_NAME, labels::SANDBOX_NAME),
        (labels::POD_NAME, pod::name(pod)),
        (labels::POD_NAMESPACE, pod::namespace(pod)),
        (labels::POD_UID, pod::uid(pod)),
        (labels::TYPE, labels::SANDBOX),
    ];
    marks.extend(own.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let hostname = if host_network { None } else { Some(pod::kernel_hostname(pod, domain)?) };
    let sysctls: BTreeMap<&str, &str> = spec
        .security_context
        .iter()
        .flat_map(|c| c.sysctls.iter().flatten())
        .map(|s| (s.name.as_str(), s.value.as_str()))
        .collect();
    let mut host = json!({
        "NetworkMode": if host_network { "host" } else { "none" },
        "IpcMode": if spec.host_ipc == Some(true) { "host" } else { "shareable" },
        "PidMode": if spec.host_pid == Some(true) { "host" } else { "" },
        "CpuShares": 2,
        "OomScoreAdj": -998,
        "SecurityOpt": ["no-new-privileges"],
    });
    if let Some(runtime) = runtime {
        host["Runtime"] = runtime.into();
    }
    if !sysctls.is_empty() {
        host["Sysctls"] = json!(sysctls);
    }
    let mut body = json!({ "Image": PAUSE, "Labels": marks, "HostConfig": host });
    if let Some(hostname) = hostname {
        body["Hostname"] = hostname.into();
    }
    Ok(body)
}

/// All that one of a pod's containers is made from beside its specification.
pub struct Parts<'a> {
    /// The pod's first container.
    pub sandbox: &'a str,
    /// How often it was started before.
    pub attempt: u32,
    /// Its image, which is there.
    pub image: &'a Image,
    /// The pod's volumes.
    pub volumes: &'a Volumes,
    /// What the pod knows of itself only here.
    pub here: &'a Here,
    /// The container whose processes an ephemeral one wants to see.
    pub target: Option<&'a str>,
    /// The option with its filter of system calls.
    pub seccomp: Option<&'a str>,
}

/// One of a pod's containers. The error is what its state says with `CreateContainerConfigError`.
pub async fn container(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    parts: &Parts<'_>,
) -> Result<Value, String> {
    let spec = pod::spec(pod);
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    check_user(pod, container, &of_pod, &own, parts.image)?;
    let variables = env::variables(kubelet, pod, container, parts.here, parts.volumes).await?;
    let known: BTreeMap<String, String> = variables.iter().cloned().collect();
    let words = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        list.as_ref().filter(|l| !l.is_empty()).map(|l| l.iter().map(|w| expand(w, &known)).collect())
    };
    let mut body = json!({
        "Image": parts.image.id,
        "Labels": marks(pod, container, parts),
        "Env": lines(kubelet, pod, &variables)?,
        "Tty": container.tty == Some(true),
        "OpenStdin": container.stdin == Some(true),
        "StdinOnce": container.stdin_once == Some(true),
        // The kubelet has probes of its own.
        "Healthcheck": { "Test": ["NONE"] },
    });
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[key] = value;
        }
    };
    set("Entrypoint", words(&container.command).map(Value::from));
    set("Cmd", words(&container.args).map(Value::from));
    set("WorkingDir", container.working_dir.clone().filter(|d| !d.is_empty()).map(Value::from));
    // A user that there is not, the engine refuses at the start.
    let identity = Identity::of(&of_pod, &own, parts.image).ok();
    let differs = identity.as_ref().filter(|identity| identity.differs);
    let user = differs.map(Identity::user).or_else(|| user(&of_pod, &own));
    set("User", user.map(Value::from));
    let ids = identity.as_ref().and_then(|identity| serde_json::to_string(&identity.ids).ok());
    if let Some(ids) = ids {
        body["Labels"][labels::IDENTITY] = ids.into();
    }
    let mut host = host_config(kubelet, pod, container, &own, parts)?;
    let groups = differs.map_or_else(|| identity::wanted_groups(&of_pod), Identity::groups);
    host.insert("GroupAdd".into(), json!(groups));
    host.insert("Mounts".into(), mounts(pod, container, parts, &known)?.into());
    body["HostConfig"] = host.into();
    Ok(body)
}

/// Variables as the engine takes them. It tells the host's name only to containers with a network of their own.
fn lines(kubelet: &Kubelet, pod: &Pod, variables: &env::Variables) -> Result<Vec<String>, String> {
    let host = match pod::is_host_network(pod) {
        true => kubelet.node.clone(),
        false => pod::kernel_hostname(pod, kubelet.settings.cluster_domain())?,
    };
    let own = (!variables.iter().any(|(k, _)| k == "HOSTNAME")).then(|| format!("HOSTNAME={host}"));
    Ok(own.into_iter().chain(variables.iter().map(|(k, v)| format!("{k}={v}"))).collect())
}

fn marks(pod: &Pod, container: &Container, parts: &Parts<'_>) -> BTreeMap<String, String> {
    let (name, namespace, uid) = (pod::name(pod), pod::namespace(pod), pod::uid(pod));
    let log = paths::container_log(namespace, name, uid, &container.name, parts.attempt);
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    [
        (labels::CONTAINER_NAME, container.name.clone()),
        (labels::POD_NAME, name.to_owned()),
        (labels::POD_NAMESPACE, namespace.to_owned()),
        (labels::POD_UID, uid.to_owned()),
        (labels::TYPE, labels::CONTAINER.to_owned()),
        (labels::SANDBOX_ID, parts.sandbox.to_owned()),
        (labels::LOG_PATH, log.to_string_lossy().into_owned()),
        (labels::HASH, labels::hash(container)),
        (labels::RESTART_COUNT, parts.attempt.to_string()),
        (labels::TERMINATION_PATH, path.to_owned()),
        (labels::TERMINATION_POLICY, policy.to_owned()),
        (labels::GRACE_PERIOD, pod::grace_seconds(pod).to_string()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into()
}

/// `verifyRunAsNonRoot`.
fn check_user(
    pod: &Pod,
    container: &Container,
    of_pod: &PodSecurityContext,
    own: &SecurityContext,
    image: &Image,
) -> Result<(), String> {
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: \"{}\", container: {})", pod::described(pod), container.name);
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image.config.user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        _ if user.is_empty() || user == "0" => {
            Err(format!("container has runAsNonRoot and image will run as root {place}"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {place}"
        )),
    }
}

fn user(of_pod: &PodSecurityContext, own: &SecurityContext) -> Option<String> {
    let user = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    match (user, group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => Some(format!("0:{group}")),
        (None, None) => None,
    }
}

fn host_config(
    kubelet: &Kubelet,
    pod: &Pod,
    container: &Container,
    own: &SecurityContext,
    parts: &Parts<'_>,
) -> Result<Map<String, Value>, String> {
    let spec = pod::spec(pod);
    let joined = format!("container:{}", parts.sandbox);
    let pid = if let Some(target) = parts.target {
        format!("container:{target}")
    } else if spec.host_pid == Some(true) {
        "host".into()
    } else if spec.share_process_namespace == Some(true) {
        joined.clone()
    } else {
        String::new()
    };
    let mut host = json!({
        "NetworkMode": if pod::is_host_network(pod) { "host".into() } else { joined.clone() },
        "IpcMode": if spec.host_ipc == Some(true) { "host".into() } else { joined },
        "PidMode": pid,
        "OomScoreAdj": oom_score(kubelet, pod, container),
        "Privileged": own.privileged == Some(true),
        "ReadonlyRootfs": own.read_only_root_filesystem == Some(true),
    });
    let host = host.as_object_mut().map(std::mem::take).unwrap_or_default();
    let mut host = host;
    if let Some(capabilities) = &own.capabilities {
        host.insert("CapAdd".into(), json!(capabilities.add.clone().unwrap_or_default()));
        host.insert("CapDrop".into(), json!(capabilities.drop.clone().unwrap_or_default()));
    }
    let mut options = Vec::new();
    if own.allow_privilege_escalation == Some(false) {
        options.push("no-new-privileges".to_owned());
    }
    options.extend(parts.seccomp.map(str::to_owned));
    host.insert("SecurityOpt".into(), json!(options));
    if let Ok(Value::Object(limits)) = serde_json::to_value(limits(pod, container)) {
        host.extend(limits.into_iter().filter(|(_, amount)| amount.as_i64() != Some(0)));
    }
    Ok(host)
}

/// Requests and limits as the kernel has them (`pkg/kubelet/cm/helpers_linux.go`).
pub fn limits(pod: &Pod, container: &Container) -> Limits {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let limit = |name| qos::limit(pod, container, name).and_then(|q| quantity::milli(&q.0)).unwrap_or(0);
    let memory = i64::try_from(limit("memory") / 1000).unwrap_or(i64::MAX);
    let limit = limit("cpu");
    let request = match quantity::milli_of(requests, "cpu").unwrap_or(0) {
        0 => limit,
        request => request,
    };
    let shares = (request * 1024 / 1000).clamp(2, 262_144);
    let quota = if limit > 0 { (limit * PERIOD / 1000).max(1000) } else { 0 };
    Limits {
        cpu_shares: i64::try_from(shares).unwrap_or(2),
        cpu_quota: i64::try_from(quota).unwrap_or(i64::MAX),
        cpu_period: if quota > 0 { 100_000 } else { 0 },
        memory,
        memory_swap: memory,
    }
}

/// Whom the kernel kills first (`pkg/kubelet/qos/policy.go`).
fn oom_score(kubelet: &Kubelet, pod: &Pod, container: &Container) -> i64 {
    if pod::is_static(pod) || pod::spec(pod).priority.is_some_and(|p| p >= pod::SYSTEM_CRITICAL) {
        return -997;
    }
    match qos::class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = qos::memory_request(pod, container);
            let score = 1000 - 1000_i64.saturating_mul(request) / kubelet.memory_capacity().max(1);
            score.clamp(3, 999)
        }
    }
}

fn bind(source: &str, target: &str, read_only: bool, propagation: Option<&str>) -> Value {
    let propagation = match propagation {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    };
    json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only, "BindOptions": { "Propagation": propagation } })
}

fn mounts(
    pod: &Pod,
    container: &Container,
    parts: &Parts<'_>,
    known: &BTreeMap<String, String>,
) -> Result<Vec<Value>, String> {
    let mut list = Vec::new();
    let mut taken: Vec<String> = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = parts.volumes.get(&mount.name).ok_or_else(|| {
            format!("cannot find volume \"{}\" to mount into container \"{}\"", mount.name, container.name)
        })?;
        let sub = match (&mount.sub_path, &mount.sub_path_expr) {
            (_, Some(expression)) if !expression.is_empty() => expand_all(expression, known)?,
            (Some(path), _) => path.clone(),
            _ => String::new(),
        };
        let source = sub_path::prepare(volume, &sub, &mount.name, &container.name)?;
        // A relative path counts from the root (`makeMounts`).
        let target = if mount.mount_path.starts_with('/') {
            mount.mount_path.clone()
        } else {
            format!("/{}", mount.mount_path)
        };
        let read_only = volume.read_only || mount.read_only == Some(true);
        list.push(bind(&source, &target, read_only, mount.mount_propagation.as_deref()));
        taken.push(target.trim_end_matches('/').to_owned());
    }
    let uid = pod::uid(pod);
    let read_only_root =
        container.security_context.as_ref().and_then(|s| s.read_only_root_filesystem) == Some(true);
    for (target, source) in [("/etc/hosts", paths::hosts(uid)), ("/etc/resolv.conf", paths::resolv_conf(uid))]
    {
        if !taken.iter().any(|t| t == target) && source.exists() {
            list.push(bind(&source.to_string_lossy(), target, read_only_root, None));
        }
    }
    let target = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    if !target.is_empty() {
        let source = paths::termination_log(uid, &container.name, parts.attempt);
        make_termination_log(&source)
            .map_err(|e| format!("failed to create termination log file {}: {e}", source.display()))?;
        list.push(bind(&source.to_string_lossy(), target, false, None));
    }
    Ok(list)
}

/// An empty file that every user of the container may write to.
fn make_termination_log(path: &std::path::Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o666).open(path)?;
    file.flush()?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_are_refused_in_upstreams_words() {
        let pod = |host_users: bool| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": "web", "namespace": "default", "uid": "u" },
                "spec": { "hostUsers": host_users, "containers": [] }
            }))
            .unwrap()
        };
        let words = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
        assert_eq!(sandbox(&pod(false), "cluster.local", None).unwrap_err(), words);
        let words = "can't set `spec.hostUsers: false`, RuntimeClass handler \"wasm\" does not support user namespaces";
        assert_eq!(sandbox(&pod(false), "cluster.local", Some("wasm")).unwrap_err(), words);
        assert!(sandbox(&pod(true), "cluster.local", None).is_ok());
    }
}
