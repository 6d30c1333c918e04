//! Pods: how they run, fail, are looked into and find their node.

use super::{WHOAMI, apply, deployment, json, until};
use drydock_e2e::Lab;

#[tokio::test]
async fn k2_a_pod() {
    let lab = Lab::kubernetes(2).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: box, labels: {a: b}}\nspec:\n  containers:\n  - name: main\n    image: busybox\n    \
         command: [sh, -c, 'echo hello $NODE; exec sleep 3600']\n    env:\n    - name: NODE\n      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/box --timeout=60s").await;
    assert!(lab.sh("kubectl logs box").await.starts_with("hello node"));
    assert_eq!(lab.sh("kubectl exec box -- cat /etc/hostname").await, "box");
    assert_eq!(lab.sh("echo piped | kubectl exec -i box -- cat").await, "piped");
    assert_eq!(lab.try_sh("kubectl exec box -- sh -c 'exit 7'").await.code(), 7);
    assert_eq!(
        lab.sh("script -qec 'kubectl exec -it box -- tty' /dev/null | grep -o /dev/pts/0").await,
        "/dev/pts/0"
    );
    lab.sh("echo data > /tmp/f && kubectl cp /tmp/f box:/tmp/g && kubectl cp box:/tmp/g /tmp/h && cmp /tmp/f /tmp/h").await;
    // Events are written beside the work.
    lab.sh("timeout 20 sh -c 'until kubectl get events | grep -q Started; do sleep 0.1; done'").await;
    let described = lab.sh("kubectl describe pod box").await;
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        assert!(described.contains(reason), "{reason}: {described}");
    }
    // It is a container of the node's engine, beside a pause container.
    let node = lab.sh("kubectl get pod box -o jsonpath='{.spec.nodeName}'").await;
    let names = lab.sh_on(&node, "docker ps --format '{{.Names}}' | grep box_default").await;
    assert!(names.contains("k8s_main_box_default_") && names.contains("k8s_POD_box_default_"), "{names}");
    assert_eq!(
        lab.sh("kubectl label pod box c=d && kubectl annotate pod box e=f && kubectl get pod box -o jsonpath='{.metadata.labels.c}{.metadata.annotations.e}'")
            .await
            .lines()
            .last()
            .unwrap(),
        "df"
    );
    lab.refused("kubectl get pod none", 1, "Error from server (NotFound): pods \"none\" not found").await;
    lab.sh("kubectl delete pod box --now").await;
    lab.refused("kubectl get pod box", 1, "NotFound").await;
    lab.end().await;
}

#[tokio::test]
async fn k2_pods_that_fail() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl run crash --image=busybox -- sh -c 'echo dying; exit 3'").await;
    lab.sh("kubectl run nothing --image=no-such-image-here").await;
    lab.sh("kubectl run done --image=busybox --restart=Never -- true").await;
    lab.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/done --timeout=60s").await;
    // As the engine names it, although it was pulled just now.
    let image = "kubectl get pod done -o jsonpath='{.status.containerStatuses[0].image}'";
    assert_eq!(lab.sh(image).await, "busybox:latest");
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    lab.sh(&format!("kubectl wait --for=jsonpath='{waiting}'=CrashLoopBackOff pod/crash --timeout=60s"))
        .await;
    lab.sh(&format!("kubectl wait --for=jsonpath='{waiting}'=ImagePullBackOff pod/nothing --timeout=60s"))
        .await;
    assert_eq!(lab.sh("kubectl logs crash --previous").await, "dying");
    let pods = lab.sh("kubectl get pods --no-headers").await;
    assert!(pods.contains("Completed") && pods.contains("CrashLoopBackOff"), "{pods}");
    lab.end().await;
}

