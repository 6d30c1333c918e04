//! Carries out the plan of a StatefulSet at the API server.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, WorkQueue, errors};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::claims::Claims;
use super::identity::{new_pod, ordinal, revision};
use super::plan::{Revisions, Step, condemned, plan, status};
use crate::context::{Context, Reconcile, Running, by_owner, claimable, wait, work};
use crate::error::{Error, text};
use crate::shared::claims::claim_all;
use crate::shared::expectations::Expectations;
use crate::shared::history::{self, Ensured, Maker};
use crate::shared::meta::{Meta, controller_ref, selects_everything};
use crate::shared::owners::Owners;
use crate::shared::pods::{available_in, phase};

const HASH: &str = "controller.kubernetes.io/hash";

struct Controller {
    client: Client,
    sets: Informer<StatefulSet>,
    pods: Index<Pod>,
    revisions: Index<ControllerRevision>,
    claims: Claims,
    recorder: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let sets = context.informer::<StatefulSet>();
    let to_queue = queue.clone();
    sets.subscribe(move |event| to_queue.add(event.object().key()));
    let selector = |set: &StatefulSet| set.spec.as_ref().map(|spec| spec.selector.clone());
    let owners =
        Owners::new(sets.clone(), "StatefulSet", selector, Arc::new(Expectations::default()), queue.clone());
    context.informer::<Pod>().subscribe(move |event| owners.pod_event(event));
    let recorder = context.recorder("statefulset-controller");
    let controller = Controller {
        client: context.client.clone(),
        sets,
        pods: context.pods_by_owner(),
        revisions: by_owner(&context.informer::<ControllerRevision>()),
        claims: Claims {
            client: context.client.clone(),
            known: context.informer::<PersistentVolumeClaim>(),
            recorder: recorder.clone(),
        },
        recorder,
    };
    work(Arc::new(controller), queue, 5)
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(cached) = self.sets.get(key) else { return Ok(None) };
        let Some(spec) = &cached.spec else { return Ok(None) };
        if selects_everything(&spec.selector) {
            return Ok(None);
        }
        let mut set = StatefulSet::clone(&cached);
        let reference = controller_ref("apps/v1", "StatefulSet", &set.metadata);
        let candidates = claimable(&self.revisions, set.uid(), set.namespace());
        let mut kept = claim_all(&self.client, &set, &reference, &spec.selector, candidates).await?;
        let mut candidates = claimable(&self.pods, set.uid(), set.namespace());
        candidates.retain(|pod| ordinal(&set, pod).is_some());
        let pods = claim_all(&self.client, &set, &reference, &spec.selector, candidates).await?;
        let revisions = self.revisions_of(&mut set, &mut kept).await?;
        let now = Timestamp::now();
        let outcome = self.carry_out(&set, &revisions, &kept, &pods, now).await;
        let new = status(&set, &revisions, &pods, now);
        if cached.status.as_ref() != Some(&new) {
            set.status = Some(new);
            self.write_status(&set).await?;
        }
        outcome?;
        let live = |one: &ControllerRevision| {
            [&revisions.current, &revisions.update].contains(&&one.name().to_owned())
                || pods.iter().any(|pod| revision(pod) == one.name())
        };
        history::delete(&self.client, history::surplus(&kept, spec.revision_history_limit, live)).await?;
        let seconds = spec.min_ready_seconds.unwrap_or(0);
        let soon = pods.iter().filter_map(|pod| available_in(pod, seconds, now));
        Ok(soon.filter(|left| *left > SignedDuration::ZERO).min().map(wait))
    }
}

