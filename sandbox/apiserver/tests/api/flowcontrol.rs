//! Flow schemas and priority levels, which every cluster has some of.

use crate::client::Client;
use serde_json::{Value, json};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn rows(client: &Client, path: &str) -> Vec<Vec<String>> {
    let table = client.get_as(path, TABLE).await.ok();
    let shown = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), String::from);
    let rows = table["rows"].as_array().expect("rows").iter();
    rows.map(|row| row["cells"].as_array().expect("cells").iter().map(shown).collect()).collect()
}

/// Names of the schema and the level that a user's answer tells.
async fn flow(client: &Client, user: &str, groups: &[&str], method: &str, path: &str) -> (String, String) {
    let mut request = http::Request::builder().method(method).uri(format!("http://server{path}"));
    request = request.header("impersonate-user", user);
    for group in groups {
        request = request.header("impersonate-group", *group);
    }
    let answer = client.ask(request).await;
    let uid = |name: &str| answer.headers().get(name).map(|uid| uid.to_str().expect("text").to_string());
    let found = async |path: &str, uid: Option<String>| {
        let all = client.get(path).await.ok();
        let items = all["items"].as_array().expect("items");
        let one = items.iter().find(|one| one["metadata"]["uid"].as_str() == uid.as_deref());
        one.map_or_else(String::new, |one| one["metadata"]["name"].as_str().expect("a name").to_string())
    };
    let (schema, level) = (uid("x-kubernetes-pf-flowschema-uid"), uid("x-kubernetes-pf-prioritylevel-uid"));
    (found(SCHEMAS, schema).await, found(LEVELS, level).await)
}

#[tokio::test]
async fn answers_tell_of_which_schema_their_request_is() {
    let client = Client::start().await;
    let (node, masters, pods) = ("system:node:n", "system:masters", "/api/v1/namespaces/default/pods");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    let robot = "system:serviceaccount:kube-system:robot";
    let accounts = ["system:serviceaccounts", "system:authenticated"];
    for (user, groups, method, path, schema, level) in [
        ("admin", &[masters][..], "GET", pods, "exempt", "exempt"),
        ("jane", &["system:authenticated"], "GET", pods, "global-default", "global-default"),
        ("jane", &["system:authenticated"], "GET", "/livez", "probes", "exempt"),
        ("jane", &["system:authenticated"], "POST", "/livez", "global-default", "global-default"),
        (node, &["system:nodes"], "GET", "/api/v1/nodes/n", "system-node-high", "node-high"),
        (node, &["system:nodes"], "PATCH", "/api/v1/nodes/n/status", "system-node-high", "node-high"),
        (node, &["system:nodes"], "PUT", leases, "system-node-high", "node-high"),
        (node, &["system:nodes"], "GET", pods, "system-nodes", "system"),
        ("system:kube-scheduler", &[], "GET", pods, "kube-scheduler", "workload-high"),
        ("system:kube-scheduler", &[], "PUT", leases, "system-leader-election", "leader-election"),
        (robot, &accounts, "GET", pods, "kube-system-service-accounts", "workload-high"),
        ("system:serviceaccount:a:b", &accounts, "GET", pods, "service-accounts", "workload-low"),
        ("admin", &[masters], "GET", "/api/v1/namespaces/default/pods/p/log", "", ""),
    ] {
        let told = flow(&client, user, groups, method, path).await;
        assert_eq!((told.0.as_str(), told.1.as_str()), (schema, level), "{user} {method} {path}");
    }
    // A schema of one's own comes before those of all.
    let rule = json!({
        "subjects": [{"kind": "User", "user": {"name": "jane"}}],
        "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["default"]}],
    });
    let spec = json!({"priorityLevelConfiguration": {"name": "workload-low"}, "rules": [rule]});
    client.post(SCHEMAS, &json!({"metadata": {"name": "jane"}, "spec": spec})).await.ok();
    let told = flow(&client, "jane", &["system:authenticated"], "GET", pods).await;
    assert_eq!(told, ("jane".into(), "workload-low".into()));
    client.delete(&format!("{SCHEMAS}/jane"), &json!({})).await.ok();
    let told = flow(&client, "jane", &["system:authenticated"], "GET", pods).await;
    assert_eq!(told.0, "global-default");
}

