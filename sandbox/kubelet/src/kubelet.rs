//! What all parts of the kubelet share.

use crate::{
    docker::{Docker, Image},
    host_ports::HostPorts,
    images::Images,
    network::Network,
    node::Machine,
    objects::Objects,
    pods::{fields::Here, manager::Pods, pod},
    probes::Probes,
    server::Figures,
    settings::Settings,
    statuses::Statuses,
    volumes::Tokens,
};
use drydock_kubeclient::{EventType, Informer, ObjectKey, Recorder};
use drydock_runtime::cluster::KubeletBoot;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, PodStatus, Service};
use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// See the top of the file.
pub struct Kubelet {
    /// What it was born with.
    pub boot: KubeletBoot,
    /// How it is configured.
    pub settings: Settings,
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub host_ip: Ipv4Addr,
    /// What the node has.
    pub machine: Machine,
    /// The node's engine.
    pub docker: Docker,
    /// The API server.
    pub client: kube::Client,
    /// Writes events.
    pub recorder: Recorder,
    /// Pods of this node at the API server.
    pub known: Informer<Pod>,
    /// All Services.
    pub services: Informer<Service>,
    /// ConfigMaps and Secrets in use.
    pub objects: Objects,
    /// Service-account tokens in use.
    pub tokens: Tokens,
    /// Delays of images.
    pub images: Images,
    /// The pod network.
    pub network: Network,
    /// Ports of the node that lead to pods.
    pub host_ports: HostPorts,
    /// Probes.
    pub probes: Probes,
    /// The pods.
    pub pods: Arc<Pods>,
    /// How pods are, for the API server.
    pub statuses: Arc<Statuses>,
    /// Figures of control groups.
    pub figures: Figures,
    /// Changing things of small size.
    pub notes: Notes,
}

/// What the kubelet has learnt.
#[derive(Default)]
pub struct Notes {
    own: Mutex<Option<Arc<Node>>>,
    images: Mutex<HashMap<String, ImageNames>>,
    statuses: Mutex<HashMap<String, Arc<PodStatus>>>,
    failure: Mutex<Option<String>>,
    changed: Notify,
}

/// Under what an image is known.
struct ImageNames {
    tag: Option<String>,
    digest: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kubelet {
    /// An event about a pod.
    pub fn event(&self, about: &Pod, kind: EventType, reason: &str, message: &str) {
        self.recorder.event_about(pod::reference(about), kind, reason, message);
    }

    /// An event about the node. Its uid is its name, as kubelets have it.
    pub fn node_event(&self, kind: EventType, reason: &str, message: &str) {
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        tracing::info!(node = self.node, reason, message, "Event occurred");
        self.recorder.event_about(about, kind, reason, message);
    }

    /// An event about a container of a pod.
    pub fn container_event(
        &self,
        about: &Pod,
        container: &str,
        kind: EventType,
        reason: &str,
        message: &str,
    ) {
        tracing::info!(pod = pod::described(about), container, reason, message, "Event occurred");
        self.recorder.event_about(pod::container_reference(about, container), kind, reason, message);
    }

    /// Has a pod looked at.
    pub fn wake(&self, uid: &str) {
        self.pods.wake(uid);
    }

    /// What a pod knows of itself only here.
    pub fn here(&self, address: Option<Ipv4Addr>) -> Here {
        Here {
            node: self.node.clone(),
            host_ip: Some(self.host_ip),
            pod_ip: address,
            allocatable: self.machine.allocatable.clone(),
        }
    }

    /// A pod's address, as far as it is known; else the node's.
    pub fn address_of(&self, pod: &Pod) -> Ipv4Addr {
        if pod::is_host_network(pod) {
            return self.host_ip;
        }
        let status = lock(&self.notes.statuses).get(pod::uid(pod)).cloned();
        status.and_then(|s| s.pod_ip.as_ref()?.parse().ok()).unwrap_or(self.host_ip)
    }

    /// Bytes of memory that the node has.
    pub fn memory_capacity(&self) -> i64 {
        self.machine.memory
    }

    /// Whether somebody serves names in the cluster.
    pub fn has_cluster_dns(&self) -> bool {
        self.services.get(&ObjectKey::new("kube-system", "kube-dns")).is_some()
    }

    /// Notes how a pod is.
    pub fn noted(&self, pod: &Pod, status: &PodStatus) {
        lock(&self.notes.statuses).insert(pod::uid(pod).to_owned(), Arc::new(status.clone()));
    }

    /// How a pod is.
    pub fn status_of(&self, uid: &str) -> Option<Arc<PodStatus>> {
        lock(&self.notes.statuses).get(uid).cloned()
    }

    /// A pod is no more.
    pub fn forget(&self, uid: &str) {
        lock(&self.notes.statuses).remove(uid);
    }

    /// The uid of what the API server shows of a static pod.
    pub fn mirror_uid(&self, pod: &Pod) -> Option<String> {
        let found = self.known.get(&ObjectKey::new(pod::namespace(pod), pod::name(pod)))?;
        found.metadata.uid.clone()
    }

    /// The node's own object, as it was read last.
    pub fn own_node(&self) -> Option<Arc<Node>> {
        lock(&self.notes.own).clone()
    }

    /// Notes the node's own object.
    pub fn set_own_node(&self, node: Node) {
        *lock(&self.notes.own) = Some(Arc::new(node));
    }

    /// A name of an image, by its id.
    pub fn image_name(&self, id: &str) -> Option<String> {
        lock(&self.notes.images).get(id)?.tag.clone()
    }

    /// The name with a digest by which an image can be pulled, by its id.
    pub fn image_digest(&self, id: &str) -> Option<String> {
        lock(&self.notes.images).get(id)?.digest.clone()
    }

    /// Notes the names of images.
    pub fn name_images(&self, images: &[Image]) {
        let mut names = lock(&self.notes.images);
        for image in images {
            let (tag, digest) = (image.repo_tags.first(), image.repo_digests.first());
            if tag.or(digest).is_some() {
                names.insert(image.id.clone(), ImageNames { tag: tag.cloned(), digest: digest.cloned() });
            }
        }
    }

    /// Why the engine does not answer, if it does not.
    pub fn engine_failure(&self) -> Option<String> {
        lock(&self.notes.failure).clone()
    }

    /// Notes whether the engine answers.
    pub fn set_engine_failure(&self, failure: Option<String>) {
        let before = std::mem::replace(&mut *lock(&self.notes.failure), failure.clone());
        if before != failure {
            self.notes.changed.notify_one();
        }
    }

    /// Waits until there is news for the node's status.
    pub async fn node_changed(&self) {
        self.notes.changed.notified().await;
    }
}
