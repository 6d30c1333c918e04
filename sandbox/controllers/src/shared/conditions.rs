//! Conditions of a status: setting one keeps the time of the last change of its `status`, as every controller upstream does.

use k8s_openapi::api::apps::v1::{DeploymentCondition, ReplicaSetCondition};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::{NamespaceCondition, ReplicationControllerCondition};

/// A condition of some kind's status.
pub trait Condition: Clone {
    /// What it is about.
    fn type_(&self) -> &str;
    /// `True`, `False` or `Unknown`.
    fn status(&self) -> &str;
    /// Why, in a word.
    fn reason(&self) -> &str;
    /// Keeps the time at which another one changed.
    fn keep_transition_of(&mut self, other: &Self);
}

macro_rules! conditions {
    ($($kind:ty),*) => {$(
        impl Condition for $kind {
            fn type_(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            fn reason(&self) -> &str {
                self.reason.as_deref().unwrap_or_default()
            }
            fn keep_transition_of(&mut self, other: &Self) {
                self.last_transition_time.clone_from(&other.last_transition_time);
            }
        }
    )*};
}

conditions!(
    DeploymentCondition,
    ReplicaSetCondition,
    ReplicationControllerCondition,
    JobCondition,
    NamespaceCondition,
    HorizontalPodAutoscalerCondition
);

/// The condition of a type.
pub fn get<'a, C: Condition>(conditions: &'a Option<Vec<C>>, type_: &str) -> Option<&'a C> {
    conditions.iter().flatten().find(|condition| condition.type_() == type_)
}

/// Sets a condition unless one of the same status and reason is there; whether something changed (`SetDeploymentCondition`).
pub fn set<C: Condition>(conditions: &mut Option<Vec<C>>, mut condition: C) -> bool {
    if let Some(current) = get(conditions, condition.type_()) {
        if current.status() == condition.status() && current.reason() == condition.reason() {
            return false;
        }
        if current.status() == condition.status() {
            condition.keep_transition_of(current);
        }
    }
    let type_ = condition.type_().to_owned();
    remove(conditions, &type_);
    conditions.get_or_insert_default().push(condition);
    true
}

/// Takes a condition away; whether there was one.
pub fn remove<C: Condition>(conditions: &mut Option<Vec<C>>, type_: &str) -> bool {
    let Some(list) = conditions else { return false };
    let before = list.len();
    list.retain(|condition| condition.type_() != type_);
    let changed = list.len() != before;
    if list.is_empty() {
        *conditions = None;
    }
    changed
}
