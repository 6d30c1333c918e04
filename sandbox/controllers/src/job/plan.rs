//! Which pods of a Job to make and to delete (`manageJob`). Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::assess::{Assessment, completions};
use super::backoff::{Record, remaining};
use super::pods::{index, is_indexed, replaces_failed_only};
use crate::shared::pods::{Ranked, deletion_order};

/// No more are made or deleted at once (`MaxPodCreateDeletePerSync`).
const BURST: usize = 500;

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to be made: with an index and how often that failed before, or without.
    pub create: Vec<Option<(i32, i32)>>,
    /// Pods to be deleted.
    pub delete: Vec<Arc<Pod>>,
    /// Look again after that time: pods that failed are made anew later.
    pub wait: Option<SignedDuration>,
}

/// What is to be done for a Job that goes on.
pub fn plan(job: &Job, all: &Assessment, record: Record, now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else { return Plan::default() };
    if spec.suspend == Some(true) {
        return Plan { delete: all.active.clone(), ..Plan::default() };
    }
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let active = i32::try_from(all.active.len()).unwrap_or(i32::MAX);
    let wanted = match completions(job) {
        // Once one has succeeded no new ones are begun.
        None if all.succeeded > 0 => active.min(parallelism),
        None => parallelism,
        Some(completions) => {
            let failed = i32::try_from(all.failed_indexes.len()).unwrap_or(0);
            completions.saturating_sub(all.succeeded).saturating_sub(failed).clamp(0, parallelism)
        }
    };
    let delete = surplus(job, all, usize::try_from(wanted).unwrap_or(0), now);
    if !delete.is_empty() {
        return Plan { delete, ..Plan::default() };
    }
    let going =
        if replaces_failed_only(job) { i32::try_from(all.terminating).unwrap_or(i32::MAX) } else { 0 };
    let missing = usize::try_from(wanted - going - active).unwrap_or(0).min(BURST);
    if missing == 0 {
        return Plan::default();
    }
    if is_indexed(job) {
        return make_indexes(job, all, missing, record, now);
    }
    match record.remaining(now) {
        SignedDuration::ZERO => Plan { create: vec![None; missing], ..Plan::default() },
        wait => Plan { wait: Some(wait), ..Plan::default() },
    }
}

/// Pods that are too many: of indexes that nobody wants or that are there twice, then any.
fn surplus(job: &Job, all: &Assessment, wanted: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    let mut sorted = all.active.clone();
    sorted.sort_by(|a, b| deletion_order(Ranked { pod: a, kin: 0 }, Ranked { pod: b, kin: 0 }, now));
    let mut delete = Vec::new();
    if is_indexed(job) {
        let completions = completions(job).unwrap_or(0);
        let mut seen = BTreeSet::new();
        // The one that would go last stays.
        sorted.reverse();
        sorted.retain(|pod| {
            let keep = index(pod).is_some_and(|index| index < completions && seen.insert(index));
            if !keep {
                delete.push(pod.clone());
            }
            keep
        });
        sorted.reverse();
    }
    let extra = sorted.len().saturating_sub(wanted);
    delete.extend(sorted.into_iter().take(extra));
    delete.truncate(BURST);
    delete
}

/// The lowest indexes that nobody works on. With a limit per index each waits for itself.
fn make_indexes(job: &Job, all: &Assessment, missing: usize, record: Record, now: Timestamp) -> Plan {
    let completions = completions(job).unwrap_or(0);
    let per_index = job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some());
    if !per_index {
        let wait = record.remaining(now);
        if wait > SignedDuration::ZERO {
            return Plan { wait: Some(wait), ..Plan::default() };
        }
    }
    let active: BTreeSet<i32> = all.active.iter().filter_map(|pod| index(pod)).collect();
    let mut plan = Plan::default();
    for place in 0..completions {
        if plan.create.len() == missing {
            break;
        }
        if active.contains(&place)
            || all.succeeded_indexes.contains(&place)
            || all.failed_indexes.contains(&place)
        {
            continue;
        }
        let (failures, last) = all.index_failures.get(&place).copied().unwrap_or((0, Timestamp::UNIX_EPOCH));
        let wait = remaining(failures.unsigned_abs(), last, now);
        if per_index && failures > 0 && wait > SignedDuration::ZERO {
            plan.wait = Some(plan.wait.map_or(wait, |other: SignedDuration| other.min(wait)));
            continue;
        }
        plan.create.push(Some((place, failures)));
    }
    plan
}
