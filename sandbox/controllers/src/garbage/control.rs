//! Deletes at the API server what nobody owns any more.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drydock_kubeclient::{EventType, Recorder, errors};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;

use super::decide::{Decision, Owner, Propagation, decide, unblocked, without};
use super::graph::{FOREGROUND, Identity, Look, Node, ORPHAN};
use super::monitors::Monitors;
use crate::context::{Context, Running};
use crate::error::Error;
use crate::shared::meta::Meta;

const WORKERS: usize = 20;
/// Owners that are known not to exist; a uid never comes back, so the set may be emptied at any time.
const ABSENT: usize = 1000;
/// How often a finalizer is taken away anew when somebody else changed the object meanwhile.
const TRIES: usize = 5;
/// New kinds come in bursts (a chart's definitions), and are served a moment after they are defined.
const SETTLE: Duration = Duration::from_millis(300);

struct Collector {
    client: Client,
    recorder: Recorder,
    monitors: Arc<Monitors>,
    absent: Mutex<HashSet<(String, String)>>,
}

/// Sets the collector up.
pub fn start(context: &Context) -> Running {
    let collector = Arc::new(Collector {
        client: context.client.clone(),
        recorder: context.recorder("garbage-collector-controller"),
        monitors: Arc::new(Monitors::new(context.informers.clone())),
        absent: Mutex::default(),
    });
    Box::pin(async move {
        collector.refresh().await;
        let keep_up = async {
            loop {
                collector.monitors.kinds_changed.notified().await;
                tokio::time::sleep(SETTLE).await;
                collector.refresh().await;
            }
        };
        let workers = collector.monitors.queue.work(WORKERS, |look| {
            let collector = collector.clone();
            async move { collector.look(look).await }
        });
        tokio::join!(keep_up, workers);
    })
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(uid) => write!(f, "whether to delete {uid}"),
            Self::Orphan(uid) => write!(f, "orphan dependents of {uid}"),
            Self::WrongNamespace { uid, owner } => write!(f, "owner {owner} of {uid} in another namespace"),
        }
    }
}

