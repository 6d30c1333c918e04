//! Deletes pods that nobody else does: of nodes that are gone, and ended ones when there are too many (k8s.io/kubernetes/pkg/controller/podgc).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drydock_kubeclient::informer::Informer;
use drydock_kubeclient::{ObjectKey, errors};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::lifecycle::disruption;
use super::taints::taints;
use crate::context::{Context, Running};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::{is_terminal, node};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(20);
/// A node must have been gone so long: it may come back under its name.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct Collector {
    client: Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    threshold: usize,
}

/// Sets the collector up.
pub fn start(context: &Context) -> Running {
    let collector = Collector {
        client: context.client.clone(),
        nodes: context.informer(),
        pods: context.informer(),
        threshold: context.settings.terminated_pod_gc_threshold,
    };
    Box::pin(async move {
        let mut missing = HashMap::new();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = collector.collect(&mut missing).await {
                tracing::warn!(%error, "pods could not be collected");
            }
        }
    })
}

/// Ended pods beyond the threshold, oldest first.
fn too_many(pods: &[Arc<Pod>], threshold: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<_> = pods.iter().filter(|pod| is_terminal(pod)).cloned().collect();
    let extra = if threshold == 0 { 0 } else { ended.len().saturating_sub(threshold) };
    ended.sort_by(|a, b| a.created().cmp(&b.created()).then_with(|| a.name().cmp(b.name())));
    ended.truncate(extra);
    ended
}

/// Nodes that pods speak of, that are not there, and have not been for long enough. `missing` keeps since when.
fn gone_nodes(
    named: impl Iterator<Item = String>,
    is_there: impl Fn(&str) -> bool,
    missing: &mut HashMap<String, Instant>,
    now: Instant,
) -> Vec<String> {
    let mut seen = HashMap::new();
    for name in named.filter(|name| !name.is_empty() && !is_there(name)) {
        let since = missing.get(&name).copied().unwrap_or(now);
        seen.insert(name, since);
    }
    *missing = seen;
    let long = missing.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= QUARANTINE);
    long.map(|(name, _)| name.clone()).collect()
}

impl Collector {
    async fn collect(&self, missing: &mut HashMap<String, Instant>) -> Result<(), Error> {
        let pods = self.pods.all();
        let there = |name: &str| self.nodes.get(&ObjectKey::new("", name)).is_some();
        let gone = gone_nodes(pods.iter().map(|pod| node(pod).to_owned()), there, missing, Instant::now());
        for pod in too_many(&pods, self.threshold) {
            self.delete(&pod, None).await?;
        }
        for name in gone {
            // The cache may not know a node that was just added.
            if Api::<Node>::all(self.client.clone()).get_opt(&name).await?.is_some() {
                continue;
            }
            for pod in pods.iter().filter(|pod| node(pod) == name) {
                self.delete(pod, Some("PodGC: node no longer exists")).await?;
            }
        }
        for pod in pods.iter().filter(|pod| pod.deleting()) {
            let place = node(pod);
            if place.is_empty() {
                self.delete(pod, None).await?;
            } else if self.is_out_of_service(place) {
                self.delete(pod, Some("PodGC: node out-of-service taint is applied")).await?;
            }
        }
        Ok(())
    }

    fn is_out_of_service(&self, name: &str) -> bool {
        self.nodes.get(&ObjectKey::new("", name)).is_some_and(|node| {
            super::taints::condition(&node, "Ready") != Some("True")
                && taints(&node).iter().any(|taint| taint.key == OUT_OF_SERVICE)
        })
    }

    /// Deletes a pod at once; with a message it is first said to have failed, for nobody else will.
    async fn delete(&self, pod: &Pod, lost: Option<&str>) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
        if let Some(message) = lost.filter(|_| !is_terminal(pod)) {
            let condition = disruption("DeletionByPodGC", message, Timestamp::now());
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed", "conditions": [condition]}});
            match api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
                Ok(_) => {}
                Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        tracing::info!(namespace = pod.namespace(), name = pod.name(), "PodGC is force deleting Pod");
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(pod.name(), &params).await {
            Ok(_) => Ok(()),
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::pods::tests::pod;

    #[test]
    fn nodes_are_gone_after_a_while() {
        let start = Instant::now();
        let mut missing = HashMap::new();
        let mut gone = |names: &[&str], there: &'static str, seconds| {
            let named = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into_iter();
            gone_nodes(named, |name| name == there, &mut missing, start + Duration::from_secs(seconds))
        };
        assert!(gone(&["node1", "node2", ""], "node1", 0).is_empty());
        assert!(gone(&["node1", "node2"], "node1", 39).is_empty());
        assert_eq!(gone(&["node1", "node2"], "node1", 40), ["node2"]);
        assert!(gone(&["node1", "node2"], "node2", 60).is_empty(), "node2 came back, node1 only just went");
    }

    #[test]
    fn the_oldest_ended_pods_go() {
        let mut pods: Vec<_> = (0..5).map(|n| pod(&format!("p{n}"), "n", "Succeeded", None)).collect();
        pods.push(pod("runs", "n", "Running", None));
        let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        assert_eq!(too_many(&pods, 3).iter().map(|pod| pod.name()).collect::<Vec<_>>(), ["p0", "p1"]);
        assert!(too_many(&pods, 0).is_empty(), "0: no limit");
    }
}
