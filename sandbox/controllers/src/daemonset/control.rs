//! Carries out the plan of a DaemonSet at the API server.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, WorkQueue, errors};
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::{Api, Client};

use super::nodes::{HASH, hash, new_pod};
use super::plan::{Plan, State, manage, roll, status};
use crate::context::{Context, Reconcile, Running, by_owner, claimable, wait, work};
use crate::error::Error;
use crate::node::taints::taints;
use crate::shared::claims::claim_all;
use crate::shared::expectations::Expectations;
use crate::shared::history::{self, Ensured, Maker};
use crate::shared::meta::{Meta, controller_ref, selects_everything};
use crate::shared::owners::Owners;
use crate::shared::pod_control::PodControl;
use crate::shared::pods::available_in;

struct Controller {
    client: Client,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Index<Pod>,
    revisions: Index<ControllerRevision>,
    pod_control: PodControl,
    recorder: Recorder,
    expectations: Arc<Expectations>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let sets = context.informer::<DaemonSet>();
    let expectations = Arc::new(Expectations::default());
    let (to_queue, forget) = (queue.clone(), expectations.clone());
    sets.subscribe(move |event| {
        let key = event.object().key();
        if matches!(event, Event::Deleted(_)) {
            forget.forget(&key.to_string());
        }
        to_queue.add(key);
    });
    let selector = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.selector.clone());
    let owners = Owners::new(sets.clone(), "DaemonSet", selector, expectations.clone(), queue.clone());
    context.informer::<Pod>().subscribe(move |event| owners.pod_event(event));
    let nodes = context.informer::<Node>();
    let (of_nodes, to_queue) = (sets.clone(), queue.clone());
    nodes.subscribe(move |event| {
        let matters = match event {
            Event::Updated { old, new } => old.labels() != new.labels() || taints(old) != taints(new),
            Event::Added(_) | Event::Deleted(_) => true,
        };
        if matters {
            for set in of_nodes.all() {
                to_queue.add(set.key());
            }
        }
    });
    let recorder = context.recorder("daemonset-controller");
    let controller = Controller {
        client: context.client.clone(),
        sets,
        nodes,
        pods: context.pods_by_owner(),
        revisions: by_owner(&context.informer::<ControllerRevision>()),
        pod_control: PodControl::new(context.client.clone(), recorder.clone()),
        recorder,
        expectations,
    };
    work(Arc::new(controller), queue, 2)
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(cached) = self.sets.get(key) else {
            self.expectations.forget(&key.to_string());
            return Ok(None);
        };
        let Some(spec) = &cached.spec else { return Ok(None) };
        if selects_everything(&spec.selector) {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&*cached, EventType::Warning, "SelectingAll", message);
            return Ok(None);
        }
        let mut set = DaemonSet::clone(&cached);
        let satisfied = self.expectations.satisfied(&key.to_string());
        let reference = controller_ref("apps/v1", "DaemonSet", &set.metadata);
        let candidates = claimable(&self.revisions, set.uid(), set.namespace());
        let mut kept = claim_all(&self.client, &set, &reference, &spec.selector, candidates).await?;
        if set.deleting() {
            return Ok(None);
        }
        let newest = self.newest(&mut set, &mut kept).await?;
        let candidates = claimable(&self.pods, set.uid(), set.namespace());
        let pods = claim_all(&self.client, &set, &reference, &spec.selector, candidates).await?;
        let nodes = self.nodes.all();
        let newest_hash = newest.label(HASH).unwrap_or_default();
        let state = State { set: &set, hash: newest_hash, nodes: &nodes, pods: &pods, now: Timestamp::now() };
        let outcome = if satisfied { self.carry_out(key, &state).await } else { Ok(()) };
        let status = status(&state);
        if cached.status.as_ref() != Some(&status) {
            let mut copy = set.clone();
            copy.status = Some(status);
            self.write_status(&copy).await?;
        }
        outcome?;
        let live = |one: &ControllerRevision| {
            one.name() == newest.name() || pods.iter().any(|pod| Some(hash(pod)) == one.label(HASH))
        };
        history::delete(&self.client, history::surplus(&kept, spec.revision_history_limit, live)).await?;
        let seconds = spec.min_ready_seconds.unwrap_or(0);
        let soon = pods.iter().filter_map(|pod| available_in(pod, seconds, state.now));
        Ok(soon.filter(|left| *left > SignedDuration::ZERO).min().map(wait))
    }
}

impl Controller {
    async fn newest(
        &self,
        set: &mut DaemonSet,
        kept: &mut Vec<Arc<ControllerRevision>>,
    ) -> Result<Arc<ControllerRevision>, Error> {
        let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let maker = Maker {
            owner: &set.metadata,
            reference: controller_ref("apps/v1", "DaemonSet", &set.metadata),
            hash_label: HASH,
            labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default(),
        };
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        match history::ensure(&self.client, &maker, kept, &history::content(&template), collisions).await? {
            Ensured::There(revision) => {
                if !kept.iter().any(|one| one.name() == revision.name()) {
                    kept.push(revision.clone());
                }
                Ok(revision)
            }
            Ensured::Collision => {
                let status = set.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                self.write_status(set).await?;
                Err(Error::NotYet("the name of a revision is taken: another is tried".into()))
            }
        }
    }

    async fn carry_out(&self, key: &ObjectKey, state: &State<'_>) -> Result<(), Error> {
        let first = manage(state);
        if !first.is_empty() {
            return self.apply(key, state, first).await;
        }
        self.apply(key, state, roll(state)).await
    }

    async fn apply(&self, key: &ObjectKey, state: &State<'_>, plan: Plan) -> Result<(), Error> {
        if plan.is_empty() {
            return Ok(());
        }
        let (set, key) = (state.set, key.to_string());
        let mut delete = plan.delete;
        for (pod, failed) in plan.ended {
            let (kind, reason, what) = if failed {
                (EventType::Warning, "FailedDaemonPod", "failed")
            } else {
                (EventType::Normal, "SucceededDaemonPod", "succeeded")
            };
            let node = crate::shared::pods::node(&pod);
            let message =
                format!("Found {what} daemon pod {} on node {node}, will try to kill it", pod.key());
            self.recorder.event(set, kind, reason, message);
            delete.push(pod);
        }
        self.expectations.expect(&key, plan.create.len(), delete.iter().map(|pod| pod.uid().to_owned()));
        let expected = (&*self.expectations, &*key);
        let pod = |number: usize| new_pod(set, state.hash, &plan.create[number]);
        let (_, error) = self.pod_control.create_all(set, expected, plan.create.len(), pod).await;
        let delete_one = |pod: Arc<Pod>| {
            let key = &key;
            async move {
                let result = self.pod_control.delete(set, &pod).await;
                if result.is_err() {
                    self.expectations.deleted(key, pod.uid());
                }
                result
            }
        };
        join_all(delete.into_iter().map(delete_one)).await.into_iter().collect::<Result<(), _>>()?;
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn write_status(&self, set: &DaemonSet) -> Result<(), Error> {
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), set.namespace());
        errors::unless_gone(api.replace_status(set.name(), &PostParams::default(), set).await)?;
        Ok(())
    }
}
