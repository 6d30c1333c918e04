//! The cluster itself: its nodes, its control plane, and the way in from outside.

use super::{apply, json, until};
use drydock_e2e::{Lab, http::full};
use hyper::{Method, Request};
use serde_json::Value;

#[tokio::test]
async fn k1_the_cluster() {
    let lab = Lab::kubernetes(3).await;
    let version = json(&lab.sh("kubectl version -o json").await);
    assert_eq!(version["serverVersion"]["major"], "1");
    assert!(version["serverVersion"]["gitVersion"].as_str().unwrap().starts_with("v1.35."), "{version}");
    assert!(lab.sh("kubectl cluster-info").await.contains("Kubernetes control plane"));
    let nodes = lab.sh("kubectl get nodes -o wide --no-headers").await;
    assert_eq!(nodes.lines().count(), 3, "{nodes}");
    for (line, name) in nodes.lines().zip(["node1", "node2", "node3"]) {
        assert!(line.starts_with(name) && line.contains(" Ready "), "{nodes}");
    }
    assert!(nodes.lines().next().unwrap().contains("control-plane"), "{nodes}");
    assert!(nodes.contains("docker://28."), "{nodes}");
    let described = lab.sh("kubectl describe node node2").await;
    for part in ["Capacity:", "Allocatable:", "KubeletReady", "MemoryPressure", "PodCIDR:", "Lease:"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    assert_eq!(lab.sh("kubectl get leases -n kube-node-lease --no-headers | wc -l").await, "3");
    let resources = lab.sh("kubectl api-resources").await;
    for line in ["deployments", "cronjobs", "horizontalpodautoscalers", "customresourcedefinitions", "leases"]
    {
        assert!(resources.contains(line), "{line}: {resources}");
    }
    assert!(lab.sh("kubectl explain deployment.spec.strategy").await.contains("rollingUpdate"));
    // Any node will do, and its own kubeconfig.
    assert_eq!(lab.sh_on("node3", "kubectl auth can-i '*' '*'").await, "yes");
    lab.end().await;
}

/// The API server starts when there is a shell already: who is quicker waits for it.
#[tokio::test]
async fn k1_who_comes_early_is_not_refused() {
    let lab = Lab::kubernetes_at_once(1).await;
    lab.sh("kubectl get nodes && kubectl create configmap early --from-literal=a=b").await;
    // Nor is the node ever seen without its role.
    lab.sh("for i in $(seq 300); do kubectl get nodes --no-headers | grep . && break; sleep 0.02; done")
        .await;
    assert!(lab.sh("kubectl get nodes --no-headers").await.contains(" control-plane "));
    // Nobody holds the port for a server that was stopped.
    lab.sh("mv /etc/kubernetes/manifests/kube-apiserver.yaml /root/").await;
    lab.sh("while ss -Hltn 'sport = :6443' | grep -q .; do sleep 0.1; done").await;
    lab.refused("kubectl get nodes", 1, "was refused").await;
    lab.sh("systemctl restart kubelet").await;
    lab.refused("kubectl get nodes", 1, "was refused").await;
    lab.sh("mv /root/kube-apiserver.yaml /etc/kubernetes/manifests/").await;
    lab.sh("for i in $(seq 300); do kubectl get configmap early && exit 0; sleep 0.1; done; exit 1").await;
    lab.end().await;
}

#[tokio::test]
async fn c1_the_control_plane_is_made_of_pods() {
    let lab = Lab::kubernetes(1).await;
    until(&lab, "kubectl get csinode node1 -o jsonpath='{.metadata.ownerReferences[0].kind}' | grep Node")
        .await;
    until(&lab, "kubectl get serviceaccount -n kube-system volumeattributesclass-protection-controller")
        .await;
    let may =
        "kubectl auth can-i list replicasets --as system:serviceaccount:kube-system:deployment-controller";
    assert_eq!(lab.sh(may).await.trim(), "yes");
    let pods = lab.sh("kubectl get pods -n kube-system --no-headers").await;
    for name in
        ["etcd-node1", "kube-apiserver-node1", "kube-controller-manager-node1", "kube-scheduler-node1"]
    {
        assert!(pods.lines().any(|l| l.starts_with(name) && l.contains("Running")), "{name}: {pods}");
        assert!(!lab.sh(&format!("kubectl logs -n kube-system {name} --tail=5")).await.is_empty(), "{name}");
    }
    assert!(
        lab.sh("docker ps --format '{{.Names}}'")
            .await
            .contains("k8s_kube-scheduler_kube-scheduler-node1_kube-system_")
    );
    // Without the scheduler pods stay Pending; with it they go on.
    lab.sh("mv /etc/kubernetes/manifests/kube-scheduler.yaml /root/ && kubectl wait --for=delete pod/kube-scheduler-node1 -n kube-system --timeout=60s").await;
    lab.sh("kubectl run waits --image=whoami").await;
    assert_eq!(
        lab.sh("kubectl get pod waits -o jsonpath='{.status.phase}{.spec.nodeName}'").await,
        "Pending"
    );
    lab.sh("mv /root/kube-scheduler.yaml /etc/kubernetes/manifests/ && kubectl wait --for=condition=Ready pod/waits --timeout=60s").await;
    // A component that dies is started again.
    lab.sh("pkill -KILL -x kube-controller && kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 pod/kube-controller-manager-node1 -n kube-system --timeout=60s").await;
    // Nothing is told that may be old while the store is away.
    lab.sh("mv /etc/kubernetes/manifests/etcd.yaml /root/; while ss -Hltn 'sport = :2379' | grep -q .; do sleep 0.1; done").await;
    let away = "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp \
                127.0.0.1:2379: connect: connection refused\"";
    lab.refused("until kubectl get pods 2>&1 | grep -q refused; do :; done; kubectl get pods", 1, away).await;
    lab.sh("kubectl get --raw '/api/v1/namespaces/default/pods?resourceVersion=0' | grep -q waits").await;
    lab.sh("mv /root/etcd.yaml /etc/kubernetes/manifests/; for i in $(seq 600); do kubectl get pods && exit 0; sleep 0.1; done; exit 1").await;
    let logs = |name: &str| format!("kubectl logs -n kube-system {name}-node1 | head -n 1");
    until(&lab, &format!("{} | grep '^{{\"level\":\"info\",\"ts\":\"'", logs("etcd"))).await;
    until(&lab, &format!("{} | grep '^[IW][0-9]\\{{4\\}} '", logs("kube-scheduler"))).await;
    // What was acknowledged is there after the store and the API server were killed.
    lab.sh("kubectl create configmap kept --from-literal=a=b && pkill -KILL -x etcd; pkill -KILL -x kube-apiserver; for i in $(seq 60); do kubectl get configmap kept && exit 0; sleep 1; done; exit 1").await;
    lab.end().await;
}

#[tokio::test]
async fn c3_the_store_by_etcdctl() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create configmap seen --from-literal=color=blue").await;
    let etcdctl = "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key";
    let keys = lab.sh(&format!("{etcdctl} get --prefix /registry --keys-only")).await;
    for key in [
        "/registry/configmaps/default/seen",
        "/registry/minions/node1",
        "/registry/pods/kube-system/etcd-node1",
    ] {
        assert!(keys.lines().any(|l| l == key), "{key}: {keys}");
    }
    let value =
        json(&lab.sh(&format!("{etcdctl} get /registry/configmaps/default/seen --print-value-only")).await);
    assert_eq!(value["data"]["color"], "blue");
    assert!(lab.sh(&format!("{etcdctl} endpoint status -w json")).await.contains("revision"));
    lab.end().await;
}

