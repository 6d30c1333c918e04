//! Keeps ReplicaSets (and ReplicationControllers) at their size at the API server.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{Index, ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use super::plan::{Plan, plan};
use super::scaled::Scaled;
use super::status::{Failure, look_again, status};
use crate::context::{Context, Reconcile, Running, by_owner, claimable, wait, work};
use crate::error::{Error, text};
use crate::shared::claims::claim_all;
use crate::shared::expectations::Expectations;
use crate::shared::meta::{Meta, controller_ref, selects_everything};
use crate::shared::owners::Owners;
use crate::shared::pod_control::PodControl;
use crate::shared::pods::{from_template, is_active, is_terminating};

struct Controller<S> {
    client: kube::Client,
    sets: Informer<S>,
    sets_by_owner: Index<S>,
    pods: Index<Pod>,
    pod_control: PodControl,
    expectations: Arc<Expectations>,
}

/// Sets the controller up; `component` is its name in events.
pub fn start<S: Scaled>(context: &Context, component: &str) -> Running {
    let queue = WorkQueue::new();
    let sets = context.informer::<S>();
    let expectations = Arc::new(Expectations::default());
    let (to_queue, forget) = (queue.clone(), expectations.clone());
    sets.subscribe(move |event| {
        let key = event.object().key();
        if matches!(event, Event::Deleted(_)) {
            forget.forget(&key.to_string());
        }
        to_queue.add(key);
    });
    let owners = Owners::new(
        sets.clone(),
        S::KIND,
        |set: &S| Some(set.selector()),
        expectations.clone(),
        queue.clone(),
    );
    let pods = context.pods_by_owner();
    context.informer::<Pod>().subscribe(move |event| owners.pod_event(event));
    let controller = Controller {
        client: context.client.clone(),
        sets_by_owner: by_owner(&sets),
        sets,
        pods,
        pod_control: PodControl::new(context.client.clone(), context.recorder(component)),
        expectations,
    };
    work(Arc::new(controller), queue, 5)
}

impl<S: Scaled> Reconcile for Controller<S> {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(&key.to_string());
            return Ok(None);
        };
        let selector = set.selector();
        if selects_everything(&selector) {
            // The API server accepts none such; it would own all pods of its namespace.
            return Ok(None);
        }
        let satisfied = self.expectations.satisfied(&key.to_string());
        let candidates = claimable(&self.pods, set.uid(), set.namespace());
        let reference = controller_ref(S::API_VERSION, S::KIND, Meta::meta(&*set));
        let pods = claim_all(&self.client, &*set, &reference, &selector, candidates).await?;
        let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let terminating = pods.iter().filter(|pod| is_terminating(pod)).count();
        let mut outcome = Ok(());
        if satisfied && !set.deleting() {
            outcome = self.manage(key, &set, &active).await;
        }
        let failure = outcome.as_ref().err().map(|error: &kube::Error| Failure {
            reason: if set.wanted() > i32::try_from(active.len()).unwrap_or(i32::MAX) {
                "FailedCreate"
            } else {
                "FailedDelete"
            },
            message: text(error),
        });
        let now = Timestamp::now();
        let tells_terminating = S::KIND == "ReplicaSet";
        let new = status(&*set, &active, tells_terminating.then_some(terminating), failure.as_ref(), now);
        if new != set.current_status() {
            let mut copy = S::clone(&set);
            copy.set_status(new);
            let api: Api<S> = Api::namespaced(self.client.clone(), set.namespace());
            errors::unless_gone(api.replace_status(set.name(), &PostParams::default(), &copy).await)?;
        }
        outcome?;
        Ok(look_again(&*set, &active, now).map(wait))
    }
}

impl<S: Scaled> Controller<S> {
    /// Makes or deletes pods.
    async fn manage(&self, key: &ObjectKey, set: &Arc<S>, active: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let related = if active.len() > usize::try_from(set.wanted()).unwrap_or(0) {
            self.related(set)
        } else {
            Vec::new()
        };
        match plan(active, set.wanted(), &related, Timestamp::now()) {
            Plan::Nothing => Ok(()),
            Plan::Create(count) => self.create(key, set, count).await,
            Plan::Delete(pods) => self.delete(key, set, &pods).await,
        }
    }

    async fn create(&self, key: &ObjectKey, set: &Arc<S>, count: usize) -> Result<(), kube::Error> {
        let Some(template) = set.template() else { return Ok(()) };
        let key = key.to_string();
        let owner = controller_ref(S::API_VERSION, S::KIND, Meta::meta(&**set));
        let pod = from_template(template, set.name(), set.namespace(), owner);
        self.expectations.expect(&key, count, []);
        let expected = (&*self.expectations, &*key);
        let (_, error) = self.pod_control.create_all(&**set, expected, count, |_| Some(pod.clone())).await;
        error.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &ObjectKey, set: &Arc<S>, pods: &[Arc<Pod>]) -> Result<(), kube::Error> {
        let key = key.to_string();
        self.expectations.expect(&key, 0, pods.iter().map(|pod| pod.uid().to_owned()));
        let delete = |pod: Arc<Pod>| {
            let (set, key) = (set.clone(), &key);
            async move {
                let result = self.pod_control.delete(&*set, &pod).await;
                if result.is_err() {
                    self.expectations.deleted(key, pod.uid());
                }
                result
            }
        };
        futures_util::future::join_all(pods.iter().cloned().map(delete)).await.into_iter().collect()
    }

    /// Pods of all sets of the same owner: those of a Deployment's old and new ReplicaSets.
    fn related(&self, set: &S) -> Vec<Arc<Pod>> {
        let sets = match set.controller() {
            Some(owner) => self.sets_by_owner.get(&owner.uid),
            None => Vec::new(),
        };
        let mut pods: Vec<_> =
            sets.iter().flat_map(|set| self.pods.get(set.uid())).filter(|pod| is_active(pod)).collect();
        if sets.is_empty() {
            pods = self.pods.get(set.uid());
        }
        pods
    }
}
