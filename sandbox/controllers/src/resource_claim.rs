//! Makes the claims of devices that pods take from templates, and tells the pods their names; claims go with their pod
//! (pkg/controller/resourceclaim). Few pods have any, so templates and claims are asked for when one comes, and not kept.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{EventType, ObjectKey, Recorder, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::context::{Context, Reconcile, Running, work};
use crate::error::{Error, text};
use crate::shared::meta::{Meta, controller_ref};

/// Which of its pod's claims a claim is.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";

struct Controller {
    client: Client,
    pods: Informer<Pod>,
    recorder: Recorder,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let pods = context.informer::<Pod>();
    let to_queue = queue.clone();
    pods.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) && !due(event.object()).is_empty() {
            to_queue.add(event.object().key());
        }
    });
    let recorder = context.recorder("resource_claim");
    work(Arc::new(Controller { client: context.client.clone(), pods, recorder }), queue, 1)
}

/// The claims of a pod that are to be made yet, each with the name of its template.
fn due(pod: &Pod) -> Vec<(&PodResourceClaim, &str)> {
    let status = pod.status.as_ref();
    let is_over = status.and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase != "Pending");
    if is_over || pod.deleting() {
        return Vec::new();
    }
    let made = status.and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default();
    let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let wanted = claims.filter_map(|claim| Some((claim, claim.resource_claim_template_name.as_deref()?)));
    wanted.filter(|(claim, _)| !made.iter().any(|one| one.name == claim.name)).collect()
}

/// The claim that a template makes for a pod.
fn of_template(pod: &Pod, name: &str, template: ResourceClaimTemplate) -> ResourceClaim {
    let given = template.spec.metadata.unwrap_or_default();
    let mut annotations = given.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.into(), name.into());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-{name}-", pod.name())),
            namespace: pod.metadata.namespace.clone(),
            labels: given.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref("v1", "Pod", &pod.metadata)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec,
        status: None,
    }
}

impl Controller {
    /// The name of a pod's claim, which is made if it is not there.
    async fn claim(&self, pod: &Pod, name: &str, template: &str) -> Result<String, Error> {
        let namespace = pod.namespace();
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
        let is_it = |claim: &ResourceClaim| {
            let annotations = claim.metadata.annotations.as_ref();
            claim.controlled_by(pod.uid())
                && annotations.and_then(|all| all.get(POD_CLAIM)).is_some_and(|said| said == name)
        };
        let all = claims.list(&ListParams::default()).await?.items;
        if let Some(there) = all.into_iter().find(is_it) {
            return Ok(there.name().to_owned());
        }
        let templates: Api<ResourceClaimTemplate> = Api::namespaced(self.client.clone(), namespace);
        let found = templates.get(template).await.map_err(|error| {
            Error::Object(format!("resource claim template {template:?}: {}", text(&error)))
        })?;
        let made = claims.create(&PostParams::default(), &of_template(pod, name, found)).await;
        let made = made.map_err(|error| Error::Object(format!("create claim: {}", text(&error))))?;
        Ok(made.name().to_owned())
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(None) };
        let mut names = Vec::new();
        for (claim, template) in due(&pod) {
            match self.claim(&pod, &claim.name, template).await {
                Ok(name) => names.push(json!({"name": claim.name, "resourceClaimName": name})),
                Err(error) => {
                    let message = format!("PodResourceClaim {}: {error}", claim.name);
                    self.recorder.event(&*pod, EventType::Warning, "FailedResourceClaimCreation", message);
                    return Err(error);
                }
            }
        }
        if !names.is_empty() {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
            let patch = Patch::Strategic(json!({"status": {"resourceClaimStatuses": names}}));
            pods.patch_status(&key.name, &PatchParams::default(), &patch).await?;
        }
        Ok(None)
    }
}
