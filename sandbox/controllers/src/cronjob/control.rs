//! Makes Jobs when they are due, and keeps book of them.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, Index, ObjectKey, Recorder, WorkQueue, errors};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::due::due;
use super::schedule::Schedule;
use crate::context::{Context, Reconcile, Running, by_owner, wait, work};
use crate::error::{Error, text};
use crate::job::control::is_finished;
use crate::shared::meta::{Meta, controller_ref};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A moment after the time, so that the clock has certainly passed it (`nextScheduleDelta`).
const DELTA: SignedDuration = SignedDuration::from_millis(100);

struct Controller {
    client: Client,
    cron_jobs: Informer<CronJob>,
    jobs: Index<Job>,
    all_jobs: Informer<Job>,
    recorder: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let cron_jobs = context.informer::<CronJob>();
    let to_queue = queue.clone();
    cron_jobs.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    let jobs = context.informer::<Job>();
    let to_queue = queue.clone();
    jobs.subscribe(move |event| {
        let job = event.object();
        if let Some(owner) = job.controller().filter(|owner| owner.kind == "CronJob") {
            to_queue.add(ObjectKey::new(job.namespace(), &owner.name));
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        cron_jobs,
        jobs: by_owner(&jobs),
        all_jobs: jobs,
        recorder: context.recorder("cronjob-controller"),
    };
    work(Arc::new(controller), queue, 5)
}

/// How a Job ended, as its condition calls it.
fn end_of(job: &Job) -> &str {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .find(|one| matches!(&*one.type_, "Complete" | "Failed") && one.status == "True")
        .map_or("", |one| &one.type_)
}

/// The Job of a time: its name is that time's, so that none is made twice.
fn make(cron_job: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron_job.spec.as_ref().map(|spec| &spec.job_template);
    let meta = template.and_then(|template| template.metadata.clone()).unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone());
    let stamp = if zone == &TimeZone::UTC {
        at.to_string()
    } else {
        local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    annotations.insert(SCHEDULED_AT.into(), stamp);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron_job.name(), at.as_second() / 60)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref("batch/v1", "CronJob", &cron_job.metadata)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.and_then(|template| template.spec.clone()).unwrap_or_default()),
        status: None,
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(cached) = self.cron_jobs.get(key) else { return Ok(None) };
        let mut cron_job = CronJob::clone(&cached);
        let jobs = self.jobs.get(cron_job.uid());
        let jobs = self.clean_up(&cron_job, jobs).await?;
        self.keep_book(&mut cron_job, &jobs);
        let again = self.run_due(&mut cron_job, &jobs).await;
        if cron_job.status.clone().unwrap_or_default() != cached.status.clone().unwrap_or_default() {
            let api: Api<CronJob> = Api::namespaced(self.client.clone(), &key.namespace);
            errors::unless_gone(api.replace_status(&key.name, &PostParams::default(), &cron_job).await)?;
        }
        again
    }
}

impl Controller {
    fn event(&self, cron_job: &CronJob, kind: EventType, reason: &str, message: String) {
        self.recorder.event(cron_job, kind, reason, message);
    }

    /// Deletes ended Jobs beyond the limits; what is left.
    async fn clean_up(&self, cron_job: &CronJob, jobs: Vec<Arc<Job>>) -> Result<Vec<Arc<Job>>, Error> {
        let spec = cron_job.spec.as_ref();
        let limits = [
            ("Complete", spec.and_then(|spec| spec.successful_jobs_history_limit)),
            ("Failed", spec.and_then(|spec| spec.failed_jobs_history_limit)),
        ];
        let mut gone = Vec::new();
        for (end, limit) in limits {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let mut ended: Vec<_> = jobs.iter().filter(|job| end_of(job) == end).collect();
            let started = |job: &Job| {
                job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
            };
            ended.sort_by(|a, b| started(a).cmp(&started(b)).then_with(|| a.name().cmp(b.name())));
            let extra = ended.len().saturating_sub(limit);
            for job in ended.into_iter().take(extra) {
                self.delete(cron_job, job).await?;
                gone.push(job.uid().to_owned());
            }
        }
        Ok(jobs.into_iter().filter(|job| !gone.contains(&job.uid().to_owned())).collect())
    }

