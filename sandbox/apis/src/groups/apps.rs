//! `apps/v1`.

use crate::defaults::apps;
use crate::kind::{Generation, Kind, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;
use drydock_apimachinery::object::int;

const BASE: Kind = Kind { group: "apps", ..Kind::BASE };
const WORKLOAD: Kind = Kind { categories: &["all"], generation: Generation::Spec, ..BASE };

pub static CONTROLLER_REVISION: Kind = Kind {
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    columns: printers::workloads::CONTROLLER_REVISION,
    row: printers::workloads::controller_revision,
    validate: validation::apps::validate_controller_revision,
    ..BASE
};

pub static DAEMON_SET: Kind = Kind {
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short: &["ds"],
    subresources: &[Subresource::status("DaemonSet")],
    defaults: apps::daemon_set,
    prepare: prepare::daemon_set,
    columns: printers::workloads::DAEMON_SET,
    row: printers::workloads::daemon_set,
    validate: validation::apps::validate_daemon_set,
    validate_status: validation::apps::validate_daemon_status,
    warnings: crate::warnings::template,
    ..WORKLOAD
};

pub static DEPLOYMENT: Kind = Kind {
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short: &["deploy"],
    subresources: &[Subresource::SCALE, Subresource::status("Deployment")],
    defaults: apps::deployment,
    prepare: prepare::empty_status,
    columns: printers::workloads::DEPLOYMENT,
    row: printers::workloads::deployment,
    validate: validation::apps::validate_deployment,
    validate_status: validation::apps::validate_deployment_status,
    warnings: crate::warnings::template,
    ..WORKLOAD
};

pub static REPLICA_SET: Kind = Kind {
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short: &["rs"],
    subresources: &[Subresource::SCALE, Subresource::status("ReplicaSet")],
    fields: &[("status.replicas", |o| int(o, &["status", "replicas"]).unwrap_or(0).to_string().into())],
    defaults: apps::replica_set,
    prepare: prepare::replicas,
    columns: printers::workloads::REPLICAS,
    row: printers::workloads::replica_set,
    validate: validation::apps::validate_replica_set,
    validate_status: validation::apps::validate_replicas_status,
    warnings: crate::warnings::template,
    ..WORKLOAD
};

pub static STATEFUL_SET: Kind = Kind {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &["sts"],
    subresources: &[Subresource::SCALE, Subresource::status("StatefulSet")],
    defaults: apps::stateful_set,
    prepare: prepare::stateful_set,
    columns: printers::workloads::STATEFUL_SET,
    row: printers::workloads::stateful_set,
    validate: validation::apps::validate_stateful_set,
    validate_status: validation::apps::validate_stateful_status,
    validate_name: drydock_apimachinery::names::name_is_dns_label,
    warnings: crate::warnings::stateful_set,
    ..WORKLOAD
};
