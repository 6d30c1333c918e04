//! How long a Deployment of 1,000 pods takes until all are available, on simulated nodes: API server with its store, controllers,
//! scheduler and kubelets are those of a cluster, each on a thread of its own as each is a process there, and speak HTTP/2 to each other.
//! Run by `cargo bench -p drydock-kube --bench scale`; fails if the promise (2 s) is broken in an optimised build.

#[path = "scale/hollow.rs"]
mod hollow;

use std::future::Future;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use drydock_apiserver::testing::{TOKEN, TestServer};
use drydock_controllers::manager;
use drydock_kubeclient::informer::Source;
use drydock_kubeclient::{ClientConfig, Informer};
use drydock_scheduler::run::Options;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

const NODES: usize = 20;
const PODS: i32 = 1000;
const PROMISE: Duration = Duration::from_secs(2);

/// Runs a component on a thread of its own.
fn on_thread<F: Future<Output = ()>>(name: &str, run: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run());
    });
    spawned.expect("a thread");
}

fn config(url: &str, component: &str) -> ClientConfig {
    let mut config = ClientConfig::plain(url.parse().expect("an address"), component);
    config.token = Some(TOKEN.into());
    config
}

/// Starts everything but the nodes; the API server's address.
fn control_plane() -> String {
    let (sender, address) = mpsc::channel();
    on_thread("apiserver", move || async move {
        let server = TestServer::start().await;
        sender.send(server.url()).expect("somebody waits for it");
        std::future::pending().await
    });
    let url = address.recv().expect("the API server starts");
    let client = config(&url, "kube-controller-manager");
    on_thread("controllers", move || async move {
        let result = manager::run(drydock_kubeclient::client(client), manager::Settings::default()).await;
        eprintln!("controllers ended: {result:?}");
    });
    let client = config(&url, "kube-scheduler");
    on_thread("scheduler", move || async move {
        let options = Options { name: drydock_scheduler::DEFAULT_NAME.into(), lease: None };
        let result = drydock_scheduler::run(
            drydock_kubeclient::client(client),
            options,
            Box::pin(std::future::pending()),
        )
        .await;
        eprintln!("scheduler ended: {result:?}");
    });
    url
}

fn deployment(replicas: i32) -> Deployment {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}}}]}});
    let spec =
        json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).expect("a deployment")
}

/// Waits until objects are as they should be.
async fn until<K>(client: &Client, is: impl Fn(&[std::sync::Arc<K>]) -> bool)
where
    K: drydock_kubeclient::informer::Object + kube::Resource<DynamicType = ()>,
{
    let informer = Informer::<K>::new(client.clone(), Source::all::<K>());
    let (sender, mut changed) = tokio::sync::mpsc::unbounded_channel();
    informer.subscribe(move |_| {
        let _ = sender.send(());
    });
    informer.start();
    while !is(&informer.all()) {
        changed.recv().await;
    }
}

fn available(deployments: &[std::sync::Arc<Deployment>]) -> i32 {
    let status = deployments.first().and_then(|deployment| deployment.status.as_ref());
    status.and_then(|status| status.available_replicas).unwrap_or(0)
}

async fn measure(url: &str) {
    let client = drydock_kubeclient::client(config(url, "bench"));
    until::<ServiceAccount>(&client, |accounts| {
        accounts.iter().any(|account| account.metadata.namespace.as_deref() == Some("default"))
    })
    .await;
    until::<Node>(&client, |nodes| nodes.len() == NODES).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    for (name, replicas) in [("one pod, to warm up", 1), ("a Deployment of 1,000 pods", PODS)] {
        let begin = Instant::now();
        if replicas == 1 {
            deployments.create(&PostParams::default(), &deployment(1)).await.expect("it is created");
        } else {
            let scale = json!({"spec": {"replicas": replicas}});
            deployments
                .patch("web", &PatchParams::default(), &Patch::Merge(scale))
                .await
                .expect("it is scaled");
        }
        let wait = until::<Deployment>(&client, |deployments| available(deployments) == replicas);
        if tokio::time::timeout(Duration::from_secs(120), wait).await.is_err() {
            let deployment = deployments.get("web").await.expect("it is there");
            panic!("{name} did not become available: {:?}", deployment.status);
        }
        let took = begin.elapsed();
        let verdict = if took <= PROMISE { "kept" } else { "missed" };
        println!(
            "{name}: available after {} ms on {NODES} simulated nodes; promise of {} ms: {verdict}",
            took.as_millis(),
            PROMISE.as_millis()
        );
    }
}

fn main() {
    let url = control_plane();
    let nodes = config(&url, "kubelet");
    on_thread("kubelets", move || async move {
        let nodes =
            (0..NODES).map(|number| tokio::spawn(hollow::run(nodes.clone(), format!("hollow-{number:03}"))));
        for node in nodes.collect::<Vec<_>>() {
            if let Err(error) = node.await {
                eprintln!("a node ended: {error}");
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(&url));
}
