//! Which pods there shall be: those that the API server has bound to this node, and those of the manifests, whose mirrors at the API
//! server are kept as they are (`pkg/kubelet/pod`, `pkg/kubelet/config`).

use super::{
    admission, labels, pod, resize, stop,
    worker::{self, Desired},
};
use crate::kubelet::Kubelet;
use drydock_kubeclient::{Event, ObjectKey, errors};
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// How long after a failure mirrors are tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often mirrors are looked at even if nothing happens.
const PERIOD: Duration = Duration::from_secs(20);
/// How long after somebody deleted a mirror the next one is made: `kubectl delete` looks for the old one, then lists and watches by name,
/// and would take the new one for it if it was there already.
const PAUSE: Duration = Duration::from_secs(1);
/// How many pods that ended are remembered.
const MAX_DONE: usize = 256;

struct Entry {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    /// Nothing of it runs any more, nor will.
    over: bool,
}

impl Entry {
    /// Whether the pod takes something of the node (`filterOutInactivePods`).
    fn takes(&self, kubelet: &Kubelet) -> bool {
        let desired = self.desired.borrow();
        let ended = |status: &PodStatus| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let told = kubelet.status_of(pod::uid(&desired.pod));
        !self.over && !desired.gone && !told.as_deref().or(desired.pod.status.as_ref()).is_some_and(ended)
    }
}

/// Which mirrors are not made anew yet.
#[derive(Debug, Default)]
struct Pauses {
    /// Mirrors that are there as they shall be.
    there: BTreeSet<ObjectKey>,
    /// Until when those pause that somebody has deleted.
    until: BTreeMap<ObjectKey, Instant>,
}

impl Pauses {
    fn is_there(&mut self, key: ObjectKey) {
        self.until.remove(&key);
        self.there.insert(key);
    }

    /// The kubelet itself takes it away.
    fn goes(&mut self, key: &ObjectKey) {
        self.there.remove(key);
    }

    /// How long one that is not there has to wait still.
    fn left(&mut self, key: &ObjectKey, now: Instant) -> Option<Duration> {
        if self.there.remove(key) {
            self.until.insert(key.clone(), now + PAUSE);
        }
        let left = self.until.get(key)?.saturating_duration_since(now);
        Some(left).filter(|left| !left.is_zero())
    }

    fn keep_only(&mut self, statics: &BTreeMap<ObjectKey, Arc<Pod>>) {
        self.there.retain(|key| statics.contains_key(key));
        self.until.retain(|key, _| statics.contains_key(key));
    }
}

/// See the top of the file.
#[derive(Default)]
pub struct Pods {
    running: Mutex<HashMap<String, Entry>>,
    /// Static pods by name; the uid that runs may still be that of an older one.
    statics: Mutex<BTreeMap<ObjectKey, Arc<Pod>>>,
    mirrors: Notify,
    /// Uids of pods that ended last.
    done: Mutex<VecDeque<String>>,
}

impl Pods {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statics(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Arc<Pod>>> {
        self.statics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pods that run, or end.
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.lock().values().map(|e| e.desired.borrow().pod.clone()).collect()
    }

    /// A pod by its name; static ones also under the uid of their mirror.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.all().into_iter().find(|p| pod::namespace(p) == namespace && pod::name(p) == name)
    }