impl Controller {
    /// The current and the updated revision.
    async fn revisions_of(
        &self,
        set: &mut StatefulSet,
        kept: &mut Vec<Arc<ControllerRevision>>,
    ) -> Result<Revisions, Error> {
        let Some(spec) = set.spec.clone() else { return Err(Error::Object("no specification".into())) };
        let content = history::content(&spec.template);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let maker = Maker {
            owner: &set.metadata,
            reference: controller_ref("apps/v1", "StatefulSet", &set.metadata),
            hash_label: HASH,
            labels: spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default(),
        };
        let update = match history::ensure(&self.client, &maker, kept, &content, collisions).await? {
            Ensured::There(revision) => revision,
            Ensured::Collision => {
                let status = set.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                self.write_status(set).await?;
                return Err(Error::NotYet("the name of a revision is taken: another is tried".into()));
            }
        };
        let current = set.status.as_ref().and_then(|status| status.current_revision.clone());
        let current = current.filter(|name| kept.iter().any(|one| one.name() == name));
        let update_name = update.name().to_owned();
        if !kept.iter().any(|one| one.name() == update_name) {
            kept.push(update);
        }
        Ok(Revisions { current: current.unwrap_or_else(|| update_name.clone()), update: update_name })
    }

    async fn carry_out(
        &self,
        set: &StatefulSet,
        revisions: &Revisions,
        kept: &[Arc<ControllerRevision>],
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) -> Result<(), Error> {
        if !set.deleting() {
            let condemned = condemned(set, pods);
            for pod in pods {
                let goes = condemned.iter().any(|other| Arc::ptr_eq(other, pod));
                self.claims.own(set, pod, goes).await?;
            }
        }
        for step in plan(set, revisions, pods, now) {
            match step {
                Step::Create { ordinal, updated } => {
                    let name = if updated { &revisions.update } else { &revisions.current };
                    self.create(set, name, kept, ordinal).await?;
                }
                Step::Claims(ordinal) => self.claims.ensure(set, ordinal).await?,
                Step::Replace(pod) => {
                    let (kind, reason, what) = if phase(&pod) == "Failed" {
                        (EventType::Warning, "RecreatingFailedPod", "failed")
                    } else {
                        (EventType::Normal, "RecreatingTerminatedPod", "terminated")
                    };
                    let message =
                        format!("StatefulSet {} is recreating {what} Pod {}", set.key(), pod.name());
                    self.recorder.event(set, kind, reason, message);
                    self.delete(set, &pod).await?;
                }
                Step::Delete(pod) => self.delete(set, &pod).await?,
            }
        }
        Ok(())
    }

    async fn create(
        &self,
        set: &StatefulSet,
        revision: &str,
        kept: &[Arc<ControllerRevision>],
        ordinal: i32,
    ) -> Result<(), Error> {
        let template = kept.iter().find(|one| one.name() == revision).and_then(|one| history::template(one));
        let template =
            template.ok_or_else(|| Error::Object(format!("revision {revision} has no template")))?;
        self.claims.ensure(set, ordinal).await?;
        let pod = new_pod(set, &template, revision, ordinal);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), set.namespace());
        let about = format!("Pod {} in StatefulSet {}", pod.name(), set.name());
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => {
                let message = format!("create {about} successful");
                self.recorder.event(set, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) if errors::is_already_exists(&error) || errors::is_namespace_terminating(&error) => {
                Ok(())
            }
            Err(error) => {
                let message = format!("create {about} failed error: {}", text(&error));
                self.recorder.event(set, EventType::Warning, "FailedCreate", message);
                Err(error.into())
            }
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), set.namespace());
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        let about = format!("Pod {} in StatefulSet {}", pod.name(), set.name());
        match api.delete(pod.name(), &params).await {
            Ok(_) => {
                let message = format!("delete {about} successful");
                self.recorder.event(set, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            Err(error) => {
                let message = format!("delete {about} failed error: {}", text(&error));
                self.recorder.event(set, EventType::Warning, "FailedDelete", message);
                Err(error.into())
            }
        }
    }

    async fn write_status(&self, set: &StatefulSet) -> Result<(), Error> {
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), set.namespace());
        errors::unless_gone(api.replace_status(set.name(), &PostParams::default(), set).await)?;
        Ok(())
    }
}
