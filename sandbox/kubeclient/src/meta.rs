//! Names of objects, and who owns them. Called by informers, queues and every controller.

use std::fmt;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// Namespace and name of an object: client-go's `namespace/name` key. An empty namespace: the kind has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// A key of its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: HasMeta>(object: &K) -> Self {
        let meta = object.metadata();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Anything with `metadata`, whether its kind is known to the compiler or not.
pub trait HasMeta {
    /// The object's `metadata`.
    fn metadata(&self) -> &ObjectMeta;
    /// The object's `metadata`, to be changed.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
}

impl<K: Resource> HasMeta for K {
    fn metadata(&self) -> &ObjectMeta {
        self.meta()
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        self.meta_mut()
    }
}

/// `metadata.name`; empty if there is none.
pub fn name<K: HasMeta>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// `metadata.namespace`; empty if there is none.
pub fn namespace<K: HasMeta>(object: &K) -> &str {
    object.metadata().namespace.as_deref().unwrap_or_default()
}

/// `metadata.uid`; empty if there is none.
pub fn uid<K: HasMeta>(object: &K) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

/// The owner that controls the object (`metav1.GetControllerOf`).
pub fn controller_of<K: HasMeta>(object: &K) -> Option<&OwnerReference> {
    object.metadata().owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// True if `owner` controls the object (`metav1.IsControlledBy`).
pub fn is_controlled_by<K: HasMeta, O: HasMeta>(object: &K, owner: &O) -> bool {
    controller_of(object).is_some_and(|reference| reference.uid == uid(owner))
}

/// The owner reference that makes `owner` the controller of an object (`metav1.NewControllerRef`).
pub fn controller_reference<O: Resource<DynamicType = ()>>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::api_version(&()).into_owned(),
        kind: O::kind(&()).into_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What an event is about (`reference.GetReference`).
pub fn object_reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// True if the object is being deleted.
pub fn is_deleting<K: HasMeta>(object: &K) -> bool {
    object.metadata().deletion_timestamp.is_some()
}