#[tokio::test]
async fn c4_a_node_fails_and_comes_back() {
    let lab = Lab::kubernetes(2).await;
    lab.power("node2", false).await;
    lab.sh("kubectl wait --for=condition=Ready=unknown node/node2 --timeout=120s").await;
    assert!(lab.sh("kubectl get node node2 --no-headers").await.contains("NotReady"));
    assert!(
        lab.sh("kubectl get node node2 -o jsonpath='{.spec.taints[*].key}'")
            .await
            .contains("node.kubernetes.io/unreachable")
    );
    lab.power("node2", true).await;
    lab.sh("kubectl wait --for=condition=Ready node/node2 --timeout=60s").await;
    lab.end().await;
}

#[tokio::test]
async fn kubectl_from_outside() {
    let lab = Lab::kubernetes(1).await;
    let path = format!("/sessions/{}/kubeconfig", lab.id);
    let config = lab.server().operate(Method::POST, &path, None).await.has(201).text();
    let server = config.lines().find_map(|l| l.trim().strip_prefix("server: ")).unwrap();
    let (_, base) = server.split_at(server.find("/k8s/").unwrap());
    let get = async |path: String| lab.server().send(Request::get(path), full("")).await;
    let nodes: Value = get(format!("{base}/api/v1/nodes")).await.has(200).json();
    assert_eq!(nodes["items"][0]["metadata"]["name"], "node1");
    let refused = get(format!("{base}x/api/v1/nodes")).await.has(403);
    assert_eq!(refused.json::<Value>()["kind"], "Status");
    lab.end().await;
}

