//! Pods that use more of the node's disk than they may are ended (`localStorageEviction` of `pkg/kubelet/eviction`): by the limit of an
//! `emptyDir`, and by `ephemeral-storage` of a container or of all of them together.

use super::{labels, observed::Observed, pod};
use crate::{
    docker::Container as Found,
    kubelet::Kubelet,
    paths,
    quantity::{self, Resources},
};
use drydock_kubeclient::EventType;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// What the status of such a pod says.
pub const REASON: &str = "Evicted";
/// How long its containers have to end (`immediateEvictionGracePeriodSeconds`).
pub const GRACE: i64 = 1;
/// How often pods are measured (`evictionMonitoringPeriod`).
const PERIOD: Duration = Duration::from_secs(10);
/// Files of one place that are measured; what is beyond counts for nothing.
const MAX_ENTRIES: usize = 200_000;
const STORAGE: &str = "ephemeral-storage";

/// Bytes that a pod has on the disk.
#[derive(Debug, Default)]
struct Usage {
    volumes: BTreeMap<String, u64>,
    containers: BTreeMap<String, u64>,
    /// What is in no `emptyDir` and in no container.
    other: u64,
}

impl Usage {
    fn total(&self, pod: &Pod) -> u64 {
        let on_disk = |name: &str| {
            let volume = pod::spec(pod).volumes.iter().flatten().find(|v| v.name == name);
            let empty_dir = volume.and_then(|v| v.empty_dir.as_ref());
            empty_dir.is_some_and(|e| e.medium.as_deref() != Some("Memory"))
        };
        let volumes = self.volumes.iter().filter(|(name, _)| on_disk(name)).map(|(_, bytes)| bytes);
        volumes.chain(self.containers.values()).sum::<u64>() + self.other
    }
}

/// Measures and ends for ever.
pub async fn watch(kubelet: Arc<Kubelet>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        for pod in kubelet.pods.all() {
            if !is_limited(&pod) || is_critical(&pod) || has_ended(&kubelet, &pod) {
                continue;
            }
            let observed = match Observed::of(&kubelet.docker, pod::uid(&pod)).await {
                Ok(observed) => observed,
                Err(error) => {
                    tracing::warn!(pod = pod::described(&pod), %error, "Eviction manager: failed to get summary stats");
                    continue;
                }
            };
            let places = places(&pod, &observed);
            let Ok(usage) = tokio::task::spawn_blocking(move || measure(&places)).await else { continue };
            if let Some(message) = verdict(&pod, &usage) {
                kubelet.event(&pod, EventType::Warning, REASON, &message);
                kubelet.pods.evict(pod::uid(&pod), &message);
            }
        }
    }
}

fn limit_of(container: &Container) -> Option<&str> {
    let limits: &Resources = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(STORAGE).map(|q| q.0.as_str())
}

fn is_limited(pod: &Pod) -> bool {
    let spec = pod::spec(pod);
    let volumes = spec.volumes.iter().flatten().filter_map(|v| v.empty_dir.as_ref());
    let mut containers = spec.containers.iter().chain(pod::init_containers(pod));
    volumes.into_iter().any(|e| e.size_limit.is_some()) || containers.any(|c| limit_of(c).is_some())
}

/// `IsCriticalPod`.
pub fn is_critical(pod: &Pod) -> bool {
    pod::is_static(pod) || pod::spec(pod).priority.is_some_and(|p| p >= pod::SYSTEM_CRITICAL)
}

fn has_ended(kubelet: &Kubelet, pod: &Pod) -> bool {
    let status = kubelet.status_of(pod::uid(pod));
    pod.metadata.deletion_timestamp.is_some()
        || status.is_some_and(|s| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")))
}

/// Where a pod has files.
#[derive(Debug, Default)]
struct Places {
    volumes: Vec<(String, PathBuf)>,
    containers: Vec<(String, Vec<PathBuf>)>,
    other: Vec<PathBuf>,
}

fn places(pod: &Pod, observed: &Observed) -> Places {
    let uid = pod::uid(pod);
    let empty_dirs = pod::spec(pod).volumes.iter().flatten().filter(|v| v.empty_dir.is_some());
    let of_container = |found: &Found| {
        let log = Path::new(&found.log_path).parent().map(Path::to_owned);
        let upper = Some(PathBuf::from(&found.graph_driver.data.upper_dir));
        [upper, log].into_iter().flatten().filter(|p| p.is_absolute()).collect()
    };
    let newest = observed.containers.values().filter_map(|list| list.first());
    let written = ["configmap", "secret", "projected", "downward-api"];
    let written =
        written.map(|plugin| paths::pod(uid).join("volumes").join(format!("kubernetes.io~{plugin}")));
    Places {
        volumes: empty_dirs.map(|v| (v.name.clone(), paths::volume(uid, "empty-dir", &v.name))).collect(),
        containers: newest
            .map(|c| {
                let name = c.config.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default();
                (name, of_container(c))
            })
            .collect(),
        other: written.into_iter().chain([paths::hosts(uid)]).collect(),
    }
}

fn measure(places: &Places) -> Usage {
    let sum = |paths: &[PathBuf]| paths.iter().map(|p| bytes(p)).sum();
    Usage {
        volumes: places.volumes.iter().map(|(name, path)| (name.clone(), bytes(path))).collect(),
        containers: places.containers.iter().map(|(name, paths)| (name.clone(), sum(paths))).collect(),
        other: sum(&places.other),
    }
}

/// What a tree takes on the disk; each file counts once.
fn bytes(path: &Path) -> u64 {
    let (mut open, mut seen, mut bytes) = (vec![path.to_path_buf()], HashSet::new(), 0_u64);
    let mut left = MAX_ENTRIES;
    while let Some(path) = open.pop() {
        // What is gone meanwhile takes nothing.
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if left == 0 {
            break;
        }
        left -= 1;
        if found.nlink() < 2 || found.is_dir() || seen.insert((found.dev(), found.ino())) {
            bytes += found.blocks() * 512;
        }
        if found.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    bytes
}

/// Why the pod has to go, if it has to.
fn verdict(pod: &Pod, usage: &Usage) -> Option<String> {
    let over = |used: u64, limit: i128| limit > 0 && i128::from(used) * 1000 > limit;
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
        let (Some(limit), Some(used)) = (limit, usage.volumes.get(&volume.name)) else { continue };
        if over(*used, quantity::milli(&limit.0)?) {
            return Some(format!(
                "Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ",
                volume.name, limit.0
            ));
        }
    }
    if let Some((limit, text)) = total_limit(pod)
        && i128::from(usage.total(pod)) * 1000 > limit
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
        ));
    }
    let named = |container: &Container| {
        let (limit, used) = (limit_of(container)?, usage.containers.get(&container.name)?);
        let message =
            format!("Container {} exceeded its local ephemeral storage limit \"{limit}\". ", container.name);
        over(*used, quantity::milli(limit)?).then_some(message)
    };
    pod::spec(pod).containers.iter().find_map(named)
}

