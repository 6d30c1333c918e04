//! The table itself: a file per group of kinds, in the order in which a real server's discovery tells of them
//! (`apiVersionPriorities` of the control plane; within a group by resource). Rows name functions of `defaults`, `validation` and
//! `printers`; they hold no logic of their own.

mod apps;
mod auth;
mod autoscaling;
mod batch;
mod core;
mod events;
mod extension;
mod flowcontrol;
mod networking;
mod policy;
mod rbac;
mod resource;
mod storage;

use crate::Kind;

/// All built-in kinds, in the order in which discovery tells of them.
pub static KINDS: &[&Kind] = &[
    &core::BINDING,
    &core::COMPONENT_STATUS,
    &core::CONFIG_MAP,
    &core::ENDPOINTS,
    &core::EVENT,
    &core::LIMIT_RANGE,
    &core::NAMESPACE,
    &core::NODE,
    &core::PERSISTENT_VOLUME_CLAIM,
    &core::PERSISTENT_VOLUME,
    &core::POD,
    &core::POD_TEMPLATE,
    &core::REPLICATION_CONTROLLER,
    &core::RESOURCE_QUOTA,
    &core::SECRET,
    &core::SERVICE_ACCOUNT,
    &core::SERVICE,
    &extension::API_SERVICE,
    &apps::CONTROLLER_REVISION,
    &apps::DAEMON_SET,
    &apps::DEPLOYMENT,
    &apps::REPLICA_SET,
    &apps::STATEFUL_SET,
    &events::EVENT,
    &auth::SELF_SUBJECT_REVIEW,
    &auth::TOKEN_REVIEW,
    &auth::LOCAL_SUBJECT_ACCESS_REVIEW,
    &auth::SELF_SUBJECT_ACCESS_REVIEW,
    &auth::SELF_SUBJECT_RULES_REVIEW,
    &auth::SUBJECT_ACCESS_REVIEW,
    &autoscaling::HORIZONTAL_POD_AUTOSCALER_V2,
    &autoscaling::HORIZONTAL_POD_AUTOSCALER_V1,
    &batch::CRON_JOB,
    &batch::JOB,
    &auth::CERTIFICATE_SIGNING_REQUEST,
    &networking::INGRESS_CLASS,
    &networking::INGRESS,
    &networking::IP_ADDRESS,
    &networking::NETWORK_POLICY,
    &networking::SERVICE_CIDR,
    &policy::POD_DISRUPTION_BUDGET,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::CLUSTER_ROLE,
    &rbac::ROLE_BINDING,
    &rbac::ROLE,
    &storage::CSI_DRIVER,
    &storage::CSI_NODE,
    &storage::CSI_STORAGE_CAPACITY,
    &storage::STORAGE_CLASS,
    &storage::VOLUME_ATTACHMENT,
    &storage::VOLUME_ATTRIBUTES_CLASS,
    &extension::MUTATING_WEBHOOK_CONFIGURATION,
    &extension::VALIDATING_ADMISSION_POLICY,
    &extension::VALIDATING_ADMISSION_POLICY_BINDING,
    &extension::VALIDATING_WEBHOOK_CONFIGURATION,
    &extension::CUSTOM_RESOURCE_DEFINITION,
    &policy::PRIORITY_CLASS,
    &policy::LEASE,
    &policy::RUNTIME_CLASS,
    &networking::ENDPOINT_SLICE,
    &resource::DEVICE_CLASS,
    &resource::RESOURCE_CLAIM,
    &resource::RESOURCE_CLAIM_TEMPLATE,
    &resource::RESOURCE_SLICE,
    &flowcontrol::FLOW_SCHEMA,
    &flowcontrol::PRIORITY_LEVEL,
];

/// The kind that a path names.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.plural == plural && kind.version == version && kind.group == group)
}

/// The kind that an object names.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|one| one.kind == kind && one.version == version && one.group == group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::HashSet;

    #[test]
    fn each_row_is_found_by_its_names_alone() {
        let mut seen = HashSet::new();
        for kind in KINDS {
            assert!(seen.insert((kind.group, kind.version, kind.plural)), "{} twice", kind.plural);
            assert!(std::ptr::eq(find(kind.group, kind.version, kind.plural).unwrap(), *kind));
            assert!(std::ptr::eq(by_kind(kind.group, kind.version, kind.kind).unwrap(), *kind));
            assert!(!kind.singular.is_empty() && kind.kind.to_lowercase() == kind.singular, "{}", kind.kind);
            assert!(kind.verbs.is_sorted() && kind.subresources.iter().all(|one| one.verbs.is_sorted()));
        }
        assert!(find("apps", "v1", "pods").is_none());
    }

    #[test]
    fn rows_of_empty_objects_have_as_many_cells_as_there_are_columns() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for kind in KINDS {
            for object in [json!({}), json!({"metadata": [], "spec": 1, "status": "x"})] {
                assert_eq!((kind.row)(&object, now).len(), kind.columns.len(), "{}", kind.kind);
            }
        }
    }

    #[test]
    fn any_tree_can_be_defaulted_prepared_and_validated() {
        let odd = [
            json!({}),
            json!({"metadata": {"name": 1}, "spec": [], "status": 3, "data": "x", "subsets": [1]}),
            json!({"spec": {"template": {"spec": {"containers": [1, {"ports": "x"}], "volumes": {}}}, "selector": 5}}),
        ];
        for kind in KINDS {
            for object in &odd {
                let mut object = object.clone();
                (kind.defaults)(&mut object);
                (kind.prepare)(&mut object, None);
                let _errors = (kind.validate)(&object, None);
                let _warnings = (kind.warnings)(&object, None);
                let mut twice = object.clone();
                (kind.defaults)(&mut twice);
                assert_eq!(object, twice, "defaults of {} are not idempotent", kind.kind);
                let _errors = (kind.validate)(&object, Some(&twice));
            }
        }
    }
}
