//! The whole component against a real API server: what a user of kubectl sees of it.

use std::sync::Arc;
use std::time::Duration;

use drydock_apiserver::testing::{TOKEN, TestServer};
use drydock_kubeclient::informer::{Event as Seen, Source};
use drydock_kubeclient::{ClientConfig, EventType, Informer, Report, Reporter};
use drydock_scheduler::run::{Lease, Options};
use k8s_openapi::api::core::v1::{Event, Node, Pod, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Only so that a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    client: Client,
    _server: TestServer,
    pods: Informer<Pod>,
    changed: mpsc::UnboundedReceiver<Arc<Pod>>,
    stop: Option<oneshot::Sender<()>>,
    scheduler: JoinHandle<Result<(), drydock_scheduler::run::Error>>,
}

fn client(server: &TestServer) -> Client {
    let mut config = ClientConfig::plain(server.url().parse().unwrap(), "test");
    config.token = Some(TOKEN.into());
    drydock_kubeclient::client(config)
}

impl Cluster {
    async fn start(nodes: &[&str]) -> Self {
        let server = TestServer::start().await;
        let client = client(&server);
        let account = json!({"metadata": {"name": "default"}});
        // Without a controller manager nobody makes it, and without it no pod is admitted.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        accounts.create(&PostParams::default(), &object(account)).await.unwrap();
        let (sender, changed) = mpsc::unbounded_channel();
        let pods = Informer::<Pod>::new(client.clone(), Source::all::<Pod>());
        pods.subscribe(move |event| {
            if !matches!(event, Seen::Deleted(_)) {
                let _ = sender.send(event.object().clone());
            }
        });
        pods.start();
        pods.synced().await;
        let (stop, stopped) = oneshot::channel();
        let lease = Lease { name: "kube-scheduler".into(), identity: "me".into(), times: Default::default() };
        let options = Options { name: "default-scheduler".into(), lease: Some(lease) };
        let scheduler = tokio::spawn(drydock_scheduler::run(
            client.clone(),
            options,
            Box::pin(async {
                let _ = stopped.await;
            }),
        ));
        let cluster = Self { client, _server: server, pods, changed, stop: Some(stop), scheduler };
        for name in nodes {
            cluster.node(name).await;
        }
        cluster
    }

    async fn node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &object(json!({"metadata": {"name": name}}))).await.unwrap();
        let status = json!({"status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
            "capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"}}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    async fn pod(&self, name: &str, cpu: &str, change: impl FnOnce(&mut Value)) {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "pause", "resources": {"requests": {"cpu": cpu}}}]}});
        change(&mut pod);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    }

    /// Waits until a pod is as it should be.
    async fn until(&mut self, name: &str, is: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let seen = async {
            loop {
                let pod = self.changed.recv().await.unwrap();
                if pod.metadata.name.as_deref() == Some(name) && is(&pod) {
                    return pod;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, seen).await {
            Ok(pod) => pod,
            Err(_) => panic!("{name} did not become what it should: {:#?}", self.pods.all()),
        }
    }

    /// Waits for an event about a pod.
    async fn event(&self, pod: &str, reason: &str) -> Event {
        let (sender, mut found) = mpsc::unbounded_channel();
        let fields = format!("involvedObject.name={pod},reason={reason}");
        let events = Informer::<Event>::new(self.client.clone(), Source::all::<Event>().fields(fields));
        events.subscribe(move |event| {
            let _ = sender.send((**event.object()).clone());
        });
        events.start();
        let found = tokio::time::timeout(PATIENCE, found.recv()).await;
        found.unwrap_or_else(|_| panic!("no event {reason} about {pod}")).unwrap()
    }
}

fn object<K: Resource + DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn waits(pod: &Pod) -> Option<(&str, &str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some((condition.reason.as_deref()?, condition.message.as_deref()?))
}

#[tokio::test]
async fn pods_are_bound_and_those_that_wait_are_told_why() {
    let mut cluster = Cluster::start(&["n1"]).await;
    cluster.pod("small", "1", |_| ()).await;
    let small = cluster.until("small", |pod| node(pod).is_some()).await;
    assert_eq!(node(&small), Some("n1"));
    let scheduled = cluster.event("small", "Scheduled").await;
    assert_eq!(scheduled.message.as_deref(), Some("Successfully assigned default/small to n1"));
    assert_eq!(scheduled.source, Some(Default::default()), "events of the new form have none");
    assert_eq!(scheduled.reporting_component.as_deref(), Some("default-scheduler"));
    assert!(scheduled.reporting_instance.is_some_and(|name| name.starts_with("default-scheduler-")));
    assert_eq!((scheduled.action.as_deref(), scheduled.count), (Some("Binding"), None));
    assert!(scheduled.event_time.is_some() && scheduled.first_timestamp.is_none());
    cluster.pod("large", "2", |_| ()).await;
    let large = cluster.until("large", |pod| waits(pod).is_some()).await;
    let expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for \
                    incoming pod.";
    assert_eq!(waits(&large), Some(("Unschedulable", expected)));
    let failed = cluster.event("large", "FailedScheduling").await;
    assert_eq!((failed.message.as_deref(), failed.type_.as_deref()), (Some(expected), Some("Warning")));
    cluster.node("n2").await;
    let large = cluster.until("large", |pod| node(pod).is_some()).await;
    assert_eq!(node(&large), Some("n2"));
    cluster.stop.take().unwrap().send(()).unwrap();
    cluster.scheduler.await.unwrap().unwrap();
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(cluster.client.clone(), "kube-system");
    let lease = leases.get("kube-scheduler").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.unwrap_or_default(), "", "who leaves gives its lease up");
}

