//! `metrics.k8s.io`: what nodes and pods use now, asked of the kubelets when somebody asks us (upstream's metrics-server asks every 15 s,
//! whether anybody wants to know or not). Answers are kept for some seconds, so that `kubectl top` in a loop costs nothing.

use crate::http::respond::Answer;
use crate::proxy;
use crate::resource::{Registry, Resource};
use crate::rest::select::Selection;
use crate::rest::write::refusal;
use crate::rest::{Call, meta};
use crate::server::Server;
use crate::storage::{self, keys};
use bytes::Bytes;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, text};
use drydock_apis::{Column, Kind, Scope};
use drydock_etcd::{KeyRange, Query, Record};
use futures_util::future::join_all;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The group.
pub const GROUP: &str = "metrics.k8s.io";

/// So long an answer is kept.
const FRESH: Duration = Duration::from_secs(5);

/// A kubelet that has not answered by then is left out.
const SLOWEST: Duration = Duration::from_secs(3);

/// The largest summary that is read.
const LARGEST: usize = 8 * 1024 * 1024;

const READ: &[&str] = &["get", "list"];

static NODES: Kind = Kind {
    group: GROUP,
    version: "v1beta1",
    kind: "NodeMetrics",
    plural: "nodes",
    singular: "node",
    scope: Scope::Cluster,
    verbs: READ,
    columns: COLUMNS,
    row,
    ..Kind::BASE
};

static PODS: Kind = Kind {
    group: GROUP,
    version: "v1beta1",
    kind: "PodMetrics",
    plural: "pods",
    singular: "pod",
    verbs: READ,
    columns: COLUMNS,
    row,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("cpu", "CPU usage of the resource in cores."),
    Column::text("memory", "Memory usage of the resource in bytes."),
    Column::text("window", "The following fields define time interval from which metrics were collected."),
];

fn row(tree: &Value, _now: Timestamp) -> Vec<Value> {
    let sum = |resource: &str| -> u64 {
        let containers = list(tree, &["containers"]).iter();
        let amounts = containers.map(|one| amount(text(one, &["usage", resource])));
        amounts.fold(amount(text(tree, &["usage", resource])), u64::saturating_add)
    };
    let cpu = format!("{}n", sum("cpu"));
    let memory = format!("{}Ki", sum("memory"));
    vec![json!(object::name(tree)), json!(cpu), json!(memory), json!(text(tree, &["window"]))]
}

/// The digits of what [`usage`] writes.
fn amount(text: &str) -> u64 {
    text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
}

/// The group's resources, which are served as if they were stored.
pub fn resources() -> [Arc<Resource>; 2] {
    [&NODES, &PODS].map(|kind| Arc::new(Resource::builtin(kind)))
}

/// What the kubelets said last.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<String, (Instant, Arc<Value>)>>);

/// Answers `get` and `list`.
pub async fn answer(call: &Call) -> Result<Answer, Status> {
    let is_node = call.resource.plural == "nodes";
    // Of what there is usage: selectors are about the objects themselves.
    let snapshot = call.server.registry.snapshot();
    let of = snapshot.find("", "v1", &call.resource.plural).cloned();
    let of = of.ok_or_else(|| Status::internal("the core group is not served"))?;
    let records = wanted(call, &of)?;
    let nodes = node_names(is_node, &records)?;
    let summaries = summaries(&call.server, nodes).await;
    let mut items = Vec::new();
    for record in &records {
        let tree = storage::decode(record)?;
        let found = if is_node { of_node(&tree, &summaries) } else { of_pod(&tree, &summaries) };
        items.extend(found);
    }
    if !call.info.name.is_empty() && call.info.verb == "get" {
        let found = items.pop().ok_or_else(|| call.not_found())?;
        return call.answer_tree(StatusCode::OK, found);
    }
    let kind = if is_node { "NodeMetricsList" } else { "PodMetricsList" };
    call.answer_list(kind, "metrics.k8s.io/v1beta1", items)
}

fn wanted(call: &Call, of: &Resource) -> Result<Vec<Arc<Record>>, Status> {
    let namespace = call.namespace();
    if !call.info.name.is_empty() && call.info.verb == "get" {
        let key = keys::of(of, namespace, &call.info.name);
        let found = call.server.store.get(key.as_bytes(), None).map_err(refusal)?;
        return Ok(vec![found.ok_or_else(|| call.not_found())?]);
    }
    let selection = Selection::new(&call.query, of)?;
    let keys = KeyRange::prefix(keys::prefix(of, namespace));
    let found = call.server.store.range(&keys, &Query::default()).map_err(refusal)?;
    Ok(found.records.into_iter().filter(|record| selection.matches(record, of)).collect())
}

