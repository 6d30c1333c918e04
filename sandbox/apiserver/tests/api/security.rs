//! Who may do what, and what a namespace allows, as clients meet it.

use crate::client::Client;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn bind(client: &Client, role: &str, user: &str) {
    let binding = json!({
        "metadata": {"name": format!("{user}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    client.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).await.ok();
}

#[tokio::test]
async fn a_role_allows_and_its_binding_can_be_taken_away() {
    let client = Client::start().await;
    let list = async || client.as_user("jane", "GET", PODS, &Value::Null).await;
    assert_eq!(
        list().await.refused(403),
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    bind(&client, "view", "jane").await;
    list().await.ok();
    let asked = json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"}}});
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = client.as_user("jane", "POST", review, &asked).await.ok();
    assert_eq!(answer["status"]["allowed"], false);
    let answer = client.post(review, &asked).await.ok();
    assert_eq!(answer["status"]["allowed"], true);
    let review = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let asked = json!({"spec": {"namespace": "default"}});
    let answer = client.as_user("jane", "POST", review, &asked).await.ok();
    let rules = answer["status"]["resourceRules"].as_array().expect("rules").clone();
    assert!(rules.iter().any(|rule| rule["resources"].to_string().contains("\"pods/log\"")));
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = client.as_user("jane", "POST", whoami, &json!({})).await.ok();
    assert_eq!(answer["status"]["userInfo"]["username"], "jane");
    assert!(answer["metadata"]["creationTimestamp"].is_string());

    let binding = format!("{RBAC}/namespaces/default/rolebindings/jane-view");
    client.delete(&binding, &json!({})).await.ok();
    list().await.refused(403);
}

#[tokio::test]
async fn nobody_makes_a_role_that_allows_more_than_his_own() {
    let client = Client::start().await;
    bind(&client, "admin", "ada").await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let role = |resource: &str| {
        json!({
            "metadata": {"name": resource},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}],
        })
    };
    client.as_user("ada", "POST", &roles, &role("pods")).await.ok();
    let words = client.as_user("ada", "POST", &roles, &role("nodes")).await.refused(403);
    assert!(
        words.contains("is attempting to grant RBAC permissions not currently held:")
            && words.ends_with("{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}"),
        "{words}"
    );
}

#[tokio::test]
async fn a_quota_is_charged_with_each_pod() {
    let client = Client::start().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
    client.post(quotas, &quota).await.ok();
    let status = json!({"status": {"hard": {"pods": "1"}, "used": {"pods": "0"}}});
    client.merge(&format!("{quotas}/q/status"), &status).await.ok();
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    client.post(PODS, &pod("a")).await.ok();
    assert_eq!(
        client.post(PODS, &pod("b")).await.refused(403),
        "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let used = client.get(&format!("{quotas}/q")).await.ok();
    assert_eq!(used["status"]["used"]["pods"], "1");
}

#[tokio::test]
async fn what_never_goes_is_not_deleted() {
    let client = Client::start().await;
    for name in ["default", "kube-system", "kube-public"] {
        let path = format!("/api/v1/namespaces/{name}");
        assert_eq!(
            client.delete(&path, &json!({})).await.refused(403),
            format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted")
        );
    }
    let nowhere = json!({"metadata": {"name": "m"}});
    let words = client.post("/api/v1/namespaces/none/configmaps", &nowhere).await.refused(404);
    assert_eq!(words, "namespaces \"none\" not found");
}

#[tokio::test]
async fn a_right_in_one_namespace_does_not_reach_another() {
    let client = Client::start().await;
    for name in ["a", "victim"] {
        client.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.ok();
    }
    let role = json!({
        "metadata": {"name": "all"},
        "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    });
    client.post(&format!("{RBAC}/namespaces/a/roles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    client.post(&format!("{RBAC}/namespaces/a/rolebindings"), &binding).await.ok();
    let namespace = json!({"metadata": {"name": "new"}});
    for (method, path) in [
        ("DELETE", "/api/v1/namespaces/a/namespaces/victim"),
        ("GET", "/api/v1/namespaces/a/namespaces/victim"),
        ("PUT", "/api/v1/namespaces/a/namespaces/victim/status"),
        ("GET", "/api/v1/namespaces/a/namespaces"),
        ("POST", "/api/v1/namespaces/a/namespaces"),
        ("DELETE", "/api/v1/namespaces/a/namespaces"),
        ("GET", "/api/v1/watch/namespaces/a/namespaces"),
    ] {
        let words = client.as_user("eve", method, path, &namespace).await.refused(404);
        assert_eq!(words, "the server could not find the requested resource", "{method} {path}");
    }
    // The namespace itself is within her rights, as upstream.
    client.as_user("eve", "GET", "/api/v1/namespaces/a", &Value::Null).await.ok();
    client.as_user("eve", "DELETE", "/api/v1/namespaces/victim", &Value::Null).await.refused(403);
    client.get("/api/v1/namespaces/victim").await.ok();
}

#[tokio::test]
async fn nothing_is_deleted_in_all_namespaces_at_once() {
    let client = Client::start().await;
    client
        .post(
            PODS,
            &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        )
        .await
        .ok();
    for (method, path) in [
        ("PUT", "/api/v1/pods"),
        ("PATCH", "/apis/apps/v1/deployments"),
        ("DELETE", "/version"),
        ("DELETE", "/api"),
        ("DELETE", "/apis/apps/v1"),
    ] {
        let answer = client.send(method, path, "application/json", "{}").await;
        let words = answer.refused(405);
        assert!(
            words.contains("the server does not allow this method on the requested resource"),
            "{path}: {words}"
        );
    }
    // What the aggregator answers looks for no method.
    for (path, kind) in [("/apis", "APIGroupList"), ("/apis/apps", "APIGroup")] {
        assert_eq!(client.delete(path, &json!({})).await.ok()["kind"], kind, "{path}");
    }
    let words = client.delete("/api/v1/pods", &json!({})).await.refused(405);
    assert_eq!(words, "the server does not allow this method on the requested resource");
    let list = client.get("/api/v1/pods").await.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_every_cluster_has_comes_back() {
    let client = Client::start().await;
    let lease = "/api/v1/namespaces/kube-node-lease";
    client.delete(lease, &json!({})).await.ok();
    client
        .put(&format!("{lease}/finalize"), &json!({"metadata": {"name": "kube-node-lease"}, "spec": {}}))
        .await
        .ok();
    let paths = [
        "/api/v1/namespaces/default/services/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    ];
    for path in paths {
        client.delete(path, &json!({})).await.ok();
    }
    drydock_apiserver::bootstrap::restore(&client.server.server, true).await.expect("a store in memory");
    for path in paths.into_iter().chain([lease]) {
        client.get(path).await.ok();
    }
}

#[tokio::test]
async fn a_policy_asks_what_the_writer_may_do() {
    let client = Client::start().await;
    bind(&client, "edit", "ada").await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let maps = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let rule = "object.metadata.name != 'breakglass' || authorizer.group('').resource('nodes').check('delete').allowed()";
    let policy = json!({
        "metadata": {"name": "guard"},
        "spec": {
            "matchConstraints": {"resourceRules": [maps]},
            "matchConditions": [{"name": "mortals", "expression": "!authorizer.requestResource.check('bypass').allowed()"}],
            "validations": [{"expression": rule, "message": "only for those who may delete nodes"}],
        },
    });
    let policies = format!("{group}/validatingadmissionpolicies");
    client.post(&policies, &policy).await.ok();
    let binding = json!({"metadata": {"name": "guard"}, "spec": {"policyName": "guard", "validationActions": ["Deny"]}});
    client.post(&format!("{group}/validatingadmissionpolicybindings"), &binding).await.ok();
    let path = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str| json!({"metadata": {"name": name}});
    client.as_user("ada", "POST", path, &map("mine")).await.ok();
    let words = client.as_user("ada", "POST", path, &map("breakglass")).await.refused(422);
    assert!(words.ends_with("denied request: only for those who may delete nodes"), "{words}");
    let role = json!({"metadata": {"name": "nodes"}, "rules": [{"verbs": ["delete"], "apiGroups": [""], "resources": ["nodes"]}]});
    client.post(&format!("{RBAC}/clusterroles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": "nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nodes"},
        "subjects": [{"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    client.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.ok();
    client.as_user("ada", "POST", path, &map("breakglass")).await.ok();

    let mut wrong = policy;
    wrong["metadata"]["name"] = "wrong".into();
    wrong["spec"]["validations"][0]["messageExpression"] =
        "authorizer.path('/').check('get').reason()".into();
    let words = client.post(&policies, &wrong).await.refused(422);
    assert!(words.contains("undeclared reference to 'authorizer'"), "{words}");
}

#[tokio::test]
async fn the_server_tells_that_it_is_there() {
    let client = Client::start().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let leases = client
        .get(&format!("{path}?labelSelector=apiserver.kubernetes.io/identity=kube-apiserver"))
        .await
        .ok();
    let lease = leases["items"][0].clone();
    let name = lease["metadata"]["name"].as_str().expect("a name");
    let holder = lease["spec"]["holderIdentity"].as_str().expect("a holder");
    assert!(holder.starts_with(&format!("{name}_")) && name.len() == 36, "{holder}");
    drydock_apiserver::bootstrap::restore(&client.server.server, false).await.expect("a store in memory");
    let renewed = client.get(&format!("{path}/{name}")).await.ok();
    assert_eq!(renewed["spec"]["holderIdentity"], lease["spec"]["holderIdentity"]);
    assert_ne!(renewed["spec"]["renewTime"], lease["spec"]["renewTime"]);
    let tracked =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    assert_eq!(client.get(tracked).await.ok()["data"]["since"].as_str().map(str::len), Some(10));
}

#[tokio::test]
async fn a_token_is_of_the_account_that_the_path_names() {
    let client = Client::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = client.post(accounts, &json!({"metadata": {"name": "robot"}})).await.ok();
    let asked = async |metadata: Value| {
        client.post(&format!("{accounts}/robot/token"), &json!({"metadata": metadata, "spec": {}})).await
    };
    let words = asked(json!({"namespace": "elsewhere"})).await.refused(400);
    assert_eq!(
        words,
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let words = asked(json!({"name": "other"})).await.refused(422);
    let of = "TokenRequest.authentication.k8s.io";
    assert_eq!(
        words,
        format!(
            "{of} \"robot\" is invalid: metadata.name: Invalid value: \"other\": must match the service account name if specified"
        )
    );
    let words = asked(json!({"uid": "old"})).await.refused(409);
    let uid = account["metadata"]["uid"].as_str().expect("a uid");
    assert_eq!(
        words,
        format!(
            "Operation cannot be fulfilled on {of} \"robot\": the UID in the token request (old) does not match the UID of the service account ({uid})"
        )
    );
    let own = json!({"name": "robot", "namespace": "default", "uid": uid});
    // This server can sign none.
    let words = asked(own).await.refused(404);
    assert!(words.contains("no key to sign tokens"), "{words}");
}
