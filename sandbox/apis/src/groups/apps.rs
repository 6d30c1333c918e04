//! `apps/v1`.

use crate::kind::{Generation, Kind, Subresource};
use drydock_apimachinery::object::int;

const BASE: Kind = Kind { group: "apps", ..Kind::BASE };
const WORKLOAD: Kind = Kind { categories: &["all"], generation: Generation::Spec, ..BASE };

pub static CONTROLLER_REVISION: Kind = Kind {
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    ..BASE
};

pub static DAEMON_SET: Kind = Kind {
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short: &["ds"],
    subresources: &[Subresource::status("DaemonSet")],
    ..WORKLOAD
};

pub static DEPLOYMENT: Kind = Kind {
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short: &["deploy"],
    subresources: &[Subresource::SCALE, Subresource::status("Deployment")],
    ..WORKLOAD
};

pub static REPLICA_SET: Kind = Kind {
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short: &["rs"],
    subresources: &[Subresource::SCALE, Subresource::status("ReplicaSet")],
    fields: &[("status.replicas", |o| int(o, &["status", "replicas"]).unwrap_or(0).to_string())],
    ..WORKLOAD
};

pub static STATEFUL_SET: Kind = Kind {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &["sts"],
    subresources: &[Subresource::SCALE, Subresource::status("StatefulSet")],
    ..WORKLOAD
};
