//! Says which nodes are not alive, and taints them: at the API server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use drydock_kubeclient::informer::{Informer, Source};
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;

use super::health::{Health, ZoneState, has_told, pace, unknown, zone_state};
use super::taints::{condition, no_execute, no_execute_key, no_schedule};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::is_ready;

/// Upstream looks all the time if the period is 0; so does this, almost.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

struct Lifecycle {
    client: Client,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Index<Pod>,
    recorder: Recorder,
    health: Mutex<Health>,
    /// Nodes that were seen, by their uids.
    known: Mutex<HashMap<String, Arc<Node>>>,
    /// When pods of a zone were last made to leave a node, and which nodes that was done to.
    paced: Mutex<HashMap<String, Instant>>,
    period: Duration,
    grace: Duration,
    startup_grace: Duration,
}

/// Sets the controller up: a task that looks at all nodes every few seconds, and a queue for taints that follow from conditions at once.
pub fn start(context: &Context) -> Running {
    let nodes = context.informer::<Node>();
    let source = Source { path: LEASES.into(), ..Source::default() };
    let leases: Informer<Lease> = context.informers.or_insert(|client| Informer::new(client, source));
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let to_queue = queue.clone();
    nodes.subscribe(move |event| to_queue.add(event.object().key()));
    let settings = &context.settings;
    let lifecycle = Arc::new(Lifecycle {
        client: context.client.clone(),
        pods: context.pods_by_node(),
        nodes,
        leases,
        recorder: context.recorder("node-controller"),
        health: Mutex::default(),
        known: Mutex::default(),
        paced: Mutex::default(),
        period: settings.node_monitor_period,
        grace: settings.node_monitor_grace_period,
        startup_grace: settings.node_startup_grace_period,
    });
    let monitor = lifecycle.clone();
    Box::pin(async move {
        let monitor = async {
            let mut ticks = tokio::time::interval(monitor.period.max(SHORTEST_PERIOD));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                monitor.look().await;
            }
        };
        tokio::join!(monitor, work(lifecycle, queue, 2));
    })
}