/// All that the containers may use together, in thousandths of a byte and as text (`PodLimits`).
fn total_limit(pod: &Pod) -> Option<(i128, String)> {
    let milli = |c: &Container| limit_of(c).and_then(quantity::milli).unwrap_or(0);
    let spec = pod::spec(pod);
    let all = spec.containers.iter().chain(pod::init_containers(pod));
    let first = all.filter_map(limit_of).next()?;
    let (mut sidecars, mut highest) = (0, 0);
    for container in pod::init_containers(pod) {
        let own = milli(container);
        if pod::is_sidecar(container) {
            sidecars += own;
            highest = highest.max(sidecars);
        } else {
            highest = highest.max(sidecars + own);
        }
    }
    let limit = (spec.containers.iter().map(milli).sum::<i128>() + sidecars).max(highest);
    Some((limit, quantity::written(limit / 1000, first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(volumes: Value, limits: &[Option<&str>]) -> Pod {
        let container = |(n, limit): (usize, &Option<&str>)| {
            let limits = limit.map(|l| json!({ STORAGE: l }));
            json!({ "name": format!("c{n}"), "resources": { "limits": limits } })
        };
        let containers: Vec<Value> = limits.iter().enumerate().map(container).collect();
        let spec = json!({ "containers": containers, "volumes": volumes });
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    }

    fn usage(volume: u64, containers: &[u64]) -> Usage {
        Usage {
            volumes: [("x".to_owned(), volume << 20)].into(),
            containers: containers.iter().enumerate().map(|(n, mib)| (format!("c{n}"), mib << 20)).collect(),
            other: 4096,
        }
    }

    #[test]
    fn too_much_is_said_in_upstreams_words() {
        let limited = json!([{ "name": "x", "emptyDir": { "sizeLimit": "5Mi" } }]);
        let it = pod(limited.clone(), &[None]);
        assert!(is_limited(&it));
        assert_eq!(verdict(&it, &usage(5, &[9])), None);
        let said = verdict(&it, &usage(6, &[0]));
        assert_eq!(said.unwrap(), "Usage of EmptyDir volume \"x\" exceeds the limit \"5Mi\". ");
        let free = json!([{ "name": "x", "emptyDir": {} }]);
        assert!(!is_limited(&pod(free.clone(), &[None])));
        let it = pod(free, &[Some("5Mi"), Some("1Mi")]);
        assert!(is_limited(&it));
        assert_eq!(verdict(&it, &usage(2, &[3, 0])), None);
        assert_eq!(
            verdict(&it, &usage(2, &[4, 0])).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 6Mi. "
        );
        assert_eq!(
            verdict(&it, &usage(0, &[0, 2])).unwrap(),
            "Container c1 exceeded its local ephemeral storage limit \"1Mi\". "
        );
        // What is in memory takes no room on the disk.
        let memory = json!([{ "name": "x", "emptyDir": { "medium": "Memory" } }]);
        assert_eq!(verdict(&pod(memory, &[Some("1Mi")]), &usage(9, &[0])), None);
    }

    #[test]
    fn trees_are_measured_as_the_disk_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let empty = bytes(dir.path());
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("d/f"), dir.path().join("g")).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("usr")).unwrap();
        let file = fs::File::open(dir.path().join("g")).unwrap();
        file.sync_all().unwrap();
        let measured = bytes(dir.path()) - empty;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&measured), "{measured}");
        assert_eq!(bytes(&dir.path().join("none")), 0);
    }
}
