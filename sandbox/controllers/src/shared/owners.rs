//! From a pod's event to the objects whose queue it concerns: its controller, or, if it has none, all that might adopt it.

use std::sync::Arc;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use super::claims::Namespaced;
use super::expectations::Expectations;
use super::meta::{Meta, selects, selects_everything};

/// A kind of owner of pods.
pub struct Owners<O> {
    informer: Informer<O>,
    kind: &'static str,
    selector: fn(&O) -> Option<LabelSelector>,
    expectations: Arc<Expectations>,
    queue: WorkQueue<ObjectKey>,
}

impl<O: Namespaced> Owners<O> {
    /// Owners that `informer` knows, told apart from those of other kinds by `kind`. What their pods show is noted in `expectations`, and who
    /// is concerned goes into `queue`.
    pub fn new(
        informer: Informer<O>,
        kind: &'static str,
        selector: fn(&O) -> Option<LabelSelector>,
        expectations: Arc<Expectations>,
        queue: WorkQueue<ObjectKey>,
    ) -> Self {
        Self { informer, kind, selector, expectations, queue }
    }

    /// The owner that a reference names, if it is of this kind and still the same.
    pub fn resolve(&self, namespace: &str, reference: Option<&OwnerReference>) -> Option<ObjectKey> {
        let reference = reference.filter(|reference| reference.kind == self.kind)?;
        let key = ObjectKey::new(namespace, &reference.name);
        let owner = self.informer.get(&key)?;
        (owner.uid() == reference.uid).then_some(key)
    }

    /// Takes an event of a pod.
    pub fn pod_event(&self, event: &Event<'_, Pod>) {
        match event {
            // After a restart a pod may be going when it is first seen.
            Event::Added(pod) if pod.deleting() => self.gone(&pod.metadata),
            Event::Added(pod) => match self.resolve(pod.namespace(), pod.controller()) {
                Some(key) => {
                    self.expectations.created(&key.to_string());
                    self.queue.add(key);
                }
                None => self.orphan(&pod.metadata),
            },
            Event::Updated { old, new } => self.changed(&old.metadata, &new.metadata),
            Event::Deleted(pod) => self.gone(&pod.metadata),
        }
    }

    fn changed(&self, old: &ObjectMeta, new: &ObjectMeta) {
        if new.deleting() {
            // A pod that is going counts as gone: its owner need not wait for its end.
            self.gone(new);
            if old.labels != new.labels {
                self.gone(old);
            }
            return;
        }
        if old.controller() != new.controller()
            && let Some(key) = self.resolve(old.namespace(), old.controller())
        {
            self.queue.add(key);
        }
        match self.resolve(new.namespace(), new.controller()) {
            Some(key) => self.queue.add(key),
            None if old.labels != new.labels || old.controller() != new.controller() => self.orphan(new),
            None => {}
        }
    }

    fn gone(&self, pod: &ObjectMeta) {
        if let Some(key) = self.resolve(pod.namespace(), pod.controller()) {
            self.expectations.deleted(&key.to_string(), pod.uid());
            self.queue.add(key);
        }
    }

    /// A pod that nobody controls: whoever selects it is asked.
    fn orphan(&self, pod: &ObjectMeta) {
        if pod.controller().is_some() {
            return;
        }
        for owner in self.informer.in_namespace(pod.namespace()) {
            let matches = (self.selector)(&owner)
                .is_some_and(|selector| !selects_everything(&selector) && selects(&selector, pod.labels()));
            if matches {
                self.queue.add(owner.key());
            }
        }
    }
}
