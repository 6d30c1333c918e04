//! Pods from manifests in `/etc/kubernetes/manifests` (`pkg/kubelet/config/file_linux.go`): the directory is watched, and every file in
//! it is a pod.

use super::pod;
use crate::kubelet::Kubelet;
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus, Toleration},
    jiff::Timestamp,
};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::{collections::HashMap, fs, io, path::Path, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// Longest manifest.
const MAX_MANIFEST: u64 = 1 << 20;
/// Most manifests.
const MAX_MANIFESTS: usize = 100;
/// How often the directory is read even if nothing happens (`fileCheckFrequency`).
const PERIOD: Duration = Duration::from_secs(20);
/// The stack of the thread that waits for changes.
const STACK: usize = 64 << 10;
/// An editor writes a file in several steps.
const SETTLE: Duration = Duration::from_millis(20);

/// Tells the pods of the directory for ever.
pub async fn watch(kubelet: Arc<Kubelet>, directory: &Path) {
    let changed = Arc::new(Notify::new());
    if let Err(error) = listen(directory, changed.clone()) {
        tracing::warn!(%error, "Unable to watch the manifests");
    }
    let mut seen: HashMap<String, String> = HashMap::new();
    loop {
        let pods = read(&kubelet.node, directory, &mut seen);
        kubelet.pods.set_statics(&kubelet, pods);
        if tokio::time::timeout(PERIOD, changed.notified()).await.is_ok() {
            tokio::time::sleep(SETTLE).await;
        }
    }
}

/// Notes changes of a directory, on a thread that waits for them.
fn listen(directory: &Path, changed: Arc<Notify>) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE;
    inotify.add_watch(directory, flags)?;
    let wait = move || {
        while inotify.read_events().is_ok() {
            changed.notify_one();
        }
    };
    std::thread::Builder::new().name("manifests".into()).stack_size(STACK).spawn(wait).map(drop)
}

/// All pods of a directory. `seen`: when which pod was seen first.
fn read(node: &str, directory: &Path, seen: &mut HashMap<String, String>) -> Vec<Pod> {
    let mut pods = Vec::new();
    let mut paths: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths.iter().take(MAX_MANIFESTS) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let fits = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MAX_MANIFEST);
        if name.starts_with('.') || !fits {
            continue;
        }
        let Ok(text) = fs::read_to_string(path) else { continue };
        match parse(node, &text) {
            Ok(mut pod) => {
                let now = || Timestamp::now().to_string();
                let first = seen.entry(pod::uid(&pod).to_owned()).or_insert_with(now).clone();
                pod.metadata.annotations.get_or_insert_default().insert(pod::CONFIG_SEEN.into(), first);
                pods.push(pod);
            }
            Err(error) => tracing::error!(path = %path.display(), error, "Could not process manifest file"),
        }
    }
    pods
}

/// One manifest (`tryDecodeSinglePod`, `applyDefaults`).
fn parse(node: &str, text: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    if value["kind"] != "Pod" || value["apiVersion"] != "v1" {
        return Err(format!("invalid pod: kind {} of {}", value["kind"], value["apiVersion"]));
    }
    let mut pod: Pod = serde_json::from_str(&value.to_string()).map_err(|e| e.to_string())?;
    let spec = pod.spec.as_mut().filter(|s| !s.containers.is_empty()).ok_or("invalid pod: no containers")?;
    spec.node_name = Some(node.into());
    spec.enable_service_links.get_or_insert(true);
    spec.restart_policy.get_or_insert_with(|| "Always".into());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    // A static pod stays when its node is tainted.
    let tolerates = Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    };
    spec.tolerations = Some(vec![tolerates]);
    let name = pod.metadata.name.as_deref().filter(|n| !n.is_empty()).ok_or("invalid pod: no name")?;
    pod.metadata.name = Some(format!("{name}-{node}"));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    let hash = digest(node, text);
    pod.metadata.uid = Some(hash.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(pod::CONFIG_SOURCE.into(), "file".into());
    annotations.insert(pod::CONFIG_HASH.into(), hash);
    pod.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
    Ok(pod)
}

/// 32 hexadecimal digits that change with the text (upstream's MD5 in length and use).
fn digest(node: &str, text: &str) -> String {
    let fnv = |seed: u64| {
        node.bytes()
            .chain([0])
            .chain(text.bytes())
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    format!("{:016x}{:016x}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x9ae1_6a3b_2f90_404f))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: nginx\n";

    #[test]
    fn manifests_are_pods_of_the_node() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("web.yaml"), MANIFEST).unwrap();
        fs::write(dir.path().join(".hidden"), MANIFEST).unwrap();
        fs::write(dir.path().join("bad.yaml"), "kind: Service\napiVersion: v1\n").unwrap();
        let mut seen = HashMap::new();
        let pods = read("node1", dir.path(), &mut seen);
        assert_eq!(pods.len(), 1);
        let web = &pods[0];
        assert_eq!((pod::name(web), pod::namespace(web)), ("web-node1", "default"));
        assert!(pod::is_static(web) && !pod::is_mirror(web));
        assert_eq!(pod::static_hash(web), Some(pod::uid(web)));
        assert_eq!(read("node1", dir.path(), &mut seen), pods);
        fs::write(dir.path().join("web.yaml"), MANIFEST.replace("nginx", "nginx:2")).unwrap();
        assert_ne!(pod::uid(&read("node1", dir.path(), &mut seen)[0]), pod::uid(web));
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for bad in ["", "a: [", "kind: Pod\napiVersion: v1\nmetadata:\n  name: x\nspec:\n  containers: []\n"]
        {
            assert!(parse("node1", bad).is_err(), "{bad:?}");
        }
    }
}
