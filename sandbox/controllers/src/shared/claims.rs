//! Carries out what `refs` decides: adopts and releases objects at the API server.

use std::sync::Arc;

use drydock_kubeclient::errors;
use drydock_kubeclient::informer::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use super::meta::Meta;
use super::refs::{Claim, adoption, claim, release};
use crate::error::Error;

/// Kinds of which controllers own others, and which they own.
pub trait Namespaced:
    Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Meta + std::fmt::Debug
{
}

impl<T> Namespaced for T where
    T: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Meta + std::fmt::Debug
{
}

/// The objects that belong to the owner, after adopting those that should and releasing those that should not.
pub async fn claim_all<O: Namespaced, K: Namespaced>(
    client: &Client,
    owner: &O,
    reference: &OwnerReference,
    selector: &LabelSelector,
    objects: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>, Error> {
    let meta = Meta::meta(owner);
    let api: Api<K> = Api::namespaced(client.clone(), meta.namespace());
    let mut may_adopt = None;
    let mut own = Vec::with_capacity(objects.len());
    for object in objects {
        match claim(meta, selector, Meta::meta(&*object)) {
            Claim::Own => own.push(object),
            Claim::Ignore => {}
            Claim::Adopt => {
                // The cache may be old: an owner that is being deleted (or was, and another has its name) must adopt nothing.
                let allowed = match may_adopt {
                    Some(allowed) => allowed,
                    None => *may_adopt.insert(is_alive(client, owner).await?),
                };
                if allowed && let Some(object) = adopt(&api, reference, &object).await? {
                    own.push(Arc::new(object));
                }
            }
            Claim::Release => let_go(&api, meta.uid(), &object).await?,
        }
    }
    Ok(own)
}

async fn is_alive<O: Namespaced>(client: &Client, owner: &O) -> Result<bool, Error> {
    let meta = Meta::meta(owner);
    let api: Api<O> = Api::namespaced(client.clone(), meta.namespace());
    let live = api.get_opt(meta.name()).await?;
    Ok(live.is_some_and(|live| live.uid() == meta.uid() && !live.deleting()))
}

async fn adopt<K: Namespaced>(
    api: &Api<K>,
    reference: &OwnerReference,
    object: &K,
) -> Result<Option<K>, Error> {
    let meta = Meta::meta(object);
    let patch = adoption(reference, meta.uid());
    match api.patch(meta.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Ok(object) => Ok(Some(object)),
        // It is gone meanwhile, or another one has its name.
        Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn let_go<K: Namespaced>(api: &Api<K>, owner_uid: &str, object: &K) -> Result<(), Error> {
    let meta = Meta::meta(object);
    let patch = release(owner_uid, meta.uid());
    match api.patch(meta.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Ok(_) => Ok(()),
        // Gone, or somebody else took the reference away.
        Err(error)
            if errors::is_not_found(&error) || errors::is_invalid(&error) || errors::is_conflict(&error) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