#[tokio::test]
async fn what_is_reported_again_is_a_series() {
    let mut cluster = Cluster::start(&["n1"]).await;
    cluster.pod("small", "1", |_| ()).await;
    let small = cluster.until("small", |pod| node(pod).is_some()).await;
    let reporter = Reporter::new(cluster.client.clone(), "somebody");
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let kind = EventType::Warning;
    let report = Report { kind, reason: "Again", action: "Trying", note: "it fails" };
    for expected in [None, Some(2)] {
        reporter.event(&*small, None, report);
        let found = async {
            loop {
                let all = events.list(&ListParams::default()).await.unwrap();
                let again = all.items.iter().filter(|event| event.reason.as_deref() == Some("Again"));
                let counts: Vec<_> =
                    again.map(|event| event.series.as_ref().and_then(|series| series.count)).collect();
                if counts == [expected] {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the event is written");
    }
}

#[tokio::test]
async fn room_is_made_for_important_pods() {
    let mut cluster = Cluster::start(&["n1"]).await;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    classes.create(&PostParams::default(), &object(class)).await.unwrap();
    cluster.pod("low", "2", |_| ()).await;
    cluster.until("low", |pod| node(pod).is_some()).await;
    cluster
        .pod("urgent", "2", |pod| {
            pod["spec"]["priorityClassName"] = json!("high");
            pod["spec"]["priority"] = json!(1000);
        })
        .await;
    let urgent = cluster
        .until("urgent", |pod| pod.status.as_ref().is_some_and(|status| status.nominated_node_name.is_some()))
        .await;
    assert_eq!(urgent.status.as_ref().unwrap().nominated_node_name.as_deref(), Some("n1"));
    let low = cluster.until("low", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let conditions = low.status.clone().unwrap().conditions.unwrap_or_default();
    let target = conditions
        .iter()
        .find(|condition| condition.type_ == "DisruptionTarget")
        .expect("it is told why it goes");
    assert_eq!(
        target.message.as_deref(),
        Some("default-scheduler: preempting to accommodate a higher priority pod")
    );
    let preempted = cluster.event("low", "Preempted").await;
    let uid = urgent.metadata.uid.clone().unwrap();
    assert_eq!(preempted.message, Some(format!("Preempted by pod {uid} on node n1")));
    assert_eq!(preempted.related.and_then(|one| one.uid), Some(uid));
    assert!(
        cluster.pods.all().iter().any(|pod| pod.metadata.name.as_deref() == Some("low")),
        "it ends in its own time"
    );
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    pods.delete("low", &DeleteParams::default().grace_period(0)).await.unwrap();
    let urgent = cluster.until("urgent", |pod| node(pod).is_some()).await;
    assert_eq!(node(&urgent), Some("n1"));
}
