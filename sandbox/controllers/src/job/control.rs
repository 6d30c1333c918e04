//! Carries out at the API server what `assess` and `plan` say of a Job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, WorkQueue, errors};
use futures_util::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::assess::{Assessment, End, assess, look_again_in};
use super::backoff::Record;
use super::plan::plan;
use super::pods::{FINALIZER, new_pod, without_finalizer};
use crate::context::{Context, Reconcile, Running, claimable, wait, work};
use crate::error::Error;
use crate::shared::claims::claim_all;
use crate::shared::conditions::{self, get};
use crate::shared::expectations::Expectations;
use crate::shared::meta::{Meta, controller_ref, selects_everything};
use crate::shared::owners::Owners;
use crate::shared::pod_control::PodControl;

struct Controller {
    client: Client,
    jobs: Informer<Job>,
    pods: Index<Pod>,
    pod_control: PodControl,
    recorder: Recorder,
    expectations: Arc<Expectations>,
    backoff: Mutex<HashMap<ObjectKey, Record>>,
}

/// Takes the finalizer from pods whose Job is gone.
struct Orphans {
    client: Client,
    pods: Informer<Pod>,
    jobs: Informer<Job>,
}

/// Whether a Job has ended (`IsJobFinished`).
pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| matches!(&*one.type_, "Complete" | "Failed") && one.status == "True")
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let orphans: WorkQueue<ObjectKey> = WorkQueue::new();
    let jobs = context.informer::<Job>();
    let pods = context.pods_by_owner();
    let (to_queue, to_orphans, of_jobs) = (queue.clone(), orphans.clone(), pods.clone());
    jobs.subscribe(move |event| {
        if let Event::Deleted(job) = event {
            for pod in of_jobs.get(job.uid()) {
                to_orphans.add(pod.key());
            }
        }
        to_queue.add(event.object().key());
    });
    let expectations = Arc::new(Expectations::default());
    let selector = |job: &Job| job.spec.as_ref()?.selector.clone();
    let owners = Owners::new(jobs.clone(), "Job", selector, expectations.clone(), queue.clone());
    let to_orphans = orphans.clone();
    context.informer::<Pod>().subscribe(move |event| {
        owners.pod_event(event);
        let pod = event.object();
        let is_orphan =
            pod.has_finalizer(FINALIZER) && owners.resolve(pod.namespace(), pod.controller()).is_none();
        if is_orphan && !matches!(event, Event::Deleted(_)) {
            // Of a new Job the pod may be heard of first.
            to_orphans.add_after(pod.key(), Duration::from_millis(500));
        }
    });
    let recorder = context.recorder("job-controller");
    let controller = Controller {
        client: context.client.clone(),
        jobs: jobs.clone(),
        pods,
        pod_control: PodControl::new(context.client.clone(), recorder.clone()),
        recorder,
        expectations,
        backoff: Mutex::default(),
    };
    let release = Orphans { client: context.client.clone(), pods: context.informer(), jobs };
    let (work_on_jobs, work_on_orphans) =
        (work(Arc::new(controller), queue, 5), work(Arc::new(release), orphans, 1));
    Box::pin(async move {
        tokio::join!(work_on_jobs, work_on_orphans);
    })
}

impl Reconcile for Orphans {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(key).filter(|pod| pod.has_finalizer(FINALIZER)) else {
            return Ok(None);
        };
        if let Some(owner) = pod.controller() {
            let job = self.jobs.get(&ObjectKey::new(pod.namespace(), &owner.name));
            if owner.kind != "Job" || job.is_some_and(|job| job.uid() == owner.uid) {
                return Ok(None);
            }
        }
        release(&self.client, &pod).await?;
        Ok(None)
    }
}

/// Takes the finalizer from a pod. One that is gone is as good.
async fn release(client: &Client, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    match api.patch(pod.name(), &PatchParams::default(), &Patch::Strategic(without_finalizer(pod))).await {
        Ok(_) => Ok(()),
        Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(job) = self.jobs.get(key) else {
            self.expectations.forget(&key.to_string());
            self.records().remove(key);
            return Ok(None);
        };
        let managed_elsewhere = job
            .spec
            .as_ref()
            .and_then(|spec| spec.managed_by.as_deref())
            .is_some_and(|manager| manager != "kubernetes.io/job-controller");
        if managed_elsewhere || is_finished(&job) {
            self.records().remove(key);
            return Ok(None);
        }
        let satisfied = self.expectations.satisfied(&key.to_string());
        let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.clone()) else {
            return Ok(None);
        };
        if selects_everything(&selector) {
            return Ok(None);
        }
        let reference = controller_ref("batch/v1", "Job", &job.metadata);
        let pods = claim_all(
            &self.client,
            &*job,
            &reference,
            &selector,
            claimable(&self.pods, job.uid(), job.namespace()),
        )
        .await?;
        let mut job = Job::clone(&job);
        self.begin(&mut job);
        self.sync(key, &mut job, &pods, satisfied).await
    }
}

