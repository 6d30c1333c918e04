//! The node's own object: registration, status, lease (`pkg/kubelet/kubelet_node_status.go`, `nodestatus/setters.go`).

use crate::bootstrap;
use crate::docker::{Docker, DockerError, Image};
use crate::kubelet::Kubelet;
use crate::settings::Settings;
use drydock_cluster::{KUBELET_PORT, VERSION};
use drydock_kubeclient::{EventType, errors};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{
            ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
            NodeFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
        },
        storage::v1::{CSINode, CSINodeSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
    jiff::Timestamp,
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

/// How often the lease is renewed (a quarter of its duration).
const RENEW: Duration = Duration::from_secs(10);
/// How long it holds.
const HOLDS: i32 = 40;
/// How often the status is looked at (`nodeStatusUpdateFrequency`).
const LOOK: Duration = Duration::from_secs(10);
/// An engine that says nothing for so long is down (`maxWaitForContainerRuntime`; together with [`LOOK`]).
const SILENT: Duration = Duration::from_secs(20);
/// How often it is told even if nothing has changed (`nodeStatusReportFrequency`).
const REPORT: i64 = 300;
/// First delay after a failed registration, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// The longest delay while the node is not registered yet: on the control plane's way up every moment counts.
const REGISTER_RETRY: Duration = Duration::from_millis(50);
/// Most images that the status lists (`nodeStatusMaxImages`).
const MAX_IMAGES: usize = 50;
const NAMESPACE: &str = "kube-node-lease";

/// What the machine is, which does not change while it is on.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// What it has.
    pub capacity: BTreeMap<String, Quantity>,
    /// What it has for pods.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Bytes of memory.
    pub memory: i64,
    info: NodeSystemInfo,
}

impl Machine {
    /// Asks the engine and the kernel.
    pub async fn of(docker: &Docker, settings: &Settings) -> Result<Self, DockerError> {
        let info = docker.info().await?;
        let disk = nix::sys::statvfs::statvfs("/").map(|s| s.blocks() * s.fragment_size()).unwrap_or(0);
        let quantity = |text: String| Quantity(text);
        let cpu = i128::from(info.ncpu) * 1000;
        let common = |cpu: i128, memory: i64, disk: u64| -> BTreeMap<String, Quantity> {
            [
                ("cpu", if cpu % 1000 == 0 { (cpu / 1000).to_string() } else { format!("{cpu}m") }),
                ("memory", format!("{}Ki", memory / 1024)),
                ("ephemeral-storage", disk.to_string()),
                ("hugepages-1Gi", "0".into()),
                ("hugepages-2Mi", "0".into()),
                ("pods", settings.max_pods().to_string()),
            ]
            .map(|(k, v)| (k.to_owned(), quantity(v)))
            .into()
        };
        let mut capacity = common(cpu, info.mem_total, 0);
        capacity.insert("ephemeral-storage".into(), quantity(format!("{}Ki", disk / 1024)));
        let read = |path: &str| fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let machine_id = machine_id(Path::new("/etc/machine-id"));
        let reserved_memory = settings.reserved("memory", i128::from(info.mem_total) * 1000) / 1000;
        let reserved_memory = i64::try_from(reserved_memory).unwrap_or(info.mem_total);
        let architecture = if info.architecture == "aarch64" { "arm64" } else { "amd64" };
        Ok(Self {
            allocatable: common(
                cpu - settings.reserved("cpu", cpu),
                info.mem_total - reserved_memory,
                disk / 10 * 9,
            ),
            capacity,
            memory: info.mem_total,
            info: NodeSystemInfo {
                architecture: architecture.into(),
                boot_id: read("/proc/sys/kernel/random/boot_id"),
                container_runtime_version: format!("docker://{}", info.server_version),
                kernel_version: info.kernel_version,
                kube_proxy_version: String::new(),
                kubelet_version: VERSION.into(),
                system_uuid: uuid(&machine_id),
                machine_id,
                operating_system: "linux".into(),
                os_image: info.operating_system,
                ..NodeSystemInfo::default()
            },
        })
    }

