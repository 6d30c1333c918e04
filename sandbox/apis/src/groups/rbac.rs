//! `rbac.authorization.k8s.io/v1`.

use crate::defaults::others;
use crate::kind::{Kind, Scope};
use crate::printers;
use crate::validation;
use drydock_apimachinery::names;

const BASE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    create_on_update: true,
    validate_name: names::name_is_path_segment,
    ..Kind::BASE
};

pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    scope: Scope::Cluster,
    defaults: others::role_binding,
    columns: printers::others::ROLE_BINDING,
    row: printers::others::role_binding,
    validate: validation::others::validate_cluster_role_binding,
    ..BASE
};

pub static CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    scope: Scope::Cluster,
    defaults: others::role,
    validate: validation::others::validate_cluster_role,
    ..BASE
};

pub static ROLE_BINDING: Kind = Kind {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    defaults: others::role_binding,
    columns: printers::others::ROLE_BINDING,
    row: printers::others::role_binding,
    validate: validation::others::validate_role_binding,
    ..BASE
};

pub static ROLE: Kind = Kind {
    kind: "Role",
    plural: "roles",
    singular: "role",
    defaults: others::role,
    validate: validation::others::validate_role,
    ..BASE
};
