//! Conditions of an autoscaler: each is there once, and its time is that of the last change of its status.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Says something in a condition.
pub fn say(
    status: &mut HorizontalPodAutoscalerStatus,
    type_: &str,
    yes: bool,
    reason: &str,
    message: String,
) {
    let list = status.conditions.get_or_insert_default();
    let state = if yes { "True" } else { "False" };
    let position = list.iter().position(|one| one.type_ == type_);
    let since = position
        .filter(|index| list[*index].status == state)
        .and_then(|index| list[index].last_transition_time.clone());
    let condition = HorizontalPodAutoscalerCondition {
        type_: type_.into(),
        status: state.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: since.or(Some(Time(Timestamp::now()))),
    };
    match position {
        Some(index) => list[index] = condition,
        None => list.push(condition),
    }
}
