//! A watch of the metadata of every kind that can be listed and deleted; kinds come and go with CustomResourceDefinitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drydock_kubeclient::WorkQueue;
use drydock_kubeclient::informer::{Event, Informer};
use futures_util::future::join_all;
use kube::Client;
use tokio::sync::Notify;

use super::graph::{Graph, Identity, Look};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::resources::{ResourceType, Trace, discover};

/// The graph, the queue that it feeds, and the watches that feed it.
pub struct Monitors {
    client: Client,
    graph: Mutex<Graph>,
    /// Who is to be looked at.
    pub queue: WorkQueue<Look>,
    /// Told when kinds may have come or gone.
    pub kinds_changed: Notify,
    running: Mutex<HashMap<String, Informer<Trace>>>,
    types: Mutex<HashMap<(String, String), ResourceType>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events come and go by themselves and own nothing.
fn is_ignored(one: &ResourceType) -> bool {
    one.resource.plural == "events" && matches!(&*one.resource.group, "" | "events.k8s.io")
}

impl Monitors {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            graph: Mutex::default(),
            queue: WorkQueue::new(),
            kinds_changed: Notify::new(),
            running: Mutex::default(),
            types: Mutex::default(),
        }
    }

    /// The graph.
    pub fn graph(&self) -> MutexGuard<'_, Graph> {
        lock(&self.graph)
    }

    /// The kind that a reference speaks of. Any version will do: they are the same objects.
    pub fn type_of(&self, api_version: &str, kind: &str) -> Option<ResourceType> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        lock(&self.types).get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    /// Queues what a change of the graph asks for.
    pub fn look(&self, looks: Vec<Look>) {
        for look in looks {
            self.queue.add(look);
        }
    }

    /// Begins to watch kinds that are new and ends watches of those that are gone; waits until the new ones are known.
    pub async fn refresh(self: &Arc<Self>) -> Result<(), Error> {
        let types = discover(&self.client).await?;
        let watched: Vec<&ResourceType> = types
            .iter()
            .filter(|one| one.can("list") && one.can("watch") && one.can("delete") && !is_ignored(one))
            .collect();
        let mut started = Vec::new();
        {
            let mut running = lock(&self.running);
            running.retain(|name, _| watched.iter().any(|one| one.long_name() == *name));
            for one in &watched {
                running.entry(one.long_name()).or_insert_with(|| {
                    let informer = self.monitor(one);
                    started.push(informer.clone());
                    informer
                });
            }
        }
        *lock(&self.types) = types
            .iter()
            .map(|one| ((one.resource.group.clone(), one.resource.kind.clone()), one.clone()))
            .collect();
        join_all(started.iter().map(Informer::synced)).await;
        Ok(())
    }

    fn monitor(self: &Arc<Self>, one: &ResourceType) -> Informer<Trace> {
        let informer: Informer<Trace> = Informer::new(self.client.clone(), one.metadata_source());
        let (api_version, kind) = (one.resource.api_version.clone(), one.resource.kind.clone());
        let brings_kinds = one.name() == "customresourcedefinitions.apiextensions.k8s.io";
        // Not counted among the owners: the monitors live as long as the collector, and hold their informers.
        let monitors = Arc::downgrade(self);
        informer.subscribe(move |event| {
            let Some(monitors) = monitors.upgrade() else { return };
            let meta = &event.object().metadata;
            let looks = if matches!(event, Event::Deleted(_)) {
                monitors.graph().gone(meta.uid())
            } else {
                let identity = Identity {
                    api_version: api_version.clone(),
                    kind: kind.clone(),
                    namespace: meta.namespace().to_owned(),
                    name: meta.name().to_owned(),
                };
                monitors.graph().seen(&identity, meta)
            };
            monitors.look(looks);
            if brings_kinds {
                monitors.kinds_changed.notify_one();
            }
        });
        informer.start();
        informer
    }
}
