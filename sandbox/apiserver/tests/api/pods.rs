//! Pods: bindings, graceful deletion, evictions.

use crate::client::Client;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}], "automountServiceAccountToken": false},
    })
}

async fn bind(client: &Client, name: &str) {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "node1"}});
    client.post(&format!("{PODS}/{name}/binding"), &binding).await.ok();
}

async fn ready(client: &Client, name: &str) {
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    client.merge(&format!("{PODS}/{name}/status"), &status).await.ok();
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let client = Client::start().await;
    client.post(PODS, &pod("a")).await.ok();
    bind(&client, "a").await;
    let bound = client.get(&format!("{PODS}/a")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "node1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let other = json!({"target": {"kind": "Node", "name": "node2"}});
    let words = client.post(&format!("{PODS}/a/binding"), &other).await.refused(409);
    assert!(words.ends_with("pod a is already assigned to node \"node1\""), "{words}");
    let on_node = client.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode1").await.ok();
    assert_eq!(on_node["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_pod_on_a_node_goes_gracefully() {
    let client = Client::start().await;
    client.post(PODS, &pod("a")).await.ok();
    bind(&client, "a").await;
    let path = format!("{PODS}/a");
    let marked = client.delete(&path, &json!({})).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    // A second deletion can only make it shorter.
    let longer = client.delete(&path, &json!({"gracePeriodSeconds": 60})).await.ok();
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = client.delete(&path, &json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    client.delete(&path, &json!({"gracePeriodSeconds": 0})).await.ok();
    assert_eq!(client.get(&path).await.code, 404);
    // One that runs nowhere has nothing to end.
    client.post(PODS, &pod("b")).await.ok();
    client.delete(&format!("{PODS}/b"), &json!({})).await.ok();
    assert_eq!(client.get(&format!("{PODS}/b")).await.code, 404);
}

#[tokio::test]
async fn a_budget_forbids_evictions() {
    let client = Client::start().await;
    for name in ["a", "b"] {
        client.post(PODS, &pod(name)).await.ok();
        bind(&client, name).await;
        ready(&client, name).await;
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    });
    client.post(budgets, &budget).await.ok();
    let status = json!({"status": {
        "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
    }});
    client.merge(&format!("{budgets}/web/status"), &status).await.ok();
    let eviction = |name: &str| json!({"metadata": {"name": name}});
    client.post(&format!("{PODS}/a/eviction"), &eviction("a")).await.ok();
    let refused = client.post(&format!("{PODS}/b/eviction"), &eviction("b")).await;
    assert_eq!(refused.tree["details"]["causes"][0]["reason"], "DisruptionBudget");
    let words = refused.refused(429);
    assert_eq!(words, "Cannot evict pod as it would violate the pod's disruption budget.");
    let evicted = client.get(&format!("{PODS}/a")).await.ok();
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    let conditions = evicted["status"]["conditions"].as_array().expect("conditions");
    let why = conditions.iter().find(|one| one["type"] == "DisruptionTarget").expect("why it goes");
    assert_eq!((&why["status"], &why["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
    assert_eq!(why["message"], "Eviction API: evicting");
    assert!(client.get(&format!("{PODS}/b")).await.ok()["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn an_eviction_is_of_the_pod_that_is_meant() {
    let client = Client::start().await;
    client.post(PODS, &pod("a")).await.ok();
    bind(&client, "a").await;
    let of = |preconditions: Value| json!({"metadata": {"name": "a"}, "deleteOptions": {"preconditions": preconditions}});
    let path = format!("{PODS}/a/eviction");
    let words = client.post(&path, &of(json!({"resourceVersion": "1"}))).await.refused(409);
    assert!(words.contains("the resource version in the precondition (1) does not match"), "{words}");
    let words = client.post(&path, &of(json!({"uid": "other"}))).await.refused(409);
    assert!(words.contains("the UID in the precondition (other) does not match"), "{words}");
    let elsewhere = json!({"metadata": {"name": "a", "namespace": "kube-system"}});
    let words = client.post(&path, &elsewhere).await.refused(400);
    assert_eq!(
        words,
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let mut older = of(json!({"uid": "other"}));
    older["apiVersion"] = json!("policy/v1beta1");
    older["kind"] = json!("Eviction");
    client.post(&path, &older).await.refused(409);
    let version = client.get(&format!("{PODS}/a")).await.ok()["metadata"]["resourceVersion"].clone();
    client.post(&path, &of(json!({"resourceVersion": version}))).await.ok();
    assert!(client.get(&format!("{PODS}/a")).await.ok()["metadata"]["deletionTimestamp"].is_string());
}
