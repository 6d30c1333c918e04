//! What the API server makes by itself when it starts, if it is not there: the system's namespaces, its priority classes, and the
//! `kubernetes` service that leads to it (`pkg/controlplane/controller`).

mod flowcontrol;
mod identity;

use crate::codec;
use crate::resource::Resource;
use crate::rest::meta;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::services::addresses;
use crate::storage::{self, keys};
use drydock_apimachinery::{Status, object};
use drydock_etcd::{Compare, Op, Txn};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Namespaces of every cluster (`SystemNamespaces` and `default`).
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Classes of pods that the cluster can't be without.
const PRIORITIES: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// Whether a class of pods is one of those.
pub fn is_system_priority(name: &str) -> bool {
    PRIORITIES.iter().any(|(known, ..)| *known == name)
}

/// Group, version, and the priorities of both (`pkg/controlplane/apiserver/aggregator.go`).
const API_SERVICES: &[(&str, &str, u32, u32)] = &[
    ("", "v1", 18_000, 1),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("apps", "v1", 17_800, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("discovery.k8s.io", "v1", 16_200, 12),
    ("events.k8s.io", "v1", 17_750, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("metrics.k8s.io", "v1beta1", 100, 100),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("resource.k8s.io", "v1", 16_200, 20),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
];

/// Makes what is missing. Each object is a way to the store and back; together they are one.
pub async fn run(server: &Arc<Server>) -> Result<(), Status> {
    let mut work = Vec::new();
    work.extend(NAMESPACES.iter().map(|name| ensure(server, "", "v1", "namespaces", namespace(name))));
    for (name, value, description) in PRIORITIES {
        let tree = json!({
            "kind": "PriorityClass",
            "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        work.push(ensure(server, "scheduling.k8s.io", "v1", "priorityclasses", tree));
    }
    for (group, version, of_group, of_version) in API_SERVICES {
        let tree = api_service(group, version, *of_group, *of_version, "onstart");
        work.push(ensure(server, "apiregistration.k8s.io", "v1", "apiservices", tree));
    }
    work.extend(
        flowcontrol::all()
            .into_iter()
            .map(|(plural, tree)| ensure(server, flowcontrol::GROUP, "v1", plural, tree)),
    );
    try_join_all(work).await?;
    crate::authz::policy::reconcile(server).await?;
    crate::authz::policy::aggregate(server).await?;
    authentication(server).await?;
    identity::tracking(server).await?;
    identity::renew(server).await?;
    service_range(server).await?;
    kubernetes_service(server).await?;
    addresses::repair(server).await
}

/// The range from which services get addresses (`pkg/controlplane/controller/defaultservicecidr`).
async fn service_range(server: &Arc<Server>) -> Result<(), Status> {
    let ready = json!({
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": meta::now(),
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    });
    let tree = json!({
        "kind": "ServiceCIDR",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": [server.options.service_range.to_string()]},
        "status": {"conditions": [ready]},
    });
    ensure(server, "networking.k8s.io", "v1", "servicecidrs", tree).await
}

/// How often [`keep`] looks after the service (`EndpointReconciler` interval of `pkg/controlplane/apiserver`).
const SERVICE_PERIOD: Duration = Duration::from_secs(10);

/// So many of these periods pass until it looks after the namespaces (a minute, `pkg/controlplane/controller/systemnamespaces`).
const NAMESPACES_EVERY: u64 = 6;

/// Makes again what somebody deleted of the namespaces and the `kubernetes` service, and tells of flow schemas whether they lead anywhere, for
/// as long as the server runs.
pub async fn keep(server: Arc<Server>) {
    let made_again = async {
        for round in 1_u64.. {
            tokio::time::sleep(SERVICE_PERIOD).await;
            if let Err(status) = restore(&server, round.is_multiple_of(NAMESPACES_EVERY)).await {
                tracing::warn!("what every cluster has could not be made again: {status}");
            }
        }
    };
    tokio::join!(made_again, flowcontrol::keep(&server));
}

/// One round of [`keep`].
pub async fn restore(server: &Arc<Server>, namespaces_too: bool) -> Result<(), Status> {
    // The service needs its own at any time.
    let names = if namespaces_too { NAMESPACES } else { &["default"] };
    try_join_all(names.iter().map(|name| ensure(server, "", "v1", "namespaces", namespace(name)))).await?;
    kubernetes_service(server).await?;
    identity::renew(server).await?;
    if namespaces_too {
        addresses::repair(server).await?;
        let all = flowcontrol::all().into_iter();
        try_join_all(all.map(|(plural, tree)| ensure(server, flowcontrol::GROUP, "v1", plural, tree)))
            .await?;
    }
    flowcontrol::tell(server).await
}

/// A namespace as it comes to be.
pub fn namespace(name: &str) -> Value {
    json!({
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// Where extensions read whom this server believes (`pkg/controlplane/controller/clusterauthenticationtrust`).
async fn authentication(server: &Arc<Server>) -> Result<(), Status> {
    let mut data = serde_json::Map::new();
    let read = |path: &Path| std::fs::read_to_string(path).map_err(Status::internal);
    if let Some(path) = server.options.tls.as_ref().and_then(|tls| tls.client_ca.as_ref()) {
        data.insert("client-ca-file".into(), read(path)?.into());
    }
    if let Some(proxy) = &server.options.request_header {
        let lists = [
            ("allowed-names", &proxy.allowed_names),
            ("extra-headers-prefix", &proxy.extra_prefixes),
            ("group-headers", &proxy.group_headers),
            ("username-headers", &proxy.username_headers),
        ];
        for (name, list) in lists {
            data.insert(format!("requestheader-{name}"), json!(list).to_string().into());
        }
        data.insert("requestheader-client-ca-file".into(), read(&proxy.client_ca)?.into());
    }
    if data.is_empty() {
        return Ok(());
    }
    let map = json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    });
    put(server, "", "v1", "configmaps", map, &["data"]).await
}

/// What tells that a group and version is served by this server itself (kube-aggregator `pkg/controllers/autoregister`). `managed`: until
/// when it is looked after, as its label says it.
pub fn api_service(group: &str, version: &str, of_group: u32, of_version: u32, managed: &str) -> Value {
    let condition = json!({
        "type": "Available",
        "status": "True",
        "reason": "Local",
        "message": "Local APIServices are always available",
        "lastTransitionTime": meta::now(),
    });
    let mut spec =
        json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({
        "kind": "APIService",
        "apiVersion": "apiregistration.k8s.io/v1",
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": {"kube-aggregator.kubernetes.io/automanaged": managed},
        },
        "spec": spec,
        "status": {"conditions": [condition]},
    })
}

/// The service through which pods reach the API server, and where it leads.
async fn kubernetes_service(server: &Arc<Server>) -> Result<(), Status> {
    let address = server.options.service_range.api_server().to_string();
    let port = server.options.secure_port;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            "sessionAffinity": "None",
        },
        "status": {"loadBalancer": {}},
    });
    ensure(server, "", "v1", "services", service).await?;
    let address = server.options.advertise_address.to_string();
    let endpoints = json!({
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": address}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    put(server, "", "v1", "endpoints", endpoints, &["subsets"]).await?;
    let slice = json!({
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    put(server, "discovery.k8s.io", "v1", "endpointslices", slice, &["endpoints", "ports"]).await
}

fn find(server: &Server, group: &str, version: &str, plural: &str) -> Result<Arc<Resource>, Status> {
    let found = server.registry.snapshot().find(group, version, plural).cloned();
    found.ok_or_else(|| Status::internal(format!("{plural} are not served")))
}

/// Makes an object unless it is there.
pub async fn ensure(
    server: &Server,
    group: &str,
    version: &str,
    plural: &str,
    mut tree: Value,
) -> Result<(), Status> {
    let resource = find(server, group, version, plural)?;
    let key = keys::of(&resource, object::namespace(&tree), object::name(&tree));
    if server.store.get(key.as_bytes(), None).map_err(refusal)?.is_some() {
        return Ok(());
    }
    resource.default(&mut tree);
    if resource.counts_generations() {
        meta::of(&mut tree).insert("generation".into(), 1.into());
    }
    meta::fill(&mut tree)?;
    codec::complete(&resource, &mut tree);
    let txn = Txn::when(vec![Compare::absent(key.clone())], vec![Op::put(key, storage::encode(&tree))]);
    // Another API server may have been quicker, with the same.
    server.store.txn(txn).await.map_err(refusal).map(|_| ())
}

/// Makes an object, or sets these fields of the one that is there.
async fn put(
    server: &Server,
    group: &str,
    version: &str,
    plural: &str,
    tree: Value,
    fields: &[&str],
) -> Result<(), Status> {
    let resource = find(server, group, version, plural)?;
    let key = keys::of(&resource, object::namespace(&tree), object::name(&tree));
    let Some(record) = server.store.get(key.as_bytes(), None).map_err(refusal)? else {
        return ensure(server, group, version, plural, tree).await;
    };
    let old = storage::decode(&record)?;
    let mut new = old.clone();
    for field in fields {
        new[*field] = tree[*field].clone();
    }
    if new == old {
        return Ok(());
    }
    let value = storage::encode(&new);
    server.store.update_if(key.into(), record.mod_revision, value, 0).await.map_err(refusal).map(|_| ())
}