fn node_names(is_node: bool, records: &[Arc<Record>]) -> Result<Vec<String>, Status> {
    let mut names = Vec::new();
    for record in records {
        let tree = storage::decode(record)?;
        let name = if is_node { object::name(&tree) } else { text(&tree, &["spec", "nodeName"]) };
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    Ok(names)
}

async fn summaries(server: &Server, nodes: Vec<String>) -> HashMap<String, Arc<Value>> {
    let asked = nodes.into_iter().map(|name| async move {
        let summary = summary(server, &name).await?;
        Some((name, summary))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What a kubelet says that its node and pods use.
async fn summary(server: &Server, node: &str) -> Option<Arc<Value>> {
    {
        let kept = server.usage.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, summary)) = kept.get(node)
            && when.elapsed() < FRESH
        {
            return Some(summary.clone());
        }
    }
    let fetched = tokio::time::timeout(SLOWEST, fetch(server, node)).await;
    let summary = match fetched {
        Ok(Ok(summary)) => Arc::new(summary),
        Ok(Err(error)) => {
            tracing::debug!(node, %error, "a kubelet tells nothing of usage");
            return None;
        }
        Err(_) => return None,
    };
    let mut kept = server.usage.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|_, (when, _)| when.elapsed() < FRESH);
    kept.insert(node.into(), (Instant::now(), summary.clone()));
    Some(summary)
}

async fn fetch(server: &Server, node: &str) -> Result<Value, Status> {
    let target = proxy::node_target(server, node)?;
    let request = Request::get("/stats/summary").header(HOST, target.authority()).body(Empty::<Bytes>::new());
    let answer = target.send(&server.kubelets, request.map_err(Status::internal)?).await?;
    if !answer.status().is_success() {
        return Err(Status::internal(answer.status()));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(Status::internal)?;
    serde_json::from_slice(&body.to_bytes()).map_err(Status::internal)
}

/// `usage` of a part of a summary; none while nothing was measured.
fn usage(part: &Value) -> Option<Value> {
    let cpu = part["cpu"]["usageNanoCores"].as_u64()?;
    let memory = part["memory"]["workingSetBytes"].as_u64()?;
    Some(json!({"cpu": format!("{cpu}n"), "memory": format!("{}Ki", memory / 1024)}))
}

/// When it was measured.
fn time_of(part: &Value) -> String {
    match text(part, &["cpu", "time"]) {
        "" => meta::now(),
        time => time.into(),
    }
}

fn head(kind: &str, tree: &Value, time: String) -> Value {
    let mut metadata = json!({"name": object::name(tree), "creationTimestamp": meta::now()});
    for field in ["namespace", "labels"] {
        if let Some(value) = tree["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        "timestamp": time,
        "window": "15s",
    })
}

fn of_node(tree: &Value, summaries: &HashMap<String, Arc<Value>>) -> Option<Value> {
    let part = &summaries.get(object::name(tree))?["node"];
    let mut metrics = head("NodeMetrics", tree, time_of(part));
    metrics["usage"] = usage(part)?;
    Some(metrics)
}

fn of_pod(tree: &Value, summaries: &HashMap<String, Arc<Value>>) -> Option<Value> {
    let summary = summaries.get(text(tree, &["spec", "nodeName"]))?;
    let part = list(summary, &["pods"]).iter().find(|one| {
        text(one, &["podRef", "name"]) == object::name(tree)
            && text(one, &["podRef", "namespace"]) == object::namespace(tree)
    })?;
    let containers = list(part, &["containers"])
        .iter()
        .filter_map(|one| Some(json!({"name": text(one, &["name"]), "usage": usage(one)?})));
    let containers: Vec<Value> = containers.collect();
    if containers.is_empty() {
        return None;
    }
    let mut metrics = head("PodMetrics", tree, time_of(part));
    metrics["containers"] = containers.into();
    Some(metrics)
}

/// Adds the group to what is served.
pub fn register(registry: &mut Registry) {
    registry.add(resources());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_becomes_metrics() {
        let summary = json!({
            "node": {"cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 1500}, "memory": {"workingSetBytes": 2048}},
            "pods": [{
                "podRef": {"name": "p", "namespace": "n"},
                "containers": [{"name": "c", "cpu": {"usageNanoCores": 7}, "memory": {"workingSetBytes": 4096}}],
            }],
        });
        let summaries = HashMap::from([("node1".to_string(), Arc::new(summary))]);
        let node = of_node(&json!({"metadata": {"name": "node1"}}), &summaries).expect("measured");
        assert_eq!(node["usage"], json!({"cpu": "1500n", "memory": "2Ki"}));
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "node1"}});
        let pod = of_pod(&pod, &summaries).expect("measured");
        assert_eq!(row(&pod, Timestamp::now())[1..3], [json!("7n"), json!("4Ki")]);
        assert!(of_node(&json!({"metadata": {"name": "node2"}}), &summaries).is_none());
    }
}
