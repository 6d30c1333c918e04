//! The rows of the Kubernetes part of the curriculum that the control plane and the kubelet keep, each by the official clients in
//! a node. Names of tests begin with their row.

mod betas;
mod cluster;
mod kubelet;
mod objects;
mod pods;
mod workloads;

use drydock_e2e::Lab;
use serde_json::Value;

/// A web server that answers with its host's name; the catalogue has it always.
const WHOAMI: &str = "whoami";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A deployment as in every first lesson.
fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  replicas: {replicas}\n\
         \x20 selector:\n    matchLabels: {{app: {name}}}\n  template:\n    metadata:\n      labels: {{app: {name}}}\n    spec:\n\
         \x20     containers:\n      - name: web\n        image: {WHOAMI}\n        ports:\n        - containerPort: 80\n\
         \x20       resources:\n          requests: {{cpu: 100m}}\n"
    )
}

/// Applies a manifest.
async fn apply(lab: &Lab, manifest: &str) -> String {
    lab.sh(&format!("kubectl apply -f - <<'EOF'\n{manifest}\nEOF")).await
}

/// Waits until a command finds something.
async fn until(lab: &Lab, command: &str) {
    lab.sh(&format!("for i in $(seq 150); do {command} && exit 0; sleep 0.2; done; {command}")).await;
}
