//! Budgets, quotas, autoscalers, certificates, roles, tokens, load balancers.

use drydock_controllers::manager::Settings;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::harness::{Cluster, template};

async fn web(cluster: &Cluster, replicas: i32) {
    let mut template = template("web", "nginx");
    template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    cluster
        .create::<Deployment>(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }))
        .await;
    let ready = |web: &Deployment| {
        web.status.as_ref().is_some_and(|status| status.available_replicas == Some(replicas))
    };
    cluster.when("web", ready).await;
}

#[tokio::test]
async fn a_budget_counts_what_may_go() {
    let cluster = Cluster::start().await;
    web(&cluster, 3).await;
    cluster
        .create::<PodDisruptionBudget>(json!({
            "metadata": {"name": "web"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        }))
        .await;
    let counts = |allowed, expected| {
        move |budget: &PodDisruptionBudget| {
            let status = budget.status.clone().unwrap_or_default();
            (status.disruptions_allowed, status.expected_pods) == (allowed, expected)
        }
    };
    cluster.when("web", counts(1, 3)).await;
    let patch = Patch::Merge(json!({"spec": {"maxUnavailable": "100%"}}));
    cluster.api::<PodDisruptionBudget>().patch("web", &PatchParams::default(), &patch).await.unwrap();
    cluster.when("web", counts(3, 3)).await;
}

#[tokio::test]
async fn a_budget_says_that_it_cannot_count_pods_without_owner() {
    let cluster = Cluster::start().await;
    let template = template("alone", "nginx");
    let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("alone");
    cluster.create::<Pod>(pod).await;
    let selector = json!({"matchLabels": {"app": "alone"}});
    let spec = json!({"minAvailable": "50%", "selector": selector});
    cluster.create::<PodDisruptionBudget>(json!({"metadata": {"name": "alone"}, "spec": spec})).await;
    let words = "Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string{app: alone,},\
        MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. As a result, the status of the PDB cannot be \
        calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" \
        field of the PDB to an integer value.";
    cluster.event("UnmanagedPods", words).await;
}

#[tokio::test]
async fn a_quota_counts_and_gives_back() {
    let cluster = Cluster::start().await;
    cluster
        .create::<ResourceQuota>(json!({
            "metadata": {"name": "all"},
            "spec": {"hard": {"pods": "9", "requests.cpu": "2", "configmaps": "9"}},
        }))
        .await;
    web(&cluster, 2).await;
    let used = |pods: &'static str, cpu: &'static str| {
        move |quota: &ResourceQuota| {
            let used = quota.status.clone().unwrap_or_default().used.unwrap_or_default();
            used.get("pods").is_some_and(|text| text.0 == pods)
                && used.get("requests.cpu").is_some_and(|text| text.0 == cpu)
        }
    };
    // Touching the quota has everything counted, also what came while it was being set up.
    let patch = Patch::Merge(json!({"spec": {"hard": {"pods": "8"}}}));
    cluster.api::<ResourceQuota>().patch("all", &PatchParams::default(), &patch).await.unwrap();
    cluster.when("all", used("2", "200m")).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    cluster.when("all", used("0", "0")).await;
    assert_eq!(cluster.api::<ConfigMap>().list(&Default::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn an_autoscaler_keeps_within_its_limits_and_says_what_it_misses() {
    let cluster = Cluster::start().await;
    web(&cluster, 1).await;
    cluster
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "web"},
            "spec": {
                "minReplicas": 2, "maxReplicas": 5,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
            },
        }))
        .await;
    cluster
        .event("SuccessfulRescale", "New size: 2; reason: Current number of replicas below Spec.MinReplicas")
        .await;
    cluster.when_pods("two pods", |pods| pods.len() == 2).await;
    let touch = Patch::Merge(json!({"spec": {"maxReplicas": 6}}));
    cluster.api::<HorizontalPodAutoscaler>().patch("web", &PatchParams::default(), &touch).await.unwrap();
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API";
    cluster.event("FailedGetResourceMetric", why).await;
    let all = "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value";
    cluster.event("FailedComputeMetricsReplicas", &format!("{all}: {why}")).await;
}

#[tokio::test]
async fn two_autoscalers_of_the_same_pods_do_nothing() {
    let cluster = Cluster::start().await;
    web(&cluster, 1).await;
    for name in ["h1", "h2"] {
        cluster
            .create::<HorizontalPodAutoscaler>(json!({
                "metadata": {"name": name},
                "spec": {
                    "maxReplicas": 5,
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "metrics": [{"type": "Pods", "pods": {"metric": {"name": "p"}, "target": {"type": "AverageValue", "averageValue": "1"}}}],
                },
            }))
            .await;
    }
    let touch = Patch::Merge(json!({"spec": {"maxReplicas": 6}}));
    cluster.when_pods("a pod", |pods| pods.len() == 1).await;
    cluster.event("FailedGetPodsMetric", "no custom metrics API (custom.metrics.k8s.io) registered").await;
    cluster.api::<HorizontalPodAutoscaler>().patch("h2", &PatchParams::default(), &touch).await.unwrap();
    let why = "pods by selector app=web are controlled by multiple HPAs: [default/h1 default/h2]";
    cluster.event("AmbiguousSelector", why).await;
    cluster.event("FailedComputeMetricsReplicas", why).await;
}