/// A node's zone; nodes without one are in one together.
fn zone(node: &Node) -> String {
    let of = |label| node.label(label).unwrap_or_default();
    format!("{}:{}", of("topology.kubernetes.io/region"), of("topology.kubernetes.io/zone"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Reconcile for Lifecycle {
    /// Taints that keep new pods away, and removal of taints from a node that is well again: these need no clock.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(None) };
        let mut new = no_schedule(&node, Timestamp::now());
        if no_execute_key(&node).is_none() {
            let mut copy = Node::clone(&node);
            if let Some(taints) = &new {
                copy.spec.get_or_insert_default().taints = Some(taints.clone());
            }
            new = no_execute(&copy, None, Timestamp::now()).or(new);
        }
        if let Some(taints) = new {
            self.write_taints(&node, &taints).await?;
        }
        Ok(None)
    }
}

impl Lifecycle {
    /// One look at all nodes.
    async fn look(&self) {
        let nodes = self.nodes.all();
        let known: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
        lock(&self.health).keep(|name| known.contains(&name));
        self.tell_of_members(&nodes);
        for node in &nodes {
            if let Err(error) = self.look_at(node).await {
                tracing::warn!(node = node.name(), %error, "Update health of Node failed");
            }
        }
        if let Err(error) = self.make_pods_leave(&nodes).await {
            tracing::warn!(%error, "taints could not be written");
        }
    }

    /// Events about nodes that came and went (`monitorNodeHealth`).
    fn tell_of_members(&self, nodes: &[Arc<Node>]) {
        let now: HashMap<String, Arc<Node>> =
            nodes.iter().map(|node| (node.uid().to_owned(), node.clone())).collect();
        let mut known = lock(&self.known);
        for (uid, node) in now.iter().filter(|(uid, _)| !known.contains_key(*uid)) {
            tracing::debug!(uid, node = node.name(), "Controller observed a new Node");
            let message =
                format!("Node {name} event: Registered Node {name} in Controller", name = node.name());
            self.recorder.event(&**node, EventType::Normal, "RegisteredNode", message);
        }
        for (_, node) in known.iter().filter(|(uid, _)| !now.contains_key(*uid)) {
            let message =
                format!("Node {name} event: Removing Node {name} from Controller", name = node.name());
            self.recorder.event(&**node, EventType::Normal, "RemovingNode", message);
        }
        *known = now;
    }

    async fn look_at(&self, node: &Node) -> Result<(), Error> {
        let lease = self.leases.get(&ObjectKey::new("kube-node-lease", node.name()));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
        let silent = lock(&self.health).silent_for(node, renewed, Instant::now());
        let grace = if has_told(node) { self.grace } else { self.startup_grace };
        if silent < grace {
            // A node that itself says that it is not ready: its pods are not either.
            if condition(node, "Ready") == Some("False") {
                self.mark_pods(node).await?;
            }
            return Ok(());
        }
        let was = condition(node, "Ready").map(ToOwned::to_owned);
        if let Some(conditions) = unknown(node, Timestamp::now()) {
            let mut copy = node.clone();
            copy.status.get_or_insert_default().conditions = Some(conditions);
            let api: Api<Node> = Api::all(self.client.clone());
            match api.replace_status(node.name(), &PostParams::default(), &copy).await {
                Ok(_) => {}
                Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if was.as_deref() == Some("True") {
                let message = format!("Node {} status is now: NodeNotReady", node.name());
                self.recorder.event(node, EventType::Normal, "NodeNotReady", message);
            }
        }
        self.mark_pods(node).await
    }

    /// Pods of a node that nobody hears of cannot be said to be ready (`MarkPodsNotReady`).
    async fn mark_pods(&self, node: &Node) -> Result<(), Error> {
        let now = Timestamp::now();
        for pod in self.pods.get(node.name()).into_iter().filter(|pod| is_ready(pod)) {
            let mut copy = Pod::clone(&pod);
            for condition in copy.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten())
            {
                if condition.type_ == "Ready" {
                    condition.status = "False".into();
                    condition.last_transition_time = Some(Time(now));
                }
            }
            let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
            match api.replace_status(pod.name(), &PostParams::default(), &copy).await {
                Ok(_) => self.recorder.event(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready"),
                Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives nodes that are not well the taint that makes pods leave: one after the other, so that a failure of ours does not empty the cluster.
    async fn make_pods_leave(&self, nodes: &[Arc<Node>]) -> Result<(), Error> {
        let mut zones: BTreeMap<String, Vec<&Arc<Node>>> = BTreeMap::new();
        for node in nodes {
            zones.entry(zone(node)).or_default().push(node);
        }
        let state = |nodes: &[&Arc<Node>]| {
            zone_state(nodes.iter().filter(|node| no_execute_key(node).is_some()).count(), nodes.len())
        };
        let all_out = zones.values().all(|nodes| state(nodes) == ZoneState::FullDisruption);
        for (zone, members) in &zones {
            let Some(pace) = pace(state(members), nodes.len(), all_out) else { continue };
            for node in members {
                let key = no_execute_key(node);
                let Some(taints) = no_execute(node, key, Timestamp::now()) else { continue };
                // Swapping the one taint for the other, or taking it away, is no new node.
                let new =
                    key.is_some() && !super::taints::taints(node).iter().any(super::eviction::makes_leave);
                if new && lock(&self.paced).get(zone).is_some_and(|last| last.elapsed() < pace) {
                    break;
                }
                self.write_taints(node, &taints).await?;
                if new {
                    lock(&self.paced).insert(zone.clone(), Instant::now());
                }
            }
        }
        Ok(())
    }

    async fn write_taints(&self, node: &Node, taints: &[Taint]) -> Result<(), Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        // Taints have no key of their own in patches: the list is written whole, on the revision that was read.
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        errors::unless_gone(api.patch(node.name(), &PatchParams::default(), &Patch::Merge(&patch)).await)?;
        Ok(())
    }
}

/// A condition that says why a pod is about to go.
pub fn disruption(reason: &str, message: &str, now: Timestamp) -> PodCondition {
    PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    }
}