impl Controller {
    fn records(&self) -> MutexGuard<'_, HashMap<ObjectKey, Record>> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Job's time begins when it is first seen, or goes on after a pause.
    #[expect(clippy::unused_self, reason = "a step of the controller")]
    fn begin(&self, job: &mut Job) {
        let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
        let status = job.status.get_or_insert_default();
        if status.start_time.is_none() && !suspended {
            status.start_time = Some(Time(Timestamp::now()));
        }
    }

    /// One pass over a Job.
    async fn sync(
        &self,
        key: &ObjectKey,
        job: &mut Job,
        pods: &[Arc<Pod>],
        satisfied: bool,
    ) -> Result<Option<Duration>, Error> {
        let now = Timestamp::now();
        let all = assess(job, pods, now);
        let record = {
            let mut records = self.records();
            let ended: Vec<&Pod> = all.newly_ended.iter().map(|pod| &**pod).collect();
            let record = records.entry(key.clone()).or_default();
            *record = record.with(&ended);
            *record
        };
        let mut outcome = Ok(());
        let mut made = 0_i32;
        let mut again = look_again_in(job, &all, now);
        if let Some(end) = &all.end {
            if !end.success || end.reason == "SuccessPolicy" {
                outcome = self.delete_all(job, &all.active, false).await;
            }
        } else if satisfied && !job.deleting() {
            let plan = plan(job, &all, record, now);
            if let Some(wait) = plan.wait {
                again = Some(again.map_or(wait, |other| other.min(wait)));
            }
            let count = plan.create.len();
            outcome = if plan.delete.is_empty() {
                let (created, result) = self.create(key, job, &plan.create).await;
                made = created;
                result
            } else {
                self.expectations.expect(
                    &key.to_string(),
                    0,
                    plan.delete.iter().map(|pod| pod.uid().to_owned()),
                );
                let result = self.delete_all(job, &plan.delete, true).await;
                if result.is_err() {
                    self.expectations.forget(&key.to_string());
                }
                made = -i32::try_from(plan.delete.len()).unwrap_or(i32::MAX);
                result
            };
            debug_assert!(count == 0 || made <= i32::try_from(count).unwrap_or(i32::MAX));
        }
        self.tell_suspension(job);
        self.account(job, all, made).await?;
        outcome?;
        Ok(again.map(wait))
    }

    async fn create(
        &self,
        key: &ObjectKey,
        job: &Job,
        places: &[Option<(i32, i32)>],
    ) -> (i32, Result<(), Error>) {
        if places.is_empty() {
            return (0, Ok(()));
        }
        let key = key.to_string();
        self.expectations.expect(&key, places.len(), []);
        let expected = (&*self.expectations, &*key);
        let pod = |number: usize| new_pod(job, places[number]);
        let (made, error) = self.pod_control.create_all(job, expected, places.len(), pod).await;
        (i32::try_from(made).unwrap_or(i32::MAX), error.map_or(Ok(()), |error| Err(error.into())))
    }

    /// Deletes pods. Those that are only too many count for nothing, so their finalizer goes first; those of a Job that failed are counted
    /// when they are gone.
    async fn delete_all(&self, job: &Job, pods: &[Arc<Pod>], uncounted: bool) -> Result<(), Error> {
        let delete = |pod: Arc<Pod>| async move {
            if uncounted && pod.has_finalizer(FINALIZER) {
                release(&self.client, &pod).await?;
            }
            self.pod_control.delete(job, &pod).await.map_err(Error::from)
        };
        join_all(pods.iter().cloned().map(delete)).await.into_iter().collect()
    }

    /// Says in a condition whether the Job is suspended.
    fn tell_suspension(&self, job: &mut Job) {
        let suspended = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
        let was = job
            .status
            .as_ref()
            .and_then(|status| get(&status.conditions, "Suspended"))
            .map(|one| one.status.clone());
        let (status, reason, message, event) = match (suspended, was.as_deref()) {
            (true, Some("True")) | (false, None | Some("False")) => return,
            (true, _) => ("True", "JobSuspended", "Job suspended", "Suspended"),
            (false, _) => ("False", "JobResumed", "Job resumed", "Resumed"),
        };
        let of = job.status.get_or_insert_default();
        set_condition(of, condition("Suspended", status, reason, message));
        // The deadline counts from when it goes on.
        of.start_time = (!suspended).then(|| Time(Timestamp::now()));
        self.recorder.event(job, EventType::Normal, event, message);
    }