#[tokio::test]
async fn k14_probes() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: probed}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: busybox\n    \
         command: [sh, -c, 'sleep 1; touch /live; exec httpd -f -h /']\n    livenessProbe: {exec: {command: [cat, /live]}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 1}\n    \
         readinessProbe: {httpGet: {path: /ready, port: 80}, periodSeconds: 1}\n",
    )
    .await;
    lab.sh("kubectl wait --for=jsonpath='{.status.phase}'=Running pod/probed --timeout=60s").await;
    assert_eq!(
        lab.sh("kubectl get pod probed -o jsonpath='{.status.containerStatuses[0].ready}'").await,
        "false"
    );
    lab.sh(
        "kubectl exec probed -- touch /ready && kubectl wait --for=condition=Ready pod/probed --timeout=60s || { kubectl describe pod probed; exit 1; }",
    )
    .await;
    lab.sh("kubectl exec probed -- rm /live; kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 pod/probed --timeout=60s").await;
    // Events are written beside the work.
    lab.sh("for i in $(seq 50); do kubectl describe pod probed | grep 'Liveness probe failed' && exit 0; sleep 0.2; done; kubectl describe pod probed; exit 1").await;
    lab.end().await;
}

#[tokio::test]
async fn k18_where_pods_go() {
    let lab = Lab::kubernetes(3).await;
    apply(&lab, &deployment("web", 4)).await;
    lab.sh("kubectl rollout status deployment/web --timeout=60s").await;
    lab.sh("kubectl drain node2 --ignore-daemonsets --force --timeout=60s && kubectl rollout status deployment/web --timeout=60s").await;
    assert!(lab.sh("kubectl get node node2 --no-headers").await.contains("Ready,SchedulingDisabled"));
    assert!(!lab.sh("kubectl get pods -l app=web -o wide --no-headers").await.contains("node2"));
    lab.sh("kubectl uncordon node2 && kubectl taint node node2 only=gpu:NoSchedule").await;
    lab.sh("kubectl run big --image=whoami --overrides='{\"spec\":{\"nodeSelector\":{\"disk\":\"ssd\"}}}'")
        .await;
    lab.sh("kubectl wait --for=condition=PodScheduled=false pod/big --timeout=30s").await;
    let why = lab
        .sh("kubectl get pod big -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].message}'")
        .await;
    assert!(
        why.starts_with("0/3 nodes are available: ")
            && why.contains("didn't match Pod's node affinity/selector"),
        "{why}"
    );
    lab.sh("kubectl label node node3 disk=ssd && kubectl wait --for=condition=Ready pod/big --timeout=60s")
        .await;
    assert_eq!(lab.sh("kubectl get pod big -o jsonpath='{.spec.nodeName}'").await, "node3");
    lab.sh("kubectl create pdb web --selector=app=web --min-available=4").await;
    lab.sh("kubectl wait --for=jsonpath='{.status.currentHealthy}'=4 pdb/web --timeout=30s").await;
    lab.refused(
        "kubectl drain node3 --ignore-daemonsets --force --timeout=2s",
        1,
        "Cannot evict pod as it would violate the pod's disruption budget",
    )
    .await;
    lab.end().await;
}

