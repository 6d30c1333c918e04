//! Deletes what is in a namespace that is being deleted, pods first, then lets the namespace itself go.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};

use super::conditions::{Pass, update};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::is_terminal;
use crate::shared::resources::{ResourceType, discover};

/// The finalizer in `spec.finalizers` that this controller takes away.
const KUBERNETES: &str = "kubernetes";
/// What is left but no pod is asked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let namespaces = context.informer::<Namespace>();
    let to_queue = queue.clone();
    namespaces.subscribe(move |event| {
        if event.object().deleting() && !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    // Pods take a while to end: each end brings the namespace nearer to its own.
    let (of_pods, to_queue) = (namespaces.clone(), queue.clone());
    context.informer::<Pod>().subscribe(move |event| {
        let Event::Deleted(pod) = event else { return };
        let key = ObjectKey::new("", pod.namespace());
        if of_pods.get(&key).is_some_and(|namespace| namespace.deleting()) {
            to_queue.add(key);
        }
    });
    work(Arc::new(Controller { client: context.client.clone(), namespaces }), queue, 10)
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(cached) = self.namespaces.get(key) else { return Ok(None) };
        if !cached.deleting() {
            return Ok(None);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(mut namespace) = api.get_opt(&key.name).await? else { return Ok(None) };
        if namespace.uid() != cached.uid() || !namespace.deleting() || finalizers(&namespace).is_empty() {
            return Ok(None);
        }
        let status = namespace.status.get_or_insert_default();
        if status.phase.as_deref() != Some("Terminating") {
            status.phase = Some("Terminating".into());
            namespace = api.replace_status(&key.name, &PostParams::default(), &namespace).await?;
        }
        let pass = self.delete_content(&key.name).await;
        let status = namespace.status.get_or_insert_default();
        if update(&mut status.conditions, &pass, Timestamp::now()) {
            match api.replace_status(&key.name, &PostParams::default(), &namespace).await {
                Ok(written) => namespace = written,
                Err(error) if errors::is_not_found(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(error) = pass.discovery_error.or_else(|| pass.delete_errors.first().cloned()) {
            return Err(Error::NotYet(error));
        }
        if !pass.remaining.is_empty() {
            let estimate = u64::try_from(pass.estimate).unwrap_or(0);
            let wait = if estimate > 0 { Duration::from_secs(estimate / 2 + 1) } else { LOOK_AGAIN };
            return Ok(Some(wait.min(LOOK_AGAIN * 3)));
        }
        self.finalize(&api, namespace).await?;
        Ok(None)
    }
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default()
}

impl Controller {
    async fn finalize(&self, api: &Api<Namespace>, mut namespace: Namespace) -> Result<(), Error> {
        let name = namespace.name().to_owned();
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != KUBERNETES);
        }
        errors::unless_gone(
            api.replace_subresource::<Namespace>("finalize", &name, &PostParams::default(), &namespace).await,
        )?;
        Ok(())
    }

    /// One pass: pods, and once they are gone everything else. So that what a pod still needs on its way out (its service account's rights, its
    /// volumes' claims) is there as long as it is (OrderedNamespaceDeletion).
    async fn delete_content(&self, namespace: &str) -> Pass {
        let mut pass = Pass::default();
        let types = match discover(&self.client).await {
            Ok(types) => types,
            Err(error) => {
                pass.discovery_error = Some(error.text());
                return pass;
            }
        };
        let deletable = |one: &&ResourceType| one.namespaced && one.can("delete") && one.can("list");
        let is_pods = |one: &ResourceType| one.resource.group.is_empty() && one.resource.plural == "pods";
        for pods in types.iter().filter(deletable).filter(|one| is_pods(one)) {
            self.delete_type(pods, namespace, &mut pass).await;
        }
        if pass.remaining.is_empty() && pass.delete_errors.is_empty() {
            for one in types.iter().filter(deletable).filter(|one| !is_pods(one)) {
                self.delete_type(one, namespace, &mut pass).await;
            }
        }
        pass
    }

    async fn delete_type(&self, one: &ResourceType, namespace: &str, pass: &mut Pass) {
        if let Err(error) = self.delete_all(one, namespace, pass).await
            && !errors::is_not_found(&error)
        {
            pass.delete_errors.push(format!("{}: {}", one.name(), crate::error::text(&error)));
        }
    }

    async fn delete_all(
        &self,
        one: &ResourceType,
        namespace: &str,
        pass: &mut Pass,
    ) -> Result<(), kube::Error> {
        let api = one.api(&self.client, namespace);
        let before = api.list_metadata(&ListParams::default()).await?.items;
        if before.is_empty() {
            return Ok(());
        }
        let params = DeleteParams::background();
        if one.can("deletecollection") {
            api.delete_collection(&params, &ListParams::default()).await?;
        } else {
            for object in &before {
                match api.delete(object.metadata.name(), &params).await {
                    Ok(_) => {}
                    Err(error) if errors::is_not_found(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let left = api.list_metadata(&ListParams::default()).await?.items;
        if left.is_empty() {
            return Ok(());
        }
        let group = &one.resource.group;
        pass.remaining.insert(format!("{}.{group}", one.resource.plural), left.len());
        for finalizer in left.iter().flat_map(|object| object.metadata.finalizers.iter().flatten()) {
            *pass.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        if group.is_empty() && one.resource.plural == "pods" {
            pass.estimate = pass.estimate.max(self.longest_grace(namespace).await?);
        }
        Ok(())
    }

    async fn longest_grace(&self, namespace: &str) -> Result<i64, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let running = pods.list(&ListParams::default()).await?.items;
        let grace =
            |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(0);
        Ok(running.iter().filter(|pod| !is_terminal(pod)).map(grace).max().unwrap_or(0))
    }
}
