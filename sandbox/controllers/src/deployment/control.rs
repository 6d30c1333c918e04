//! Carries out the plan of a Deployment at the API server.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::plan::{State, Step, is_scaling, plan};
use super::replica_sets::{REVISION, annotate_size, find_new, make_new, same_template, size};
use super::status::{condition, look_again, status};
use crate::context::{Context, Reconcile, Running, by_owner, claimable, wait, work};
use crate::error::{Error, text};
use crate::shared::claims::claim_all;
use crate::shared::conditions;
use crate::shared::expectations::Expectations;
use crate::shared::meta::{Meta, controller_ref, selects, selects_everything};
use crate::shared::owners::Owners;
use crate::shared::pods::is_terminal;

struct Controller {
    client: kube::Client,
    deployments: Informer<Deployment>,
    sets: Index<ReplicaSet>,
    pods: Index<Pod>,
    recorder: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let deployments = context.informer::<Deployment>();
    let to_queue = queue.clone();
    deployments.subscribe(move |event| to_queue.add(event.object().key()));
    let sets = context.informer::<ReplicaSet>();
    let (owners, to_queue) = (deployments.clone(), queue.clone());
    sets.subscribe(move |event| set_event(&owners, &to_queue, event));
    let pods = context.pods_by_owner();
    recreate_when_pods_are_gone(context, &deployments, &sets, &pods, &queue);
    let controller = Controller {
        client: context.client.clone(),
        deployments,
        sets: by_owner(&sets),
        pods,
        recorder: context.recorder("deployment-controller"),
    };
    work(Arc::new(controller), queue, 5)
}

/// A change of a ReplicaSet concerns its Deployment (and the one that it had); one without concerns those that may adopt it.
fn set_event(
    deployments: &Informer<Deployment>,
    queue: &WorkQueue<ObjectKey>,
    event: &Event<'_, ReplicaSet>,
) {
    let resolve = |set: &ReplicaSet| {
        let owner = set.controller().filter(|owner| owner.kind == "Deployment")?;
        Some(ObjectKey::new(set.namespace(), &owner.name))
    };
    if let Event::Updated { old, new } = event
        && old.controller() != new.controller()
        && let Some(key) = resolve(old)
    {
        queue.add(key);
    }
    let set = event.object();
    match resolve(set) {
        Some(key) => queue.add(key),
        None if set.controller().is_some() || matches!(event, Event::Deleted(_)) => {}
        None => {
            for deployment in deployments.in_namespace(set.namespace()) {
                let matches =
                    deployment.spec.as_ref().is_some_and(|spec| selects(&spec.selector, set.labels()));
                if matches {
                    queue.add(deployment.key());
                }
            }
        }
    }
}

/// With the strategy `Recreate` the new pods are made when the last old one is gone.
fn recreate_when_pods_are_gone(
    context: &Context,
    deployments: &Informer<Deployment>,
    sets: &Informer<ReplicaSet>,
    pods: &Index<Pod>,
    queue: &WorkQueue<ObjectKey>,
) {
    let of_sets = Owners::new(
        sets.clone(),
        "ReplicaSet",
        |_| None,
        Arc::new(Expectations::default()),
        WorkQueue::new(),
    );
    let (deployments, sets, pods, queue) = (deployments.clone(), sets.clone(), pods.clone(), queue.clone());
    context.informer::<Pod>().subscribe(move |event| {
        let Event::Deleted(pod) = event else { return };
        let Some(set) = of_sets.resolve(pod.namespace(), pod.controller()).and_then(|key| sets.get(&key))
        else {
            return;
        };
        let Some(owner) = set.controller() else { return };
        let key = ObjectKey::new(set.namespace(), &owner.name);
        let recreates = deployments.get(&key).is_some_and(|deployment| {
            let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
            strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
        });
        if recreates && pods.get(set.uid()).is_empty() {
            queue.add(key);
        }
    });
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(cached) = self.deployments.get(key) else { return Ok(None) };
        let Some(spec) = &cached.spec else { return Ok(None) };
        if selects_everything(&spec.selector) {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&*cached, EventType::Warning, "SelectingAll", message);
            return Ok(None);
        }
        let reference = controller_ref("apps/v1", "Deployment", &cached.metadata);
        let candidates = claimable(&self.sets, cached.uid(), cached.namespace());
        let mut sets = claim_all(&self.client, &*cached, &reference, &spec.selector, candidates).await?;
        let mut deployment = Deployment::clone(&cached);
        let track = self.carry_out(&mut deployment, &mut sets).await?;
        self.note_revision(&mut deployment, &sets).await?;
        let now = Timestamp::now();
        let new = status(&deployment, &sets, track, now);
        let again = look_again(&deployment, &new, now);
        if cached.status.as_ref() != Some(&new) {
            deployment.status = Some(new);
            self.write_status(&deployment).await?;
        }
        Ok(again.map(wait))
    }
}

impl Controller {
    fn sets_api(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Carries the plan out; whether progress is to be judged.
    async fn carry_out(
        &self,
        deployment: &mut Deployment,
        sets: &mut Vec<Arc<ReplicaSet>>,
    ) -> Result<bool, Error> {
        loop {
            let state = State { deployment, sets, old_pods_run: self.old_pods_run(deployment, sets) };
            let paused = deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
            let track = !paused && !deployment.deleting() && !is_scaling(&state);
            let steps = plan(&state);
            let refreshed = matches!(steps[..], [Step::Refresh(..)]);
            for step in steps {
                self.step(deployment, sets, step).await?;
            }
            // Other annotations alone are no progress: what follows from the plan is done now.
            if !refreshed {
                sets.retain(|set| !set.deleting());
                return Ok(track);
            }
        }
    }

    fn old_pods_run(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        let new = find_new(deployment, sets);
        sets.iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != new)
            .any(|(_, set)| self.pods.get(set.uid()).iter().any(|pod| !is_terminal(pod)))
    }