    /// Has the pod's task look again.
    pub fn wake(&self, uid: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.wake.notify_one();
        }
    }

    /// Has all tasks look again.
    pub fn wake_all(&self) {
        self.lock().values().for_each(|e| e.wake.notify_one());
    }

    fn set(&self, kubelet: &Arc<Kubelet>, wanted: Desired) {
        let uid = pod::uid(&wanted.pod).to_owned();
        let mut running = self.lock();
        if let Some(entry) = running.get(&uid) {
            entry.desired.send_if_modified(|desired| {
                // What is gone does not come back under the same uid.
                if desired.gone {
                    return false;
                }
                let new = wanted.gone || pod::differ(&desired.pod, &wanted.pod);
                (desired.pod, desired.gone) = (wanted.pod, wanted.gone);
                new
            });
            return;
        }
        // News of a pod that has just ended may be on its way still.
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(&uid);
        if wanted.gone || done {
            return;
        }
        let others = admission::is_due(&wanted.pod).then(|| {
            let before = running.values().filter(|entry| entry.takes(kubelet));
            before.map(|entry| entry.desired.borrow().pod.clone()).collect()
        });
        let (sender, receiver) = watch::channel(wanted);
        let wake = Arc::new(Notify::new());
        running.insert(uid, Entry { desired: sender, wake: wake.clone(), over: false });
        tokio::spawn(worker::run(kubelet.clone(), receiver, wake, others));
    }

    /// All others that take something of the node.
    pub fn beside(&self, kubelet: &Kubelet, uid: &str) -> Vec<Arc<Pod>> {
        let running = self.lock();
        let others = running.iter().filter(|(other, entry)| *other != uid && entry.takes(kubelet));
        others
            .map(|(uid, entry)| resize::with_what_it_has(kubelet, uid, &entry.desired.borrow().pod))
            .collect()
    }

    /// Nothing of a pod runs any more: what it had taken of the node is free, though its task still tidies up.
    pub fn over(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.over = true;
        }
    }

    /// Has a pod ended for good, for this reason.
    pub fn evict(&self, uid: &str, why: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.desired.send_modify(|desired| {
                desired.evicted.get_or_insert_with(|| why.to_owned());
            });
        }
    }

    /// A pod's task is at its end.
    pub fn ended(&self, kubelet: &Arc<Kubelet>, uid: &str, last: &Pod) {
        self.lock().remove(uid);
        if !pod::is_static(last) {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push_back(uid.to_owned());
            if done.len() > MAX_DONE {
                done.pop_front();
            }
        }
        // A changed manifest, or one that was taken away and put back, waits for the end of the pod before.
        let next = self.statics().get(&ObjectKey::new(pod::namespace(last), pod::name(last))).cloned();
        if let Some(next) = next {
            self.set(kubelet, Desired::new(next));
        }
    }

    /// The API server tells of a pod.
    pub fn told(&self, kubelet: &Arc<Kubelet>, event: &Event<'_, Pod>) {
        let object = event.object();
        if pod::is_mirror(object) {
            let of = self.statics().get(&ObjectKey::of(object.as_ref())).cloned();
            if let Some(of) = of.filter(|_| !matches!(event, Event::Updated { .. })) {
                kubelet.statuses.mirror_changed(pod::uid(&of));
            }
            self.mirrors.notify_one();
            return;
        }
        let gone = matches!(event, Event::Deleted(_));
        self.set(kubelet, Desired { gone, ..Desired::new(object.clone()) });
    }

    /// These are the static pods now.
    pub fn set_statics(&self, kubelet: &Arc<Kubelet>, pods: Vec<Pod>) {
        let new: BTreeMap<ObjectKey, Arc<Pod>> =
            pods.into_iter().map(|p| (ObjectKey::of(&p), Arc::new(p))).collect();
        let old = std::mem::replace(&mut *self.statics(), new.clone());
        for (key, pod) in &old {
            if new.get(key).is_none_or(|n| pod::uid(n) != pod::uid(pod)) {
                self.set(kubelet, Desired { gone: true, ..Desired::new(pod.clone()) });
            }
        }
        for (key, pod) in new {
            let before = old.get(&key).filter(|o| pod::uid(o) != pod::uid(&pod));
            let still_there = before.is_some_and(|o| self.lock().contains_key(pod::uid(o)));
            if !still_there && old.get(&key).is_none_or(|o| pod::uid(o) != pod::uid(&pod)) {
                self.set(kubelet, Desired::new(pod));
            }
        }
        self.mirrors.notify_one();
    }

    /// Keeps the mirrors as the static pods are, for ever.
    pub async fn keep_mirrors(&self, kubelet: &Arc<Kubelet>) {
        kubelet.known.synced().await;
        let mut pauses = Pauses::default();
        loop {
            let wait = self.mirror(kubelet, &mut pauses).await;
            tokio::select! {
                () = self.mirrors.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns when to look again at the latest.
    async fn mirror(&self, kubelet: &Kubelet, pauses: &mut Pauses) -> Duration {
        let statics = self.statics().clone();
        let known = kubelet.known.all();
        let mut well = true;
        for mirror in known.iter().filter(|p| pod::is_mirror(p)) {
            let key = ObjectKey::of(mirror.as_ref());
            let of = statics.get(&key);
            let fits = of.is_some_and(|s| pod::static_hash(s) == pod::mirror_of(mirror));
            if fits {
                pauses.is_there(key);
            } else {
                pauses.goes(&key);
            }
            // The API server only notes that somebody has deleted a mirror: it goes when the kubelet lets it go.
            if !fits || mirror.metadata.deletion_timestamp.is_some() {
                well &= delete(kubelet, mirror).await;
            }
        }
        let Some(owner) = kubelet.own_node() else { return if statics.is_empty() { PERIOD } else { RETRY } };
        let mut next = PERIOD;
        for (key, of) in &statics {
            if kubelet.known.get(key).is_some() {
                continue;
            }
            match pauses.left(key, Instant::now()) {
                Some(left) => next = next.min(left),
                None => well &= create(kubelet, of, &owner).await,
            }
        }
        pauses.keep_only(&statics);
        if well { next } else { RETRY.min(next) }
    }

    /// Ends what earlier kubelets have left of pods that are no more. Called when all sources have told.
    pub async fn sweep(&self, kubelet: &Kubelet) {
        let Ok(list) = kubelet.docker.list(labels::POD_UID).await else { return };
        let mut left: BTreeSet<String> =
            list.into_iter().filter_map(|c| c.labels.get(labels::POD_UID).cloned()).collect();
        left.extend(
            std::fs::read_dir(crate::paths::PODS)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned()),
        );
        for uid in left {
            if self.lock().contains_key(&uid) {
                continue;
            }
            tracing::info!(uid, "Killing unwanted pod");
            let removed = stop::remove(kubelet, &uid).await;
            let removed = removed.map_err(|e| e.to_string());
            if let Err(error) =
                removed.and_then(|()| crate::volumes::tear_down(&uid).map_err(|e| e.to_string()))
            {
                tracing::warn!(uid, error, "an unwanted pod is left");
            }
        }
    }
}

async fn delete(kubelet: &Kubelet, mirror: &Pod) -> bool {
    let api: Api<Pod> = Api::namespaced(kubelet.client.clone(), pod::namespace(mirror));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(pod::name(mirror), &params).await {
        Ok(_) => true,
        Err(e) if errors::is_not_found(&e) || errors::is_conflict(&e) => true,
        Err(error) => {
            tracing::error!(pod = pod::described(mirror), %error, "Failed deleting a mirror pod");
            false
        }
    }
}

async fn create(kubelet: &Kubelet, of: &Pod, owner: &Node) -> bool {
    let mut annotations = of.metadata.annotations.clone().unwrap_or_default();
    annotations.insert(pod::CONFIG_MIRROR.into(), pod::static_hash(of).unwrap_or_default().into());
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: kubelet.node.clone(),
        uid: owner.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    let mirror = Pod {
        metadata: ObjectMeta {
            name: of.metadata.name.clone(),
            namespace: of.metadata.namespace.clone(),
            labels: of.metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: of.spec.clone(),
        status: None,
    };
    let api: Api<Pod> = Api::namespaced(kubelet.client.clone(), pod::namespace(of));
    match api.create(&PostParams::default(), &mirror).await {
        Ok(_) => true,
        Err(e) if errors::is_already_exists(&e) => true,
        Err(error) => {
            tracing::debug!(pod = pod::described(of), %error, "Failed creating a mirror pod");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_somebody_deleted_comes_back_after_a_pause() {
        let (key, mut pauses, now) =
            (ObjectKey::new("default", "web-node1"), Pauses::default(), Instant::now());
        // A new manifest has its mirror at once.
        assert_eq!(pauses.left(&key, now), None);
        pauses.is_there(key.clone());
        assert_eq!(pauses.left(&key, now), Some(PAUSE));
        assert_eq!(pauses.left(&key, now + PAUSE / 2), Some(PAUSE / 2));
        assert_eq!(pauses.left(&key, now + PAUSE), None);
        // So has one whose manifest has changed: the kubelet has taken the old one away.
        pauses.is_there(key.clone());
        pauses.goes(&key);
        assert_eq!(pauses.left(&key, now), None);
        pauses.is_there(key.clone());
        pauses.keep_only(&BTreeMap::new());
        assert_eq!(pauses.left(&key, now), None);
    }
}