    fn architecture(&self) -> &str {
        &self.info.architecture
    }

    /// What the node has for pods, given its capacity: what the machine has for them, and all of what somebody else said that the node has
    /// (`MachineInfo` of `nodestatus/setters.go`).
    fn allocatable_of(&self, capacity: Option<&BTreeMap<String, Quantity>>) -> BTreeMap<String, Quantity> {
        let others = capacity.into_iter().flatten().filter(|(name, _)| !self.capacity.contains_key(*name));
        let others = others.map(|(name, quantity)| (name.clone(), quantity.clone()));
        self.allocatable.clone().into_iter().chain(others).collect()
    }
}

/// The machine's identity (machine-id(5)). A node that has none yet is given one, as systemd does at the first start.
fn machine_id(path: &Path) -> String {
    let read = |path: &Path| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let known = read(path);
    if !known.is_empty() {
        return known;
    }
    let made = read(Path::new("/proc/sys/kernel/random/uuid")).replace('-', "");
    if let Err(error) = fs::write(path, format!("{made}\n")) {
        tracing::warn!(%error, "The machine's identity could not be kept");
    }
    made
}

/// The same as firmware tells it; a node has none.
fn uuid(machine_id: &str) -> String {
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| machine_id.get(part));
    let parts: Option<Vec<&str>> = parts.into_iter().collect();
    parts.map_or_else(|| machine_id.to_owned(), |parts| parts.join("-"))
}

fn labels(kubelet: &Kubelet) -> BTreeMap<String, String> {
    let architecture = kubelet.machine.architecture();
    // The role of a control plane is not a kubelet's to claim (NodeRestriction): see `register`.
    [
        ("beta.kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("kubernetes.io/hostname", kubelet.node.as_str()),
        ("kubernetes.io/os", "linux"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// kubeadm keeps ordinary pods from every control plane. Here a cluster may be one node, whose learner has no other place for them:
/// so only the control plane of a cluster that began with workers has the taint.
fn taints(kubelet: &Kubelet) -> Option<Vec<Taint>> {
    let tainted = kubelet.boot.is_control_plane() && kubelet.boot.cluster.nodes > 1;
    let taint = Taint {
        key: "node-role.kubernetes.io/control-plane".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tainted.then(|| vec![taint])
}

fn wanted(kubelet: &Kubelet) -> Node {
    let annotations = [
        ("node.alpha.kubernetes.io/ttl".to_owned(), "0".to_owned()),
        ("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned()),
    ];
    Node {
        metadata: ObjectMeta {
            name: Some(kubelet.node.clone()),
            labels: Some(labels(kubelet)),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            // Of the node's number, so that nobody has to be asked before the first pod has an address.
            pod_cidr: Some(kubelet.network.cidr()),
            pod_cidrs: Some(vec![kubelet.network.cidr()]),
            taints: taints(kubelet),
            ..NodeSpec::default()
        }),
        status: Some(status(kubelet, None, None, &[])),
    }
}

fn condition(
    kind: &str,
    value: bool,
    reason: &str,
    message: &str,
    old: Option<&NodeStatus>,
) -> NodeCondition {
    let now = Time(Timestamp::now());
    let status = if value { "True" } else { "False" };
    let old = old.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == kind));
    let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    NodeCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(since.unwrap_or(now)),
    }
}

/// The node's status. `old` is what the kubelet told last, `known` what others see of it.
fn status(
    kubelet: &Kubelet,
    old: Option<&NodeStatus>,
    known: Option<&NodeStatus>,
    images: &[Image],
) -> NodeStatus {
    let pressure = |kind, reason, message| condition(kind, false, reason, message, old);
    let failure = kubelet.engine_failure();
    let ready = match &failure {
        None => condition("Ready", true, "KubeletReady", "kubelet is posting ready status", old),
        Some(why) => {
            condition("Ready", false, "KubeletNotReady", &format!("container runtime is down: {why}"), old)
        }
    };
    let mut list: Vec<ContainerImage> = images
        .iter()
        .filter(|i| !i.repo_tags.is_empty() || !i.repo_digests.is_empty())
        .map(|i| ContainerImage {
            names: Some(i.repo_digests.iter().chain(&i.repo_tags).take(5).cloned().collect()),
            size_bytes: Some(i.size),
        })
        .collect();
    list.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    list.truncate(MAX_IMAGES);
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", kubelet.host_ip.to_string()),
            address("Hostname", kubelet.node.clone()),
        ]),
        capacity: Some(kubelet.machine.capacity.clone()),
        allocatable: Some(kubelet.machine.allocatable_of(known.and_then(|known| known.capacity.as_ref()))),
        conditions: Some(vec![
            pressure(
                "MemoryPressure",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            pressure("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            pressure("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ready,
        ]),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(KUBELET_PORT) }),
        }),
        images: Some(list),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        node_info: Some(kubelet.machine.info.clone()),
        ..NodeStatus::default()
    }
}