#[tokio::test]
async fn an_autoscaler_of_what_has_no_scale_says_so() {
    let cluster = Cluster::start().await;
    cluster
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "all"},
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d"}},
        }))
        .await;
    cluster.event("FailedGetScale", "the server could not find the requested resource").await;
}

#[tokio::test]
async fn an_approved_request_is_signed() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let settings = Settings {
        signing_certificate: Some(authority.pem()),
        signing_key: Some(key.serialize_pem()),
        ..Settings::default()
    };
    let cluster = Cluster::with(settings, |_| None).await;
    let mut wanted = rcgen::CertificateParams::default();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(rcgen::DnType::CommonName, "alice");
    let pem = wanted.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let request = json!({
        "metadata": {"name": "alice"},
        "spec": {
            "request": data_encoding::BASE64.encode(pem.as_bytes()),
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            "username": "system:node:forged", "groups": ["system:nodes"],
        },
    });
    let api = cluster.all::<CertificateSigningRequest>();
    let mut made =
        api.create(&PostParams::default(), &serde_json::from_value(request).unwrap()).await.unwrap();
    assert_eq!(made.spec.username.as_deref(), Some("admin"), "the server says who asks");
    made.status = serde_json::from_value(json!({"conditions": [{"type": "Approved", "status": "True", "reason": "KubectlApprove", "message": "by hand"}]})).unwrap();
    api.replace_subresource::<CertificateSigningRequest>("approval", "alice", &PostParams::default(), &made)
        .await
        .unwrap();
    let signed = cluster
        .until("a certificate", || async {
            api.get("alice").await.unwrap().status.and_then(|status| status.certificate)
        })
        .await;
    assert!(signed.0.starts_with(b"-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn roles_are_put_together() {
    let cluster = Cluster::start().await;
    let roles = cluster.all::<ClusterRole>();
    for role in [
        json!({"metadata": {"name": "part", "labels": {"to-whole": "true"}}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        json!({"metadata": {"name": "whole"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-whole": "true"}}]}, "rules": []}),
    ] {
        roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    }
    cluster
        .until("its rules", || async {
            let rules = roles.get("whole").await.unwrap().rules.unwrap_or_default();
            (rules.len() == 1).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_secret_gets_the_token_of_its_account_and_goes_with_it() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let settings = Settings {
        service_account_key: Some(key),
        root_ca: Some("certificate".into()),
        ..Settings::default()
    };
    let cluster = Cluster::with(settings, |_| None).await;
    cluster.create::<ServiceAccount>(json!({"metadata": {"name": "robot"}})).await;
    cluster
        .create::<Secret>(json!({
            "metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}},
            "type": "kubernetes.io/service-account-token",
        }))
        .await;
    let full = |secret: &Secret| {
        secret
            .data
            .as_ref()
            .is_some_and(|data| ["token", "ca.crt", "namespace"].iter().all(|name| data.contains_key(*name)))
    };
    cluster.when("robot-token", full).await;
    cluster.api::<ServiceAccount>().delete("robot", &DeleteParams::default()).await.unwrap();
    let secrets = cluster.api::<Secret>();
    cluster
        .until("the secret gone", || async {
            secrets.get_opt("robot-token").await.unwrap().is_none().then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_load_balancer_gets_the_address_of_a_node() {
    let cluster = Cluster::start().await;
    cluster.node("n1", json!({})).await;
    let address =
        Patch::Merge(json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.7"}]}}));
    cluster
        .all::<k8s_openapi::api::core::v1::Node>()
        .patch_status("n1", &PatchParams::default(), &address)
        .await
        .unwrap();
    cluster.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "web"}}})).await;
    let given = |service: &Service| {
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        status.and_then(|status| status.ingress.as_ref()?.first()?.ip.as_deref()) == Some("10.0.0.7")
    };
    cluster.when("web", given).await;
    cluster.event("EnsuredLoadBalancer", "Ensured load balancer").await;
}

#[tokio::test]
async fn pods_of_ephemeral_volumes_get_their_claims() {
    let cluster = Cluster::start().await;
    let mut pod = template("web", "nginx");
    pod["metadata"]["name"] = "web".into();
    pod["spec"]["volumes"] = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Mi"}},
    }}}}]);
    cluster.create::<Pod>(pod).await;
    let claims = cluster.api::<k8s_openapi::api::core::v1::PersistentVolumeClaim>();
    cluster.until("the claim", || async { claims.get_opt("web-scratch").await.unwrap() }).await;
}
