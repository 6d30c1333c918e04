//! Telling the API server how pods are (`pkg/kubelet/status/status_manager.go`): the newest status of each pod is sent as soon as the
//! server takes it; what comes meanwhile replaces what waits. Nobody waits for the server here: static pods run without one.

use crate::pods::{pod, resize};
use drydock_kubeclient::{Informer, ObjectKey, errors};
use futures_util::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(300);
/// How often it is looked at whether somebody else has written another status (`syncPeriod`).
const COMPARE: Duration = Duration::from_secs(10);
/// Requests at once.
const AT_ONCE: usize = 8;

struct Entry {
    pod: Arc<Pod>,
    status: Value,
    version: u64,
    sent: u64,
    busy: bool,
}

/// See the top of the file.
pub struct Statuses {
    client: kube::Client,
    /// What the API server has of this node's pods: also the mirrors of static pods.
    known: Informer<Pod>,
    entries: Mutex<BTreeMap<String, Entry>>,
    work: Notify,
    done: watch::Sender<u64>,
}

impl Statuses {
    /// None yet.
    pub fn new(client: kube::Client, known: Informer<Pod>) -> Self {
        Self { client, known, entries: Mutex::default(), work: Notify::new(), done: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest status of a pod.
    pub fn set(&self, pod: &Arc<Pod>, status: &PodStatus) {
        let Ok(status) = serde_json::to_value(status) else { return };
        let mut entries = self.lock();
        match entries.get_mut(pod::uid(pod)) {
            Some(entry) if entry.status == status => {
                entry.pod = pod.clone();
                return;
            }
            Some(entry) => {
                entry.pod = pod.clone();
                entry.status = status;
                entry.version += 1;
            }
            None => {
                let entry = Entry { pod: pod.clone(), status, version: 1, sent: 0, busy: false };
                entries.insert(pod::uid(pod).to_owned(), entry);
            }
        }
        drop(entries);
        self.work.notify_one();
    }

    /// The pod is no more.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// A mirror has come, or gone and come again: it knows nothing yet.
    pub fn mirror_changed(&self, static_uid: &str) {
        if let Some(entry) = self.lock().get_mut(static_uid) {
            entry.sent = 0;
        }
        self.work.notify_one();
    }

    /// Waits until the server has the newest status of a pod, or does not know the pod any more.
    pub async fn settled(&self, uid: &str) {
        let mut done = self.done.subscribe();
        while self.lock().get(uid).is_some_and(|e| e.sent != e.version) {
            if done.changed().await.is_err() {
                return;
            }
        }
    }

    /// Sends for ever.
    pub async fn run(&self) {
        let mut under_way = FuturesUnordered::new();
        let mut compare = tokio::time::interval(COMPARE);
        loop {
            while under_way.len() < AT_ONCE
                && let Some((uid, pod, status, version)) = self.next()
            {
                under_way.push(async move {
                    let sent = self.send(&pod, &status).await;
                    (uid, version, sent)
                });
            }
            let retry = !under_way.is_empty();
            tokio::select! {
                Some((uid, version, sent)) = under_way.next(), if retry => {
                    if !sent {
                        tokio::time::sleep(RETRY).await;
                    }
                    self.finish(&uid, version, sent);
                }
                () = self.work.notified() => {}
                _ = compare.tick() => self.compare(),
            }
        }
    }

    /// Whose status at the server is another than the kubelet's gets it once more (`needsReconcile`).
    fn compare(&self) {
        for entry in self.lock().values_mut().filter(|e| e.sent == e.version && !e.busy) {
            let found = self.known.get(&ObjectKey::new(pod::namespace(&entry.pod), pod::name(&entry.pod)));
            let same_pod =
                |found: &Pod| pod::is_static(&entry.pod) || pod::uid(found) == pod::uid(&entry.pod);
            let status = found.filter(|found| same_pod(found)).and_then(|found| found.status.clone());
            if status.is_some_and(|status| !says(&status, &entry.status)) {
                tracing::debug!(
                    pod = pod::described(&entry.pod),
                    "Pod status is inconsistent with cached status for pod, a reconciliation should be triggered"
                );
                entry.sent = 0;
            }
        }
    }

    fn next(&self) -> Option<(String, Arc<Pod>, Value, u64)> {
        let mut entries = self.lock();
        let due = |e: &Entry| {
            e.sent != e.version && !e.busy && (!pod::is_static(&e.pod) || self.mirror(&e.pod).is_some())
        };
        let (uid, entry) = entries.iter_mut().find(|(_, e)| due(e))?;
        entry.busy = true;
        Some((uid.clone(), entry.pod.clone(), entry.status.clone(), entry.version))
    }

    fn finish(&self, uid: &str, version: u64, sent: bool) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.busy = false;
            if sent {
                entry.sent = version;
            }
        }
        self.done.send_modify(|n| *n += 1);
        self.work.notify_one();
    }

