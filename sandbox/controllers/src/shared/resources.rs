//! The kinds of resources that the API server has, by discovery. For controllers that look at all of them: deletion of namespaces, garbage
//! collection, quotas of any resource.

use drydock_kubeclient::informer::Source;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::core::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::discovery::Discovery;
use kube::{Api, Client};
use serde::Deserialize;

use crate::error::Error;

/// A kind of resources in its preferred version.
#[derive(Debug, Clone)]
pub struct ResourceType {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    operations: Vec<String>,
}

impl ResourceType {
    /// Whether it answers a verb.
    pub fn can(&self, verb: &str) -> bool {
        self.operations.iter().any(|operation| operation == verb)
    }

    /// `deployments.apps`, or `pods` where there is no group.
    pub fn name(&self) -> String {
        if self.resource.group.is_empty() {
            self.resource.plural.clone()
        } else {
            format!("{}.{}", self.resource.plural, self.resource.group)
        }
    }

    /// `GROUP/VERSION, Resource=PLURAL`, as messages about them say (`GroupVersionResource.String`).
    pub fn long_name(&self) -> String {
        let ApiResource { group, version, plural, .. } = &self.resource;
        format!("{group}/{version}, Resource={plural}")
    }

    /// The collection of all of its objects, of which only metadata is wanted.
    pub fn metadata_source(&self) -> Source {
        let ApiResource { group, version, plural, .. } = &self.resource;
        let path = if group.is_empty() {
            format!("/api/{version}/{plural}")
        } else {
            format!("/apis/{group}/{version}/{plural}")
        };
        Source { path, metadata_only: true, ..Source::default() }
    }

    /// Its objects in a namespace (or those of the cluster, where it has no namespaces).
    pub fn api(&self, client: &Client, namespace: &str) -> Api<kube::core::DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }
}

/// All kinds, each in the version that its group prefers.
pub async fn discover(client: &Client) -> Result<Vec<ResourceType>, Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut all = Vec::new();
    for group in discovery.groups_alphabetical() {
        for (resource, ApiCapabilities { scope, operations, .. }) in group.recommended_resources() {
            all.push(ResourceType { resource, namespaced: scope == Scope::Namespaced, operations });
        }
    }
    Ok(all)
}

/// An object of which only where it is, whose it is and what holds it matters. The rest of its metadata is not even read: half of it is
/// `managedFields`, and every change of every object of the cluster comes this way.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Slim")]
pub struct Trace {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct Slim {
    #[serde(default)]
    metadata: SlimMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SlimMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
    deletion_timestamp: Option<Time>,
}

impl From<Slim> for Trace {
    fn from(Slim { metadata }: Slim) -> Self {
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            owner_references: metadata.owner_references,
            finalizers: metadata.finalizers,
            deletion_timestamp: metadata.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Self { metadata }
    }
}

impl drydock_kubeclient::meta::HasMeta for Trace {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