/// Registers the node, and then tells how it is for ever.
pub async fn keep(kubelet: Arc<Kubelet>) {
    let nodes: Api<Node> = Api::all(kubelet.client.clone());
    kubelet.node_event(EventType::Normal, "Starting", "Starting kubelet.");
    kubelet.node_event(
        EventType::Normal,
        "NodeAllocatableEnforced",
        "Updated Node Allocatable limit across pods",
    );
    register(&kubelet, &nodes).await;
    tokio::spawn(publish_csi_node(kubelet.clone()));
    let lease = tokio::spawn(keep_lease(kubelet.clone()));
    let mut told_at = 0;
    let mut told: Option<NodeStatus> = None;
    let mut cordoned = false;
    let mut images = Vec::new();
    loop {
        let now = Timestamp::now().as_second();
        look_at_engine(&kubelet, &mut images).await;
        if let Ok(node) = nodes.get(&kubelet.node).await {
            kubelet.set_own_node(node);
        }
        let node = kubelet.own_node();
        let known = node.as_ref().and_then(|node| node.status.as_ref());
        let current = status(&kubelet, told.as_ref(), known, &images);
        let same = told.as_ref().is_some_and(|t| same(t, &current));
        if !same || now - told_at >= REPORT {
            let patch = change(known, &current);
            match nodes.patch_status(&kubelet.node, &PatchParams::default(), &Patch::Strategic(&patch)).await
            {
                Ok(node) => {
                    kubelet.set_own_node(node);
                    for event in events(told.as_ref(), &current) {
                        tell(&kubelet, event);
                    }
                    (told_at, told) = (now, Some(current));
                }
                Err(e) if errors::is_not_found(&e) => register(&kubelet, &nodes).await,
                Err(error) => tracing::error!(%error, "Error updating node status, will retry"),
            }
        }
        // `recordNodeSchedulableEvent`.
        if let Some(spec) = kubelet.own_node().and_then(|node| node.spec.clone()) {
            let now = spec.unschedulable == Some(true);
            if now != cordoned {
                tell(&kubelet, if now { "NodeNotSchedulable" } else { "NodeSchedulable" });
            }
            cordoned = now;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = kubelet.node_changed() => {}
        }
        if lease.is_finished() {
            return;
        }
    }
}

/// Asks the engine for its images, which it knows at once. One that hangs holds its connections, so that nothing else would tell.
async fn look_at_engine(kubelet: &Kubelet, images: &mut Vec<Image>) {
    let asked = tokio::time::timeout(SILENT, kubelet.docker.images()).await;
    match asked.unwrap_or(Err(DockerError::Timeout)) {
        Ok(found) => {
            kubelet.set_engine_failure(None);
            kubelet.name_images(&found);
            *images = found;
        }
        // What it had is there still.
        Err(error) => kubelet.set_engine_failure(Some(error.to_string())),
    }
}

