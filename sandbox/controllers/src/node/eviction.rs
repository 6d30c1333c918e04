//! Deletes pods from nodes whose `NoExecute` taints they do not tolerate, or no longer (k8s.io/kubernetes/pkg/controller/tainteviction).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::lifecycle::disruption;
use super::taints::{NO_EXECUTE, Stay, stay, taints};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::node;

struct Controller {
    client: Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    recorder: Recorder,
    /// Since when pods are tolerating.
    waiting: Mutex<HashMap<ObjectKey, (String, Instant)>>,
}

/// Whether a taint makes pods leave.
pub fn makes_leave(taint: &Taint) -> bool {
    taint.effect == NO_EXECUTE
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let (nodes, pods) = (context.informer::<Node>(), context.informer::<Pod>());
    let to_queue = queue.clone();
    pods.subscribe(move |event| {
        let moved = match event {
            Event::Updated { old, new } => {
                let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
                node(old) != node(new)
                    || old.deleting() != new.deleting()
                    || tolerations(old) != tolerations(new)
            }
            Event::Added(_) | Event::Deleted(_) => true,
        };
        if moved && !node(event.object()).is_empty() {
            to_queue.add(event.object().key());
        }
    });
    let (by_node, to_queue) = (context.pods_by_node(), queue.clone());
    nodes.subscribe(move |event| {
        let of =
            |node: &Node| taints(node).iter().filter(|taint| makes_leave(taint)).cloned().collect::<Vec<_>>();
        let changed = match event {
            Event::Updated { old, new } => of(old) != of(new),
            Event::Added(node) => !of(node).is_empty(),
            Event::Deleted(_) => true,
        };
        if changed {
            for pod in by_node.get(event.object().name()) {
                to_queue.add(pod.key());
            }
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        nodes,
        pods,
        recorder: context.recorder("taint-eviction-controller"),
        waiting: Mutex::default(),
    };
    work(Arc::new(controller), queue, 8)
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| !pod.deleting()) else {
            self.waiting().remove(key);
            return Ok(None);
        };
        let node = self.nodes.get(&ObjectKey::new("", node(&pod)));
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        match node.map_or(Stay::Forever, |node| stay(taints(&node), tolerations)) {
            Stay::Forever => {
                if self.waiting().remove(key).is_some() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.recorder.event(&*pod, EventType::Normal, "TaintManagerEviction", message);
                }
                Ok(None)
            }
            Stay::No => self.evict(&pod).await.map(|()| None),
            Stay::For(whole) => {
                let since = {
                    let mut waiting = self.waiting();
                    let entry =
                        waiting.entry(key.clone()).or_insert_with(|| (pod.uid().to_owned(), Instant::now()));
                    // Another pod of that name tolerates on its own account.
                    if entry.0 != pod.uid() {
                        *entry = (pod.uid().to_owned(), Instant::now());
                    }
                    entry.1
                };
                let left = whole.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return self.evict(&pod).await.map(|()| None);
                }
                Ok(Some(left))
            }
        }
    }
}

impl Controller {
    fn waiting(&self) -> MutexGuard<'_, HashMap<ObjectKey, (String, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let key = pod.key();
        let message = format!("Marking for deletion Pod {key}");
        self.recorder.event(pod, EventType::Normal, "TaintManagerEviction", message);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
        let text = "Taint manager: deleting due to NoExecute taint";
        let condition = disruption("DeletionByTaintManager", text, Timestamp::now());
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        match api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => {}
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(pod.name(), &params).await {
            Ok(_) => {}
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => {}
            Err(error) => return Err(error.into()),
        }
        self.waiting().remove(&key);
        Ok(())
    }
}
