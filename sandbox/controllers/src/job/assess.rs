//! Counts the pods of a Job that ended, each once, and judges whether the Job has. A pod that ended keeps its finalizer until its uid has been
//! written to the status (`uncountedTerminatedPods`); only when the finalizer is gone does it move into the counts. So a crash at any point
//! counts nothing twice and loses nothing (`trackJobStatusAndRemoveFinalizers`). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::indexes::{format, parse};
use super::pods::{FINALIZER, failures_before, has_failed, index, is_indexed};
use super::policy::{Verdict, judge, succeeded};
use crate::shared::conditions::get;
use crate::shared::meta::Meta;
use crate::shared::pods::{is_active, is_ready, is_terminating, phase};

/// So many pods are noted at once (`MaxUncountedPods`).
const MOST_UNCOUNTED: usize = 500;

/// How a Job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// It has succeeded.
    pub success: bool,
    /// Why, in a word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// What there is of a Job.
#[derive(Debug, Default)]
pub struct Assessment {
    /// Pods that run or will.
    pub active: Vec<Arc<Pod>>,
    /// How many of them are ready.
    pub ready: usize,
    /// Pods that are going.
    pub terminating: usize,
    /// All that succeeded, counted or not.
    pub succeeded: i32,
    /// All that failed, counted or not.
    pub failed: i32,
    /// Indexes that succeeded.
    pub succeeded_indexes: BTreeSet<i32>,
    /// Indexes that failed for good; only with a limit per index.
    pub failed_indexes: BTreeSet<i32>,
    /// For indexes that are to be made anew: how often they failed so far, and when last.
    pub index_failures: BTreeMap<i32, (i32, Timestamp)>,
    /// Pods whose finalizer is to be taken away once the status says that they ended.
    pub to_release: Vec<Arc<Pod>>,
    /// Pods that ended and were not known to have.
    pub newly_ended: Vec<Arc<Pod>>,
    /// The status with them noted as uncounted.
    pub noted: JobStatus,
    /// Whether that differs from the Job's, so that it must be written before finalizers are taken away.
    pub must_note: bool,
    /// How the Job ends, if it does.
    pub end: Option<End>,
}

fn spec(job: &Job) -> &JobSpec {
    static NONE: std::sync::LazyLock<JobSpec> = std::sync::LazyLock::new(JobSpec::default);
    job.spec.as_ref().unwrap_or(&NONE)
}

/// How many successes the Job wants; `None`: any one will do.
pub fn completions(job: &Job) -> Option<i32> {
    spec(job).completions
}

/// Assesses a Job with these pods.
pub fn assess(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Assessment {
    let mut all = Assessment { noted: job.status.clone().unwrap_or_default(), ..Assessment::default() };
    all.active = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    all.ready = all.active.iter().filter(|pod| is_ready(pod)).count();
    all.terminating = pods.iter().filter(|pod| is_terminating(pod)).count();
    settle(&mut all.noted, pods);
    all.must_note = Some(&all.noted) != job.status.as_ref() && job.status.is_some();
    let verdicts = count(job, pods, &mut all);
    judge_end(job, pods, &verdicts, &mut all, now);
    if let Some(fails) = all.end.as_ref().map(|end| !end.success) {
        release_rest(job, pods, fails, &mut all);
    }
    all
}

/// Moves uids whose pods have no finalizer any more (or are gone) from the uncounted to the counts.
fn settle(status: &mut JobStatus, pods: &[Arc<Pod>]) {
    let Some(uncounted) = &mut status.uncounted_terminated_pods else { return };
    let held: BTreeSet<&str> =
        pods.iter().filter(|pod| pod.has_finalizer(FINALIZER)).map(|pod| pod.uid()).collect();
    let settle = |list: &mut Option<Vec<String>>, count: &mut Option<i32>| {
        if let Some(uids) = list {
            let before = uids.len();
            uids.retain(|uid| held.contains(&&**uid));
            let gone = i32::try_from(before - uids.len()).unwrap_or(0);
            if gone > 0 {
                *count = Some(count.unwrap_or(0).saturating_add(gone));
            }
            if uids.is_empty() {
                *list = None;
            }
        }
    };
    settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed);
    if *uncounted == UncountedTerminatedPods::default() && status.uncounted_terminated_pods.is_some() {
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());
    }
}

