//! Counts anew when a quota changes, when something that it counts goes, and now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use super::usage::{Objects, used};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::pods::is_terminal;
use crate::shared::resources::discover;

/// Upstream's `--resource-quota-sync-period`.
const RESYNC: Duration = Duration::from_secs(5 * 60);
/// Kinds of which there is no informer here are counted so often, while a quota names them.
const RECOUNT: Duration = Duration::from_secs(15);
/// Events of one change come together.
const BATCH: Duration = Duration::from_millis(50);

struct Controller {
    client: Client,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    services: Informer<Service>,
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let quotas = context.informer::<ResourceQuota>();
    let to_queue = queue.clone();
    quotas.subscribe(move |event| {
        let changed = match event {
            Event::Updated { old, new } => {
                old.spec != new.spec || new.status.as_ref().is_none_or(|status| status.hard.is_none())
            }
            Event::Added(_) => true,
            Event::Deleted(_) => false,
        };
        if changed {
            to_queue.add(event.object().key());
        }
    });
    let look = |namespace: &str, quotas: &Informer<ResourceQuota>, queue: &WorkQueue<ObjectKey>| {
        for quota in quotas.in_namespace(namespace) {
            queue.add_after(quota.key(), BATCH);
        }
    };
    let (all, to_queue) = (quotas.clone(), queue.clone());
    context.informer::<Pod>().subscribe(move |event| {
        // What is new was counted when it was admitted; what goes or ends gives back.
        let gives_back = match event {
            Event::Updated { old, new } => is_terminal(old) != is_terminal(new),
            Event::Deleted(_) => true,
            Event::Added(_) => false,
        };
        if gives_back {
            look(event.object().namespace(), &all, &to_queue);
        }
    });
    let (all, to_queue) = (quotas.clone(), queue.clone());
    context.informer::<Service>().subscribe(move |event| {
        if !matches!(event, Event::Added(_)) {
            look(event.object().namespace(), &all, &to_queue);
        }
    });
    let (all, to_queue) = (quotas.clone(), queue.clone());
    context.informer::<PersistentVolumeClaim>().subscribe(move |event| {
        if matches!(event, Event::Deleted(_)) {
            look(event.object().namespace(), &all, &to_queue);
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        quotas,
        pods: context.informer(),
        claims: context.informer(),
        services: context.informer(),
    };
    work(Arc::new(controller), queue, 2)
}

/// Names of a quota's resources that are counts of a kind: how the quota writes it, and the kind's name (`jobs.batch`).
fn counted(quota: &ResourceQuota) -> Vec<(String, String)> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let kind = |name: &String| match &**name {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            Some((name.clone(), name.clone()))
        }
        "count/pods" => None,
        other => other.strip_prefix("count/").map(|kind| (name.clone(), kind.to_owned())),
    };
    hard.into_iter().flat_map(BTreeMap::keys).filter_map(kind).collect()
}

impl Controller {
    async fn counts(
        &self,
        namespace: &str,
        wanted: &[(String, String)],
    ) -> Result<BTreeMap<String, usize>, Error> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let types = discover(&self.client).await?;
        let mut counts = BTreeMap::new();
        for (name, kind) in wanted {
            let Some(one) = types.iter().find(|one| one.namespaced && one.name() == *kind && one.can("list"))
            else {
                continue;
            };
            // One object and how many more there are would do, but with few objects all are as cheap.
            let list = one.api(&self.client, namespace).list_metadata(&ListParams::default()).await?;
            counts.insert(name.clone(), list.items.len());
        }
        Ok(counts)
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        if self.quotas.get(key).is_none() {
            return Ok(None);
        }
        // Admission writes the status too: what it wrote last is what is counted against.
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(mut quota) = api.get_opt(&key.name).await? else { return Ok(None) };
        let wanted = counted(&quota);
        let counts = self.counts(&key.namespace, &wanted).await?;
        let pods = self.pods.in_namespace(&key.namespace);
        let claims = self.claims.in_namespace(&key.namespace);
        let services = self.services.in_namespace(&key.namespace);
        let objects = Objects {
            pods: pods.iter().map(|pod| &**pod).collect(),
            claims: claims.iter().map(|claim| &**claim).collect(),
            services: services.iter().map(|service| &**service).collect(),
            counts,
        };
        let new = ResourceQuotaStatus {
            hard: quota.spec.as_ref().and_then(|spec| spec.hard.clone()),
            used: Some(used(&quota, &objects, Timestamp::now())),
        };
        if quota.status.as_ref() != Some(&new) {
            quota.status = Some(new);
            match api.replace_status(&key.name, &PostParams::default(), &quota).await {
                Ok(_) => {}
                Err(error) if errors::is_not_found(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(if wanted.is_empty() { RESYNC } else { RECOUNT }))
    }
}
