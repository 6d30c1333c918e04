//! The rows of the Kubernetes part of the curriculum that the control plane and the kubelet keep, each by the official clients in
//! a node. Names of tests begin with their row.

use drydock_e2e::{Lab, http::full};
use hyper::{Method, Request};
use serde_json::Value;

/// A web server that answers with its host's name; the catalogue has it always.
const WHOAMI: &str = "whoami";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A deployment as in every first lesson.
fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  replicas: {replicas}\n\
         \x20 selector:\n    matchLabels: {{app: {name}}}\n  template:\n    metadata:\n      labels: {{app: {name}}}\n    spec:\n\
         \x20     containers:\n      - name: web\n        image: {WHOAMI}\n        ports:\n        - containerPort: 80\n\
         \x20       resources:\n          requests: {{cpu: 100m}}\n"
    )
}

/// Applies a manifest.
async fn apply(lab: &Lab, manifest: &str) -> String {
    lab.sh(&format!("kubectl apply -f - <<'EOF'\n{manifest}\nEOF")).await
}

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
async fn k4_deployments() {
    let lab = Lab::kubernetes(3).await;
    apply(&lab, &deployment("web", 3)).await;
    assert!(
        lab.sh("kubectl rollout status deployment/web --timeout=60s")
            .await
            .contains("successfully rolled out")
    );
    let sets = lab.sh("kubectl get replicasets --no-headers").await;
    assert_eq!(sets.split_whitespace().skip(1).take(3).collect::<Vec<_>>(), ["3", "3", "3"], "{sets}");
    // Self-healing.
    let first = lab.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").await;
    assert_eq!(first.split('-').count(), 3, "{first}");
    lab.sh(&format!(
        "kubectl delete pod {first} --now && kubectl rollout status deployment/web --timeout=60s"
    ))
    .await;
    assert_eq!(lab.sh("kubectl get pods -l app=web --no-headers | grep -c Running").await, "3");
    lab.sh(
        "kubectl scale deployment/web --replicas=4 && kubectl rollout status deployment/web --timeout=60s",
    )
    .await;
    // A new template, and back.
    lab.sh("kubectl set env deployment/web A=1 && kubectl rollout status deployment/web --timeout=60s").await;
    assert_eq!(lab.sh("kubectl get replicasets --no-headers | wc -l").await, "2");
    let history = lab.sh("kubectl rollout history deployment/web").await;
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    lab.sh("kubectl rollout undo deployment/web && kubectl rollout status deployment/web --timeout=60s")
        .await;
    assert_eq!(
        lab.sh("kubectl get deployment web -o jsonpath='{.spec.template.spec.containers[0].env}'").await,
        ""
    );
    lab.sh("kubectl rollout pause deployment/web && kubectl set env deployment/web B=2").await;
    assert_eq!(lab.sh("kubectl get replicasets --no-headers | wc -l").await, "2");
    lab.sh("kubectl rollout resume deployment/web && kubectl rollout restart deployment/web && kubectl rollout status deployment/web --timeout=60s").await;
    let wrong =
        deployment("bad", 1).replace("labels: {app: bad}\n    spec", "labels: {app: other}\n    spec");
    lab.refused(
        &format!("kubectl apply -f - <<'EOF'\n{wrong}\nEOF"),
        1,
        "`selector` does not match template `labels`",
    )
    .await;
    lab.sh("kubectl delete deployment web && kubectl wait --for=delete pod -l app=web --timeout=60s").await;
    assert_eq!(lab.sh("kubectl get replicasets -o name").await, "");
    lab.end().await;
}

