//! The core group.

use crate::defaults::{core, pod, service};
use crate::kind::{ALL_VERBS, CREATE, Generation, Kind, Scope, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;
use drydock_apimachinery::field::ErrorList;
use drydock_apimachinery::names;
use drydock_apimachinery::object::{at, int, text};
use serde_json::Value;

/// Streams and proxies answer GET and POST alike.
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const READ: &[&str] = &["get", "list"];
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

const fn proxy(kind: &'static str) -> Subresource {
    Subresource { name: "proxy", group_version: None, kind, verbs: PROXY }
}

const fn connect(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, group_version: None, kind, verbs: CONNECT }
}

fn flag(object: &Value, path: &[&str]) -> &'static str {
    if at(object, path) == Some(&Value::Bool(true)) { "true" } else { "false" }
}

pub static BINDING: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: CREATE,
    validate: validation::pod::validate_binding,
    ..Kind::BASE
};

pub static COMPONENT_STATUS: Kind = Kind {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short: &["cs"],
    scope: Scope::Cluster,
    verbs: READ,
    columns: printers::core::COMPONENT_STATUS,
    row: printers::core::component_status,
    deprecated: Some("v1 ComponentStatus is deprecated in v1.19+"),
    ..Kind::BASE
};

pub static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &["cm"],
    columns: printers::core::CONFIG_MAP,
    row: printers::core::config_map,
    validate: validation::core::validate_config_map,
    ..Kind::BASE
};

pub static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short: &["ep"],
    create_on_update: true,
    defaults: core::endpoints,
    columns: printers::network::ENDPOINTS,
    row: printers::network::endpoints,
    validate: validation::core::validate_endpoints,
    deprecated: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    ..Kind::BASE
};

/// Also the stored form of `events.k8s.io`'s events.
pub static EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    create_on_update: true,
    fields: &[
        ("involvedObject.kind", |o| text(o, &["involvedObject", "kind"]).into()),
        ("involvedObject.namespace", |o| text(o, &["involvedObject", "namespace"]).into()),
        ("involvedObject.name", |o| text(o, &["involvedObject", "name"]).into()),
        ("involvedObject.uid", |o| text(o, &["involvedObject", "uid"]).into()),
        ("involvedObject.apiVersion", |o| text(o, &["involvedObject", "apiVersion"]).into()),
        ("involvedObject.resourceVersion", |o| text(o, &["involvedObject", "resourceVersion"]).into()),
        ("involvedObject.fieldPath", |o| text(o, &["involvedObject", "fieldPath"]).into()),
        ("reason", |o| text(o, &["reason"]).into()),
        ("reportingComponent", |o| text(o, &["reportingComponent"]).into()),
        ("source", |o| match text(o, &["source", "component"]) {
            "" => text(o, &["reportingComponent"]).into(),
            source => source.into(),
        }),
        ("type", |o| text(o, &["type"]).into()),
    ],
    defaults: core::event,
    columns: printers::core::EVENT,
    row: printers::core::event,
    validate: validation::events::validate,
    ..Kind::BASE
};

pub static LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short: &["limits"],
    create_on_update: true,
    defaults: core::limit_range,
    validate: validation::core::validate_limit_range,
    ..Kind::BASE
};

pub static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &["ns"],
    scope: Scope::Cluster,
    verbs: NO_COLLECTION,
    subresources: &[
        Subresource { name: "finalize", group_version: None, kind: "Namespace", verbs: &["update"] },
        Subresource::status("Namespace"),
    ],
    fields: &[
        ("name", |o| text(o, &["metadata", "name"]).into()),
        ("status.phase", |o| text(o, &["status", "phase"]).into()),
    ],
    validate_name: names::name_is_dns_label,
    defaults: core::namespace,
    prepare: prepare::namespace,
    columns: printers::core::NAMESPACE,
    row: printers::core::namespace,
    validate: validation::core::validate_namespace,
    validate_status: validation::core::validate_namespace_status,
    validate_subresource: |name, new, old| match name {
        "finalize" => validation::core::validate_finalize(new, old),
        _ => ErrorList::default(),
    },
    ..Kind::BASE
};

pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short: &["no"],
    scope: Scope::Cluster,
    subresources: &[proxy("NodeProxyOptions"), Subresource::status("Node")],
    fields: &[("spec.unschedulable", |o| flag(o, &["spec", "unschedulable"]).into())],
    defaults: core::node,
    prepare: prepare::node,
    columns: printers::core::NODE,
    row: printers::core::node,
    validate: validation::core::validate_node,
    validate_status: validation::core::validate_node_status,
    ..Kind::BASE
};

pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short: &["pvc"],
    subresources: &[Subresource::status("PersistentVolumeClaim")],
    fields: &[("name", |o| text(o, &["metadata", "name"]).into())],
    defaults: core::claim,
    prepare: prepare::pending,
    columns: printers::storage::CLAIM,
    row: printers::storage::claim,
    validate: validation::storage::validate_claim,
    warnings: crate::warnings::claim,
    ..Kind::BASE
};