    fn mirror(&self, pod: &Pod) -> Option<Arc<Pod>> {
        let found = self.known.get(&ObjectKey::new(pod::namespace(pod), pod::name(pod)))?;
        pod::is_mirror(&found).then_some(found)
    }

    /// True if there is no use in sending it again.
    async fn send(&self, pod: &Pod, status: &Value) -> bool {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod::namespace(pod));
        let uid = if pod::is_static(pod) {
            self.mirror(pod).and_then(|m| m.metadata.uid.clone()).unwrap_or_default()
        } else {
            pod::uid(pod).to_owned()
        };
        let patch = json!({ "metadata": { "uid": uid }, "status": with_nulls(status) });
        let sent = api.patch_status(pod::name(pod), &PatchParams::default(), &Patch::Strategic(&patch)).await;
        match sent {
            Ok(_) => true,
            Err(e) if errors::is_not_found(&e) || errors::is_conflict(&e) || errors::is_invalid(&e) => {
                if !errors::is_not_found(&e) {
                    tracing::warn!(pod = pod::described(pod), error = %e, "Failed to update status for pod");
                }
                true
            }
            Err(e) => {
                tracing::debug!(pod = pod::described(pod), error = %e, "Failed to update status for pod");
                false
            }
        }
    }

    /// Takes a pod that has ended out of the API.
    pub async fn delete(&self, pod: &Pod) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod::namespace(pod));
        let uid = Some(pod::uid(pod).to_owned());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        loop {
            match api.delete(pod::name(pod), &params).await {
                Ok(_) => return,
                Err(e) if errors::is_answer(&e) && !errors::is_forbidden(&e) => return,
                Err(e) => {
                    tracing::debug!(pod = pod::described(pod), error = %e, "Failed to delete pod");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Whether a status says of the pod as a whole what the kubelet's says.
fn says(status: &PodStatus, own: &Value) -> bool {
    let Ok(own) = serde_json::from_value::<PodStatus>(own.clone()) else { return true };
    let condition = |of: &PodStatus, kind: &str| {
        let found = of.conditions.iter().flatten().find(|c| c.type_ == kind)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    };
    let mut kinds = own.conditions.iter().flatten().filter(|c| pod::is_own_condition(&c.type_));
    (&own.phase, &own.reason, &own.message) == (&status.phase, &status.reason, &status.message)
        && kinds.all(|c| condition(&own, &c.type_) == condition(status, &c.type_))
}

/// What is not in the status any more is taken out of the server's.
fn with_nulls(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(map) = status.as_object_mut() {
        for key in
            ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "ephemeralContainerStatuses"]
        {
            map.entry(key).or_insert(Value::Null);
        }
        if let Some(conditions) = map.get_mut("conditions").and_then(Value::as_array_mut) {
            let there = |kind: &str| conditions.iter().any(|c| c["type"] == kind);
            let over = [resize::PENDING, resize::IN_PROGRESS].into_iter().filter(|kind| !there(kind));
            let over: Vec<Value> = over.map(|kind| json!({ "$patch": "delete", "type": kind })).collect();
            conditions.extend(over);
        }
        for condition in map.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut().filter(|c| !c.contains_key("$patch")) {
                for key in ["reason", "message"] {
                    condition.entry(key).or_insert(Value::Null);
                }
                condition.entry("lastProbeTime").or_insert(Value::Null);
            }
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_somebody_else_has_written_is_noticed() {
        let status = |phase: &str, ready: &str, gate: &str| {
            let conditions =
                json!([{ "type": "Ready", "status": ready }, { "type": "example.com/gate", "status": gate }]);
            json!({ "phase": phase, "conditions": conditions })
        };
        let own = status("Running", "True", "True");
        let says = |value: Value| says(&serde_json::from_value(value).unwrap(), &own);
        assert!(says(own.clone()));
        assert!(!says(status("Failed", "True", "True")));
        assert!(!says(status("Running", "False", "True")));
        // That one is not the kubelet's.
        assert!(says(status("Running", "True", "False")));
    }
}