/// Of each condition its event when it is true, and when it is not (`nodestatus/setters.go`).
const EVENTS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// Events of the conditions that are now other than they were.
fn events(old: Option<&NodeStatus>, new: &NodeStatus) -> Vec<&'static str> {
    let is = |status: &NodeStatus, kind: &str| {
        status.conditions.iter().flatten().find(|c| c.type_ == kind).map(|c| c.status == "True")
    };
    let changed = EVENTS.iter().filter(|(kind, ..)| old.and_then(|old| is(old, kind)) != is(new, kind));
    changed.map(|(kind, yes, no)| if is(new, kind) == Some(true) { *yes } else { *no }).collect()
}

/// `recordNodeStatusEvent`.
fn tell(kubelet: &Kubelet, event: &str) {
    kubelet.node_event(EventType::Normal, event, &format!("Node {} status is now: {event}", kubelet.node));
}

/// The patch that makes `known` what it is now. What the node does not have for pods any more is taken away by name.
fn change(known: Option<&NodeStatus>, current: &NodeStatus) -> Value {
    let mut patch = json!({ "status": current });
    let has = |name: &String| current.allocatable.as_ref().is_some_and(|all| all.contains_key(name));
    let before = known.and_then(|known| known.allocatable.as_ref());
    for gone in before.into_iter().flat_map(BTreeMap::keys).filter(|name| !has(name)) {
        patch["status"]["allocatable"][gone] = Value::Null;
    }
    patch
}

/// Nothing but times has changed.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let strip = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    strip(a) == strip(b)
}

/// Until there is a node of this name: the API server may not be there yet. In a new cluster the node of the control plane is made in an
/// administrator's name with the role that kubeadm would give it a moment later, so that nobody sees it without.
async fn register(kubelet: &Kubelet, nodes: &Api<Node>) {
    let mut wanted = wanted(kubelet);
    let administrator =
        if kubelet.boot.is_control_plane() { bootstrap::administrator("kubelet") } else { None };
    let creator = administrator.map(|client| {
        let labels = bootstrap::ROLE_LABELS.map(|label| (label.to_owned(), String::new()));
        wanted.metadata.labels.get_or_insert_default().extend(labels);
        Api::all(client)
    });
    let creator = creator.as_ref().unwrap_or(nodes);
    let mut wait = RETRY.0;
    loop {
        let failure = match creator.create(&PostParams::default(), &wanted).await {
            Ok(node) => {
                tracing::info!(node = kubelet.node, "Successfully registered node");
                return kubelet.set_own_node(node);
            }
            Err(e) if errors::is_already_exists(&e) => match refresh(kubelet, nodes).await {
                Ok(node) => {
                    tracing::info!(node = kubelet.node, "Node was previously registered");
                    return kubelet.set_own_node(node);
                }
                Err(e) => e,
            },
            Err(e) => e,
        };
        tracing::debug!(node = kubelet.node, error = %failure, "Unable to register node with API server");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(REGISTER_RETRY);
    }
}

/// The labels that the kubelet answers for, on a node that is there already (`reconcile…`).
async fn refresh(kubelet: &Kubelet, nodes: &Api<Node>) -> Result<Node, kube::Error> {
    let patch = json!({ "metadata": { "labels": labels(kubelet) } });
    nodes.patch(&kubelet.node, &PatchParams::default(), &Patch::Strategic(&patch)).await
}

async fn keep_lease(kubelet: Arc<Kubelet>) {
    let leases: Api<Lease> = Api::namespaced(kubelet.client.clone(), NAMESPACE);
    let mut retry = RETRY.0;
    loop {
        match renew(&kubelet, &leases).await {
            Ok(()) => {
                retry = RETRY.0;
                tokio::time::sleep(RENEW).await;
            }
            Err(error) => {
                tracing::debug!(%error, "Failed to ensure lease exists, will retry");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY.1);
            }
        }
    }
}