#[tokio::test]
async fn k5_labels_and_selectors() {
    let lab = Lab::kubernetes(1).await;
    apply(&lab, &deployment("web", 2)).await;
    lab.sh("kubectl rollout status deployment/web --timeout=60s").await;
    let all = lab.sh("kubectl get all -l app=web -o name").await;
    for kind in ["pod/web-", "deployment.apps/web", "replicaset.apps/web-"] {
        assert!(all.contains(kind), "{kind}: {all}");
    }
    for (selector, count) in [
        ("app=web", "2"),
        ("app!=web", "0"),
        ("app in (web,db)", "2"),
        ("app notin (web)", "0"),
        ("app", "2"),
        ("!app", "0"),
    ] {
        let counted = lab.sh(&format!("kubectl get pods -l '{selector}' -o name | wc -l")).await;
        assert_eq!(counted, count, "{selector}");
    }
    // A pod whose label changes is released, and another takes its place.
    let pod = lab.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").await;
    lab.sh(&format!("kubectl label pod {pod} app=alone --overwrite && kubectl wait --for=jsonpath='{{.status.readyReplicas}}'=2 deployment/web --timeout=60s")).await;
    assert_eq!(
        lab.sh(&format!("kubectl get pod {pod} -o jsonpath='{{.metadata.ownerReferences}}'")).await,
        ""
    );
    lab.end().await;
}

#[tokio::test]
async fn k7_jobs() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: five}\nspec:\n  completions: 5\n  parallelism: 2\n  template:\n    spec:\n      \
         restartPolicy: OnFailure\n      containers:\n      - {name: c, image: busybox, command: [sh, -c, 'echo done']}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Complete job/five --timeout=120s").await;
    assert!(lab.sh("kubectl get job five --no-headers").await.contains("5/5"));
    apply(
        &lab,
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: never}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      \
         containers:\n      - {name: c, image: busybox, command: [sh, -c, 'exit 1']}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Failed job/never --timeout=60s").await;
    assert_eq!(
        lab.sh("kubectl get job never -o jsonpath='{.status.conditions[?(@.type==\"Failed\")].reason}'")
            .await,
        "BackoffLimitExceeded"
    );
    lab.sh("kubectl create cronjob tick --image=busybox --schedule='* * * * *' -- true && kubectl create job --from=cronjob/tick now").await;
    lab.sh("kubectl wait --for=condition=Complete job/now --timeout=60s").await;
    assert!(lab.sh("kubectl get cronjob tick --no-headers").await.contains("* * * * *"));
    lab.refused(
        "kubectl create cronjob bad --image=busybox --schedule='61 * * * *' -- true",
        1,
        "spec.schedule",
    )
    .await;
    lab.end().await;
}

#[tokio::test]
async fn k8_stateful_sets() {
    let lab = Lab::kubernetes(2).await;
    assert!(lab.sh("kubectl get storageclass --no-headers").await.contains("(default)"));
    apply(
        &lab,
        "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}\n---\n\
         apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  replicas: 2\n  selector: {matchLabels: {app: db}}\n  \
         template:\n    metadata: {labels: {app: db}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n      - name: c\n        image: busybox\n        \
         command: [sh, -c, 'hostname >> /data/who; exec sleep 3600']\n        volumeMounts: [{name: data, mountPath: /data}]\n  volumeClaimTemplates:\n  \
         - metadata: {name: data}\n    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}\n",
    )
    .await;
    lab.sh("kubectl rollout status statefulset/db --timeout=120s").await;
    assert_eq!(lab.sh("kubectl get pods -l app=db -o name").await, "pod/db-0\npod/db-1");
    assert_eq!(lab.sh("kubectl get pvc --no-headers | grep -c Bound").await, "2");
    // The same claim after the pod was replaced.
    lab.sh("kubectl delete pod db-0 && kubectl rollout status statefulset/db --timeout=60s").await;
    assert_eq!(lab.sh("kubectl exec db-0 -- cat /data/who").await, "db-0\ndb-0");
    lab.end().await;
}

