//! The scheduler without the API server: takes changes, gives decisions. Driven by [`crate::run`] with what informers tell, and by tests
//! and benches directly. Nothing in here waits.

use std::sync::Arc;

use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use tokio::time::Instant;

use crate::hints::ClusterEvent;
use crate::plugins::Plugins;
use crate::pod::PodInfo;
use crate::queue::{Nominations, Queue};
use crate::schedule::{Chooser, Placement, Unschedulable, World};
use crate::terms::Labels;
use crate::volumes::Step;

/// Something that the scheduler must know.
#[derive(Debug)]
pub enum Change {
    /// A pod is new or has changed.
    Pod(Arc<Pod>),
    /// A pod is gone.
    PodGone(Arc<Pod>),
    /// A node is new or has changed.
    Node(Arc<Node>),
    /// A node is gone.
    NodeGone(String),
    /// A namespace has these labels, or is gone.
    Namespace(String, Option<Labels>),
    /// A claim is as it is, or gone.
    Claim(ObjectKey, Option<Arc<PersistentVolumeClaim>>),
    /// A volume is as it is, or gone.
    Volume(String, Option<Arc<PersistentVolume>>),
    /// A storage class is as it is, or gone.
    Class(String, Option<Arc<StorageClass>>),
    /// A claim of devices is as it is, or gone.
    DeviceClaim(ObjectKey, Option<Arc<ResourceClaim>>),
    /// A class of devices is there, or gone.
    DeviceClass(String, bool),
    /// A service selects these labels, or is gone.
    Service(ObjectKey, Option<Labels>),
    /// An owner of pods (`ReplicaSet`, …) has this selector, or is gone.
    Owner(&'static str, ObjectKey, Option<meta::LabelSelector>),
    /// A disruption budget is as it is, or gone.
    Budget(ObjectKey, Option<Arc<PodDisruptionBudget>>),
    /// A pod could not be bound as decided.
    Unbound {
        /// uid of the pod.
        uid: String,
        /// What was to be done for its claims.
        steps: Vec<Step>,
    },
}

/// What was decided for a pod.
#[derive(Debug)]
pub enum Decision {
    /// It goes to a node; that is assumed from now on.
    Bind(Arc<PodInfo>, Placement),
    /// It has to wait.
    Wait(Arc<PodInfo>, Box<Unschedulable>),
}

/// All that the scheduler knows, and the pods that wait.
pub struct Core {
    name: String,
    world: World,
    queue: Queue,
    nominations: Nominations,
    chooser: Chooser,
}

impl Core {
    /// A scheduler for pods that ask for one of that name (`default-scheduler`).
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            world: World::default(),
            queue: Queue::default(),
            nominations: Nominations::default(),
            chooser: Chooser::default(),
        }
    }

    /// What is known.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Pods that wait.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Pods for which room was made.
    pub fn nominations(&self) -> &Nominations {
        &self.nominations
    }

    /// Takes a change.
    pub fn apply(&mut self, change: Change, now: Instant) {
        match change {
            Change::Pod(pod) => self.pod(pod, now),
            Change::PodGone(pod) => self.pod_gone(pod.metadata.uid.as_deref().unwrap_or_default(), now),
            Change::Node(node) => self.node(node, now),
            Change::NodeGone(name) => {
                self.world.cache.remove_node(&name);
                self.queue.notify(ClusterEvent::NodeRemoved, now);
            }
            Change::Namespace(name, labels) => {
                self.world.cache.set_namespace(&name, labels);
                self.queue.notify(ClusterEvent::Namespace, now);
            }
            Change::Claim(key, claim) => {
                self.world.volumes.set_claim(key, claim);
                self.queue.notify(ClusterEvent::Storage, now);
            }
            Change::Volume(name, volume) => {
                self.world.volumes.set_volume(&name, volume);
                self.queue.notify(ClusterEvent::Storage, now);
            }
            Change::Class(name, class) => {
                self.world.volumes.set_class(&name, class);
                self.queue.notify(ClusterEvent::Storage, now);
            }
            Change::DeviceClaim(key, claim) => {
                self.world.devices.set_claim(key, claim);
                self.devices(now);
            }
            Change::DeviceClass(name, is_there) => {
                self.world.devices.set_class(name, is_there);
                self.devices(now);
            }
            Change::Service(key, selector) => self.world.selectors.set_service(&key, selector),
            Change::Owner(kind, key, selector) => self.world.selectors.set_owner(kind, key, selector),
            Change::Budget(key, budget) => self.world.budgets.set(key, budget.as_deref()),
            Change::Unbound { uid, steps } => {
                let pod = self.world.cache.pod(&uid).map(|(pod, _)| pod);
                self.world.cache.forget(&uid);
                self.world.volumes.forget(&steps);
                self.queue.fail(&uid, Plugins::default(), now);
                if let Some(pod) = pod {
                    self.removed(&pod, now);
                }
            }
        }
    }

    fn pod(&mut self, pod: Arc<Pod>, now: Instant) {
        let pod = Arc::new(PodInfo::new(pod));
        if pod.is_finished() {
            return self.pod_gone(&pod.uid, now);
        }
        if pod.node().is_some() {
            self.queue.remove(&pod.uid);
            self.nominations.remove(&pod.uid);
            let known = self.world.cache.pod(&pod.uid);
            // One that was only assumed to come is new on its node.
            let old = known.filter(|(_, is_assumed)| !is_assumed).map(|(pod, _)| pod);
            self.world.cache.set_pod(pod.clone());
            let namespaces = &|name: &str| self.world.cache.namespace(name);
            let event = ClusterEvent::PodPlaced { old: old.as_deref(), pod: &pod, namespaces };
            self.queue.notify(event, now);
            return;
        }
        let is_ours = pod.spec().scheduler_name.as_deref().unwrap_or(crate::DEFAULT_NAME) == self.name;
        if !is_ours || self.world.cache.has_pod(&pod.uid) {
            return;
        }
        if pod.is_terminating() {
            self.queue.remove(&pod.uid);
            self.nominations.remove(&pod.uid);
            return;
        }
        self.nominations.set(&pod, pod.nominated_node());
        if self.world.devices.are_there(&pod) {
            self.queue.set(pod, now);
        } else {
            self.queue.hold(pod);
        }
    }

    /// Pods that waited for a claim of devices are looked at if it is there now.
    fn devices(&mut self, now: Instant) {
        for pod in self.queue.held() {
            if self.world.devices.are_there(&pod) {
                self.queue.set(pod, now);
            }
        }
        self.queue.notify(ClusterEvent::Devices, now);
    }

    fn pod_gone(&mut self, uid: &str, now: Instant) {
        self.queue.remove(uid);
        self.nominations.remove(uid);
        if let Some((pod, _)) = self.world.cache.pod(uid) {
            self.world.cache.remove_pod(uid);
            self.removed(&pod, now);
        }
    }

    fn removed(&mut self, pod: &PodInfo, now: Instant) {
        let namespaces = &|name: &str| self.world.cache.namespace(name);
        self.queue.notify(ClusterEvent::PodRemoved { pod, namespaces }, now);
    }

    fn node(&mut self, node: Arc<Node>, now: Instant) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let old = self.world.cache.node(&name).map(|old| old.node.clone());
        self.world.cache.set_node(node);
        let Some(node) = self.world.cache.node(&name) else { return };
        let event = match old {
            None => ClusterEvent::NodeAdded(node),
            Some(old) => {
                let allocatable =
                    |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
                let taints =
                    |node: &Node| node.spec.as_ref().map(|spec| (spec.taints.clone(), spec.unschedulable));
                ClusterEvent::NodeChanged {
                    node,
                    allocatable: allocatable(&old) != allocatable(&node.node),
                    labels: old.metadata.labels != node.node.metadata.labels,
                    taints: taints(&old) != taints(&node.node),
                }
            }
        };
        self.queue.notify(event, now);
    }

    /// Decides on the next pod; none: no pod can be decided on now.
    pub fn decide(&mut self, now: Instant) -> Option<Decision> {
        let pod = self.queue.pop(now)?;
        match self.chooser.schedule(&pod, &mut self.world, &self.nominations) {
            Ok(placement) => {
                self.world.cache.assume(pod.clone(), &placement.node);
                self.world.volumes.assume(&placement.steps);
                self.nominations.remove(&pod.uid);
                Some(Decision::Bind(pod, placement))
            }
            Err(unschedulable) => {
                if let Some(preemption) = &unschedulable.preemption {
                    self.nominations.set(&pod, Some(&preemption.node));
                } else if unschedulable.clears_nomination {
                    self.nominations.remove(&pod.uid);
                }
                self.queue.fail(&pod.uid, unschedulable.plugins, now);
                Some(Decision::Wait(pod, unschedulable))
            }
        }
    }
}
