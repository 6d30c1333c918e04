//! From changes of Services and pods to the queue of Services: for both controllers, that of `Endpoints` and that of slices.

use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, Service};

use super::pods::differs;
use crate::context::Context;
use crate::shared::meta::{Labels, Meta, has_all};

/// Pods of a Deployment become ready one after the other: changes within this time are written as one.
const BATCH: Duration = Duration::from_millis(20);

/// The selector of a Service; `None`: its endpoints are somebody else's business.
pub fn selector(service: &Service) -> Option<&Labels> {
    service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// The pods that a Service selects.
pub fn selected(pods: &Informer<Pod>, service: &Service) -> Vec<std::sync::Arc<Pod>> {
    let Some(selector) = selector(service) else { return Vec::new() };
    let all = pods.in_namespace(service.namespace());
    all.into_iter().filter(|pod| has_all(selector, pod.labels())).collect()
}

/// A queue of the Services whose endpoints may have changed.
pub fn queue(context: &Context) -> WorkQueue<ObjectKey> {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let services = context.informer::<Service>();
    let to_queue = queue.clone();
    services.subscribe(move |event| to_queue.add(event.object().key()));
    let to_queue = queue.clone();
    context.informer::<Pod>().subscribe(move |event| {
        let (namespace, old, new) = match event {
            Event::Updated { old, new } if differs(old, new) => (new.namespace(), Some(old), new),
            Event::Updated { .. } => return,
            Event::Added(pod) | Event::Deleted(pod) => (pod.namespace(), None, pod),
        };
        for service in services.in_namespace(namespace) {
            let Some(selector) = selector(&service) else { continue };
            let concerned =
                has_all(selector, new.labels()) || old.is_some_and(|old| has_all(selector, old.labels()));
            if concerned {
                to_queue.add_after(service.key(), BATCH);
            }
        }
    });
    queue
}
