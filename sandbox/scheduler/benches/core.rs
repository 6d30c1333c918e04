//! How many pods the core of the scheduler places a second: 1,000 nodes in ten zones, pods of Deployments with a Service each, spread by
//! default. Run by `cargo bench -p drydock-scheduler`; fails if the promise (5,000 a second) is broken in an optimised build.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::ObjectKey;
use drydock_scheduler::core::{Change, Core, Decision};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

const NODES: usize = 1000;
const PODS: usize = 20_000;
const PROMISE: f64 = 5000.0;

fn node(number: usize) -> Arc<Node> {
    let name = format!("node-{number}");
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": format!("zone-{}", number % 10), "topology.kubernetes.io/region": "here",
    });
    let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": {"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "500Gi"}}});
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn pod(number: usize, apps: usize, change: impl Fn(&mut Value)) -> Arc<Pod> {
    let app = format!("app-{}", number % apps);
    let mut pod = json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": "default", "uid": format!("{number:08x}-0000-0000-0000-000000000000"),
            "labels": {"app": app, "pod-template-hash": "5d59d67564"}},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]},
        "status": {"phase": "Pending"},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// How long this thread has run: unlike a clock it says the same on a machine that is busy with other things.
fn time_on_cpu() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat")
        .expect("a kernel with statistics of its scheduler");
    let nanoseconds = statistics.split_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Places all pods; pods a second.
fn place(name: &str, pods: usize, apps: usize, change: impl Fn(&mut Value)) -> f64 {
    let mut core = Core::new(drydock_scheduler::DEFAULT_NAME);
    let now = tokio::time::Instant::now();
    for number in 0..NODES {
        core.apply(Change::Node(node(number)), now);
    }
    for app in 0..apps {
        let selector = [("app".to_owned(), format!("app-{app}"))].into();
        core.apply(Change::Service(ObjectKey::new("default", format!("app-{app}")), Some(selector)), now);
    }
    let pods: Vec<_> = (0..pods).map(|number| pod(number, apps, &change)).collect();
    let (begin, count) = (time_on_cpu(), pods.len());
    for pod in pods {
        core.apply(Change::Pod(pod), now);
    }
    let mut placed = 0;
    while let Some(decision) = core.decide(now) {
        assert!(matches!(decision, Decision::Bind(..)), "every pod fits");
        placed += 1;
    }
    assert_eq!(placed, count);
    let rate = count as f64 / (time_on_cpu() - begin).as_secs_f64();
    println!("{name}: {rate:.0} pods/s on {NODES} nodes ({:.0} µs of CPU each)", 1e6 / rate);
    rate
}

fn main() {
    let rate = place("spread by default", PODS, 10, |_| ());
    place("hard spreading over zones", PODS / 4, 10, |pod| {
        let app = pod["metadata"]["labels"]["app"].clone();
        pod["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": app}}}]);
    });
    place("anti-affinity by host", 2000, 10, |pod| {
        let app = pod["metadata"]["labels"]["app"].clone();
        pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]}});
    });
    let verdict = if rate >= PROMISE { "kept" } else { "missed" };
    println!("promise of {PROMISE:.0} pods/s: {verdict}");
}
