//! What a ReplicaSet and a ReplicationController have in common, so that one controller serves both.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use crate::shared::claims::Namespaced;

/// A kind that keeps so many pods of a template.
pub trait Scaled: Namespaced + k8s_openapi::Resource + Serialize {
    /// How many pods it wants.
    fn wanted(&self) -> i32;
    /// For how long a pod must have been ready.
    fn min_ready_seconds(&self) -> i32;
    /// Which pods are its own.
    fn selector(&self) -> LabelSelector;
    /// What its pods look like.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// Its status; that of a ReplicationController has the same fields but one.
    fn current_status(&self) -> ReplicaSetStatus;
    /// Gives it a status.
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl Scaled for ReplicaSet {
    fn wanted(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn current_status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Scaled for ReplicationController {
    fn wanted(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
    fn selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: self.spec.as_ref().and_then(|spec| spec.selector.clone()),
            match_expressions: None,
        }
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn current_status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            terminating_replicas: None,
            conditions: status.conditions.map(|conditions| {
                conditions
                    .into_iter()
                    .map(|one| ReplicaSetCondition {
                        type_: one.type_,
                        status: one.status,
                        reason: one.reason,
                        message: one.message,
                        last_transition_time: one.last_transition_time,
                    })
                    .collect()
            }),
        }
    }
    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|conditions| {
                conditions
                    .into_iter()
                    .map(|one| ReplicationControllerCondition {
                        type_: one.type_,
                        status: one.status,
                        reason: one.reason,
                        message: one.message,
                        last_transition_time: one.last_transition_time,
                    })
                    .collect()
            }),
        });
    }
}
