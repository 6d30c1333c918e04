//! Short ways to an object's metadata, and label selectors.

use std::collections::BTreeMap;

use drydock_kubeclient::ObjectKey;
use k8s_openapi::api::{
    apps, autoscaling, batch, certificates, coordination, core, discovery, networking, policy, rbac,
    resource, storage,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use k8s_openapi::jiff::Timestamp;

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = BTreeMap::new();

/// Short ways to metadata.
pub trait Meta {
    /// The metadata itself.
    fn meta(&self) -> &ObjectMeta;

    /// Its name; empty if it has none yet.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    /// Its namespace; empty: none.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }
    /// Its uid.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    /// Its labels.
    fn labels(&self) -> &Labels {
        self.meta().labels.as_ref().unwrap_or(&NO_LABELS)
    }
    /// A label.
    fn label(&self, key: &str) -> Option<&str> {
        self.labels().get(key).map(String::as_str)
    }
    /// An annotation.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.meta().annotations.as_ref()?.get(key).map(String::as_str)
    }
    /// Whether it is being deleted.
    fn deleting(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
    /// When it was made.
    fn created(&self) -> Timestamp {
        self.meta().creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }
    /// The owner that manages it.
    fn controller(&self) -> Option<&OwnerReference> {
        self.owners().iter().find(|owner| owner.controller == Some(true))
    }
    /// Whether the object of that uid manages it.
    fn controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }
    /// All its owners.
    fn owners(&self) -> &[OwnerReference] {
        self.meta().owner_references.as_deref().unwrap_or_default()
    }
    /// Whether it has a finalizer.
    fn has_finalizer(&self, name: &str) -> bool {
        self.meta().finalizers.as_ref().is_some_and(|all| all.iter().any(|finalizer| finalizer == name))
    }
    /// Namespace and name.
    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), self.name())
    }
}

impl Meta for ObjectMeta {
    fn meta(&self) -> &ObjectMeta {
        self
    }
}

macro_rules! kinds {
    ($($kind:ty),* $(,)?) => {$(
        impl Meta for $kind {
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
        }
    )*};
}

// One by one: a rule for all that have metadata would overlap with that for metadata itself.
kinds!(
    super::resources::Trace,
    apps::v1::ControllerRevision,
    apps::v1::DaemonSet,
    apps::v1::Deployment,
    apps::v1::ReplicaSet,
    apps::v1::StatefulSet,
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::CronJob,
    batch::v1::Job,
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::ConfigMap,
    core::v1::Endpoints,
    core::v1::Namespace,
    core::v1::Node,
    core::v1::PersistentVolume,
    core::v1::PersistentVolumeClaim,
    core::v1::Pod,
    core::v1::ReplicationController,
    core::v1::ResourceQuota,
    core::v1::Secret,
    core::v1::Service,
    core::v1::ServiceAccount,
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
    resource::v1::ResourceClaim,
    storage::v1::StorageClass,
);

/// A reference to the owner that manages an object (`metav1.NewControllerRef`).
pub fn controller_ref(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: owner.name().into(),
        uid: owner.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether labels satisfy a selector. One that says nothing selects everything; an operator that nobody knows selects nothing.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = |value: &String| requirement.values.iter().flatten().any(|other| other == value);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => value.is_none_or(|value| !listed(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// A selector as Go prints the structure.
pub fn go_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".into() };
    let labels: String =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let requirement = |one: &LabelSelectorRequirement| {
        let values = one.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    };
    let expressions: String = selector.match_expressions.iter().flatten().map(requirement).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// Whether a selector says nothing.
pub fn selects_everything(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether labels have all that a plain map (as in `Service`) asks for. An empty map selects nothing there.
pub fn has_all(wanted: &Labels, labels: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn requirement(operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "app".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
            }]),
            match_labels: None,
        }
    }

    #[test]
    fn selectors() {
        let web = labels(&[("app", "web"), ("tier", "front")]);
        let none = labels(&[]);
        for (operator, values, on_web, on_none) in [
            ("In", vec!["web", "db"], true, false),
            ("In", vec!["db"], false, false),
            ("NotIn", vec!["db"], true, true),
            ("NotIn", vec!["web"], false, true),
            ("Exists", vec![], true, false),
            ("DoesNotExist", vec![], false, true),
            ("Near", vec!["web"], false, false),
        ] {
            let selector = requirement(operator, &values);
            assert_eq!(selects(&selector, &web), on_web, "{operator} {values:?} on web");
            assert_eq!(selects(&selector, &none), on_none, "{operator} {values:?} on nothing");
        }
        assert!(selects(&LabelSelector::default(), &web));
        assert!(selects_everything(&LabelSelector::default()));
        assert!(!selects_everything(&requirement("Exists", &[])));
    }
}
