//! A cluster of three nodes: how long from the request to three nodes that are Ready, beyond the session itself, and what its
//! control plane takes when nothing happens.

use crate::{
    end, memory,
    table::{Table, at_most, median, ms, quantile},
};
use drydock_e2e::{PATIENCE, Server, http::full};
use drydock_protocol::api::Created;
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const NODES: u8 = 3;
/// Milliseconds beyond a session without a cluster.
const READY_GOAL: f64 = 300.0;
/// MB of PSS of the control plane's four components.
const MEMORY_GOAL: f64 = 12.0;
/// Until components have given back what their start left behind, and have run for a while since.
const REST: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller", "kube-scheduler"];

/// Clusters of a class: what they share, the kernel counts for each in part.
const CLASS: usize = 10;

/// Prints all tables.
pub async fn run() {
    let server = crate::serve();
    start(&server).await;
    idle(&server).await;
    class(&server).await;
}

async fn create(server: &Server, playground: &str) -> Created {
    let wish = json!({ "playground": playground, "nodes": NODES });
    server.operate(Method::POST, "/sessions", Some(wish)).await.has(201).json()
}

/// The path of a session's API server on ours.
async fn api(server: &Server, session: &Created) -> String {
    let path = format!("/sessions/{}/kubeconfig", session.id);
    let config = server.operate(Method::POST, &path, None).await.has(201).text();
    let at = config.find("/k8s/").expect("an address");
    config[at..].lines().next().expect("a line").to_owned()
}

/// Waits until all nodes are Ready.
async fn all_ready(server: &Server, api: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = server.send(Request::get(format!("{api}/api/v1/nodes")), full("")).await;
        if answer.status == 200 && ready(&answer.json()) == usize::from(NODES) {
            return;
        }
        assert!(Instant::now() < end, "not ready within {PATIENCE:?}: {}", answer.text());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn ready(nodes: &Value) -> usize {
    let is_ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    nodes["items"].as_array().map_or(0, |all| all.iter().filter(is_ready).count())
}

async fn start(server: &Server) {
    let (mut plain, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let session = create(server, "docker").await;
        plain.push(ms(began.elapsed()));
        end(server, session.id.as_str()).await;
        let began = Instant::now();
        let session = create(server, crate::KUBERNETES).await;
        let api = api(server, &session).await;
        all_ready(server, &api).await;
        whole.push(ms(began.elapsed()));
        end(server, session.id.as_str()).await;
    }
    let mut table = Table::new(
        format!("cluster: three nodes, request to all Ready, ms, {ROUNDS} rounds"),
        &["", "median", "p90", "goal", "met"],
    );
    for (name, values) in [("session without a cluster", &plain), ("all nodes Ready", &whole)] {
        let figure = |value: f64| format!("{value:.0}");
        table.row([
            name.into(),
            figure(median(values)),
            figure(quantile(values, 0.9)),
            String::new(),
            String::new(),
        ]);
    }
    let beyond = median(&whole) - median(&plain);
    table.row([
        "beyond the session".into(),
        format!("{beyond:.0}"),
        String::new(),
        format!("<= {READY_GOAL:.0}"),
        at_most(beyond, READY_GOAL),
    ]);
    table.print();
}

async fn idle(server: &Server) {
    let session = create(server, crate::KUBERNETES).await;
    let api = api(server, &session).await;
    all_ready(server, &api).await;
    tokio::time::sleep(REST).await;
    let processes = memory::processes_of(server.session_pid(&session.id));
    let mut table = Table::new(
        format!("cluster: idle, {NODES} nodes, MB of PSS"),
        &["", "page cache aside", "all", "goal", "met"],
    );
    let mb = |kib: f64| kib * memory::KIB_IN_MB;
    let parts: Vec<_> = processes.iter().filter(|p| COMPONENTS.contains(&p.name.as_str())).collect();
    let own: f64 = parts.iter().map(|p| mb(p.own)).sum();
    let pss: f64 = parts.iter().map(|p| mb(p.pss)).sum();
    table.row([
        "the control plane".into(),
        format!("{own:.2}"),
        format!("{pss:.2}"),
        format!("<= {MEMORY_GOAL:.0}"),
        at_most(pss, MEMORY_GOAL),
    ]);
    for process in &processes {
        let (own, pss) = (mb(process.own), mb(process.pss));
        table.row([
            format!("  {}", process.name),
            format!("{own:.2}"),
            format!("{pss:.2}"),
            String::new(),
            String::new(),
        ]);
    }
    table.print();
    end(server, session.id.as_str()).await;
}

/// The control planes of many clusters at once: they run one program from one file, whose pages each has a part of.
async fn class(server: &Server) {
    let mut sessions = Vec::new();
    for _ in 0..CLASS {
        let session = create(server, crate::KUBERNETES).await;
        all_ready(server, &api(server, &session).await).await;
        sessions.push(session);
    }
    tokio::time::sleep(REST).await;
    let mut each: Vec<(f64, f64)> = Vec::new();
    for session in &sessions {
        let processes = memory::processes_of(server.session_pid(&session.id));
        let parts: Vec<_> = processes.iter().filter(|p| COMPONENTS.contains(&p.name.as_str())).collect();
        let sum = |of: fn(&memory::Usage) -> f64| parts.iter().map(|p| of(p) * memory::KIB_IN_MB).sum();
        each.push((sum(|p| p.own), sum(|p| p.pss)));
    }
    let (own, pss): (Vec<f64>, Vec<f64>) = each.into_iter().unzip();
    let mut table = Table::new(
        format!("cluster: {CLASS} idle clusters at once, MB of PSS of a control plane, median"),
        &["", "page cache aside", "all", "goal", "met"],
    );
    table.row([
        "a control plane".into(),
        format!("{:.2}", median(&own)),
        format!("{:.2}", median(&pss)),
        format!("<= {MEMORY_GOAL:.0}"),
        at_most(median(&pss), MEMORY_GOAL),
    ]);
    table.print();
    for session in sessions {
        end(server, session.id.as_str()).await;
    }
}
