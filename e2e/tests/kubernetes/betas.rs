//! What clusters of 1.35 have although it is not final yet, and what the kubelet does by itself: mirrors, evictions.

use super::{apply, until};
use drydock_e2e::Lab;

#[tokio::test]
async fn k14_containers_with_restart_rules_of_their_own() {
    let lab = Lab::kubernetes(1).await;
    let rules = "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]";
    for (name, code) in [("again", 42), ("once", 1)] {
        apply(
            &lab,
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - {{name: c, image: busybox, \
                 command: [sh, -c, 'exit {code}'], {rules}}}\n"
            ),
        )
        .await;
    }
    lab.sh("kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/once --timeout=60s").await;
    let restarts = "{.status.containerStatuses[0].restartCount}";
    lab.sh(&format!("kubectl wait --for=jsonpath='{restarts}'=1 pod/again --timeout=60s")).await;
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    lab.sh(&format!("kubectl wait --for=jsonpath='{waiting}'=CrashLoopBackOff pod/again --timeout=60s"))
        .await;
    assert_eq!(lab.sh("kubectl get pod again -o jsonpath='{.status.phase}'").await, "Running");
    lab.end().await;
}

#[tokio::test]
async fn k13_variables_from_a_file() {
    let lab = Lab::kubernetes(1).await;
    let pod = |name: &str, key: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  initContainers:\n  - name: i\n    image: busybox\n    \
             command: [sh, -c, \"echo \\\"A='from a file'\\\" > /v/x.env\"]\n    volumeMounts: [{{name: v, mountPath: /v}}]\n  containers:\n  - name: c\n    \
             image: busybox\n    command: [sh, -c, 'echo $A']\n    env: [{{name: A, valueFrom: {{fileKeyRef: {{volumeName: v, path: x.env, key: {key}}}}}}}]\n  \
             volumes: [{{name: v, emptyDir: {{}}}}]\n"
        )
    };
    apply(&lab, &pod("good", "A")).await;
    lab.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/good --timeout=60s").await;
    assert_eq!(lab.sh("kubectl logs good -c c").await, "from a file");
    apply(&lab, &pod("bad", "B")).await;
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    lab.sh(&format!(
        "kubectl wait --for=jsonpath='{waiting}'=CreateContainerConfigError pod/bad --timeout=60s"
    ))
    .await;
    let why = "{.status.containerStatuses[0].state.waiting.message}";
    let said = lab.sh(&format!("kubectl get pod bad -o jsonpath='{why}'")).await;
    assert!(said.starts_with("environment variable key \"B\" not found in file "), "{said}");
    lab.end().await;
}

#[tokio::test]
async fn k15_images_are_volumes_and_tokens_lie_in_memory() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: busybox\n    \
         command: [sleep, '3600']\n    volumeMounts: [{name: i, mountPath: /img}, {name: i, mountPath: /part, subPath: etc}, {name: m, mountPath: /memory}]\n  \
         volumes:\n  - {name: i, image: {reference: busybox}}\n  - {name: m, emptyDir: {medium: Memory}}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/p --timeout=60s").await;
    lab.sh("kubectl exec p -- test -e /img/bin/busybox -a -e /part/passwd").await;
    lab.refused("kubectl exec p -- touch /img/x", 1, "Read-only file system").await;
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    for dir in [token, "/memory"] {
        assert_eq!(lab.sh(&format!("kubectl exec p -- stat -f -c %T {dir}")).await, "tmpfs", "{dir}");
        assert_eq!(lab.sh(&format!("kubectl exec p -- stat -c %a {dir}")).await, "1777", "{dir}");
    }
    lab.sh("kubectl delete pod p").await;
    // Nothing of it stays mounted.
    until(&lab, "test -z \"$(ls -A /var/lib/kubelet/pods/*/volumes/kubernetes.io~image 2>/dev/null)\"").await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: q}\nspec:\n  containers:\n  - {name: c, image: busybox, volumeMounts: [{name: i, mountPath: /img}]}\n  \
         volumes: [{name: i, image: {reference: no-such-image-here, pullPolicy: Never}}]\n",
    )
    .await;
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    lab.sh(&format!("kubectl wait --for=jsonpath='{waiting}'=ErrImageNeverPull pod/q --timeout=60s")).await;
    lab.end().await;
}