impl Collector {
    async fn refresh(&self) {
        let mut wait = Duration::from_millis(100);
        while let Err(error) = self.monitors.refresh().await {
            tracing::warn!(%error, "kinds could not be discovered, trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(30));
        }
    }

    async fn look(&self, look: Look) -> Result<Option<Duration>, Error> {
        match &look {
            Look::Delete(uid) => self.attempt_delete(uid).await?,
            Look::Orphan(uid) => self.orphan(uid).await?,
            Look::WrongNamespace { uid, owner } => self.tell_wrong_namespace(uid, owner),
        }
        Ok(None)
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.monitors.graph().get(uid).cloned()
    }

    fn api(&self, identity: &Identity) -> Result<kube::Api<kube::core::DynamicObject>, Error> {
        let one = self.monitors.type_of(&identity.api_version, &identity.kind);
        let one = one.ok_or_else(|| {
            self.monitors.kinds_changed.notify_one();
            Error::NotYet(format!(
                "no matches for kind {:?} in version {:?}",
                identity.kind, identity.api_version
            ))
        })?;
        Ok(one.api(&self.client, &identity.namespace))
    }

    /// The metadata of what is at that place now.
    async fn live(&self, identity: &Identity) -> Result<Option<ObjectMeta>, Error> {
        Ok(self.api(identity)?.get_metadata_opt(&identity.name).await?.map(|object| object.metadata))
    }

    async fn attempt_delete(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        if node.virtual_ {
            return self.attempt_find(uid, &node).await;
        }
        if node.deleting_dependents {
            return self.wait_for_dependents(uid, &node).await;
        }
        if node.deleting || node.owners.is_empty() {
            return Ok(());
        }
        let mut owners = Vec::with_capacity(node.owners.len());
        for reference in &node.owners {
            owners.push((reference.clone(), self.owner(&node.identity, reference).await?));
        }
        let dependents = self.monitors.graph().dependents(uid);
        let wait = dependents.iter().any(|(_, node)| node.deleting_dependents);
        match decide(&owners, !dependents.is_empty(), wait, &node.finalizers) {
            Decision::Keep => Ok(()),
            Decision::Forget(gone) => self.set_owners(uid, &node, &without(&node.owners, &gone)).await,
            Decision::Delete { propagation, unblock } => {
                if unblock {
                    self.set_owners(uid, &node, &unblocked(&node.owners)).await?;
                }
                self.delete(uid, &node, propagation, unblock).await
            }
        }
    }

    /// A node that only references speak of: either there is none such, and its dependents are orphans, or the monitors will see it soon.
    async fn attempt_find(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let live = self.live(&node.identity).await?;
        if live.is_some_and(|live| live.uid() == uid) {
            return match self.node(uid) {
                Some(node) if node.virtual_ => {
                    Err(Error::NotYet(format!("{} is not seen yet", node.identity.name)))
                }
                _ => Ok(()),
            };
        }
        let looks = self.monitors.graph().gone(uid);
        self.monitors.look(looks);
        Ok(())
    }

    /// Whether an owner exists, by the API server's own word.
    async fn owner(&self, dependent: &Identity, reference: &OwnerReference) -> Result<Owner, Error> {
        let namespaced =
            self.monitors.type_of(&reference.api_version, &reference.kind).is_some_and(|one| one.namespaced);
        if namespaced && dependent.namespace.is_empty() {
            tracing::warn!(
                name = dependent.name,
                owner = reference.name,
                "cluster-scoped objects cannot refer to namespaced owners"
            );
            return Ok(Owner::Solid);
        }
        let known = (reference.uid.clone(), dependent.namespace.clone());
        let absent = || self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent().contains(&known) {
            return Ok(Owner::Dangling);
        }
        let identity = Identity {
            api_version: reference.api_version.as_str().into(),
            kind: reference.kind.as_str().into(),
            namespace: dependent.namespace.clone(),
            name: reference.name.clone(),
        };
        match self.live(&identity).await?.filter(|live| live.uid() == reference.uid) {
            Some(live) if live.deleting() && live.has_finalizer(FOREGROUND) => Ok(Owner::Waiting),
            Some(_) => Ok(Owner::Solid),
            None => {
                let mut absent = absent();
                if absent.len() >= ABSENT {
                    absent.clear();
                }
                absent.insert(known);
                Ok(Owner::Dangling)
            }
        }
    }

    /// An object that goes after its dependents: those that block it are looked at; without any it may go.
    async fn wait_for_dependents(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.monitors.graph().dependents(uid);
        let blocks = |node: &Node| {
            node.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        let blocking: Vec<_> = dependents.into_iter().filter(|(_, node)| blocks(node)).collect();
        if blocking.is_empty() {
            return self.remove_finalizer(uid, &node.identity, FOREGROUND).await;
        }
        let looks = blocking
            .into_iter()
            .filter(|(_, node)| !node.deleting_dependents)
            .map(|(uid, _)| Look::Delete(uid));
        self.monitors.look(looks.collect());
        Ok(())
    }

    async fn delete(
        &self,
        uid: &str,
        node: &Node,
        propagation: Propagation,
        changed: bool,
    ) -> Result<(), Error> {
        let params = DeleteParams {
            propagation_policy: Some(match propagation {
                Propagation::Background => PropagationPolicy::Background,
                Propagation::Foreground => PropagationPolicy::Foreground,
                Propagation::Orphan => PropagationPolicy::Orphan,
            }),
            // Somebody may have given it another owner meanwhile.
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: node.resource_version.clone().filter(|_| !changed),
            }),
            ..DeleteParams::default()
        };
        tracing::info!(
            kind = &*node.identity.kind,
            namespace = node.identity.namespace,
            name = node.identity.name,
            ?propagation,
            "Deleting item"
        );
        match self.api(&node.identity)?.delete(&node.identity.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if errors::is_not_found(&error) => Ok(()),
            Err(error) if errors::is_conflict(&error) => {
                // It was changed meanwhile: the monitor's word of that comes and it is looked at with what is true then.
                match self.live(&node.identity).await? {
                    Some(live) if live.uid() == uid => Err(error.into()),
                    _ => Ok(()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn set_owners(&self, uid: &str, node: &Node, owners: &[OwnerReference]) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": uid,
            "resourceVersion": node.resource_version,
            "ownerReferences": owners,
        }});
        let api = self.api(&node.identity)?;
        errors::unless_gone(
            api.patch_metadata(&node.identity.name, &PatchParams::default(), &Patch::Merge(&patch)).await,
        )?;
        Ok(())
    }

    /// Lets the dependents of an object go, and then the object.
    async fn orphan(&self, uid: &str) -> Result<(), Error> {
        let Some(node) = self.node(uid) else { return Ok(()) };
        let dependents = self.monitors.graph().dependents(uid);
        for (dependent_uid, dependent) in dependents {
            let owners = without(&dependent.owners, &[uid.to_owned()]);
            self.set_owners(&dependent_uid, &dependent, &owners).await?;
        }
        self.remove_finalizer(uid, &node.identity, ORPHAN).await
    }

    async fn remove_finalizer(&self, uid: &str, identity: &Identity, finalizer: &str) -> Result<(), Error> {
        let api = self.api(identity)?;
        let mut last = None;
        for _ in 0..TRIES {
            let Some(live) = self.live(identity).await? else { return Ok(()) };
            if live.uid() != uid || !live.has_finalizer(finalizer) {
                return Ok(());
            }
            let rest: Vec<_> = live.finalizers.iter().flatten().filter(|name| *name != finalizer).collect();
            let patch = json!({"metadata": {"resourceVersion": live.resource_version, "finalizers": rest}});
            match api.patch_metadata(&identity.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                Err(error) if errors::is_not_found(&error) => return Ok(()),
                Err(error) if errors::is_conflict(&error) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        last.map_or(Ok(()), |error| Err(error.into()))
    }

    fn tell_wrong_namespace(&self, uid: &str, owner: &str) {
        let Some(node) = self.node(uid) else { return };
        let Some(reference) = node.owners.iter().find(|reference| reference.uid == owner) else { return };
        let Identity { api_version, kind, namespace, name } = &node.identity;
        let about = ObjectReference {
            api_version: Some(api_version.to_string()),
            kind: Some(kind.to_string()),
            namespace: Some(namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let OwnerReference { api_version, kind, name, uid, .. } = reference;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
        );
        self.recorder.event_about(about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }
}
