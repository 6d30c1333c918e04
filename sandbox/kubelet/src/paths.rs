//! Where the kubelet keeps what belongs to pods (`/var/lib/kubelet`, `/var/log/pods`), as the real one lays it out.

use std::path::PathBuf;

/// Of all pods.
pub const PODS: &str = "/var/lib/kubelet/pods";

/// Of a pod.
pub fn pod(uid: &str) -> PathBuf {
    PathBuf::from(PODS).join(uid)
}

/// A volume of a pod; `plugin` as in `kubernetes.io~secret`.
pub fn volume(uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// Where a volume's plugin keeps what it knows of a pod's volume.
pub fn plugin(uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod(uid).join("plugins").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// Where a container leaves its last word.
pub fn termination_log(uid: &str, container: &str, attempt: u32) -> PathBuf {
    pod(uid).join("containers").join(container).join(format!("{attempt:08x}"))
}

/// The pod's `/etc/hosts`.
pub fn hosts(uid: &str) -> PathBuf {
    pod(uid).join("etc-hosts")
}

/// The pod's `/etc/resolv.conf`.
pub fn resolv_conf(uid: &str) -> PathBuf {
    pod(uid).join("etc-resolv.conf")
}

/// Logs of a pod.
pub fn pod_logs(namespace: &str, name: &str, uid: &str) -> PathBuf {
    PathBuf::from("/var/log/pods").join(format!("{namespace}_{name}_{uid}"))
}

/// The log of a container's attempt.
pub fn container_log(namespace: &str, name: &str, uid: &str, container: &str, attempt: u32) -> PathBuf {
    pod_logs(namespace, name, uid).join(container).join(format!("{attempt}.log"))
}
