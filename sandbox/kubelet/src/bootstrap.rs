//! What `kubeadm init` tells a new API server, once: that the administrators of its kubeconfigs are administrators, and how the
//! cluster was set up (`cmd/kubeadm/app/phases/{kubeconfig,uploadconfig,markcontrolplane}`). The kubelet of the control plane does it, by the
//! kubeconfig that is made for this.

use drydock_cluster::{DOMAIN, NETWORK_USER, POD_CIDR, Paths, SERVICE_CIDR, VERSION, kubelet_configuration};
use drydock_kubeclient::errors;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};
use std::{fs, path::Path, time::Duration};

/// Tells that it was done.
const DONE: &str = "/var/lib/kubelet/cluster-initialized";
/// First delay after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// What marks the node of the control plane.
pub const ROLE_LABELS: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers"];

/// The way to the API server in the name of its first administrator, for a program of that name; none if the cluster is not new.
pub fn administrator(program: &str) -> Option<kube::Client> {
    if Path::new(DONE).exists() {
        return None;
    }
    let connected = drydock_kubeclient::connect(&Paths::default().config("super-admin.conf"), program);
    connected.inspect_err(|error| tracing::error!(%error, "the cluster can't be initialized")).ok()
}

/// Creates what is missing. Ends when all is there.
pub async fn run(server: String, node: String) {
    let Some(client) = administrator("kubeadm") else { return };
    for (path, object) in objects(&server) {
        insist(path, || create(&client, path, &object)).await;
    }
    let nodes: Api<Node> = Api::all(client);
    let labels: Map<String, Value> = ROLE_LABELS.iter().map(|label| ((*label).into(), "".into())).collect();
    let labels = json!({ "metadata": { "labels": labels } });
    let params = PatchParams::default();
    let (nodes, node, params, labels) = (&nodes, &node, &params, &Patch::Merge(&labels));
    insist("node", || async move { nodes.patch(node, params, labels).await.map(drop) }).await;
    if let Err(error) = fs::write(DONE, "") {
        tracing::warn!(%error, "{DONE} can't be written");
    }
}

/// Does something until it works, or never will.
async fn insist<F: Future<Output = Result<(), kube::Error>>>(what: &str, attempt: impl Fn() -> F) {
    let mut wait = RETRY.0;
    while let Err(error) = attempt().await {
        if errors::is_answer(&error) && !is_early(&error) {
            tracing::warn!(what, %error, "the cluster can't be initialized fully");
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// The API server is not through with its own beginning.
fn is_early(error: &kube::Error) -> bool {
    errors::is_forbidden(error)
        || errors::is_not_found(error)
        || matches!(error, kube::Error::Api(s) if s.code >= 500)
}

async fn create(client: &kube::Client, path: &str, object: &Value) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(path).header("content-type", "application/json").body(body);
    match client.request::<Value>(request.map_err(kube::Error::HttpError)?).await {
        Err(e) if errors::is_already_exists(&e) => Ok(()),
        other => other.map(drop),
    }
}

fn objects(server: &str) -> Vec<(&'static str, Value)> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    const CONFIG_MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
    const ACCOUNTS: &str = "/api/v1/namespaces/kube-system/serviceaccounts";
    let binding = |name: &str, role: &str, subject: Value| {
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": role },
            "subjects": [subject],
        })
    };
    let group = |name: &str| json!({ "apiGroup": RBAC, "kind": "Group", "name": name });
    let user = |name: &str| json!({ "apiGroup": RBAC, "kind": "User", "name": name });
    let account =
        |name: &str| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    let of_account =
        |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": "kube-system" });
    let config_map = |name: &str, key: &str, text: String| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { key: text } });
    let endpoint = server.trim_start_matches("https://");
    let cluster = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
certificatesDir: /etc/kubernetes/pki
clusterName: kubernetes
controlPlaneEndpoint: {endpoint}
imageRepository: registry.k8s.io
kind: ClusterConfiguration
kubernetesVersion: {VERSION}
networking:
  dnsDomain: {DOMAIN}
  podSubnet: {POD_CIDR}
  serviceSubnet: {SERVICE_CIDR}
"
    );
    let network = json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": { "name": NETWORK_USER },
        "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] }],
    });
    // The add-ons' accounts: the node's kubelet does what their pods would do.
    let dns = json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": "ClusterRole",
        "metadata": { "name": "system:coredns" },
        "rules": [
            { "apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ],
    });
    vec![
        (ROLES, network),
        (BINDINGS, binding(NETWORK_USER, NETWORK_USER, user(NETWORK_USER))),
        (BINDINGS, binding("kubeadm:cluster-admins", "cluster-admin", group("kubeadm:cluster-admins"))),
        (ACCOUNTS, account("coredns")),
        (ROLES, dns),
        (BINDINGS, binding("system:coredns", "system:coredns", of_account("coredns"))),
        (ACCOUNTS, account("kube-proxy")),
        (BINDINGS, binding("kubeadm:node-proxier", "system:node-proxier", of_account("kube-proxy"))),
        (CONFIG_MAPS, config_map("kubeadm-config", "ClusterConfiguration", cluster)),
        (CONFIG_MAPS, config_map("kubelet-config", "kubelet", kubelet_configuration())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_whole() {
        for (path, object) in objects("https://192.168.0.11:6443") {
            assert!(path.starts_with("/api") && object["kind"].is_string(), "{object}");
            for text in object["data"].as_object().into_iter().flat_map(|d| d.values()) {
                let value: Value = serde_saphyr::from_str(text.as_str().unwrap()).unwrap();
                assert!(value["kind"].is_string(), "{text}");
            }
        }
    }
}
