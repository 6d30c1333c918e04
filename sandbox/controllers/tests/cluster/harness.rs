//! A cluster for a test: API server, controllers, runner of pods.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drydock_apiserver::testing::TestServer;
use drydock_controllers::context::Context;
use drydock_controllers::manager::{Settings, start};
use drydock_kubeclient::config::ClientConfig;
use drydock_kubeclient::informer::Source;
use drydock_kubeclient::{Informer, client};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Node, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How the runner lets a pod end; `None`: it runs.
pub type Fate = Option<i32>;

/// A cluster.
pub struct Cluster {
    /// A client with all rights.
    pub client: Client,
    _server: TestServer,
    _context: Context,
    pods: Informer<Pod>,
    _changes: watch::Receiver<u64>,
    pause: Arc<Mutex<Option<String>>>,
}

/// No test waits longer: then it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    /// A cluster whose pods all run.
    pub async fn start() -> Self {
        Self::with(Settings::default(), |_| None).await
    }

    /// A cluster with settings, whose pods have that fate.
    pub async fn with(settings: Settings, fate: impl Fn(&Pod) -> Fate + Send + Sync + 'static) -> Self {
        let server = TestServer::start().await;
        let client = client(ClientConfig::plain(server.url().parse().unwrap(), "controllers-test"));
        let context = Context::new(client.clone(), settings);
        start(&context).await;
        let pods: Informer<Pod> = Informer::new(client.clone(), Source::all::<Pod>());
        let (sender, changes) = watch::channel(0);
        let pause = Arc::new(Mutex::new(None));
        run_pods(&client, &pods, Arc::new(fate), sender, pause.clone());
        pods.start();
        pods.synced().await;
        let cluster = Self { client, _server: server, _context: context, pods, _changes: changes, pause };
        // Pods of a namespace need its service account.
        cluster
            .until("the default service account", || async {
                let api: Api<k8s_openapi::api::core::v1::ServiceAccount> =
                    Api::namespaced(cluster.client.clone(), "default");
                api.get_opt("default").await.unwrap()
            })
            .await;
        cluster
    }

    /// The collection of a kind in the namespace `default`.
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// The collection of a kind of the cluster.
    pub fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Creates an object in the namespace `default`.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// A node that is ready, with labels.
    pub async fn node(&self, name: &str, labels: Value) -> Node {
        let node = json!({"metadata": {"name": name, "labels": labels}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": Timestamp::now().to_string()},
        ]}});
        let object: Node = serde_json::from_value(node.clone()).unwrap();
        self.all::<Node>().create(&PostParams::default(), &object).await.unwrap();
        let status = Patch::Merge(json!({"status": node["status"]}));
        self.all::<Node>().patch_status(name, &PatchParams::default(), &status).await.unwrap()
    }

    /// Waits until `check` gives something.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, check: impl Fn() -> F) -> T {
        let wait = async {
            loop {
                if let Some(found) = check().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come to be"),
        }
    }

    /// Waits until an object of the namespace `default` satisfies a condition.
    pub async fn when<K>(&self, name: &str, condition: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let api: Api<K> = self.api();
        let what = format!("{} {name} as it should be", K::kind(&()));
        self.until(&what, || async { api.get_opt(name).await.unwrap().filter(|object| condition(object)) })
            .await
    }

    /// The pods that are not going, by name.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.all().into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Waits until the pods that are not going satisfy a condition.
    pub async fn when_pods(&self, what: &str, condition: impl Fn(&[Arc<Pod>]) -> bool) -> Vec<Arc<Pod>> {
        self.until(what, || async { Some(self.pods()).filter(|pods| condition(pods)) }).await
    }

    /// Pods whose name begins so are not run from now on.
    pub fn hold(&self, prefix: &str) {
        *self.pause.lock().unwrap() = Some(prefix.to_owned());
    }

    /// Waits for an event with that reason and message.
    pub async fn event(&self, reason: &str, message: &str) {
        let api: Api<k8s_openapi::api::core::v1::Event> = self.api();
        self.until(&format!("event {reason}: {message}"), || async {
            let events = api.list(&Default::default()).await.unwrap();
            let found = |event: &k8s_openapi::api::core::v1::Event| {
                event.reason.as_deref() == Some(reason)
                    && event.message.as_deref().is_some_and(|text| text.contains(message))
            };
            events.items.iter().any(found).then_some(())
        })
        .await;
    }
}

/// Runs pods: gives them an address and says that they are ready, or lets them end; deletes those that are going.
fn run_pods(
    client: &Client,
    pods: &Informer<Pod>,
    fate: Arc<dyn Fn(&Pod) -> Fate + Send + Sync>,
    changes: watch::Sender<u64>,
    pause: Arc<Mutex<Option<String>>>,
) {
    let client = client.clone();
    pods.subscribe(move |event| {
        changes.send_modify(|count| *count += 1);
        if matches!(event, drydock_kubeclient::Event::Deleted(_)) {
            return;
        }
        let (pod, client, fate) = (Pod::clone(event.object()), client.clone(), fate.clone());
        let held = pause.lock().unwrap().as_ref().is_some_and(|prefix| name(&pod).starts_with(prefix));
        tokio::spawn(async move {
            let api: Api<Pod> = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap());
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() {
                if pod.metadata.deletion_grace_period_seconds != Some(0) {
                    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                    let _gone_already = api.delete(name(&pod), &now).await;
                }
            } else if matches!(phase, "" | "Pending") && !held {
                let _changed_meanwhile = api
                    .replace_status(name(&pod), &PostParams::default(), &run(pod.clone(), fate(&pod)))
                    .await;
            }
        });
    });
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

fn run(mut pod: Pod, fate: Fate) -> Pod {
    static NEXT: AtomicU32 = AtomicU32::new(2);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = format!("10.244.{}.{}", number / 200, number % 200 + 2);
    let now = Time(Timestamp::now());
    let ready = if fate.is_none() { "True" } else { "False" };
    let state = fate.map(|exit_code| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code,
            finished_at: Some(now.clone()),
            ..Default::default()
        }),
        ..ContainerState::default()
    });
    let containers = pod.spec.as_ref().unwrap().containers.iter().map(|container| ContainerStatus {
        name: container.name.clone(),
        state: state.clone(),
        ..ContainerStatus::default()
    });
    pod.status = Some(PodStatus {
        phase: Some(match fate {
            None => "Running".into(),
            Some(0) => "Succeeded".into(),
            Some(_) => "Failed".into(),
        }),
        pod_ip: Some(address.clone()),
        pod_ips: Some(vec![PodIP { ip: address }]),
        start_time: Some(now.clone()),
        container_statuses: Some(containers.collect()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".into(),
            status: ready.into(),
            last_transition_time: Some(now),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    pod
}

/// A template with labels and an image.
pub fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    })
}