pub static PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short: &["pv"],
    scope: Scope::Cluster,
    subresources: &[Subresource::status("PersistentVolume")],
    fields: &[("name", |o| text(o, &["metadata", "name"]).into())],
    defaults: core::volume,
    prepare: prepare::pending,
    columns: printers::storage::VOLUME,
    row: printers::storage::volume,
    validate: validation::storage::validate_volume,
    warnings: crate::warnings::volume,
    ..Kind::BASE
};

pub static POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short: &["po"],
    categories: &["all"],
    subresources: &[
        connect("attach", "PodAttachOptions"),
        Subresource { name: "binding", group_version: None, kind: "Binding", verbs: CREATE },
        Subresource::own("ephemeralcontainers", "Pod"),
        Subresource {
            name: "eviction",
            group_version: Some(("policy", "v1")),
            kind: "Eviction",
            verbs: CREATE,
        },
        connect("exec", "PodExecOptions"),
        Subresource { name: "log", group_version: None, kind: "Pod", verbs: &["get"] },
        connect("portforward", "PodPortForwardOptions"),
        proxy("PodProxyOptions"),
        Subresource::own("resize", "Pod"),
        Subresource::status("Pod"),
    ],
    generation: Generation::Spec,
    fields: &[
        ("spec.nodeName", |o| text(o, &["spec", "nodeName"]).into()),
        ("spec.restartPolicy", |o| text(o, &["spec", "restartPolicy"]).into()),
        ("spec.schedulerName", |o| text(o, &["spec", "schedulerName"]).into()),
        ("spec.serviceAccountName", |o| text(o, &["spec", "serviceAccountName"]).into()),
        ("spec.hostNetwork", |o| flag(o, &["spec", "hostNetwork"]).into()),
        ("status.phase", |o| text(o, &["status", "phase"]).into()),
        ("status.podIP", |o| text(o, &["status", "podIP"]).into()),
        ("status.podIPs", |o| text(o, &["status", "podIP"]).into()),
        ("status.nominatedNodeName", |o| text(o, &["status", "nominatedNodeName"]).into()),
    ],
    defaults: pod::pod,
    prepare: prepare::pod,
    columns: printers::pod::COLUMNS,
    row: printers::pod::row,
    row_conditions: printers::pod::row_conditions,
    validate: validation::pod::validate,
    validate_status: validation::pod_update::validate_status,
    warnings: crate::warnings::pod,
    validate_subresource: |name, new, old| match name {
        "ephemeralcontainers" => validation::pod_update::validate_ephemeral_containers(new, old),
        "resize" => validation::pod_update::validate_resize(new, old),
        _ => ErrorList::default(),
    },
    ..Kind::BASE
};

pub static POD_TEMPLATE: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    generation: Generation::Spec,
    defaults: pod::pod_template,
    columns: printers::pod::TEMPLATE_COLUMNS,
    row: printers::pod::template_row,
    validate: validation::pod::validate_template,
    warnings: crate::warnings::pod_template,
    ..Kind::BASE
};

pub static REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short: &["rc"],
    categories: &["all"],
    subresources: &[Subresource::SCALE, Subresource::status("ReplicationController")],
    generation: Generation::Spec,
    fields: &[("status.replicas", |o| int(o, &["status", "replicas"]).unwrap_or(0).to_string().into())],
    defaults: core::replication_controller,
    prepare: prepare::replicas,
    columns: printers::workloads::REPLICAS,
    row: printers::workloads::replication_controller,
    validate: validation::apps::validate_replication_controller,
    validate_status: validation::apps::validate_replicas_status,
    warnings: crate::warnings::template,
    ..Kind::BASE
};

pub static RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short: &["quota"],
    subresources: &[Subresource::status("ResourceQuota")],
    defaults: core::quota,
    prepare: prepare::empty_status,
    columns: printers::core::QUOTA,
    row: printers::core::quota,
    validate: validation::core::validate_quota,
    validate_status: validation::core::validate_quota_status,
    ..Kind::BASE
};

pub static SECRET: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    fields: &[("type", |o| text(o, &["type"]).into())],
    defaults: core::secret,
    columns: printers::core::SECRET,
    row: printers::core::secret,
    validate: validation::core::validate_secret,
    ..Kind::BASE
};

pub static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &["sa"],
    subresources: &[Subresource {
        name: "token",
        group_version: Some(("authentication.k8s.io", "v1")),
        kind: "TokenRequest",
        verbs: CREATE,
    }],
    unconditional_update: false,
    columns: printers::core::SERVICE_ACCOUNT,
    row: printers::core::service_account,
    ..Kind::BASE
};

pub static SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short: &["svc"],
    categories: &["all"],
    verbs: ALL_VERBS,
    subresources: &[proxy("ServiceProxyOptions"), Subresource::status("Service")],
    fields: &[
        ("spec.clusterIP", |o| text(o, &["spec", "clusterIP"]).into()),
        ("spec.type", |o| text(o, &["spec", "type"]).into()),
    ],
    validate_name: names::name_is_dns1035_label,
    defaults: service::service,
    prepare: service::prepare,
    columns: printers::network::SERVICE,
    row: printers::network::service,
    validate: validation::service::validate,
    validate_status: validation::service::validate_status,
    warnings: crate::warnings::service,
    ..Kind::BASE
};