#[tokio::test]
async fn k2_connections_to_a_pod() {
    let lab = Lab::kubernetes(2).await;
    assert!(
        lab.sh("kubectl run once --image=busybox --restart=Never -i --rm -- echo hello")
            .await
            .contains("hello")
    );
    let read =
        "echo hi | kubectl run reader --image=busybox --restart=Never -i -- sh -c 'read x; echo got $x'";
    assert!(lab.sh(read).await.contains("got hi"));

    lab.sh(&format!("kubectl create deployment web --image={WHOAMI} && kubectl rollout status deployment/web --timeout=60s")).await;
    // The client says that it listens before anybody may come.
    let forward = "kubectl port-forward deployment/web 8888:80 > /tmp/forward 2>&1 & F=$!; \
                   timeout 20 sh -c 'until grep -q Forwarding /tmp/forward; do sleep 0.05; done'; \
                   curl -sf http://127.0.0.1:8888/; kill $F";
    assert!(lab.sh(forward).await.contains("Hostname: web-"));
    let proxy = "kubectl proxy --port=8003 > /tmp/proxy 2>&1 & P=$!; \
                 timeout 20 sh -c 'until grep -q Starting /tmp/proxy; do sleep 0.05; done'; \
                 curl -sf http://127.0.0.1:8003/api/v1/namespaces/default/pods; kill $P";
    assert_eq!(json(&lab.sh(proxy).await)["kind"], "PodList");

    lab.sh("kubectl run talker --image=busybox --restart=Never -- sh -c 'until [ -e /go ]; do echo waiting; sleep 0.1; done; echo said'").await;
    lab.sh("kubectl wait --for=condition=Ready pod/talker --timeout=60s").await;
    // It is attached when its output comes through.
    let attach = "kubectl attach talker > /tmp/attached 2>&1 & A=$!; \
                  timeout 20 sh -c 'until grep -q waiting /tmp/attached; do sleep 0.05; done'; \
                  kubectl exec talker -- touch /go; wait $A; cat /tmp/attached";
    assert!(lab.sh(attach).await.contains("said"));

    // A container that joins a running pod sees its processes; one on a node sees the node's files.
    let pod = lab.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").await;
    let container =
        lab.sh(&format!("kubectl get pod {pod} -o jsonpath='{{.spec.containers[0].name}}'")).await;
    let debug = format!(
        "kubectl debug {pod} --image=busybox --container=look --target={container} --profile=general --attach=false -- sleep 1000 && \
         kubectl wait pod/{pod} --for=jsonpath='{{.status.ephemeralContainerStatuses[0].state.running}}' --timeout=60s && \
         kubectl exec {pod} -c look -- ps"
    );
    let seen = lab.sh(&debug).await;
    assert!(seen.contains("whoami") && seen.contains("sleep 1000"), "{seen}");
    let debug = "kubectl debug node/node2 --image=busybox --profile=general -- cat /host/etc/hostname && \
                 N=$(kubectl get pods -o name | grep node-debugger-node2) && \
                 kubectl wait $N --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s > /dev/null && kubectl logs $N";
    assert!(lab.sh(debug).await.ends_with("node2"));
    lab.end().await;
}

#[tokio::test]
async fn ports_of_a_node_lead_to_a_pod() {
    let lab = Lab::kubernetes(2).await;
    // With some grace: such a pod is gone when its node has nothing left of it.
    let pod = |name: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             nodeSelector: {{kubernetes.io/hostname: {node}}}\n  containers:\n  - name: web\n    image: {WHOAMI}\n    \
             ports: [{{containerPort: 80, hostPort: 8080}}]\n"
        )
    };
    apply(&lab, &pod("web", "node2")).await;
    lab.sh("kubectl wait --for=condition=Ready pod/web --timeout=60s").await;
    let asked = "curl -sf --max-time 5 http://ADDRESS:8080/ | grep -i hostname";
    // From another node, from the node itself by each of its addresses, and from the pod itself.
    assert_eq!(lab.sh(&asked.replace("ADDRESS", "node2")).await, "Hostname: web");
    assert_eq!(lab.sh_on("node2", &asked.replace("ADDRESS", "127.0.0.1")).await, "Hostname: web");
    assert_eq!(lab.sh_on("node2", &asked.replace("ADDRESS", "node2")).await, "Hostname: web");
    lab.sh("kubectl run look --image=busybox --restart=Never --overrides='{\"spec\":{\"nodeName\":\"node2\"}}' -- wget -qO- http://192.168.0.12:8080/").await;
    lab.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/look --timeout=60s").await;
    assert!(lab.sh("kubectl logs look").await.contains("Hostname: web"));

    apply(&lab, &pod("second", "node2")).await;
    lab.sh("kubectl wait --for=condition=PodScheduled=false pod/second --timeout=30s").await;
    let why =
        "kubectl get pod second -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].message}'";
    let why = lab.sh(why).await;
    assert!(why.contains("1 node(s) didn't have free ports for the requested pod ports"), "{why}");

    // Another one uses what the first has made.
    apply(&lab, &pod("third", "node2").replace("8080", "8081")).await;
    lab.sh("kubectl wait --for=condition=Ready pod/third --timeout=60s").await;
    assert_eq!(lab.sh("curl -sf http://node2:8081/ | grep -i hostname").await, "Hostname: third");
    assert_eq!(lab.sh_on("node2", "iptables -t nat -S | sort | uniq -d").await, "");

    // The next one gets the port when it is free, and nothing is left when that has gone too.
    lab.sh("kubectl delete pod web && kubectl wait --for=condition=Ready pod/second --timeout=60s").await;
    assert_eq!(lab.sh(&asked.replace("ADDRESS", "node2")).await, "Hostname: second");
    lab.sh("kubectl delete pod second third").await;
    assert_eq!(lab.sh_on("node2", "iptables -t nat -S | grep -c CNI-DN- || true").await, "0");
    lab.end().await;
}

