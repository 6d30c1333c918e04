//! Endpoints and their slices.

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::harness::{Cluster, template};

fn addresses(endpoints: &Endpoints) -> usize {
    endpoints.subsets.iter().flatten().map(|subset| subset.addresses.as_ref().map_or(0, Vec::len)).sum()
}

#[tokio::test]
async fn endpoints_follow_the_pods_of_a_service() {
    let cluster = Cluster::start().await;
    cluster.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}})).await;
    let slices = cluster.api::<EndpointSlice>();
    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    let count = |slices: &[EndpointSlice]| slices.iter().map(|slice| slice.endpoints.len()).sum::<usize>();
    cluster
        .until("an empty slice", || async {
            Some(slices.list(&of_web).await.unwrap().items).filter(|all| all.len() == 1)
        })
        .await;
    for name in ["a", "b"] {
        let mut pod = template("web", "nginx");
        pod["metadata"]["name"] = name.into();
        cluster.create::<Pod>(pod).await;
    }
    let endpoints = cluster.when("web", |endpoints: &Endpoints| addresses(endpoints) == 2).await;
    assert_eq!(endpoints.subsets.unwrap()[0].ports.as_ref().unwrap()[0].port, 8080);
    cluster
        .until("two endpoints", || async {
            (count(&slices.list(&of_web).await.unwrap().items) == 2).then_some(())
        })
        .await;
    cluster.api::<Pod>().delete("a", &DeleteParams::default()).await.unwrap();
    cluster.when("web", |endpoints: &Endpoints| addresses(endpoints) == 1).await;
    cluster
        .until("one endpoint", || async {
            (count(&slices.list(&of_web).await.unwrap().items) == 1).then_some(())
        })
        .await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    let gone = cluster.api::<Endpoints>();
    cluster
        .until("endpoints gone", || async { gone.get_opt("web").await.unwrap().is_none().then_some(()) })
        .await;
    cluster
        .until("slices gone", || async { slices.list(&of_web).await.unwrap().items.is_empty().then_some(()) })
        .await;
}

#[tokio::test]
async fn endpoints_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    cluster.create::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    cluster.create::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]})).await;
    let slices = cluster.api::<EndpointSlice>();
    let of_db = ListParams::default().labels("kubernetes.io/service-name=db");
    let found = cluster.until("a slice", || async { slices.list(&of_db).await.unwrap().items.pop() }).await;
    assert_eq!(found.endpoints[0].addresses, ["192.0.2.7"]);
}

#[tokio::test]
async fn a_range_of_addresses_stays_while_a_service_has_one() {
    let cluster = Cluster::start().await;
    let ranges = cluster.all::<ServiceCIDR>();
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["172.30.0.0/24"]}});
    let more: ServiceCIDR = serde_json::from_value(more).unwrap();
    ranges.create(&Default::default(), &more).await.unwrap();
    let ready = |range: ServiceCIDR| {
        let conditions = range.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.into_iter().find(|one| one.type_ == "Ready").map(|one| one.status)
    };
    let told = async |wanted: &'static str| {
        let is = || async {
            let range = ranges.get("more").await.unwrap();
            (range.metadata.finalizers.is_some() && ready(range).as_deref() == Some(wanted)).then_some(())
        };
        cluster.until("a condition", is).await;
    };
    told("True").await;
    let far =
        json!({"metadata": {"name": "far"}, "spec": {"clusterIP": "172.30.0.9", "ports": [{"port": 80}]}});
    cluster.create::<Service>(far).await;
    ranges.delete("more", &Default::default()).await.unwrap();
    told("False").await;
    cluster.api::<Service>().delete("far", &Default::default()).await.unwrap();
    cluster
        .until("no range", || async { ranges.get_opt("more").await.unwrap().is_none().then_some(()) })
        .await;
}
