//! Who may do what in a cluster that has just begun.

use super::*;
use crate::options::Options;
use crate::server::Server;
use crate::storage::encode;
use serde_json::{Value, json};

async fn server(modes: &[&str]) -> Arc<Server> {
    let modes = modes.iter().map(|mode| (*mode).into()).collect();
    let options = Options { authorization_modes: modes, ..Options::default() };
    let server = Server::new(Store::memory(), options).expect("a server");
    crate::bootstrap::run(&server).await.expect("a store in memory takes all");
    server
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).into()).collect();
    User { name: name.into(), groups, ..User::default() }
}

fn asks<'a>(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Attributes<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes {
        user,
        verb,
        is_resource: true,
        path: "",
        group,
        version: "v1",
        resource,
        subresource,
        namespace: "default",
        name: "",
    }
}

async fn put(server: &Server, key: &str, tree: &Value) {
    server.store.create(key.to_string().into(), encode(tree), 0).await.expect("a write");
}

async fn bind(server: &Server, role: &str, name: &str) {
    let tree = json!({
        "kind": "RoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": name}],
    });
    put(server, &format!("/registry/rolebindings/default/{name}"), &tree).await;
}

#[tokio::test]
async fn roles_decide_and_say_why() {
    let server = server(&["RBAC"]).await;
    let jane = user("jane", &["system:authenticated"]);
    let refusal = server.authorizer.authorize(&asks(&jane, "list", "", "pods")).expect_err("no role");
    assert_eq!(
        refusal.message,
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    bind(&server, "view", "jane").await;
    assert_eq!(
        server.authorizer.decide(&asks(&jane, "list", "", "pods")),
        Decision::Allow(
            "RBAC: allowed by RoleBinding \"jane/default\" of ClusterRole \"view\" to User \"jane\"".into()
        )
    );
    for (verb, resource) in [("list", "secrets"), ("create", "pods"), ("get", "pods/exec")] {
        assert!(
            !server.authorizer.decide(&asks(&jane, verb, "", resource)).is_allowed(),
            "{verb} {resource}"
        );
    }
    let elsewhere = Attributes { namespace: "other", ..asks(&jane, "list", "", "pods") };
    assert!(!server.authorizer.decide(&elsewhere).is_allowed());
    let path = Attributes { is_resource: false, path: "/apis/apps/v1", verb: "get", ..elsewhere };
    assert!(server.authorizer.decide(&path).is_allowed());

    bind(&server, "gone", "kim").await;
    let kim = user("kim", &[]);
    let reason = "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found";
    assert_eq!(server.authorizer.decide(&asks(&kim, "list", "", "pods")), Decision::NoOpinion(reason.into()));
    server
        .store
        .txn(drydock_etcd::Txn {
            then: vec![drydock_etcd::Op::Delete(drydock_etcd::KeyRange::key(
                "/registry/rolebindings/default/jane",
            ))],
            ..Default::default()
        })
        .await
        .expect("a deletion");
    assert!(!server.authorizer.decide(&asks(&jane, "list", "", "pods")).is_allowed());
}

#[tokio::test]
async fn edit_takes_in_view_and_admin_takes_in_both() {
    let server = server(&["RBAC"]).await;
    bind(&server, "edit", "ed").await;
    bind(&server, "admin", "ada").await;
    let (ed, ada) = (user("ed", &[]), user("ada", &[]));
    let may = |user, verb, group, resource| {
        server.authorizer.decide(&asks(user, verb, group, resource)).is_allowed()
    };
    assert!(may(&ed, "list", "", "endpoints") && may(&ada, "list", "", "endpoints"));
    assert!(may(&ed, "create", "apps", "deployments") && may(&ada, "create", "apps", "deployments"));
    let roles = "rbac.authorization.k8s.io";
    assert!(!may(&ed, "create", roles, "roles") && may(&ada, "create", roles, "roles"));
}

#[tokio::test]
async fn a_node_reads_what_its_pods_need() {
    let server = server(&["Node", "RBAC"]).await;
    let node = user("system:node:node2", &["system:nodes", "system:authenticated"]);
    let other = user("system:node:node3", &["system:nodes"]);
    let secret = |user| Attributes { name: "s", ..asks(user, "get", "", "secrets") };
    let refused = server.authorizer.decide(&secret(&node));
    let reason = "no relationship found between node 'node2' and this object";
    assert_eq!(refused, Decision::NoOpinion(reason.into()));
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "nodeName": "node2", "serviceAccountName": "default",
            "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}],
        },
    });
    put(&server, "/registry/pods/default/p", &pod).await;
    assert!(server.authorizer.decide(&secret(&node)).is_allowed());
    assert!(!server.authorizer.decide(&secret(&other)).is_allowed());
    let token = |user| Attributes { name: "default", ..asks(user, "create", "", "serviceaccounts/token") };
    assert!(server.authorizer.decide(&token(&node)).is_allowed());
    assert!(!server.authorizer.decide(&token(&other)).is_allowed());
    assert!(!server.authorizer.decide(&asks(&node, "list", "", "secrets")).is_allowed());
    assert!(server.authorizer.decide(&asks(&node, "list", "", "pods")).is_allowed());
    let lease = |name| Attributes {
        namespace: "kube-node-lease",
        name,
        ..asks(&node, "update", "coordination.k8s.io", "leases")
    };
    assert!(server.authorizer.decide(&lease("node2")).is_allowed());
    assert!(!server.authorizer.decide(&lease("node3")).is_allowed());
    let own = |name| Attributes { namespace: "", name, ..asks(&node, "get", "", "nodes") };
    assert!(server.authorizer.decide(&own("node2")).is_allowed());
    assert!(!server.authorizer.decide(&own("node3")).is_allowed());
}

#[tokio::test]
async fn nobody_gives_away_more_than_he_has() {
    let server = server(&["RBAC"]).await;
    bind(&server, "admin", "ada").await;
    let ada = user("ada", &["system:authenticated"]);
    let snapshot = server.registry.snapshot();
    let check = |plural: &str, tree: &Value| {
        let resource = snapshot.find("rbac.authorization.k8s.io", "v1", plural).expect("it is served");
        let context = crate::admission::Context {
            operation: crate::admission::Operation::Create,
            resource,
            requested: None,
            subresource: "",
            namespace: "default",
            name: "r",
            user: &ada,
            dry_run: false,
            kind: None,
            options: crate::rest::options::Options::None,
        };
        escalation::check(&server.authorizer, &context, tree, None)
    };
    let role =
        |resource: &str| json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
    assert_eq!(check("roles", &role("pods")), Ok(()));
    let refusal = check("roles", &role("nodes")).expect_err("she has no nodes");
    assert_eq!(
        refusal.message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"ada\" (groups=[\"system:authenticated\"]) is attempting to \
         grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}"
    );
    let binding = |role: &str| json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": []});
    assert_eq!(check("rolebindings", &binding("view")), Ok(()));
    assert!(check("rolebindings", &binding("cluster-admin")).is_err());
    assert_eq!(check("rolebindings", &binding("none")).expect_err("no such role").code, 404);
}