async fn renew(kubelet: &Kubelet, leases: &Api<Lease>) -> Result<(), kube::Error> {
    let spec = LeaseSpec {
        holder_identity: Some(kubelet.node.clone()),
        lease_duration_seconds: Some(HOLDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = json!({ "spec": spec });
    match leases.patch(&kubelet.node, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(e) if errors::is_not_found(&e) => {}
        other => return other.map(drop),
    }
    let metadata = ObjectMeta { namespace: Some(NAMESPACE.into()), ..beside(kubelet) };
    let lease = Lease { metadata, spec: Some(spec) };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}

/// What is of the same name as the node and goes with it.
fn beside(kubelet: &Kubelet) -> ObjectMeta {
    let owner = kubelet.own_node().map(|node| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: kubelet.node.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    });
    ObjectMeta {
        name: Some(kubelet.node.clone()),
        owner_references: owner.map(|o| vec![o]),
        ..ObjectMeta::default()
    }
}

/// The plug-ins of volumes that became drivers (`pkg/volume/csi/csi_plugin.go`).
const MIGRATED: &str = "kubernetes.io/aws-ebs,kubernetes.io/azure-disk,kubernetes.io/azure-file,kubernetes.io/cinder,kubernetes.io/gce-pd,\
kubernetes.io/portworx-volume,kubernetes.io/vsphere-volume";

/// Tells which storage drivers the node has: none, as long as nobody installs one
/// (`pkg/volume/csi/nodeinfomanager/nodeinfomanager.go`).
async fn publish_csi_node(kubelet: Arc<Kubelet>) {
    let annotations = [("storage.alpha.kubernetes.io/migrated-plugins".to_owned(), MIGRATED.to_owned())];
    let node = CSINode {
        metadata: ObjectMeta { annotations: Some(annotations.into()), ..beside(&kubelet) },
        spec: CSINodeSpec::default(),
    };
    let api: Api<CSINode> = Api::all(kubelet.client.clone());
    let mut wait = RETRY.0;
    while let Err(error) = api.create(&PostParams::default(), &node).await {
        if errors::is_already_exists(&error) {
            return;
        }
        tracing::debug!(%error, "Failed to publish CSINode");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_events_when_they_change() {
        let status = |ready: bool| NodeStatus {
            conditions: Some(vec![
                condition("MemoryPressure", false, "", "", None),
                condition("DiskPressure", false, "", "", None),
                condition("PIDPressure", false, "", "", None),
                condition("Ready", ready, "", "", None),
            ]),
            ..NodeStatus::default()
        };
        assert_eq!(
            events(None, &status(true)),
            ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]
        );
        assert_eq!(events(Some(&status(true)), &status(false)), ["NodeNotReady"]);
        assert!(events(Some(&status(true)), &status(true)).is_empty());
    }

    #[test]
    fn what_others_say_that_a_node_has_is_for_pods() {
        let of = |list: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
            list.iter().map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned()))).collect()
        };
        let machine = Machine {
            capacity: of(&[("memory", "4Gi"), ("pods", "110")]),
            allocatable: of(&[("memory", "3Gi"), ("pods", "110")]),
            ..Machine::default()
        };
        let status = |allocatable| NodeStatus { allocatable: Some(allocatable), ..NodeStatus::default() };
        let known = of(&[("memory", "4Gi"), ("pods", "110"), ("example.com/dongle", "4")]);
        let more = machine.allocatable_of(Some(&known));
        assert_eq!(more, of(&[("memory", "3Gi"), ("pods", "110"), ("example.com/dongle", "4")]));
        let less = machine.allocatable_of(None);
        assert_eq!(less, machine.allocatable);
        // A patch leaves what it does not name.
        let patch = change(Some(&status(more)), &status(less));
        assert_eq!(
            patch["status"]["allocatable"],
            json!({"memory": "3Gi", "pods": "110", "example.com/dongle": null})
        );
    }

    #[test]
    fn a_machine_has_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        let made = machine_id(&path);
        assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
        assert_eq!(machine_id(&path), made);
        let uuid = uuid("0123456789abcdef0123456789abcdef");
        assert_eq!(uuid, "01234567-89ab-cdef-0123-456789abcdef");
    }
}
