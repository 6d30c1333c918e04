//! Controllers that make pods.

use super::{apply, deployment};
use drydock_e2e::Lab;

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
async fn k6_autoscaling() {
    let lab = Lab::kubernetes(2).await;
    apply(
        &lab,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: busy}\nspec:\n  selector: {matchLabels: {app: busy}}\n  template:\n    \
         metadata: {labels: {app: busy}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      containers:\n      - name: main\n        \
         image: busybox\n        command: [sleep, '3600']\n        resources: {requests: {cpu: 50m, memory: 16Mi}}\n---\n\
         apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: busy}\nspec:\n  minReplicas: 1\n  maxReplicas: 3\n  \
         scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}\n  \
         behavior: {scaleDown: {stabilizationWindowSeconds: 0}}\n  metrics:\n  - type: Resource\n    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}\n",
    )
    .await;
    lab.sh("kubectl rollout status deployment/busy --timeout=60s").await;
    let pod = lab.sh("kubectl get pods -l app=busy -o jsonpath='{.items[0].metadata.name}'").await;
    let burn = format!(
        "(timeout 300 kubectl exec {pod} -- sh -c 'until [ -e /stop ]; do :; done' > /dev/null 2>&1 &)"
    );
    lab.sh(&burn).await;
    let replicas = |wanted: u8| {
        format!("kubectl wait --for=jsonpath='{{.status.replicas}}'={wanted} deployment/busy --timeout=120s")
    };
    lab.sh(&replicas(3)).await;
    let top = lab.sh("kubectl top pods --no-headers").await;
    let used =
        top.lines().find(|line| line.starts_with(&pod)).expect("it has figures").split_whitespace().nth(1);
    let used: u32 =
        used.and_then(|cpu| cpu.strip_suffix('m')).expect("thousandths of a CPU").parse().expect("a number");
    assert!(used > 25, "{top}");
    assert_eq!(lab.sh("kubectl top nodes --no-headers | wc -l").await, "2");
    assert!(lab.sh("kubectl describe hpa busy").await.contains("SuccessfulRescale"));
    lab.sh(&format!("kubectl exec {pod} -- touch /stop")).await;
    lab.sh(&replicas(1)).await;
    // The older form of the command and of the kind.
    lab.sh("kubectl autoscale deployment busy --name=older --min=2 --max=10 --cpu-percent=50").await;
    assert_eq!(
        lab.sh("kubectl get horizontalpodautoscalers.v1.autoscaling older -o jsonpath='{.spec.targetCPUUtilizationPercentage}'")
            .await,
        "50"
    );
    lab.end().await;
}