#[tokio::test]
async fn schemas_are_shown_in_their_order_with_what_is_missing() {
    let client = Client::start().await;
    let shown = rows(&client, SCHEMAS).await;
    let names: Vec<_> = shown.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(
        names,
        [
            "exempt",
            "probes",
            "system-leader-election",
            "endpoint-controller",
            "workload-leader-election",
            "system-node-high",
            "system-nodes",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-system-service-accounts",
            "service-accounts",
            "global-default",
            "catch-all",
        ]
    );
    assert_eq!(shown[0][1..4], ["exempt", "1", "<none>"]);
    assert_eq!((shown[8][3].as_str(), shown[8][5].as_str()), ("ByNamespace", "False"));
    let levels = rows(&client, LEVELS).await;
    assert_eq!(levels[0][..6], ["catch-all", "Limited", "5", "<none>", "<none>", "<none>"]);
    assert_eq!(levels[7][..6], ["workload-low", "Limited", "100", "128", "6", "50"]);

    let rule = json!({
        "subjects": [{"kind": "User", "user": {"name": "jane"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
    });
    let spec = json!({"priorityLevelConfiguration": {"name": "slow"}, "rules": [rule]});
    let made = client.post(SCHEMAS, &json!({"metadata": {"name": "jane"}, "spec": spec})).await.ok();
    assert_eq!((&made["spec"]["matchingPrecedence"], &made["status"]), (&json!(1000), &json!({})));
    let told = async || {
        drydock_apiserver::bootstrap::restore(&client.server.server, true).await.expect("a store in memory");
        rows(&client, SCHEMAS).await.iter().find(|row| row[0] == "jane").expect("a row")[5].clone()
    };
    assert_eq!(told().await, "True");
    let limited = json!({"limitResponse": {"type": "Queue", "queuing": {}}});
    let level = json!({"metadata": {"name": "slow"}, "spec": {"type": "Limited", "limited": limited}});
    let made = client.post(LEVELS, &level).await.ok();
    assert_eq!(
        made["spec"]["limited"],
        json!({"nominalConcurrencyShares": 30, "lendablePercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}})
    );
    assert_eq!(told().await, "False");
    // What every cluster has comes back, and two of them never change.
    client.delete(&format!("{SCHEMAS}/global-default"), &json!({})).await.ok();
    told().await;
    client.get(&format!("{SCHEMAS}/global-default")).await.ok();
    let refused =
        client.merge(&format!("{SCHEMAS}/exempt"), &json!({"spec": {"matchingPrecedence": 3}})).await;
    let refused = refused.refused(422);
    assert!(refused.contains("spec of 'exempt' must equal the fixed value"), "{refused}");
}

#[tokio::test]
async fn a_schema_is_told_at_once_whether_its_level_exists() {
    let client = Client::start().await;
    let kept = tokio::spawn(drydock_apiserver::bootstrap::keep(client.server.server.clone()));
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let schema =
        json!({"metadata": {"name": "lost"}, "spec": {"priorityLevelConfiguration": {"name": "nowhere"}}});
    client.post(&format!("{group}/flowschemas"), &schema).await.ok();
    let told = async |wanted: &str| {
        let path = format!("{group}/flowschemas/lost");
        for _ in 0..200 {
            let tree = client.get(&path).await.ok();
            if tree["status"]["conditions"][0]["status"] == wanted {
                return tree["status"]["conditions"][0]["reason"].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("not told {wanted}")
    };
    assert_eq!(told("True").await, "NotFound");
    let limited = json!({"metadata": {"name": "nowhere"},
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    client.post(&format!("{group}/prioritylevelconfigurations"), &limited).await;
    assert_eq!(told("False").await, "Found");
    kept.abort();
}
