//! Garbage collection, deletion of namespaces, service accounts.

use drydock_controllers::manager::Settings;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use serde_json::json;

use crate::harness::{Cluster, template};

async fn web(cluster: &Cluster) {
    cluster
        .create::<Deployment>(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "nginx")},
        }))
        .await;
    cluster
        .when("web", |web: &Deployment| {
            web.status.as_ref().is_some_and(|status| status.available_replicas == Some(2))
        })
        .await;
}

async fn nothing_left(cluster: &Cluster) {
    let (sets, pods) = (cluster.api::<ReplicaSet>(), cluster.api::<Pod>());
    cluster
        .until("nothing left", || async {
            let sets = sets.list(&Default::default()).await.unwrap().items;
            let pods = pods.list(&Default::default()).await.unwrap().items;
            (sets.is_empty() && pods.is_empty()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn dependents_go_in_the_background() {
    let cluster = Cluster::start().await;
    web(&cluster).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    nothing_left(&cluster).await;
}

#[tokio::test]
async fn dependents_go_first() {
    let cluster = Cluster::start().await;
    web(&cluster).await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::foreground()).await.unwrap();
    let (deployments, pods) = (cluster.api::<Deployment>(), cluster.api::<Pod>());
    cluster
        .until("the deployment gone", || async {
            deployments.get_opt("web").await.unwrap().is_none().then_some(())
        })
        .await;
    assert!(pods.list(&Default::default()).await.unwrap().items.is_empty(), "it went last");
    nothing_left(&cluster).await;
}

#[tokio::test]
async fn dependents_stay() {
    let cluster = Cluster::start().await;
    web(&cluster).await;
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    cluster.api::<Deployment>().delete("web", &params).await.unwrap();
    let deployments = cluster.api::<Deployment>();
    cluster
        .until("the deployment gone", || async {
            deployments.get_opt("web").await.unwrap().is_none().then_some(())
        })
        .await;
    let sets = cluster.api::<ReplicaSet>().list(&Default::default()).await.unwrap().items;
    assert_eq!(sets.len(), 1);
    assert!(sets[0].metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(cluster.pods().len(), 2);
}

#[tokio::test]
async fn objects_of_owners_that_never_were_go() {
    let cluster = Cluster::start().await;
    cluster
        .create::<ConfigMap>(json!({"metadata": {
            "name": "lost",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "6b7e1a3c-0000-4000-8000-000000000000"}],
        }}))
        .await;
    let api = cluster.api::<ConfigMap>();
    cluster.until("it gone", || async { api.get_opt("lost").await.unwrap().is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let settings = Settings { root_ca: Some("certificate".into()), ..Settings::default() };
    let cluster = Cluster::with(settings, |_| None).await;
    let namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    let namespaces = cluster.all::<Namespace>();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    cluster.until("its service account", || async { accounts.get_opt("default").await.unwrap() }).await;
    let root =
        cluster.until("its certificate", || async { maps.get_opt("kube-root-ca.crt").await.unwrap() }).await;
    assert_eq!(root.data.unwrap()["ca.crt"], "certificate");
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "shop");
    let mut pod = template("web", "nginx");
    pod["metadata"]["name"] = "web".into();
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/wait"]}});
    maps.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    cluster
        .until("what holds it", || async {
            let status = namespaces.get("shop").await.unwrap().status.unwrap_or_default();
            let held = |message: &str| message == "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances";
            status.conditions.unwrap_or_default().iter().any(|one| held(one.message.as_deref().unwrap_or_default())).then_some(())
        })
        .await;
    assert!(pods.list(&Default::default()).await.unwrap().items.is_empty());
    maps.patch("held", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .unwrap();
    cluster
        .until("it gone", || async { namespaces.get_opt("shop").await.unwrap().is_none().then_some(()) })
        .await;
}

#[tokio::test]
async fn a_deleted_default_account_comes_back() {
    let cluster = Cluster::start().await;
    let api = cluster.api::<ServiceAccount>();
    let first = api.get("default").await.unwrap().metadata.uid;
    api.delete("default", &DeleteParams::default()).await.unwrap();
    cluster.when("default", |account: &ServiceAccount| account.metadata.uid != first).await;
}

#[tokio::test]
async fn controllers_that_are_on_have_accounts() {
    let settings = Settings {
        service_accounts: true,
        controllers: vec!["*".into(), "-cronjob".into()],
        ..Settings::default()
    };
    let cluster = Cluster::with(settings, |_| None).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "kube-system");
    let last = "volumeattributesclass-protection-controller";
    cluster.until("the last account", || async { accounts.get_opt(last).await.unwrap() }).await;
    let all = accounts.list(&Default::default()).await.unwrap().items;
    let all: Vec<String> = all.into_iter().filter_map(|account| account.metadata.name).collect();
    for name in
        ["attachdetach-controller", "deployment-controller", "generic-garbage-collector", "node-controller"]
    {
        assert!(all.contains(&name.into()), "{name} of {all:?}");
    }
    for name in ["cronjob-controller", "token-cleaner"] {
        assert!(!all.contains(&name.into()), "{name} is off: {all:?}");
    }
}
