//! What the status of a Deployment says: counts, conditions, progress against its deadline (pkg/controller/deployment/progress.go).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::replica_sets::{desired, find_new, limits};
use crate::shared::conditions::{self, get, set};
use crate::shared::meta::Meta;
use crate::shared::numbers;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";

/// A condition as of now.
pub fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The deadline for progress; `None`: there is none (which is written as the largest number).
fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true))
}

/// Whether all pods are of the newest template and available, by the Deployment's own status (`DeploymentComplete`).
pub fn is_complete(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| complete(deployment, status))
}

fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = desired(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

/// The status of a Deployment with these ReplicaSets. With `track`, the `Progressing` condition is judged too (not while it is paused,
/// scaled or deleted).
pub fn status(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    track: bool,
    now: Timestamp,
) -> DeploymentStatus {
    let new = find_new(deployment, sets).map(|index| &*sets[index]);
    let mut status = counts(deployment, sets, new);
    let enough =
        status.available_replicas.unwrap_or(0) >= desired(deployment).saturating_sub(limits(deployment).1);
    let available = if enough {
        condition(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
            now,
        )
    } else {
        condition(
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".into(),
            now,
        )
    };
    set(&mut status.conditions, available);
    pause_condition(deployment, &mut status, now);
    if track {
        progress(deployment, new, &mut status, now);
        match failure(sets, new) {
            Some(condition) => {
                set(&mut status.conditions, condition);
            }
            None => {
                conditions::remove(&mut status.conditions, FAILURE);
            }
        }
    }
    status
}

fn counts(deployment: &Deployment, sets: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSetStatus) -> i32| {
        numbers::sum(sets.iter().filter_map(|set| set.status.as_ref()).map(of))
    };
    let replicas = sum(|status| status.replicas);
    let available = sum(|status| status.available_replicas.unwrap_or(0));
    let terminating = sum(|status| status.terminating_replicas.unwrap_or(0));
    let ready = sum(|status| status.ready_replicas.unwrap_or(0));
    let updated = new.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    // Zeros are left out, as Go's `omitempty` does; the terminating ones are behind a pointer and are told.
    let some = |count: i32| (count != 0).then_some(count);
    let current = deployment.status.as_ref();
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(replicas),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(available),
        unavailable_replicas: some(desired(deployment).max(replicas).saturating_sub(available).max(0)),
        terminating_replicas: Some(terminating),
        collision_count: current.and_then(|status| status.collision_count),
        conditions: current.and_then(|status| status.conditions.clone()),
    }
}

/// A paused Deployment makes no progress that could be judged, and says so (`checkPausedConditions`).
fn pause_condition(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if deadline(deployment).is_none() || deployment.deleting() {
        return;
    }
    let reason = get(&status.conditions, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    let (reason, message) = match (is_paused(deployment), reason) {
        (_, Some("ProgressDeadlineExceeded")) => return,
        (true, reason) if reason != Some("DeploymentPaused") => ("DeploymentPaused", "Deployment is paused"),
        (false, Some("DeploymentPaused")) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    set(&mut status.conditions, condition(PROGRESSING, "Unknown", reason, message.into(), now));
}

/// The `Progressing` condition (`syncRolloutStatus`).
fn progress(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    let Some(deadline) = deadline(deployment) else {
        conditions::remove(&mut status.conditions, PROGRESSING);
        return;
    };
    let what = new.map_or_else(
        || format!("Deployment {:?}", deployment.name()),
        |set| format!("ReplicaSet {:?}", set.name()),
    );
    let current = get(&status.conditions, PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current
            .as_ref()
            .is_some_and(|current| current.reason.as_deref() == Some("NewReplicaSetAvailable"));
    if was_complete {
        return;
    }
    if complete(deployment, status) {
        let message = format!("{what} has successfully progressed.");
        set(&mut status.conditions, condition(PROGRESSING, "True", "NewReplicaSetAvailable", message, now));
    } else if progresses(deployment, status) {
        let mut next =
            condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), now);
        if let Some(current) = current {
            if current.status == "True" {
                next.last_transition_time = current.last_transition_time;
            }
            conditions::remove(&mut status.conditions, PROGRESSING);
        }
        set(&mut status.conditions, next);
    } else if is_late(current.as_ref(), status, deadline, now) {
        let message = format!("{what} has timed out progressing.");
        set(
            &mut status.conditions,
            condition(PROGRESSING, "False", "ProgressDeadlineExceeded", message, now),
        );
    }
}

/// Whether the new status is nearer to the goal than the Deployment's (`DeploymentProgressing`).
fn progresses(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let none = DeploymentStatus::default();
    let old = deployment.status.as_ref().unwrap_or(&none);
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| status.replicas.unwrap_or(0).saturating_sub(updated(status));
    updated(new) > updated(old)
        || outdated(new) < outdated(old)
        || new.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
        || new.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0)
}

/// Whether the deadline has passed without progress (`DeploymentTimedOut`).
fn is_late(
    current: Option<&DeploymentCondition>,
    _status: &DeploymentStatus,
    deadline: i32,
    now: Timestamp,
) -> bool {
    let Some(current) = current else { return false };
    match current.reason.as_deref() {
        Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => remaining(current, deadline, now).is_some_and(|left| left <= SignedDuration::ZERO),
    }
}

fn remaining(current: &DeploymentCondition, deadline: i32, now: Timestamp) -> Option<SignedDuration> {
    let from = current.last_update_time.as_ref()?.0;
    let at = from.checked_add(SignedDuration::from_secs(deadline.into())).ok()?;
    Some(at.duration_since(now))
}

/// When to look again although nothing happens: just after the deadline (`requeueStuckDeployment`).
pub fn look_again(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<SignedDuration> {
    let deadline = deadline(deployment)?;
    let current = get(&status.conditions, PROGRESSING)?;
    let over =
        matches!(current.reason.as_deref(), Some("ProgressDeadlineExceeded" | "NewReplicaSetAvailable"));
    if over || is_paused(deployment) || complete(deployment, status) {
        return None;
    }
    Some(remaining(current, deadline, now)?.max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
}

/// What keeps a ReplicaSet from making pods, the new one's reason first.
fn failure(sets: &[Arc<ReplicaSet>], new: Option<&ReplicaSet>) -> Option<DeploymentCondition> {
    let of = |set: &ReplicaSet| {
        let status = set.status.as_ref()?;
        let found = status.conditions.iter().flatten().find(|condition| condition.type_ == FAILURE)?;
        Some(DeploymentCondition {
            type_: found.type_.clone(),
            status: found.status.clone(),
            reason: found.reason.clone(),
            message: found.message.clone(),
            last_transition_time: found.last_transition_time.clone(),
            last_update_time: found.last_transition_time.clone(),
        })
    };
    new.and_then(of).or_else(|| sets.iter().find_map(|set| of(set)))
}