#[tokio::test]
async fn k9_daemon_sets() {
    let lab = Lab::kubernetes(2).await;
    apply(
        &lab,
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: agent}\nspec:\n  selector: {matchLabels: {app: agent}}\n  template:\n    \
         metadata: {labels: {app: agent}}\n    spec:\n      tolerations: [{operator: Exists}]\n      containers:\n      - {name: c, image: whoami}\n",
    )
    .await;
    lab.sh("kubectl rollout status daemonset/agent --timeout=60s").await;
    let nodes =
        "kubectl get pods -l app=agent -o jsonpath='{range .items[*]}{.spec.nodeName}{\"\\n\"}{end}' | sort";
    assert_eq!(lab.sh(nodes).await, "node1\nnode2");
    lab.add_node().await;
    lab.sh("kubectl wait --for=jsonpath='{.status.numberReady}'=3 daemonset/agent --timeout=60s").await;
    assert_eq!(lab.sh(nodes).await, "node1\nnode2\nnode3");
    lab.end().await;
}

#[tokio::test]
async fn k12_namespaces_and_quotas() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create namespace a && kubectl create namespace b").await;
    for ns in ["a", "b"] {
        lab.sh(&format!("kubectl create configmap same --from-literal=where={ns} -n {ns}")).await;
    }
    assert_eq!(lab.sh("kubectl get configmap same -n b -o jsonpath='{.data.where}'").await, "b");
    lab.sh("kubectl create quota few --hard=pods=1,configmaps=3 -n a && kubectl run one --image=whoami -n a")
        .await;
    lab.refused(
        "kubectl run two --image=whoami -n a",
        1,
        "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/one -n a --timeout=60s && kubectl delete namespace a --timeout=60s").await;
    lab.refused("kubectl get namespace a", 1, "NotFound").await;
    assert_eq!(
        lab.sh("kubectl get pods -A -o jsonpath='{.items[?(@.metadata.namespace==\"a\")].metadata.name}'")
            .await,
        ""
    );
    lab.refused("kubectl create configmap x -n nowhere", 1, "namespaces \"nowhere\" not found").await;
    lab.end().await;
}

#[tokio::test]
async fn k13_config_maps_and_secrets() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create configmap conf --from-literal=color=blue && kubectl create secret generic key --from-literal=pass=hidden").await;
    assert!(!lab.sh("kubectl describe secret key").await.contains("hidden"));
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: reader}\nspec:\n  containers:\n  - name: c\n    image: busybox\n    command: [sleep, '3600']\n    \
         env:\n    - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: color}}}\n    envFrom: [{secretRef: {name: key}}]\n    volumeMounts:\n    \
         - {name: conf, mountPath: /conf}\n    - {name: key, mountPath: /key, readOnly: true}\n  volumes:\n  - {name: conf, configMap: {name: conf}}\n  \
         - {name: key, secret: {secretName: key, defaultMode: 0400}}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/reader --timeout=60s").await;
    assert_eq!(
        lab.sh("kubectl exec reader -- sh -c 'echo $COLOR $pass; cat /conf/color /key/pass; stat -Lc %a /key/pass'").await,
        "blue hidden\nbluehidden400"
    );
    // The account's token is there, and it is what the API server knows.
    assert_eq!(
        lab.sh("kubectl exec reader -- ls /var/run/secrets/kubernetes.io/serviceaccount").await,
        "ca.crt\nnamespace\ntoken"
    );
    let who = lab.sh("TOKEN=$(kubectl exec reader -- cat /var/run/secrets/kubernetes.io/serviceaccount/token); kubectl --kubeconfig /dev/null --server https://node1:6443 --insecure-skip-tls-verify --token \"$TOKEN\" auth whoami").await;
    assert!(who.contains("system:serviceaccount:default:default"), "{who}");
    lab.sh("kubectl patch configmap conf -p '{\"data\":{\"color\":\"red\"}}'").await;
    lab.sh("for i in $(seq 120); do [ \"$(kubectl exec reader -- cat /conf/color)\" = red ] && exit 0; sleep 1; done; exit 1").await;
    lab.end().await;
}

