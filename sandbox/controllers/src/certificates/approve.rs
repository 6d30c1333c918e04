//! Approves what kubelets ask for themselves, if who asks may (`kubectl get clusterrolebinding kubeadm:node-autoapprove-bootstrap`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client};

use super::request::{KUBELET_CLIENT, allowed, condition, der, has_condition, is_issued, subject};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

struct Controller {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let requests = context.informer::<CertificateSigningRequest>();
    let to_queue = queue.clone();
    requests.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    work(Arc::new(Controller { client: context.client.clone(), requests }), queue, 1)
}

impl Controller {
    /// Whether who asks has the right to create such requests: that is what approval is asked about.
    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
        let extra: Option<BTreeMap<_, _>> = request.spec.extra.clone();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: request.spec.username.clone(),
                uid: request.spec.uid.clone(),
                groups: request.spec.groups.clone(),
                extra,
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".into()),
                    resource: Some("certificatesigningrequests".into()),
                    subresource: Some(subresource.into()),
                    verb: Some("create".into()),
                    version: Some("*".into()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(request) = self.requests.get(key) else { return Ok(None) };
        let decided =
            has_condition(&request, "Approved") || has_condition(&request, "Denied") || is_issued(&request);
        if decided || request.spec.signer_name != KUBELET_CLIENT {
            return Ok(None);
        }
        let usages = request.spec.usages.clone().unwrap_or_default();
        let asked = der(&request).and_then(|der| subject(&der));
        let Ok(asked) = asked.and_then(|asked| allowed(KUBELET_CLIENT, &asked, &usages).map(|()| asked))
        else {
            return Ok(None);
        };
        let is_self = asked.names.first() == request.spec.username.as_ref();
        let ways = [
            (
                is_self,
                "selfnodeclient",
                "Auto approving self kubelet client certificate after SubjectAccessReview.",
            ),
            (true, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
        ];
        for (applies, subresource, message) in ways {
            if !applies || !self.may(&request, subresource).await? {
                continue;
            }
            let mut copy = CertificateSigningRequest::clone(&request);
            let conditions = copy.status.get_or_insert_default().conditions.get_or_insert_default();
            conditions.push(condition("Approved", "AutoApproved", message));
            let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
            match api
                .replace_subresource::<CertificateSigningRequest>(
                    "approval",
                    &key.name,
                    &PostParams::default(),
                    &copy,
                )
                .await
            {
                Ok(_) => return Ok(None),
                Err(error) if errors::is_not_found(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}