/// A failed pod of an index: how often that failed before, when the pod ended, itself, what the policy says.
type Failure<'a> = (i32, Timestamp, &'a Arc<Pod>, Verdict);

/// The pods that ended, while they are gone through.
struct Tally<'a> {
    job: &'a Job,
    uncounted: UncountedTerminatedPods,
    verdicts: Vec<Verdict>,
    /// Failures of an index, to find out how often it failed and which of them must still be held. Only with a limit per index.
    failed_of: BTreeMap<i32, Vec<Failure<'a>>>,
}

fn length(list: &Option<Vec<String>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

impl<'a> Tally<'a> {
    fn new(job: &'a Job, noted: &JobStatus) -> Self {
        Self {
            job,
            uncounted: noted.uncounted_terminated_pods.clone().unwrap_or_default(),
            verdicts: Vec::new(),
            failed_of: BTreeMap::new(),
        }
    }

    /// Whether a pod that failed is one of those that are counted.
    fn counts(&self, place: Option<i32>, verdict: &Verdict) -> bool {
        (!is_indexed(self.job) || place.is_some()) && *verdict != Verdict::Ignore
    }

    /// Notes a uid; false if no more can be noted at once.
    fn note(&mut self, pod: &Arc<Pod>, success: bool, all: &mut Assessment) -> bool {
        let full = length(&self.uncounted.succeeded) + length(&self.uncounted.failed) >= MOST_UNCOUNTED;
        let list = if success { &mut self.uncounted.succeeded } else { &mut self.uncounted.failed };
        if list.iter().flatten().any(|known| known == pod.uid()) {
            return true;
        }
        if full {
            return false;
        }
        list.get_or_insert_default().push(pod.uid().into());
        all.newly_ended.push(pod.clone());
        true
    }

    fn succeeded(&mut self, pod: &Arc<Pod>, place: Option<i32>, all: &mut Assessment) {
        if !is_indexed(self.job) {
            if !self.note(pod, true, all) {
                return;
            }
        } else if let Some(place) = place
            // The index alone says that it was counted.
            && all.succeeded_indexes.insert(place)
        {
            all.newly_ended.push(pod.clone());
        }
        all.to_release.push(pod.clone());
    }

    fn failed(&mut self, pod: &'a Arc<Pod>, place: Option<i32>, all: &mut Assessment) {
        let verdict = judge(spec(self.job).pod_failure_policy.as_ref(), pod);
        let of_index = place.filter(|_| spec(self.job).backoff_limit_per_index.is_some());
        if let Some(place) = of_index {
            let entry = (failures_before(pod), super::backoff::ended_at(pod), pod, verdict.clone());
            self.failed_of.entry(place).or_default().push(entry);
        }
        if self.counts(place, &verdict) && !self.note(pod, false, all) {
            return;
        }
        if of_index.is_none() {
            all.to_release.push(pod.clone());
        }
        self.verdicts.push(verdict);
    }
}

/// Takes in the pods that ended; what the policy says of those that failed.
fn count(job: &Job, pods: &[Arc<Pod>], all: &mut Assessment) -> Vec<Verdict> {
    let completions = completions(job).unwrap_or(0);
    let limit_per_index = spec(job).backoff_limit_per_index;
    let read = |text: &Option<String>| parse(text.as_deref().unwrap_or_default(), completions);
    if is_indexed(job) {
        all.succeeded_indexes = read(&all.noted.completed_indexes);
    }
    if limit_per_index.is_some() {
        all.failed_indexes = read(&all.noted.failed_indexes);
    }
    let before = (all.succeeded_indexes.clone(), all.failed_indexes.clone());
    let mut tally = Tally::new(job, &all.noted);
    for pod in pods.iter().filter(|pod| pod.has_finalizer(FINALIZER)) {
        let place = index(pod).filter(|index| *index < completions);
        if phase(pod) == "Succeeded" {
            tally.succeeded(pod, place, all);
        } else if has_failed(job, pod) {
            tally.failed(pod, place, all);
        }
    }
    if let Some(limit) = limit_per_index {
        count_indexes(limit, tally.failed_of, all);
    }
    all.must_note |= before != (all.succeeded_indexes.clone(), all.failed_indexes.clone());
    tell_counts(job, tally.uncounted, all);
    tally.verdicts
}

/// Writes down what was counted.
fn tell_counts(job: &Job, uncounted: UncountedTerminatedPods, all: &mut Assessment) {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let changed = Some(&uncounted) != all.noted.uncounted_terminated_pods.as_ref();
    all.must_note |= changed && uncounted != UncountedTerminatedPods::default();
    let mut newly_succeeded = number(length(&uncounted.succeeded));
    if is_indexed(job) {
        all.noted.completed_indexes = Some(format(&all.succeeded_indexes)).filter(|text| !text.is_empty());
        all.noted.succeeded = Some(number(all.succeeded_indexes.len())).filter(|count| *count > 0);
        newly_succeeded = 0;
    }
    if spec(job).backoff_limit_per_index.is_some() {
        all.noted.failed_indexes = Some(format(&all.failed_indexes));
    }
    all.succeeded = all.noted.succeeded.unwrap_or(0).saturating_add(newly_succeeded);
    all.failed = all.noted.failed.unwrap_or(0).saturating_add(number(length(&uncounted.failed)));
    all.noted.uncounted_terminated_pods = Some(uncounted);
}

/// With a limit per index: an index whose failures exceed it has failed for good. Else its newest failed pod is held until the next one is
/// there, because only the pods tell how often it failed.
fn count_indexes(limit: i32, failed_of: BTreeMap<i32, Vec<Failure<'_>>>, all: &mut Assessment) {
    let running: BTreeMap<i32, i32> =
        all.active.iter().filter_map(|pod| Some((index(pod)?, failures_before(pod)))).collect();
    for (place, mut failures) in failed_of {
        failures.sort_by_key(|(before, at, _, _)| (*before, *at));
        let Some((before, at, newest, verdict)) = failures.pop() else { continue };
        let so_far = if verdict == Verdict::Ignore { before } else { before.saturating_add(1) };
        let over = so_far > limit || verdict == Verdict::FailIndex;
        if over && !all.succeeded_indexes.contains(&place) {
            all.failed_indexes.insert(place);
        }
        let settled = over || all.succeeded_indexes.contains(&place) || running.contains_key(&place);
        if settled {
            all.to_release.push(newest.clone());
        } else {
            all.index_failures.insert(place, (so_far, at));
        }
        all.to_release.extend(failures.into_iter().map(|(_, _, pod, _)| pod.clone()));
    }
}

/// Whether the Job has ended, and how.
fn judge_end(job: &Job, pods: &[Arc<Pod>], verdicts: &[Verdict], all: &mut Assessment, now: Timestamp) {
    let status = job.status.as_ref();
    let decided = |type_| {
        let conditions = status.map(|status| &status.conditions)?;
        get(conditions, type_).filter(|condition| condition.status == "True")
    };
    // What was decided once stays decided.
    for (type_, success) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
        if let Some(condition) = decided(type_) {
            all.end = Some(End {
                success,
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            });
            return;
        }
    }
    let fail = |reason: &str, message: &str| {
        Some(End { success: false, reason: reason.into(), message: message.into() })
    };
    let met =
        succeeded(spec(job).success_policy.as_ref(), &all.succeeded_indexes, completions(job).unwrap_or(0));
    all.end = verdicts
        .iter()
        .find_map(|verdict| match verdict {
            Verdict::FailJob(message) => fail("PodFailurePolicy", message),
            _ => None,
        })
        .or_else(|| {
            exceeds_backoff(job, pods, all.failed)
                .then(|| fail("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
                .flatten()
        })
        .or_else(|| {
            deadline_in(job, now)
                .is_some_and(|left| left <= SignedDuration::ZERO)
                .then(|| fail("DeadlineExceeded", "Job was active longer than specified deadline"))
                .flatten()
        })
        .or_else(|| indexes_failed(job, all))
        .or_else(|| met.map(|message| End { success: true, reason: "SuccessPolicy".into(), message }))
        .or_else(|| is_complete(job, all).then(complete));
}

fn complete() -> End {
    End {
        success: true,
        reason: "CompletionsReached".into(),
        message: "Reached expected number of succeeded pods".into(),
    }
}

fn is_complete(job: &Job, all: &Assessment) -> bool {
    match completions(job) {
        // Any success is one, but the others that run may still end on their own.
        None => all.succeeded > 0 && all.active.is_empty() && all.terminating == 0,
        Some(wanted) => all.succeeded >= wanted && all.active.is_empty(),
    }
}

/// How long until the deadline; `None`: there is none, or it does not run.
fn deadline_in(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    let seconds = spec(job).active_deadline_seconds.filter(|_| spec(job).suspend != Some(true))?;
    let start = job.status.as_ref()?.start_time.as_ref()?.0;
    // Neither the time given nor the start, which may lie ahead, can make it wrap.
    Some(SignedDuration::from_secs(seconds).saturating_sub(now.duration_since(start)))
}

/// When its deadline asks for another look. A Job that ends already waits for its pods alone: they tell when they are gone.
pub fn look_again_in(job: &Job, all: &Assessment, now: Timestamp) -> Option<SignedDuration> {
    deadline_in(job, now).filter(|left| all.end.is_none() && *left > SignedDuration::ZERO)
}

/// Whether too many pods failed, or containers that are started again in place did so too often.
fn exceeds_backoff(job: &Job, pods: &[Arc<Pod>], failed: i32) -> bool {
    let limit = spec(job).backoff_limit.unwrap_or(6);
    if failed > limit {
        return true;
    }
    let template = spec(job).template.spec.as_ref();
    if template.and_then(|template| template.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = pods
        .iter()
        .filter(|pod| matches!(phase(pod), "Running" | "Pending"))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        })
        .map(|container| container.restart_count)
        .fold(0, i32::saturating_add);
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn indexes_failed(job: &Job, all: &Assessment) -> Option<End> {
    spec(job).backoff_limit_per_index?;
    let failed = i32::try_from(all.failed_indexes.len()).unwrap_or(i32::MAX);
    if spec(job).max_failed_indexes.is_some_and(|most| failed > most) {
        return Some(End {
            success: false,
            reason: "MaxFailedIndexesExceeded".into(),
            message: "Job has exceeded the specified maximal number of failed indexes".into(),
        });
    }
    let ended = failed.saturating_add(i32::try_from(all.succeeded_indexes.len()).unwrap_or(i32::MAX));
    (failed > 0 && completions(job).is_some_and(|wanted| ended >= wanted)).then(|| End {
        success: false,
        reason: "FailedIndexes".into(),
        message: "Job has failed indexes".into(),
    })
}

/// When a Job has ended, pods that have not are deleted. If it has failed, so have they.
fn release_rest(job: &Job, pods: &[Arc<Pod>], fails: bool, all: &mut Assessment) {
    let completions = completions(job).unwrap_or(0);
    let mut tally = Tally::new(job, &all.noted);
    for pod in pods.iter().filter(|pod| pod.has_finalizer(FINALIZER)) {
        let goes =
            phase(pod) == "Failed" || has_failed(job, pod) || (pod.deleting() && phase(pod) != "Succeeded");
        if !goes || all.to_release.iter().any(|other| Arc::ptr_eq(other, pod)) {
            continue;
        }
        let place = index(pod).filter(|index| *index < completions);
        let counts = fails && tally.counts(place, &judge(spec(job).pod_failure_policy.as_ref(), pod));
        if !counts || tally.note(pod, false, all) {
            all.to_release.push(pod.clone());
        }
    }
    tell_counts(job, tally.uncounted, all);
}