#[tokio::test]
async fn k14_pods_that_use_too_much_disk_are_evicted() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: busybox\n    \
         command: [sh, -c, 'dd if=/dev/urandom of=/v/f bs=1M count=6; sleep 3600']\n    volumeMounts: [{name: v, mountPath: /v}]\n  \
         volumes: [{name: v, emptyDir: {sizeLimit: 5Mi}}]\n",
    )
    .await;
    lab.sh("kubectl wait --for=jsonpath='{.status.reason}'=Evicted pod/p --timeout=60s").await;
    let said = lab.sh("kubectl get pod p -o jsonpath='{.status.phase}: {.status.message}'").await;
    assert_eq!(said.trim_end(), "Failed: Usage of EmptyDir volume \"v\" exceeds the limit \"5Mi\".");
    until(&lab, "kubectl get events | grep -q Evicted").await;
    lab.end().await;
}

#[tokio::test]
async fn c1_a_static_pod_can_be_deleted_any_time() {
    let lab = Lab::kubernetes(1).await;
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: st}\nspec: {containers: [{name: c, image: busybox, command: [sleep, '3600']}]}";
    lab.sh(&format!(
        "printf '{}\\n' > /etc/kubernetes/manifests/st.yaml",
        manifest.replace('\n', "\\n").replace('\'', "\"")
    ))
    .await;
    for _ in 0..10 {
        until(&lab, "kubectl get pod st-node1 >/dev/null 2>&1").await;
        lab.sh("kubectl delete pod st-node1 --timeout=30s").await;
    }
    lab.end().await;
}

#[tokio::test]
async fn k14_a_sandbox_that_never_starts_does_not_keep_the_node_busy() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl run clock --image=busybox -- false").await;
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    lab.sh(&format!("kubectl wait --for=jsonpath='{waiting}'=CrashLoopBackOff pod/clock --timeout=60s"))
        .await;
    // An image that is no pause.
    lab.sh("printf 'FROM scratch\nCMD [\"/none\"]\n' | docker build -q -t registry.k8s.io/pause:3.10.1 -")
        .await;
    lab.sh("kubectl run p --image=busybox -- sleep 3600").await;
    until(&lab, "kubectl get events | grep -q FailedCreatePodSandBox").await;
    // Once more the other pod's pause, which is ten seconds and more, has passed.
    let restarts = "kubectl get pod clock -o jsonpath='{.status.containerStatuses[0].restartCount}'";
    let before: u32 = lab.sh(restarts).await.parse().unwrap();
    until(&lab, &format!("test \"$({restarts})\" -gt {before}")).await;
    let attempts = lab.sh("grep -c 'Error syncing pod.*p_default' /var/log/kubelet.log").await;
    assert!((1..40).contains(&attempts.parse::<u32>().unwrap()), "{attempts}");
    lab.end().await;
}

#[tokio::test]
async fn k18_a_runtime_that_the_node_has_not() {
    let lab = Lab::kubernetes(1).await;
    for (class, handler) in [("usual", "runc"), ("gvisor", "runsc")] {
        let class = format!(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {class}}}\nhandler: {handler}"
        );
        apply(&lab, &class).await;
    }
    for class in ["usual", "gvisor"] {
        let spec = format!("{{\"spec\":{{\"runtimeClassName\":\"{class}\"}}}}");
        lab.sh(&format!("kubectl run {class} --image=busybox --overrides='{spec}' -- sleep 3600")).await;
    }
    lab.sh("kubectl wait --for=condition=Ready pod/usual --timeout=60s").await;
    let events =
        "kubectl get events --field-selector reason=FailedCreatePodSandBox -o jsonpath='{.items[0].message}'";
    until(&lab, &format!("{events} 2>/dev/null | grep 'unknown or invalid runtime name: runsc'")).await;
    lab.end().await;
}
