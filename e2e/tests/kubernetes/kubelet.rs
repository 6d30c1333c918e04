//! What a kubelet refuses, changes and puts right, in upstream's words.

use super::{apply, until};
use drydock_e2e::Lab;

#[tokio::test]
async fn k18_a_pod_that_names_its_node_may_not_fit_there() {
    let lab = Lab::kubernetes(1).await;
    let pod = |name: &str, spec: &str, container: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: node1\n{spec}\n  containers:\n  - name: c\n    \
             image: busybox\n    command: [sleep, '3600']\n{container}\n"
        )
    };
    let port = "    ports: [{containerPort: 80, hostPort: 8099}]";
    apply(&lab, &pod("first", "", port)).await;
    lab.sh("kubectl wait --for=condition=Ready pod/first --timeout=60s").await;
    apply(&lab, &pod("large", "", "    resources: {requests: {cpu: '1000'}}")).await;
    apply(&lab, &pod("second", "", port)).await;
    apply(&lab, &pod("elsewhere", "  nodeSelector: {disk: none}", "")).await;
    apply(&lab, &pod("kernel", "  securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}", ""))
        .await;
    for (name, reason, message) in [
        (
            "large",
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: ",
        ),
        (
            "second",
            "NodePorts",
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        ),
        (
            "elsewhere",
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        (
            "kernel",
            "SysctlForbidden",
            "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted",
        ),
    ] {
        lab.sh(&format!("kubectl wait --for=jsonpath='{{.status.phase}}'=Failed pod/{name} --timeout=60s"))
            .await;
        let said = lab.sh(&format!("kubectl get pod {name} -o jsonpath='{{.status.message}}'")).await;
        assert!(said.starts_with(message), "{said}");
        let shown = lab.sh(&format!("kubectl get pod {name} --no-headers")).await;
        assert!(shown.contains(reason), "{shown}");
        until(&lab, &format!("kubectl get events | grep -q {reason}")).await;
    }
    // What the first one had is free as soon as it is gone.
    lab.sh("kubectl delete pod first second --now").await;
    apply(&lab, &pod("third", "", port)).await;
    lab.sh("kubectl wait --for=condition=Ready pod/third --timeout=60s").await;
    lab.end().await;
}

