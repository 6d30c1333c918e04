//! A watch of the metadata of every kind that can be listed and deleted; kinds come and go with CustomResourceDefinitions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::informers::MetaHandler;
use drydock_kubeclient::{Informers, WorkQueue};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use kube::Client;
use tokio::sync::Notify;

use super::graph::{Graph, Identity, Look};
use crate::error::Error;
use crate::shared::meta::Meta;
use crate::shared::resources::{ResourceType, Trace, discover};

/// The graph, the queue that it feeds, and the watches that feed it.
pub struct Monitors {
    client: Client,
    informers: Informers,
    graph: Mutex<Graph>,
    /// Who is to be looked at.
    pub queue: WorkQueue<Look>,
    /// Told when kinds may have come or gone.
    pub kinds_changed: Notify,
    /// By kind: the informer that nobody else has. Without one, that of another controller is heard.
    running: Mutex<HashMap<String, Option<Informer<Trace>>>>,
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
    pub fn new(informers: Informers) -> Self {
        Self {
            client: informers.client().clone(),
            informers,
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
                    let (own, synced) = self.monitor(one);
                    started.push(synced);
                    own
                });
            }
        }
        *lock(&self.types) = types
            .iter()
            .map(|one| ((one.resource.group.clone(), one.resource.kind.clone()), one.clone()))
            .collect();
        join_all(started).await;
        Ok(())
    }

    /// Watches by the informer of a controller that looks at this kind anyway, or else by one of metadata alone. The future is done when
    /// what there is is known.
    fn monitor(self: &Arc<Self>, one: &ResourceType) -> (Option<Informer<Trace>>, BoxFuture<'static, ()>) {
        let source = one.metadata_source();
        let mut handler = match self.informers.hear(&source.path, self.handler(one)) {
            Ok(synced) => return (None, synced.boxed()),
            Err(handler) => handler,
        };
        let informer: Informer<Trace> = Informer::new(self.client.clone(), source);
        informer.subscribe(move |event| {
            handler(&event.object().metadata, matches!(event, Event::Deleted(_)));
        });
        informer.start();
        (Some(informer.clone()), async move { informer.synced().await }.boxed())
    }

    /// Puts what it is told into the graph.
    fn handler(self: &Arc<Self>, one: &ResourceType) -> MetaHandler {
        let api_version: Arc<str> = one.resource.api_version.as_str().into();
        let kind: Arc<str> = one.resource.kind.as_str().into();
        let brings_kinds = one.name() == "customresourcedefinitions.apiextensions.k8s.io";
        // Not counted among the owners: the monitors live as long as the collector, and hold their informers.
        let monitors = Arc::downgrade(self);
        Box::new(move |meta, is_gone| {
            let Some(monitors) = monitors.upgrade() else { return };
            let looks = if is_gone {
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
        })
    }
}