#[tokio::test]
async fn other_playgrounds_have_no_cluster() {
    let lab = Lab::docker(1).await;
    let path = format!("/sessions/{}/kubeconfig", lab.id);
    lab.server().operate(Method::POST, &path, None).await.refused(409, "no_cluster");
    assert_eq!(lab.try_sh("pgrep kubelet").await.code(), 1);
    lab.end().await;
}

#[tokio::test]
async fn k1_the_cluster_keeps_what_it_needs() {
    let lab = Lab::kubernetes(1).await;
    for (reason, message) in [
        ("NodeHasSufficientMemory", "Node node1 status is now: NodeHasSufficientMemory"),
        ("NodeAllocatableEnforced", "Updated Node Allocatable limit across pods"),
        ("RegisteredNode", "Node node1 event: Registered Node node1 in Controller"),
    ] {
        until(&lab, &format!("kubectl get events --field-selector reason={reason} | grep '{message}'")).await;
    }
    lab.sh("kubectl get node node1 -o jsonpath='{.status.nodeInfo.machineID}' | grep -E '^[0-9a-f]{32}$'")
        .await;
    lab.sh("kubectl cordon node1").await;
    until(&lab, "kubectl get events --field-selector reason=NodeNotSchedulable | grep node1").await;
    lab.sh("kubectl uncordon node1 && kubectl delete service kubernetes").await;
    until(&lab, "kubectl get service kubernetes").await;
    // A Job past its deadline, whose pod takes its time, stops nobody else's work.
    apply(
        &lab,
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: late}\nspec:\n  activeDeadlineSeconds: 2\n  template:\n    spec:\n      restartPolicy: Never\n      \
         terminationGracePeriodSeconds: 8\n      containers:\n      - {name: c, image: busybox, command: [sh, -c, \"trap '' TERM; while true; do sleep 1; done\"]}\n",
    )
    .await;
    until(&lab, "kubectl get job late -o jsonpath='{.status.conditions[0].reason}' | grep DeadlineExceeded")
        .await;
    lab.sh("kubectl create deployment web --image=whoami && timeout 6 sh -c 'until kubectl get pods -l app=web | grep web; do sleep 0.2; done'").await;
    lab.sh("kubectl wait --for=condition=Failed job/late --timeout=60s").await;
    // Flags that change nothing here, and one that does.
    lab.sh("sed -i '/- kube-apiserver$/a\\    - --audit-log-path=/var/log/audit.log\\n    - --service-node-port-range=31000-31009' /etc/kubernetes/manifests/kube-apiserver.yaml").await;
    until(&lab, "kubectl get pod kube-apiserver-node1 -n kube-system -o yaml 2>/dev/null | grep -q audit-log-path && kubectl get --raw /readyz").await;
    lab.sh("kubectl create service nodeport np --tcp=80").await;
    lab.sh("kubectl get service np -o jsonpath='{.spec.ports[0].nodePort}' | grep -E '^3100[0-9]$'").await;
    lab.end().await;
}

#[tokio::test]
async fn k20_a_changed_custom_resource_is_applied() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.ex.io}\nspec:\n  group: ex.io\n  scope: Namespaced\n  \
         names: {plural: widgets, kind: Widget}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    \
         schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Established crd/widgets.ex.io --timeout=30s").await;
    let widget = |size: u32| {
        format!("apiVersion: ex.io/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{size: {size}}}\n")
    };
    apply(&lab, &widget(1)).await;
    assert_eq!(apply(&lab, &widget(2)).await, "widget.ex.io/w configured");
    assert_eq!(lab.sh("kubectl get widget w -o jsonpath='{.spec.size}'").await, "2");
    lab.end().await;
}

#[tokio::test]
async fn k18_a_node_whose_engine_hangs_becomes_not_ready() {
    let lab = Lab::kubernetes(2).await;
    let ready =
        |status: &str| format!("kubectl wait --for=condition=Ready={status} node/node2 --timeout=90s");
    lab.sh(&ready("true")).await;
    lab.sh_on("node2", "kill -STOP $(pidof dockerd)").await;
    lab.sh(&ready("false")).await;
    let why = "kubectl get node node2 -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].message}'";
    assert_eq!(lab.sh(why).await, "container runtime is down: operation timeout: context deadline exceeded");
    lab.sh_on("node2", "kill -CONT $(pidof dockerd)").await;
    lab.sh(&ready("true")).await;
    lab.end().await;
}
