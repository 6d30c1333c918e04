//! What a pod's task remembers from round to round: how it was told of, what it was allotted, why things wait.

use super::{
    admission::Refused,
    backoff::Backoff,
    resize::{self, Allotted},
};
use crate::{images::Waiting, volumes::Unmounted};
use drydock_kubeclient::EventType;
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use std::{collections::HashMap, sync::Arc};

/// What a pod's task remembers from round to round. A kubelet that starts anew begins without.
pub struct Memory {
    /// Why containers wait.
    pub reasons: HashMap<String, Waiting>,
    /// Delays of containers that crash.
    pub(super) delays: Backoff,
    /// Last words by container id.
    pub(super) words: HashMap<String, String>,
    /// The status that was told last.
    pub told: Option<PodStatus>,
    /// When the pod was seen first.
    pub(super) start_time: Time,
    /// Why the kubelet ended it: reason, message.
    pub ended: Option<(String, String)>,
    /// It never began: the node did not take it.
    pub(super) refused: bool,
    /// What it may use.
    pub(super) allotted: Allotted,
    /// Why it can't have what it wants now.
    pub waits_for: Option<Refused>,
    /// The generation of the specification of which that was told.
    pub(super) told_of: Option<i64>,
    /// Why a container could not be given what was allotted.
    pub(super) resize_error: Option<String>,
    /// The generation of the specification whose allotment containers do not have yet.
    pub(super) resizing: Option<i64>,
    /// Volumes that cannot be set up.
    pub(super) unmounted: Unmounted,
}

impl Memory {
    /// Of a pod that has just been seen. What its status says from before is kept.
    pub fn new(pod: &Pod) -> Self {
        let told = pod.status.clone().filter(|s| s.start_time.is_some());
        let start_time = told.as_ref().and_then(|s| s.start_time.clone());
        let ended = told.as_ref().filter(|s| s.phase.as_deref() == Some("Failed") && s.reason.is_some());
        let ended =
            ended.map(|s| (s.reason.clone().unwrap_or_default(), s.message.clone().unwrap_or_default()));
        let refused = ended.is_some() && told.as_ref().is_some_and(|s| s.container_statuses.is_none());
        Self {
            reasons: HashMap::new(),
            delays: Backoff::default(),
            words: HashMap::new(),
            start_time: start_time.unwrap_or_else(|| Time(Timestamp::now())),
            // A new pod has all that it wants, or is not taken.
            allotted: if told.is_some() { Allotted::told(pod) } else { Allotted::wanted(pod) },
            waits_for: None,
            told_of: None,
            resize_error: None,
            resizing: None,
            unmounted: Unmounted::default(),
            told,
            ended,
            refused,
        }
    }

    /// The pod with what it may use: all that it wants, if `refusal` has nothing against it. `tell` gets reasons and messages of events.
    pub fn allot(
        &mut self,
        pod: &Arc<Pod>,
        refusal: impl FnOnce() -> Option<Refused>,
        tell: impl FnOnce(EventType, &str, &str),
    ) -> Arc<Pod> {
        let wanted = Allotted::wanted(pod);
        let before = self.waits_for.take();
        if wanted == self.allotted {
            return pod.clone();
        }
        if let Some(why) = refusal() {
            if before.as_ref() != Some(&why) || self.told_of != pod.metadata.generation {
                self.told_of = pod.metadata.generation;
                let message = resize::told(&format!("Pod resize {}", why.reason), pod, &why.message);
                tell(EventType::Warning, &format!("Resize{}", why.reason), &message);
            }
            self.waits_for = Some(why);
            return Arc::new(self.allotted.applied(pod));
        }
        tell(EventType::Normal, "ResizeStarted", &resize::told("Pod resize started", pod, ""));
        self.resizing = Some(pod.metadata.generation.unwrap_or_default());
        self.allotted = wanted;
        pod.clone()
    }

    /// The node does not take the pod (`rejectPod`).
    pub fn refuse(&mut self, why: Refused) {
        self.ended = Some((why.reason, format!("Pod was rejected: {}", why.message)));
        self.refused = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_becomes_of_a_resize_is_told_once() {
        let pod = |cpu: &str, generation: i64| -> Arc<Pod> {
            let container = json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
            let metadata = json!({ "name": "p", "generation": generation });
            let pod = json!({ "metadata": metadata, "spec": { "containers": [container] } });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let mut memory = Memory::new(&pod("1", 1));
        let mut allot = |pod: &Arc<Pod>, fits: bool| {
            let mut told = Vec::new();
            let why = Refused { reason: "Deferred".into(), message: "no room".into() };
            memory.allot(pod, || (!fits).then_some(why), |_, reason, _| told.push(reason.to_owned()));
            told
        };
        assert_eq!(allot(&pod("1", 1), true), Vec::<String>::new());
        assert_eq!(allot(&pod("2", 2), false), ["ResizeDeferred"]);
        assert_eq!(allot(&pod("2", 2), false), Vec::<String>::new());
        assert_eq!(allot(&pod("3", 3), false), ["ResizeDeferred"], "somebody wants something else");
        assert_eq!(allot(&pod("3", 3), true), ["ResizeStarted"]);
        assert_eq!(allot(&pod("3", 3), true), Vec::<String>::new());
        assert_eq!(memory.resizing, Some(3));
    }
}
