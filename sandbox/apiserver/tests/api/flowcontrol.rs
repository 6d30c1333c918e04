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