/// The files that every administrator of kubeadm's clusters knows, and what comes of a slip in them.
#[tokio::test]
async fn k1_the_kubelet_is_started_as_kubeadm_does() {
    let lab = Lab::kubernetes(2).await;
    let on = async |script: &str| lab.sh_on("node2", script).await;
    let unit = on("systemctl cat kubelet").await;
    assert!(
        unit.contains("Environment=\"KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml\""),
        "{unit}"
    );
    let drop_in = "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";
    let breaks = [
        (
            "/var/lib/kubelet/config.yaml",
            "s#pki/ca.crt#pki/other.crt#",
            "unable to load client CA file /etc/kubernetes/pki/other.crt: open /etc/kubernetes/pki/other.crt: no such file",
        ),
        (
            "/var/lib/kubelet/config.yaml",
            "s#^kind: .*#kind: Kubelet#",
            "no kind \\\"Kubelet\\\" is registered",
        ),
        (drop_in, "s#--config=#--confg=#", "failed to parse kubelet flag: unknown flag: --confg"),
        (
            drop_in,
            "s#=/usr/bin/kubelet#=/usr/local/bin/kubelet#",
            "spawning /usr/local/bin/kubelet: No such file",
        ),
    ];
    for (file, change, said) in breaks {
        on(&format!("cp {file} /root/kept && sed -i '{change}' {file} && systemctl restart kubelet")).await;
        let log =
            on("until journalctl -u kubelet | tail -n 1 | grep 'command failed'; do sleep 0.1; done").await;
        assert!(log.contains(said), "{log}");
        on(&format!("systemctl status kubelet | grep 'activating (auto-restart)' && mv /root/kept {file}"))
            .await;
    }
    on("echo 'maxPods: 9' >> /var/lib/kubelet/config.yaml; echo 'systemReserved: {cpu: 500m}' >> /var/lib/kubelet/config.yaml; \
        echo 'KUBELET_EXTRA_ARGS=--max-pods=7' > /etc/default/kubelet; systemctl restart kubelet")
        .await;
    until(&lab, "kubectl get node node2 -o jsonpath='{.status.allocatable}' | grep '\"cpu\":\"[0-9]*500m\".*\"pods\":\"7\"'")
        .await;
    lab.sh("kubectl wait --for=condition=Ready node/node2 --timeout=60s").await;
    assert!(lab.sh("kubectl get --raw /api/v1/nodes/node2/proxy/configz").await.contains(r#""maxPods":7,"#));
    // Without its volumes a pod has no sandbox, and no address.
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: waits}\nspec:\n  nodeName: node2\n  volumes: [{name: v, configMap: {name: later}}]\n  \
               containers: [{name: c, image: nginx, volumeMounts: [{name: v, mountPath: /v}]}]\n";
    apply(&lab, pod).await;
    until(&lab, "kubectl get events | grep FailedMount").await;
    let told = "kubectl get pod waits -o jsonpath='{.status.podIP}{.status.conditions[?(@.type==\"PodReadyToStartContainers\")].status}'";
    assert_eq!(lab.sh(told).await, "False");
    assert_eq!(on("docker ps -aq --filter name=waits").await, "");
    lab.sh("kubectl create configmap later && kubectl wait --for=condition=Ready pod/waits --timeout=120s")
        .await;
    let status = "kubectl get pod waits -o jsonpath='{.status.containerStatuses[0].imageID} {.status.containerStatuses[0].resources}'";
    let status = lab.sh(status).await;
    assert!(status.starts_with("docker-pullable://nginx@sha256:") && status.ends_with(" {}"), "{status}");
    lab.end().await;
}

#[tokio::test]
async fn k18_a_running_pod_gets_other_limits() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    image: busybox\n    command: [sleep, '3600']\n    \
         resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]\n    \
         resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/p --timeout=60s").await;
    let resize = |resources: &str| {
        let patch = format!("{{\"spec\":{{\"containers\":[{{\"name\":\"c\",\"resources\":{resources}}}]}}}}");
        format!("kubectl patch pod p --subresource resize -p '{patch}'")
    };
    let quota = "docker inspect -f '{{.HostConfig.CpuQuota}} {{.HostConfig.Memory}}' $(docker ps -q --filter name=k8s_c_p_)";
    lab.sh(&resize(r#"{"limits":{"cpu":"300m"}}"#)).await;
    until(&lab, &format!("{quota} | grep -qx '30000 67108864'")).await;
    let shown =
        "{.status.containerStatuses[0].resources.limits.cpu} {.status.containerStatuses[0].restartCount}";
    until(&lab, &format!("kubectl get pod p -o jsonpath='{shown}' | grep -qx '300m 0'")).await;
    // More than the node has: everything stays as it is, and the pod says why.
    lab.sh(&resize(r#"{"requests":{"cpu":"900"},"limits":{"cpu":"900"}}"#)).await;
    lab.sh("kubectl wait --for=condition=PodResizePending pod/p --timeout=60s").await;
    let condition = "{.status.conditions[?(@.type==\"PodResizePending\")].reason}";
    assert_eq!(lab.sh(&format!("kubectl get pod p -o jsonpath='{condition}'")).await, "Infeasible");
    assert!(lab.sh(quota).await.starts_with("30000 "));
    // It has what it had, and leaves the rest to others.
    lab.sh("kubectl run beside --image=whoami --overrides='{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"whoami\",\"resources\":{\"requests\":{\"cpu\":\"10m\"}}}]}}' && \
            kubectl wait --for=condition=Ready pod/beside --timeout=60s").await;
    lab.sh(&resize(r#"{"requests":{"cpu":"100m"},"limits":{"cpu":"300m"}}"#)).await;
    until(&lab, &format!("test -z \"$(kubectl get pod p -o jsonpath='{condition}')\"")).await;
    // What its policy names begins anew with it.
    lab.sh(&resize(r#"{"limits":{"memory":"96Mi"}}"#)).await;
    until(&lab, &format!("kubectl get pod p -o jsonpath='{shown}' | grep -qx '300m 1'")).await;
    until(&lab, &format!("{quota} | grep -qx '30000 100663296'")).await;
    lab.end().await;
}

#[tokio::test]
async fn k2_a_pod_has_ended_when_nothing_of_it_runs() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  activeDeadlineSeconds: 2\n  terminationGracePeriodSeconds: 600\n  containers:\n  \
         - name: c\n    image: busybox\n    command: [sh, -c, 'trap : TERM; while :; do sleep 0.1; done']\n",
    )
    .await;
    until(&lab, "kubectl get events | grep -q DeadlineExceeded").await;
    assert_eq!(lab.sh("kubectl get pod p -o jsonpath='{.status.phase}'").await, "Running");
    lab.sh("docker kill $(docker ps -q --filter name=k8s_c_p_)").await;
    lab.sh("kubectl wait --for=jsonpath='{.status.reason}'=DeadlineExceeded pod/p --timeout=60s").await;
    assert_eq!(lab.sh("docker ps -q --filter name=k8s_c_p_").await, "");
    // Whatever somebody else writes there, the kubelet knows better.
    lab.sh("kubectl run q --image=busybox -- sleep 3600 && kubectl wait --for=condition=Ready pod/q --timeout=60s").await;
    let patch = r#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#;
    lab.sh(&format!("kubectl patch pod q --subresource status -p '{patch}'")).await;
    lab.sh("kubectl wait --for=condition=Ready pod/q --timeout=60s").await;
    lab.end().await;
}

#[tokio::test]
async fn k2_a_pod_has_a_seccomp_profile_of_the_node() {
    let lab = Lab::kubernetes(1).await;
    let pod = |name: &str, profile: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  securityContext: {{seccompProfile: {profile}}}\n  containers:\n  \
             - name: c\n    image: busybox\n    command: [sleep, '3600']\n"
        )
    };
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}]}"#;
    apply(&lab, &pod("walled", "{type: Localhost, localhostProfile: profiles/few.json}")).await;
    let said = "kubectl get pod walled -o jsonpath='{.status.containerStatuses[0].state.waiting}'";
    until(&lab, &format!("{said} | grep -q CreateContainerError")).await;
    let path = "/var/lib/kubelet/seccomp/profiles/few.json";
    let missing = format!(
        "failed to generate security options for container \\\"c\\\": failed to generate seccomp security options for container: \
         cannot load seccomp profile \\\"{path}\\\": open {path}: no such file or directory"
    );
    let shown = lab.sh(said).await;
    assert!(shown.contains(&missing), "{shown}");
    // The kubelet tries again.
    lab.sh(&format!("mkdir -p /var/lib/kubelet/seccomp/profiles && echo '{profile}' > {path}")).await;
    lab.sh("kubectl wait --for=condition=Ready pod/walled --timeout=120s").await;
    lab.refused("kubectl exec walled -- chmod 700 /tmp", 1, "Operation not permitted").await;
    // Who asks for nothing is not filtered, who asks for the engine's profile is.
    apply(&lab, &pod("plain", "{type: Unconfined}")).await;
    apply(&lab, &pod("default", "{type: RuntimeDefault}")).await;
    lab.sh("kubectl wait --for=condition=Ready pod/plain pod/default --timeout=60s").await;
    lab.sh("kubectl exec plain -- unshare -U true").await;
    lab.refused("kubectl exec default -- unshare -U true", 1, "Operation not permitted").await;
    lab.end().await;
}