#[tokio::test]
async fn k14_probes() {
    let lab = Lab::kubernetes(1).await;
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: probed}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: busybox\n    \
         command: [sh, -c, 'touch /live; exec httpd -f -h /']\n    livenessProbe: {exec: {command: [cat, /live]}, periodSeconds: 1, failureThreshold: 1}\n    \
         readinessProbe: {httpGet: {path: /ready, port: 80}, periodSeconds: 1}\n",
    )
    .await;
    lab.sh("kubectl wait --for=jsonpath='{.status.phase}'=Running pod/probed --timeout=60s").await;
    assert_eq!(
        lab.sh("kubectl get pod probed -o jsonpath='{.status.containerStatuses[0].ready}'").await,
        "false"
    );
    lab.sh(
        "kubectl exec probed -- touch /ready && kubectl wait --for=condition=Ready pod/probed --timeout=60s",
    )
    .await;
    lab.sh("kubectl exec probed -- rm /live; kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 pod/probed --timeout=60s").await;
    // Events are written beside the work.
    lab.sh("for i in $(seq 50); do kubectl describe pod probed | grep 'Liveness probe failed' && exit 0; sleep 0.2; done; kubectl describe pod probed; exit 1").await;
    lab.end().await;
}

#[tokio::test]
async fn k17_rights() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create serviceaccount viewer && kubectl create role look --verb=get,list --resource=pods && kubectl create rolebinding look --role=look --serviceaccount=default:viewer").await;
    let as_viewer = "--as=system:serviceaccount:default:viewer";
    assert_eq!(lab.sh(&format!("kubectl auth can-i list pods {as_viewer}")).await, "yes");
    assert_eq!(lab.try_sh(&format!("kubectl auth can-i delete pods {as_viewer}")).await.text().trim(), "no");
    lab.sh(&format!("kubectl get pods {as_viewer}")).await;
    lab.refused(
        &format!("kubectl get secrets {as_viewer}"),
        1,
        "User \"system:serviceaccount:default:viewer\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"",
    )
    .await;
    // A certificate for a person, as every lesson makes one.
    lab.sh(
        "cd /tmp && openssl req -new -newkey rsa:2048 -nodes -keyout k -out r -subj /CN=ann/O=devs 2> /dev/null && kubectl apply -f - <<EOF\n\
         apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: ann}\nspec:\n  signerName: kubernetes.io/kube-apiserver-client\n  \
         request: $(base64 -w0 r)\n  usages: [client auth]\nEOF\nkubectl certificate approve ann && kubectl wait --for=jsonpath='{.status.certificate}' csr/ann --timeout=30s",
    )
    .await;
    let who = lab.sh("cd /tmp && kubectl get csr ann -o jsonpath='{.status.certificate}' | base64 -d > c && kubectl --kubeconfig /dev/null --server https://node1:6443 --certificate-authority /etc/kubernetes/pki/ca.crt --client-certificate c --client-key k auth whoami").await;
    assert!(who.contains("ann") && who.contains("devs"), "{who}");
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
async fn k19_changes() {
    let lab = Lab::kubernetes(1).await;
    let manifest = deployment("web", 1);
    lab.sh(&format!("cat > /tmp/web.yaml <<'EOF'\n{manifest}\nEOF")).await;
    assert_eq!(
        lab.sh("kubectl apply --server-side -f /tmp/web.yaml").await,
        "deployment.apps/web serverside-applied"
    );
    lab.refused(
        "sed 's/replicas: 1/replicas: 2/' /tmp/web.yaml | kubectl apply --server-side --field-manager=other -f -",
        1,
        "conflict with \"kubectl\": .spec.replicas",
    )
    .await;
    lab.sh("sed 's/replicas: 1/replicas: 2/' /tmp/web.yaml | kubectl apply --server-side --field-manager=other --force-conflicts -f -").await;
    let diff = lab.try_sh("kubectl diff -f /tmp/web.yaml").await;
    assert_eq!(diff.code(), 1, "{diff:?}");
    assert!(diff.text().contains("-  replicas: 2") && diff.text().contains("+  replicas: 1"), "{diff:?}");
    for (kind, patch, path) in [
        (
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"S","value":"1"}]}]}}}}"#,
            "{.spec.template.spec.containers[0].env[0].name}{.spec.template.spec.containers[0].image}",
        ),
        ("merge", r#"{"metadata":{"labels":{"m":"1"}}}"#, "{.metadata.labels.m}"),
        ("json", r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#, "{.spec.replicas}"),
    ] {
        lab.sh(&format!("kubectl patch deployment web --type={kind} -p '{patch}'")).await;
        let value = lab.sh(&format!("kubectl get deployment web -o jsonpath='{path}'")).await;
        assert_eq!(
            value,
            match kind {
                "strategic" => "Swhoami",
                "merge" => "1",
                _ => "3",
            },
            "{kind}"
        );
    }
    lab.refused(
        "sed 's/replicas: 1/replica: 1/' /tmp/web.yaml | kubectl apply -f -",
        1,
        "unknown field \"spec.replica\"",
    )
    .await;
    lab.refused(
        "kubectl patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"x\"}}}}'",
        1,
        "field is immutable",
    )
    .await;
    lab.sh("mkdir -p /tmp/k && cd /tmp/k && cp /tmp/web.yaml . && printf 'resources: [web.yaml]\\nnamePrefix: dev-\\n' > kustomization.yaml && kubectl apply -k . && kubectl get deployment dev-web").await;
    lab.end().await;
}

