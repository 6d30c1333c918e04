//! Addresses and ports of services.

use crate::client::Client;
use serde_json::{Value, json};
use std::collections::HashSet;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut tree =
        json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        tree["spec"][key] = value.clone();
    }
    tree
}

#[tokio::test]
async fn no_address_is_given_twice() {
    let client = Client::start().await;
    let made = (0..30).map(|index| {
        let client = &client;
        async move {
            client.post(SERVICES, &service(&format!("s{index}"), json!({"type": "NodePort"}))).await.ok()
        }
    });
    let made = futures_util::future::join_all(made).await;
    let addresses: HashSet<_> = made.iter().map(|one| one["spec"]["clusterIP"].to_string()).collect();
    let ports: HashSet<_> = made.iter().map(|one| one["spec"]["ports"][0]["nodePort"].to_string()).collect();
    assert_eq!((addresses.len(), ports.len()), (30, 30));
    let taken = made[0]["spec"]["clusterIP"].as_str().expect("an address");
    let refused = client.post(SERVICES, &service("t", json!({"clusterIP": taken}))).await.refused(422);
    assert!(refused.ends_with("provided IP is already allocated"), "{refused}");
    let outside = client.post(SERVICES, &service("t", json!({"clusterIP": "10.0.0.1"}))).await.refused(422);
    assert!(outside.ends_with("The range of valid IPs is 10.96.0.0/12"), "{outside}");
    // It is free again when its service is gone.
    client.delete(&format!("{SERVICES}/s0"), &json!({})).await.ok();
    client.post(SERVICES, &service("t", json!({"clusterIP": taken}))).await.ok();
}

#[tokio::test]
async fn an_update_keeps_what_was_given() {
    let client = Client::start().await;
    let made = client.post(SERVICES, &service("s", json!({}))).await.ok();
    let path = format!("{SERVICES}/s");
    let mut changed = service("s", json!({"type": "NodePort"}));
    changed["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let changed = client.put(&path, &changed).await.ok();
    assert_eq!(changed["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    let port = changed["spec"]["ports"][0]["nodePort"].as_i64().expect("a port");
    assert!((30_000..=32_767).contains(&port), "{port}");
    let headless = client.post(SERVICES, &service("h", json!({"clusterIP": "None"}))).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn the_servers_own_service_is_there() {
    let client = Client::start().await;
    let own = client.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    let endpoints = client.get("/api/v1/namespaces/default/endpoints/kubernetes").await.ok();
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], client.server.address.port());
}

#[tokio::test]
async fn a_range_that_is_added_has_addresses_too() {
    let client = Client::start().await;
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let own = client.get(&format!("{ranges}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["cidrs"], json!(["10.96.0.0/12"]));
    assert_eq!(own["status"]["conditions"][0]["message"], "Kubernetes default Service CIDR is ready");
    let wish = service("s", json!({"clusterIP": "192.168.0.7"}));
    client.post(SERVICES, &wish).await.refused(422);
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["192.168.0.0/24"]}});
    client.post(ranges, &more).await.ok();
    let made = client.post(SERVICES, &wish).await.ok();
    assert_eq!(made["spec"]["clusterIPs"], json!(["192.168.0.7"]));
    let change = json!({"spec": {"cidrs": ["192.168.1.0/24"]}});
    let words = client.merge(&format!("{ranges}/more"), &change).await.refused(422);
    assert!(words.ends_with("field is immutable"), "{words}");
    let wrong = json!({"metadata": {"name": "wrong"}, "spec": {"cidrs": ["10.0.0.0/8", "11.0.0.0/8"]}});
    client.post(ranges, &wrong).await.refused(422);
}

#[tokio::test]
async fn each_address_is_an_object_of_its_own() {
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    let client = Client::start().await;
    let own = client.get(&format!("{ADDRESSES}/10.96.0.1")).await.ok();
    assert_eq!(
        own["spec"],
        json!({"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}})
    );
    let made = client.post(SERVICES, &service("s", json!({}))).await.ok();
    let address = made["spec"]["clusterIP"].as_str().expect("an address");
    let path = format!("{ADDRESSES}/{address}");
    let told = client.get(&path).await.ok();
    assert_eq!(told["spec"]["parentRef"]["name"], "s");
    assert_eq!(told["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv4");
    // What somebody else has is given to no service.
    let other = json!({"metadata": {"name": "10.96.7.7"}, "spec": told["spec"]});
    client.post(ADDRESSES, &other).await.ok();
    let refused = client.post(SERVICES, &service("t", json!({"clusterIP": "10.96.7.7"}))).await.refused(422);
    assert!(refused.ends_with("provided IP is already allocated"), "{refused}");
    let wrong = json!({"metadata": {"name": "10.96.07.8"}, "spec": {}});
    let refused = client.post(ADDRESSES, &wrong).await.refused(422);
    assert!(refused.contains("ParseAddr") && refused.contains("spec.parentRef: Required value"), "{refused}");
    // One that was deleted is made again.
    client.delete(&path, &json!({})).await.ok();
    drydock_apiserver::bootstrap::restore(&client.server.server, true).await.expect("it is repaired");
    client.get(&path).await.ok();
    // It goes with its service, and with its address.
    client.post(SERVICES, &service("n", json!({"clusterIP": "10.96.7.8"}))).await.ok();
    let elsewhere = json!({"spec": {"type": "ExternalName", "externalName": "a.example", "clusterIP": "", "clusterIPs": null}});
    client.merge(&format!("{SERVICES}/n"), &elsewhere).await.ok();
    client.get(&format!("{ADDRESSES}/10.96.7.8")).await.refused(404);
    client.delete(&format!("{SERVICES}/s"), &json!({})).await.ok();
    client.get(&path).await.refused(404);
}
