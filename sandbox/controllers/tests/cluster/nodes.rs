//! Nodes that fall silent, and what becomes of their pods.

use std::time::Duration;

use drydock_controllers::manager::Settings;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::harness::{Cluster, template};

#[tokio::test]
async fn nodes_get_ranges_for_their_pods() {
    let settings = Settings {
        cluster_cidr: Some("10.244.0.0/16".into()),
        allocate_node_cidrs: true,
        ..Settings::default()
    };
    let cluster = Cluster::with(settings, |_| None).await;
    for (name, range) in [("node1", "10.244.0.0/24"), ("node2", "10.244.1.0/24")] {
        cluster.node(name, json!({})).await;
        let nodes = cluster.all::<Node>();
        let found = cluster
            .until("a range", || async { nodes.get(name).await.unwrap().spec.and_then(|spec| spec.pod_cidr) })
            .await;
        assert_eq!(found, range);
    }
}

#[tokio::test]
async fn nodes_that_come_and_go_are_told_of() {
    // As upstream: who says 0 gets a controller that looks all the time.
    let settings = Settings { node_monitor_period: Duration::ZERO, ..Settings::default() };
    let cluster = Cluster::with(settings, |_| None).await;
    cluster.node("node1", json!({})).await;
    cluster.event("RegisteredNode", "Node node1 event: Registered Node node1 in Controller").await;
    cluster.all::<Node>().delete("node1", &Default::default()).await.unwrap();
    cluster.event("RemovingNode", "Node node1 event: Removing Node node1 from Controller").await;
}

#[tokio::test]
async fn a_silent_node_is_not_ready_and_its_pods_leave() {
    let settings = Settings {
        node_monitor_period: Duration::from_millis(100),
        node_monitor_grace_period: Duration::from_secs(1),
        ..Settings::default()
    };
    let cluster = Cluster::with(settings, |_| None).await;
    cluster.node("node1", json!({})).await;
    let mut pod = template("web", "nginx");
    pod["metadata"]["name"] = "web".into();
    pod["spec"]["nodeName"] = "node1".into();
    pod["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]);
    cluster.create::<Pod>(pod).await;
    // Alone it would be the whole cluster that is silent, and then it is not believed.
    let other = cluster.node("node2", json!({})).await;
    let client = cluster.client.clone();
    let beat = tokio::spawn(async move {
        let nodes: kube::Api<Node> = kube::Api::all(client);
        loop {
            let heartbeat = k8s_openapi::jiff::Timestamp::now().to_string();
            let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat}]}});
            let _next_time =
                nodes.patch_status("node2", &Default::default(), &kube::api::Patch::Strategic(&patch)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(other.metadata.name.as_deref(), Some("node2"));
    let nodes = cluster.all::<Node>();
    cluster
        .until("node1 tainted", || async {
            let node = nodes.get("node1").await.unwrap();
            let conditions = node.status.unwrap_or_default().conditions.unwrap_or_default();
            let unknown = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "Unknown");
            let taints = node.spec.unwrap_or_default().taints.unwrap_or_default();
            let tainted = taints
                .iter()
                .any(|one| one.key == "node.kubernetes.io/unreachable" && one.effect == "NoExecute");
            (unknown && tainted).then_some(())
        })
        .await;
    cluster.event("NodeNotReady", "Node node1 status is now: NodeNotReady").await;
    let pods = cluster.api::<Pod>();
    cluster
        .until("the pod gone", || async { pods.get_opt("web").await.unwrap().is_none().then_some(()) })
        .await;
    cluster.event("TaintManagerEviction", "Marking for deletion Pod default/web").await;
    beat.abort();
}