#[tokio::test]
async fn k15_volumes_within_volumes_and_parts_of_them() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: info, labels: {a: b}}\nspec:\n  containers:\n  - name: c\n    image: busybox\n    \
         command: [sleep, '3600']\n    volumeMounts:\n    - {name: all, mountPath: /etc/podinfo/all}\n    - {name: labels, mountPath: /etc/podinfo}\n    \
         - {name: part, mountPath: /part, subPath: a/b}\n  volumes:\n  - name: labels\n    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}\n  \
         - name: all\n    projected: {sources: [{downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}\n  - name: part\n    emptyDir: {}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/info --timeout=60s").await;
    assert_eq!(
        lab.sh("kubectl exec info -- cat /etc/podinfo/all/name /etc/podinfo/labels").await,
        "infoa=\"b\""
    );
    lab.sh("kubectl exec info -- touch /part/x").await;
    // A link that a container left leads nowhere outside of its volume.
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: out}\nspec:\n  initContainers:\n  - name: link\n    image: busybox\n    command: [ln, -s, /etc, /v/x]\n    \
         volumeMounts: [{name: v, mountPath: /v}]\n  containers:\n  - name: c\n    image: busybox\n    command: [sleep, '3600']\n    \
         volumeMounts: [{name: v, mountPath: /mnt, subPath: x/newdir}]\n  volumes: [{name: v, emptyDir: {}}]\n",
    )
    .await;
    let why = "failed to create subPath directory for volumeMount \"v\" of container \"c\"";
    until(&lab, &format!("kubectl get pod out -o jsonpath='{{.status.containerStatuses[0].state.waiting.message}}' | grep '{why}'")).await;
    assert_eq!(lab.try_sh("test -e /etc/newdir").await.code(), 1);
    lab.end().await;
}

#[tokio::test]
async fn k14_hooks_and_ended_containers_in_upstreams_words() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: hooked}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: c\n    image: busybox\n    \
         command: [sleep, '3600']\n    lifecycle: {postStart: {exec: {command: [sh, -c, 'echo secret; exit 3']}}}\n  - name: other\n    image: busybox\n    \
         command: [sleep, '3600']\n",
    )
    .await;
    let events =
        "kubectl get events --field-selector reason=FailedPostStartHook -o jsonpath='{.items[0].message}'";
    until(&lab, &format!("{events} 2>/dev/null | grep -x 'PostStartHook failed'")).await;
    // It is started once more at once, and then after a pause.
    until(
        &lab,
        "kubectl get pod hooked -o jsonpath='{.status.containerStatuses[0].state}' | grep CrashLoopBackOff",
    )
    .await;
    lab.refused("kubectl attach hooked -c c", 1, "container c not found in pod hooked_default").await;
    lab.refused("kubectl exec hooked -c c -- true", 1, "container not found (\"c\")").await;
    lab.end().await;
}
