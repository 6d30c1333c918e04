//! Decisions of the whole core: one rule a test, with upstream's words.

mod placement;
mod storage;
mod waiting;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use crate::core::{Change, Core, Decision};
use crate::pod::PodInfo;
use crate::testing::PodBuilder;

/// A scheduler with nodes.
fn core(nodes: impl IntoIterator<Item = Arc<Node>>) -> Core {
    let mut core = Core::new(crate::DEFAULT_NAME);
    for node in nodes {
        core.apply(Change::Node(node), Instant::now());
    }
    core
}

fn add(core: &mut Core, pod: PodBuilder) {
    core.apply(Change::Pod(pod.raw()), Instant::now());
}

/// The next decision: the node, or why there is none.
fn decide(core: &mut Core) -> Result<String, String> {
    match core.decide(Instant::now()).expect("no pod can be decided on") {
        Decision::Bind(_, placement) => Ok(placement.node),
        Decision::Wait(_, why) => Err(why.message),
    }
}

/// Where a pod goes, or why nowhere.
fn place(core: &mut Core, pod: PodBuilder) -> Result<String, String> {
    add(core, pod);
    decide(core)
}

/// Names of pods.
fn names(pods: &[Arc<PodInfo>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.key.name.as_str()).collect()
}