    async fn step(
        &self,
        deployment: &mut Deployment,
        sets: &mut Vec<Arc<ReplicaSet>>,
        step: Step,
    ) -> Result<(), Error> {
        let api = self.sets_api(deployment.namespace());
        match step {
            Step::Create { replicas, revision } => {
                if let Some(set) = self.create(deployment, replicas, revision).await? {
                    sets.push(Arc::new(set));
                }
            }
            Step::Refresh(index, set) => {
                sets[index] = Arc::new(api.replace(set.name(), &PostParams::default(), &set).await?);
            }
            Step::Scale(index, to) => {
                let from = size(&sets[index]);
                let mut copy = ReplicaSet::clone(&sets[index]);
                annotate_size(deployment, &mut copy);
                copy.spec.get_or_insert_default().replicas = Some(to);
                let set = api.replace(copy.name(), &PostParams::default(), &copy).await?;
                if from != to {
                    let way = if to > from { "up" } else { "down" };
                    let message = format!("Scaled {way} replica set {} from {from} to {to}", set.name());
                    self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", message);
                }
                sets[index] = Arc::new(set);
            }
            Step::Delete(index) => {
                errors::unless_gone(api.delete(sets[index].name(), &DeleteParams::background()).await)?;
            }
        }
        Ok(())
    }

    /// Creates the ReplicaSet of the newest template. One of that name may be there: the same (the cache was late), or of another template (a
    /// collision, after which the next name is tried).
    async fn create(
        &self,
        deployment: &mut Deployment,
        replicas: i32,
        revision: i64,
    ) -> Result<Option<ReplicaSet>, Error> {
        let Some(set) = make_new(deployment, replicas, revision) else { return Ok(None) };
        let api = self.sets_api(deployment.namespace());
        let created = match api.create(&PostParams::default(), &set).await {
            Ok(created) => created,
            Err(error) if errors::is_already_exists(&error) => {
                return self.collision(deployment, &api, set.name()).await.map(Some);
            }
            Err(error) if errors::is_namespace_terminating(&error) => return Err(error.into()),
            Err(error) => {
                let message = format!("Failed to create new replica set {:?}: {}", set.name(), text(&error));
                self.recorder.event(deployment, EventType::Warning, "ReplicaSetCreateError", message.clone());
                self.say(deployment, "False", "ReplicaSetCreateError", message);
                self.write_status(deployment).await?;
                return Err(error.into());
            }
        };
        if replicas > 0 {
            let message = format!("Scaled up replica set {} from 0 to {replicas}", created.name());
            self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
        let message = format!("Created new replica set {:?}", created.name());
        self.say(deployment, "True", "NewReplicaSetCreated", message);
        Ok(Some(created))
    }

    async fn collision(
        &self,
        deployment: &mut Deployment,
        api: &Api<ReplicaSet>,
        name: &str,
    ) -> Result<ReplicaSet, Error> {
        let there = api.get(name).await?;
        let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
        let own = there.spec.as_ref().and_then(|spec| spec.template.as_ref());
        if there.controlled_by(deployment.uid())
            && let (Some(own), Some(wanted)) = (own, wanted)
            && same_template(own, wanted)
        {
            return Ok(there);
        }
        let status = deployment.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        self.write_status(deployment).await?;
        Err(Error::NotYet(format!(
            "a replica set {name} of another template is there: another name is tried"
        )))
    }

    /// Sets the `Progressing` condition on the local copy, if there is a deadline.
    #[expect(clippy::unused_self, reason = "reads as what the controller says")]
    fn say(&self, deployment: &mut Deployment, status: &str, reason: &str, message: String) {
        if deployment
            .spec
            .as_ref()
            .is_some_and(|spec| spec.progress_deadline_seconds.is_some_and(|s| s != i32::MAX))
        {
            let condition = condition("Progressing", status, reason, message, Timestamp::now());
            conditions::set(&mut deployment.status.get_or_insert_default().conditions, condition);
        }
    }

    /// The Deployment tells which revision it is at: that of its newest ReplicaSet.
    async fn note_revision(
        &self,
        deployment: &mut Deployment,
        sets: &[Arc<ReplicaSet>],
    ) -> Result<(), Error> {
        let Some(revision) = find_new(deployment, sets).and_then(|index| sets[index].annotation(REVISION))
        else {
            return Ok(());
        };
        if deployment.annotation(REVISION) == Some(revision) {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), deployment.namespace());
        let written = api.patch(deployment.name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        // The specification and its generation stay those that were acted upon, although they may have changed meanwhile.
        deployment.metadata.annotations = written.metadata.annotations;
        deployment.metadata.resource_version = written.metadata.resource_version;
        Ok(())
    }

    async fn write_status(&self, deployment: &Deployment) -> Result<(), Error> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), deployment.namespace());
        errors::unless_gone(api.replace_status(deployment.name(), &PostParams::default(), deployment).await)?;
        Ok(())
    }
}
