//! One informer per kind for a whole component (client-go's SharedInformerFactory): controllers that look at the same kind share one
//! watch and one copy of the objects. Called while a component is put together.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Client, Resource};

use crate::informer::{Informer, Object, Source};

type Synced = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Entry {
    informer: Box<dyn Any + Send + Sync>,
    start: Box<dyn Fn() + Send + Sync>,
    synced: Box<dyn Fn() -> Synced + Send + Sync>,
}

/// The informers of a component, by kind; clones share them.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    entries: Arc<Mutex<HashMap<TypeId, Entry>>>,
}

impl Informers {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self { client, entries: Arc::default() }
    }

    /// The client that they use.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of all objects of a kind; made when first asked for, running after the next [`Informers::start`].
    pub fn of<K: Object + Resource<DynamicType = ()>>(&self) -> Informer<K> {
        self.or_insert(|client| Informer::new(client, Source::all::<K>()))
    }

    /// Like [`Informers::of`], made by `make` if nobody has asked for this kind before.
    pub fn or_insert<K: Object>(&self, make: impl FnOnce(Client) -> Informer<K>) -> Informer<K> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(TypeId::of::<K>()).or_insert_with(|| {
            let informer = make(self.client.clone());
            let (to_start, to_sync) = (informer.clone(), informer.clone());
            Entry {
                informer: Box::new(informer),
                start: Box::new(move || to_start.start()),
                synced: Box::new(move || {
                    let informer = to_sync.clone();
                    Box::pin(async move { informer.synced().await })
                }),
            }
        });
        match entry.informer.downcast_ref::<Informer<K>>() {
            Some(informer) => informer.clone(),
            None => unreachable!("entries are keyed by the type that they hold"),
        }
    }

    /// Starts all that are not running yet.
    pub fn start(&self) {
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).values() {
            (entry.start)();
        }
    }

    /// Waits until all know what there is.
    pub async fn synced(&self) {
        let waits: Vec<Synced> = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.values().map(|entry| (entry.synced)()).collect()
        };
        for wait in waits {
            wait.await;
        }
    }
}