    /// Writes what ended: first that it did, then, when the finalizers are gone, the counts; and at last the end of the Job itself.
    async fn account(&self, job: &mut Job, all: Assessment, made: i32) -> Result<(), Error> {
        let before = self.jobs.get(&job.key()).and_then(|cached| cached.status.clone()).unwrap_or_default();
        let conditions = job.status.as_ref().and_then(|status| status.conditions.clone());
        let start_time = job.status.as_ref().and_then(|status| status.start_time.clone());
        let mut status = JobStatus { conditions, start_time, ..all.noted };
        let some = |count: i32| (count != 0).then_some(count);
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let active = (number(all.active.len()) + made).max(0);
        let ends = all.end.is_some();
        let failing = all.end.as_ref().is_some_and(|end| !end.success || end.reason == "SuccessPolicy");
        status.active = some(if failing { 0 } else { active });
        status.ready = Some(if failing { 0 } else { number(all.ready) });
        status.terminating =
            Some(number(all.terminating) + if failing { number(all.active.len()) } else { (-made).max(0) });
        if let Some(end) = &all.end {
            let (type_, reason, message) =
                (if end.success { "SuccessCriteriaMet" } else { "FailureTarget" }, &end.reason, &end.message);
            set_condition(&mut status, condition(type_, "True", reason, message));
        }
        if all.must_note {
            self.write(job, &status).await?;
        }
        join_all(all.to_release.iter().map(|pod| release(&self.client, pod)))
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        move_to_counts(&mut status, &all.to_release);
        let empty = |status: &JobStatus| {
            status
                .uncounted_terminated_pods
                .as_ref()
                .is_none_or(|uncounted| *uncounted == UncountedTerminatedPods::default())
        };
        let settled =
            ends && status.terminating == Some(0) && status.active.unwrap_or(0) == 0 && empty(&status);
        if settled && let Some(end) = &all.end {
            self.finish(job, &mut status, end);
        }
        let written = job.status.as_ref() == Some(&status) && all.must_note;
        if status != before && !written {
            self.write(job, &status).await?;
        }
        Ok(())
    }

    fn finish(&self, job: &Job, status: &mut JobStatus, end: &End) {
        status.ready = Some(0);
        if end.success {
            set_condition(status, condition("Complete", "True", &end.reason, &end.message));
            status.completion_time = Some(Time(Timestamp::now()));
            self.recorder.event(job, EventType::Normal, "Completed", "Job completed");
        } else {
            set_condition(status, condition("Failed", "True", &end.reason, &end.message));
            self.recorder.event(job, EventType::Warning, &end.reason, &*end.message);
        }
    }

    async fn write(&self, job: &mut Job, status: &JobStatus) -> Result<(), Error> {
        job.status = Some(status.clone());
        let api: Api<Job> = Api::namespaced(self.client.clone(), job.namespace());
        match api.replace_status(job.name(), &PostParams::default(), job).await {
            Ok(written) => {
                job.metadata.resource_version = written.metadata.resource_version;
                Ok(())
            }
            Err(error) if errors::is_not_found(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Moves the uids of pods whose finalizer is gone from the uncounted to the counts.
fn move_to_counts(status: &mut JobStatus, released: &[Arc<Pod>]) {
    let Some(uncounted) = &mut status.uncounted_terminated_pods else { return };
    let count = |list: &mut Option<Vec<String>>, count: &mut Option<i32>| {
        let Some(uids) = list else { return };
        let before = uids.len();
        uids.retain(|uid| !released.iter().any(|pod| pod.uid() == uid));
        let moved = i32::try_from(before - uids.len()).unwrap_or(0);
        if moved > 0 {
            *count = Some(count.unwrap_or(0).saturating_add(moved));
        }
        if uids.is_empty() {
            *list = None;
        }
    };
    count(&mut uncounted.succeeded, &mut status.succeeded);
    count(&mut uncounted.failed, &mut status.failed);
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> JobCondition {
    let now = Time(Timestamp::now());
    JobCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

/// Sets a condition where it stands; a new one goes to the end.
fn set_condition(status: &mut JobStatus, condition: JobCondition) {
    if let Some(current) = get(&status.conditions, &condition.type_)
        && current.status == condition.status
    {
        return;
    }
    conditions::set(&mut status.conditions, condition);
}
