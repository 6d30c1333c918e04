//! Makes and deletes pods for an owner, and tells about it in events (`RealPodControl` in pkg/controller/controller_utils.go).

use drydock_kubeclient::{EventType, Recorder, errors};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};

use super::batch::slow_start;
use super::expectations::Expectations;
use super::meta::Meta;
use crate::error::text;

/// Makes and deletes pods.
#[derive(Clone)]
pub struct PodControl {
    client: Client,
    recorder: Recorder,
}

impl PodControl {
    /// One whose events come from that recorder.
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates a pod for `owner`.
    pub async fn create<O: Resource<DynamicType = ()>>(
        &self,
        owner: &O,
        pod: &Pod,
    ) -> Result<Pod, kube::Error> {
        match self.api(pod.namespace()).create(&PostParams::default(), pod).await {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.name());
                self.recorder.event(owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(pod)
            }
            Err(error) => {
                // In a namespace that is going nothing can be made; that is no news.
                if !errors::is_namespace_terminating(&error) {
                    let message = format!("Error creating: {}", text(&error));
                    self.recorder.event(owner, EventType::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    /// Creates `count` pods for `owner`, which the expectations of `key` know of already: one first, then more and more ([`slow_start`]).
    /// How many were made, and the first failure. A namespace that is going is none: nothing is expected of it any more.
    pub async fn create_all<O: Resource<DynamicType = ()>>(
        &self,
        owner: &O,
        (expectations, key): (&Expectations, &str),
        count: usize,
        pod: impl Fn(usize) -> Option<Pod>,
    ) -> (usize, Option<kube::Error>) {
        let (made, error) = slow_start(count, |number| {
            let pod = pod(number);
            async move {
                let Some(pod) = pod else { return Ok(()) };
                match self.create(owner, &pod).await {
                    Ok(_) => Ok(()),
                    Err(error) if errors::is_namespace_terminating(&error) => {
                        expectations.created(key);
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
        })
        .await;
        expectations.not_created(key, count - made);
        (made, error)
    }

    /// Deletes a pod of `owner`. One that is gone already is no error.
    pub async fn delete<O: Resource<DynamicType = ()>>(
        &self,
        owner: &O,
        pod: &Pod,
    ) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(kube::api::Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api(pod.namespace()).delete(pod.name(), &params).await {
            Ok(_) => {
                let message = format!("Deleted pod: {}", pod.name());
                self.recorder.event(owner, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", text(&error));
                self.recorder.event(owner, EventType::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }
}