#[tokio::test]
async fn k20_own_kinds_and_helm() {
    let lab = Lab::kubernetes(1).await;
    // A chart with a definition of its own, an object of that kind, and a deployment.
    lab.sh(&format!(
        "mkdir -p /tmp/shop/crds /tmp/shop/templates && cd /tmp/shop && printf 'apiVersion: v2\\nname: shop\\nversion: 1.0.0\\n' > Chart.yaml && cat > crds/book.yaml <<'EOF'\n{CRD}\nEOF\n\
         cat > templates/book.yaml <<'EOF'\napiVersion: shop.example.com/v1\nkind: Book\nmetadata: {{name: first}}\nspec: {{pages: {{{{ .Values.pages }}}}}}\nEOF\n\
         printf 'pages: 12\\n' > values.yaml && cat > templates/web.yaml <<'EOF'\n{}\nEOF\nhelm install shop /tmp/shop --wait --timeout 60s",
        deployment("shop", 1)
    ))
    .await;
    assert!(lab.sh("helm list").await.contains("deployed"));
    let books = lab.sh("kubectl get books").await;
    assert!(books.contains("PAGES") && books.contains("12"), "{books}");
    assert_eq!(lab.sh("kubectl get book first -o jsonpath='{.spec.language}'").await, "en");
    lab.refused(
        "kubectl patch book first --type=merge -p '{\"spec\":{\"pages\":0}}'",
        1,
        "spec.pages: Invalid value: 0: spec.pages in body should be greater than or equal to 1",
    )
    .await;
    lab.refused("kubectl patch book first --type=merge -p '{\"spec\":{\"pages\":2000}}'", 1, "too thick")
        .await;
    lab.sh("helm upgrade shop /tmp/shop --set pages=20 --wait --timeout 60s && helm rollback shop 1 --wait --timeout 60s").await;
    assert_eq!(lab.sh("kubectl get book first -o jsonpath='{.spec.pages}'").await, "12");
    assert!(lab.sh("kubectl explain book.spec").await.contains("pages"));
    lab.sh("helm uninstall shop --wait && kubectl delete crd books.shop.example.com --timeout=30s").await;
    lab.refused(
        "kubectl get books",
        1,
        "the server could not find the requested resource (get books.shop.example.com)",
    )
    .await;
    lab.end().await;
}

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: books.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {plural: books, singular: book, kind: Book}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Pages, type: integer, jsonPath: .spec.pages}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [pages]
            x-kubernetes-validations: [{rule: self.pages < 1000, message: too thick}]
            properties:
              pages: {type: integer, minimum: 1}
              language: {type: string, default: en}";

#[tokio::test]
async fn c1_the_control_plane_is_made_of_pods() {
    let lab = Lab::kubernetes(1).await;
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
