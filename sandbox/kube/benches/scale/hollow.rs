//! Simulated kubelets: nodes that register, renew their leases and say of every pod that comes to them that it runs, without running
//! anything. For measuring the control plane only; a playground's nodes are real.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Source};
use drydock_kubeclient::meta::{is_deleting, name, namespace};
use drydock_kubeclient::{ClientConfig, Informer};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

/// Status updates of one node that are on their way at a time.
const IN_FLIGHT: usize = 16;
/// The kubelet's `nodeLeaseDurationSeconds` is 40; it renews every quarter of that.
const RENEW: Duration = Duration::from_secs(10);

/// Registers a node and lives its life.
pub(crate) async fn run(config: ClientConfig, node: String) {
    let client = drydock_kubeclient::client(config);
    register(&client, &node).await;
    let (sender, mut changed) = mpsc::unbounded_channel::<Arc<Pod>>();
    let pods =
        Informer::<Pod>::new(client.clone(), Source::all::<Pod>().fields(format!("spec.nodeName={node}")));
    pods.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            let _ = sender.send(event.object().clone());
        }
    });
    pods.start();
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut renew = tokio::time::interval(RENEW);
    loop {
        tokio::select! {
            _ = renew.tick() => lease(&client, &node).await,
            pod = changed.recv() => {
                let Some(pod) = pod else { return };
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let client = client.clone();
                tokio::spawn(async move {
                    sync(&client, &pod).await;
                    drop(permit);
                });
            }
        }
    }
}

/// What a pod needs of its kubelet.
async fn sync(client: &Client, pod: &Pod) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace(pod));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let result = if is_deleting(pod) {
        pods.delete(name(pod), &DeleteParams::default().grace_period(0)).await.map(|_| ())
    } else if phase == Some("Pending") {
        pods.patch_status(name(pod), &PatchParams::default(), &Patch::Strategic(running(pod)))
            .await
            .map(|_| ())
    } else {
        Ok(())
    };
    if let Err(error) = result {
        eprintln!("{}: {error}", name(pod));
    }
}

fn running(pod: &Pod) -> Value {
    let now = time();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let statuses: Vec<Value> = containers
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": "sha256:0", "containerID": "docker://0", "ready": true,
                "started": true, "restartCount": 0, "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"].map(condition);
    json!({"status": {
        "phase": "Running", "startTime": now, "hostIP": "10.0.0.1", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}],
        "conditions": conditions,
        "containerStatuses": statuses,
    }})
}

fn time() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn register(client: &Client, node: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels =
        json!({"kubernetes.io/hostname": node, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
    let object: Node =
        serde_json::from_value(json!({"metadata": {"name": node, "labels": labels}})).expect("a node");
    nodes.create(&PostParams::default(), &object).await.expect("the API server takes a node");
    let resources = json!({"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "500Gi"});
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": time(), "lastTransitionTime": time()});
    let status = json!({"status": {"capacity": resources, "allocatable": resources, "conditions": [ready]}});
    nodes
        .patch_status(node, &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("the API server takes its status");
}

async fn lease(client: &Client, node: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now}});
    if let Err(error) = leases.patch(node, &PatchParams::apply("kubelet").force(), &Patch::Apply(lease)).await
    {
        eprintln!("lease of {node}: {error}");
    }
}
