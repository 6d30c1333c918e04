//! Telling that a pod has to wait: an event, the pod's condition, and, if room can be made for it, the removal of the victims. Runs beside
//! the loop (scheduler `schedule_one.go`, handleSchedulingFailure; `framework/preemption/executor.go`).

use std::borrow::Cow;
use std::sync::Arc;

use drydock_kubeclient::{EventType, Report, errors};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use super::Context;
use crate::pod::PodInfo;
use crate::preemption::Preemption;
use crate::schedule::Unschedulable;

/// Tells why a pod waits, and makes room for it if that is possible.
pub(super) async fn report(
    context: &Context,
    pod: &PodInfo,
    why: &Unschedulable,
    less_important: &[Arc<PodInfo>],
) {
    let nomination = match &why.preemption {
        Some(preemption) => Some(Some(preemption.node.as_str())),
        None => (why.clears_nomination && pod.nominated_node().is_some()).then_some(None),
    };
    failed(context, pod, "Unschedulable", &why.message, nomination).await;
    if let Some(preemption) = &why.preemption {
        make_room(context, pod, preemption, less_important).await;
    }
}

/// Tells that a pod could not be scheduled because something went wrong.
pub(super) async fn error(context: &Context, pod: &PodInfo, message: &str) {
    failed(context, pod, "SchedulerError", message, None).await;
}

async fn failed(
    context: &Context,
    pod: &PodInfo,
    reason: &str,
    message: &str,
    nomination: Option<Option<&str>>,
) {
    let (kind, note) = (EventType::Warning, &*shortened(message));
    let event = Report { kind, reason: "FailedScheduling", action: "Scheduling", note };
    context.reporter.event(&*pod.pod, None, event);
    let condition = condition(pod, "PodScheduled", "False", reason, message);
    let mut status = json!({});
    if let Some(condition) = condition {
        status["conditions"] = json!([condition]);
    }
    if let Some(node) = nomination.filter(|node| *node != pod.nominated_node()) {
        status["nominatedNodeName"] = json!(node);
    }
    if status != json!({}) {
        patch_status(context, pod, status).await;
    }
}

/// No more than an event may say (`truncateMessage`).
fn shortened(message: &str) -> Cow<'_, str> {
    const MOST: usize = 1024;
    const MORE: &str = " ...";
    if message.len() <= MOST {
        return message.into();
    }
    let mut end = MOST - MORE.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &message[..end]).into()
}

/// A condition as it should be; none if it is so already. The time is that of the last change of the status itself
/// (`podutil.UpdatePodCondition`).
fn condition(pod: &PodInfo, kind: &str, status: &str, reason: &str, message: &str) -> Option<PodCondition> {
    let conditions =
        pod.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let old = conditions.iter().find(|condition| condition.type_ == kind);
    let mut new = PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        observed_generation: pod.pod.metadata.generation,
        last_transition_time: Some(Time(Timestamp::now())),
        last_probe_time: None,
    };
    if let Some(old) = old.filter(|old| old.status == status) {
        new.last_transition_time = old.last_transition_time.clone();
        new.last_probe_time = old.last_probe_time.clone();
        if new == *old {
            return None;
        }
    }
    Some(new)
}

async fn patch_status(context: &Context, pod: &PodInfo, status: Value) -> bool {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &pod.key.namespace);
    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": status}));
    match pods.patch_status(&pod.key.name, &PatchParams::default(), &patch).await {
        Ok(_) => true,
        Err(error) => {
            if !errors::is_not_found(&error) {
                tracing::warn!(pod = %pod.key, %error, "the pod's status could not be updated");
            }
            false
        }
    }
}

/// Removes the victims; pods of lower priority that were to come to the node must look for another.
async fn make_room(
    context: &Context,
    pod: &PodInfo,
    preemption: &Preemption,
    less_important: &[Arc<PodInfo>],
) {
    for victim in &preemption.victims {
        let message = format!("{}: preempting to accommodate a higher priority pod", context.name);
        if let Some(condition) =
            condition(victim, "DisruptionTarget", "True", "PreemptionByScheduler", &message)
            && !patch_status(context, victim, json!({"conditions": [condition]})).await
        {
            continue;
        }
        let pods: Api<Pod> = Api::namespaced(context.client.clone(), &victim.key.namespace);
        let this_one = Preconditions { uid: Some(victim.uid.clone()), resource_version: None };
        match pods.delete(&victim.key.name, &DeleteParams::default().preconditions(this_one)).await {
            Ok(_) => {
                let message = format!("Preempted by pod {} on node {}", pod.uid, preemption.node);
                let (kind, reason, action) = (EventType::Normal, "Preempted", "Preempting");
                let event = Report { kind, reason, action, note: &message };
                context.reporter.event(&*victim.pod, Some(&*pod.pod), event);
            }
            Err(error) if errors::is_not_found(&error) => {}
            Err(error) => {
                tracing::warn!(victim = %victim.key, preemptor = %pod.key, %error, "tried to preempt pod")
            }
        }
    }
    for other in less_important {
        patch_status(context, other, json!({"nominatedNodeName": null})).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_no_more_than_it_may() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"é".repeat(600)).into_owned();
        assert!(long.len() <= 1024 && long.ends_with("é ..."), "{}", long.len());
    }
}
