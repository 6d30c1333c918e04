//! The service accounts of controllers (`--use-service-account-credentials`): upstream's controllers act as one each and make those that are missing in
//! kube-system (k8s.io/controller-manager `pkg/clientbuilder`). Ours all act as their program, but what looks at the accounts (`kubectl
//! get serviceaccounts`, `kubectl auth can-i --as system:serviceaccount:kube-system:…`) finds them.

use std::time::Duration;

use drydock_kubeclient::errors;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::manager::is_on;

const NAMESPACE: &str = "kube-system";

/// After a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Accounts by the controllers that act as them, those of upstream that are none of ours too.
const ACCOUNTS: &[(&str, &str)] = &[
    ("attachdetach-controller", "persistentvolume-attach-detach-controller"),
    ("bootstrap-signer", "bootstrap-signer-controller"),
    ("certificate-controller", "certificatesigningrequest-signing-controller"),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation-controller"),
    ("cronjob-controller", "cronjob-controller"),
    ("daemon-set-controller", "daemonset-controller"),
    ("deployment-controller", "deployment-controller"),
    ("disruption-controller", "disruption-controller"),
    ("endpoint-controller", "endpoints-controller"),
    ("endpointslice-controller", "endpointslice-controller"),
    ("endpointslicemirroring-controller", "endpointslice-mirroring-controller"),
    ("ephemeral-volume-controller", "ephemeral-volume-controller"),
    ("expand-controller", "persistentvolume-expander-controller"),
    ("generic-garbage-collector", "garbage-collector-controller"),
    ("horizontal-pod-autoscaler", "horizontal-pod-autoscaler-controller"),
    ("job-controller", "job-controller"),
    ("legacy-service-account-token-cleaner", "legacy-serviceaccount-token-cleaner-controller"),
    ("namespace-controller", "namespace-controller"),
    ("node-controller", "node-lifecycle-controller"),
    ("persistent-volume-binder", "persistentvolume-binder-controller"),
    ("pod-garbage-collector", "pod-garbage-collector-controller"),
    ("pv-protection-controller", "persistentvolume-protection-controller"),
    ("pvc-protection-controller", "persistentvolumeclaim-protection-controller"),
    ("replicaset-controller", "replicaset-controller"),
    ("replication-controller", "replicationcontroller-controller"),
    ("resource-claim-controller", "resourceclaim-controller"),
    ("resourcequota-controller", "resourcequota-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
    ("service-account-controller", "serviceaccount-controller"),
    ("service-cidrs-controller", "service-cidr-controller"),
    ("statefulset-controller", "statefulset-controller"),
    ("token-cleaner", "token-cleaner-controller"),
    ("ttl-after-finished-controller", "ttl-after-finished-controller"),
    ("ttl-controller", "ttl-controller"),
    ("validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller"),
    ("volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller"),
];

/// Makes the accounts of the controllers that are on, if there are none.
pub async fn make(client: Client, controllers: &[String]) {
    let api: Api<ServiceAccount> = Api::namespaced(client, NAMESPACE);
    for (name, _) in ACCOUNTS.iter().filter(|(_, controller)| is_on(controller, controllers)) {
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some((*name).into()),
                namespace: Some(NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        while let Err(error) = api.create(&PostParams::default(), &account).await {
            if errors::is_already_exists(&error) {
                break;
            }
            tracing::warn!(account = name, %error, "Failed to make a controller's service account, will retry");
            tokio::time::sleep(RETRY).await;
        }
    }
}