    async fn delete(&self, cron_job: &CronJob, job: &Job) -> Result<(), Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), job.namespace());
        match api.delete(job.name(), &DeleteParams::background()).await {
            Ok(_) => {
                let message = format!("Deleted job {}", job.name());
                self.event(cron_job, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) if errors::is_not_found(&error) => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {}", text(&error));
                self.event(cron_job, EventType::Warning, "FailedDelete", message);
                Err(error.into())
            }
        }
    }

    /// Brings the list of running Jobs up to date.
    fn keep_book(&self, cron_job: &mut CronJob, jobs: &[Arc<Job>]) {
        let mut status = cron_job.status.clone().unwrap_or_default();
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let known = active.iter().position(|one| one.uid.as_deref() == Some(job.uid()));
            match (known, is_finished(job)) {
                (None, false) => {
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {}", job.name());
                    self.event(cron_job, EventType::Warning, "UnexpectedJob", message);
                }
                (Some(index), true) => {
                    active.remove(index);
                    let message = format!("Saw completed job: {}, condition: {}", job.name(), end_of(job));
                    self.event(cron_job, EventType::Normal, "SawCompletedJob", message);
                }
                _ => {}
            }
            if end_of(job) == "Complete" {
                let ended = job.status.as_ref().and_then(|status| status.completion_time.clone());
                if ended > status.last_successful_time {
                    status.last_successful_time = ended;
                }
            }
        }
        active.retain(|one| {
            let there = jobs.iter().any(|job| one.uid.as_deref() == Some(job.uid()));
            // The cache may not know yet what was just made.
            let fresh = !there && self.is_fresh(cron_job, one);
            if !there && !fresh {
                let message = format!("Active job went missing: {}", one.name.as_deref().unwrap_or_default());
                self.event(cron_job, EventType::Normal, "MissingJob", message);
            }
            there || fresh
        });
        status.active = Some(active).filter(|active| !active.is_empty());
        cron_job.status = Some(status);
    }

    /// Whether a Job that the cache does not have was made a moment ago: for the time that was last due, and nobody has seen it go.
    fn is_fresh(&self, cron_job: &CronJob, one: &ObjectReference) -> bool {
        let last =
            cron_job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);
        let Some(last) =
            last.filter(|last| Timestamp::now().duration_since(*last) < SignedDuration::from_secs(5))
        else {
            return false;
        };
        let name = format!("{}-{}", cron_job.name(), last.as_second() / 60);
        one.name.as_deref() == Some(&name)
            && self.all_jobs.get(&ObjectKey::new(cron_job.namespace(), name)).is_none()
    }

    /// Makes the Job that is due; when to look again.
    async fn run_due(&self, cron_job: &mut CronJob, jobs: &[Arc<Job>]) -> Result<Option<Duration>, Error> {
        let Some(spec) = cron_job.spec.clone() else { return Ok(None) };
        if cron_job.deleting() || spec.suspend == Some(true) {
            return Ok(None);
        }
        let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
            None => TimeZone::UTC,
            Some(Ok(zone)) => zone,
            Some(Err(_)) => {
                let name = spec.time_zone.unwrap_or_default();
                let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                self.event(cron_job, EventType::Warning, "UnknownTimeZone", message);
                return Ok(None);
            }
        };
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {} : {error}", spec.schedule);
                self.event(cron_job, EventType::Warning, "UnparseableSchedule", message);
                return Ok(None);
            }
        };
        let now = Timestamp::now();
        let due = due(cron_job, &schedule, &zone, now);
        if due.at.is_none() && due.next.is_none() {
            let never = "time difference between two schedules is less than 1 second";
            let message = format!("invalid schedule: {} : {never}", spec.schedule);
            self.event(cron_job, EventType::Warning, "InvalidSchedule", message);
            return Ok(None);
        }
        let again = due.next.map(|next| wait(next.duration_since(now) + DELTA));
        if due.too_many {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.event(cron_job, EventType::Warning, "TooManyMissedTimes", message.into());
        }
        let Some(at) = due.at else { return Ok(again) };
        let late = spec
            .starting_deadline_seconds
            .is_some_and(|seconds| now.duration_since(at) > SignedDuration::from_secs(seconds));
        if late {
            let message = format!(
                "Missed scheduled time to start a job: {}",
                at.strftime("%a, %d %b %Y %H:%M:%S +0000")
            );
            self.event(cron_job, EventType::Warning, "MissSchedule", message);
            return Ok(again);
        }
        let active = cron_job.status.as_ref().and_then(|status| status.active.clone()).unwrap_or_default();
        if !active.is_empty() {
            match spec.concurrency_policy.as_deref() {
                Some("Forbid") => {
                    let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                    self.event(cron_job, EventType::Normal, "JobAlreadyActive", message.into());
                    return Ok(again);
                }
                Some("Replace") => {
                    for job in jobs
                        .iter()
                        .filter(|job| active.iter().any(|one| one.uid.as_deref() == Some(job.uid())))
                    {
                        self.delete(cron_job, job).await?;
                    }
                    cron_job.status.get_or_insert_default().active = None;
                }
                _ => {}
            }
        }
        self.create(cron_job, at, &zone).await?;
        Ok(again)
    }

    async fn create(&self, cron_job: &mut CronJob, at: Timestamp, zone: &TimeZone) -> Result<(), Error> {
        let job = make(cron_job, at, zone);
        let api: Api<Job> = Api::namespaced(self.client.clone(), cron_job.namespace());
        let made = match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                self.event(
                    cron_job,
                    EventType::Normal,
                    "SuccessfulCreate",
                    format!("Created job {}", made.name()),
                );
                made
            }
            Err(error) if errors::is_already_exists(&error) => {
                let there = api.get(job.name()).await?;
                if !there.controlled_by(cron_job.uid()) {
                    return Err(error.into());
                }
                there
            }
            Err(error) if errors::is_namespace_terminating(&error) => return Ok(()),
            Err(error) => {
                let message = format!("Error creating job: {}", text(&error));
                self.event(cron_job, EventType::Warning, "FailedCreate", message);
                return Err(error.into());
            }
        };
        let status: &mut CronJobStatus = cron_job.status.get_or_insert_default();
        status.last_schedule_time = Some(Time(at));
        let active = status.active.get_or_insert_default();
        if !is_finished(&made) && !active.iter().any(|one| one.uid == made.metadata.uid) {
            active.push(reference(&made));
        }
        if active.is_empty() {
            status.active = None;
        }
        Ok(())
    }
}