#[tokio::test]
async fn k18_the_groups_of_an_image_are_taken_or_left() {
    let lab = Lab::kubernetes(1).await;
    lab.sh(
        "mkdir groups && printf 'FROM busybox\\nRUN adduser -D -u 1000 alice && addgroup -g 50000 secret && addgroup alice secret\\n' \
         > groups/Dockerfile && docker build -q -t groups groups",
    )
    .await;
    for (name, policy, groups) in [
        ("merged", "", "3000,4000,50000(secret)"),
        ("strict", ", supplementalGroupsPolicy: Strict", "3000,4000"),
    ] {
        let context = format!("{{runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000]{policy}}}");
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  securityContext: {context}\n  containers:\n  - name: c\n    \
             image: groups\n    imagePullPolicy: Never\n    command: [sleep, '3600']\n"
        );
        apply(&lab, &pod).await;
        lab.sh(&format!("kubectl wait --for=condition=Ready pod/{name} --timeout=60s")).await;
        let ids = lab.sh(&format!("kubectl exec {name} -- id")).await;
        assert_eq!(ids.trim(), format!("uid=1000(alice) gid=3000 groups={groups}"));
        let user =
            format!("kubectl get pod {name} -o jsonpath='{{.status.containerStatuses[0].user.linux}}'");
        let numbers = groups.trim_end_matches("(secret)");
        assert_eq!(
            lab.sh(&user).await.trim(),
            format!("{{\"gid\":3000,\"supplementalGroups\":[{numbers}],\"uid\":1000}}")
        );
    }
    lab.end().await;
}
