//! An informer: what a component knows of one kind, kept current by list and watch (client-go's SharedIndexInformer). Controllers read
//! from it and subscribe to its changes; they must never change the objects that it hands out (they are shared).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectList;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::meta::{HasMeta, ObjectKey, controller_of};
use crate::reflector::{self, Sink};
use crate::store::{Change, KeysOf, Store};

/// Any type that an informer can hold.
pub trait Object: HasMeta + Clone + DeserializeOwned + Send + Sync + 'static {}

impl<K: HasMeta + Clone + DeserializeOwned + Send + Sync + 'static> Object for K {}

/// What happened to an object. Objects that vanished while the connection was down come as `Deleted` in their last known state.
#[derive(Debug)]
pub enum Event<'a, K> {
    /// It is new (to us).
    Added(&'a Arc<K>),
    /// It was changed.
    Updated {
        /// As it was.
        old: &'a Arc<K>,
        /// As it is.
        new: &'a Arc<K>,
    },
    /// It is gone.
    Deleted(&'a Arc<K>),
}

impl<'a, K> Event<'a, K> {
    /// The object as it is now, or was last.
    pub fn object(&self) -> &'a Arc<K> {
        match self {
            Event::Added(object) | Event::Deleted(object) | Event::Updated { new: object, .. } => object,
        }
    }
}

/// What an informer lists and watches.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Path of the collection (`/api/v1/pods`).
    pub path: String,
    /// Label selector; empty: all.
    pub labels: String,
    /// Field selector; empty: all.
    pub fields: String,
    /// Only `metadata` (`PartialObjectMetadata`): for what looks at kinds that it does not know.
    pub metadata_only: bool,
}

impl Source {
    /// All objects of a kind, in all namespaces.
    pub fn all<K: Resource<DynamicType = ()>>() -> Self {
        Self { path: K::url_path(&(), None), ..Self::default() }
    }

    /// The path, if no object of the collection is left out nor any part of one.
    pub fn whole(&self) -> Option<&str> {
        let is_whole = self.labels.is_empty() && self.fields.is_empty() && !self.metadata_only;
        is_whole.then_some(&*self.path)
    }

    /// Only objects whose labels match.
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = selector.into();
        self
    }

    /// Only objects whose fields match.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = selector.into();
        self
    }
}

type Handler<K> = Box<dyn FnMut(&Event<'_, K>) + Send>;
type Transform<K> = Box<dyn Fn(&mut K) + Send + Sync>;

pub(crate) struct Shared<K> {
    store: RwLock<Store<K>>,
    /// Held while a change is made and told, and while somebody subscribes: so nobody misses a change or gets one twice.
    handlers: Mutex<Vec<Handler<K>>>,
    transform: Transform<K>,
    synced: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: HasMeta> Shared<K> {
    fn read<T>(&self, f: impl FnOnce(&Store<K>) -> T) -> T {
        f(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Store<K>) -> T) -> T {
        f(&mut self.store.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, objects: Vec<K>) {
        let mut handlers = lock(&self.handlers);
        let mut gone: std::collections::BTreeSet<ObjectKey> =
            self.read(|store| store.keys().cloned().collect());
        for object in objects {
            gone.remove(&ObjectKey::of(&object));
            self.put(&mut handlers, object);
        }
        for key in gone {
            self.remove(&mut handlers, &key);
        }
        drop(handlers);
        self.synced.send_replace(true);
    }

    fn put(&self, handlers: &mut [Handler<K>], mut object: K) {
        self.trim(&mut object);
        let key = ObjectKey::of(&object);
        // A list after a lost watch brings mostly what is known; that is no change.
        let version = object.metadata().resource_version.clone();
        let known = self.read(|store| {
            store.get(&key).is_some_and(|old| version.is_some() && old.metadata().resource_version == version)
        });
        if !known {
            let change = self.write(|store| store.put(key, Arc::new(object)));
            tell(handlers, &change);
        }
    }

    fn remove(&self, handlers: &mut [Handler<K>], key: &ObjectKey) {
        if let Some(object) = self.write(|store| store.remove(key)) {
            tell(handlers, &Change::Deleted(object));
        }
    }

    /// `managedFields` are half of an object's bytes and no component here reads them.
    fn trim(&self, object: &mut K) {
        object.metadata_mut().managed_fields = None;
        (self.transform)(object);
    }
}

impl<K: Object> Sink for Shared<K> {
    fn listed(&self, list: &str) -> serde_json::Result<Option<String>> {
        let list: ObjectList<K> = serde_json::from_str(list)?;
        self.replace(list.items);
        Ok(list.metadata.resource_version)
    }

    fn changed(&self, object: &str) -> serde_json::Result<Option<String>> {
        let object: K = serde_json::from_str(object)?;
        let version = object.metadata().resource_version.clone();
        self.put(&mut lock(&self.handlers), object);
        Ok(version)
    }

    fn deleted(&self, object: &str) -> serde_json::Result<Option<String>> {
        let mut object: K = serde_json::from_str(object)?;
        let version = object.metadata().resource_version.clone();
        let mut handlers = lock(&self.handlers);
        // The event carries the last state, which may be newer than what we know.
        self.trim(&mut object);
        let key = ObjectKey::of(&object);
        if self.write(|store| store.remove(&key)).is_some() {
            tell(&mut handlers, &Change::Deleted(Arc::new(object)));
        }
        Ok(version)
    }
}

fn tell<K>(handlers: &mut [Handler<K>], change: &Change<K>) {
    let event = match change {
        Change::Added(object) => Event::Added(object),
        Change::Updated(old, new) => Event::Updated { old, new },
        Change::Deleted(object) => Event::Deleted(object),
    };
    for handler in handlers {
        handler(&event);
    }
}

/// Ends the reflector when the last handle on its informer is gone.
#[derive(Default)]
struct Task(Mutex<Option<AbortHandle>>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.0).take() {
            task.abort();
        }
    }
}

/// A handle on an informer; clones share it. It lives as long as a handle (or an [`Index`]) does.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
    task: Arc<Task>,
    client: Client,
    source: Arc<Source>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            task: self.task.clone(),
            client: self.client.clone(),
            source: self.source.clone(),
        }
    }
}

impl<K: Object> Informer<K> {
    /// An informer of `source`; it does nothing before [`Informer::start`].
    pub fn new(client: Client, source: Source) -> Self {
        Self::with_transform(client, source, |_| ())
    }

    /// An informer that keeps objects as `transform` leaves them: what nobody reads needs no memory.
    pub fn with_transform(
        client: Client,
        source: Source,
        transform: impl Fn(&mut K) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            store: RwLock::default(),
            handlers: Mutex::default(),
            transform: Box::new(transform),
            synced: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared), task: Arc::default(), client, source: Arc::new(source) }
    }

    /// What it lists and watches.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Begins to list and watch; nothing happens if it did already.
    pub fn start(&self) {
        let mut task = lock(&self.task.0);
        if task.is_none() {
            *task = Some(reflector::spawn(self.client.clone(), self.source.clone(), self.shared.clone()));
        }
    }

    /// Calls `handler` for every change from now on, and first with an `Added` for each object that is known. Handlers run one after
    /// the other in the informer's task: they must be quick (put a key into a queue) and must not subscribe to the same informer.
    pub fn subscribe(&self, mut handler: impl FnMut(&Event<'_, K>) + Send + 'static) {
        let mut handlers = lock(&self.shared.handlers);
        for object in self.all() {
            handler(&Event::Added(&object));
        }
        handlers.push(Box::new(handler));
    }

    /// An index by the values that `keys_of` gives for an object.
    pub fn index(&self, keys_of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> Index<K> {
        let keys_of: KeysOf<K> = Box::new(keys_of);
        let number = self.shared.write(|store| store.add_index(keys_of));
        Index { shared: self.shared.clone(), _task: self.task.clone(), number }
    }

    /// An index by the uid of the controlling owner.
    pub fn index_by_controller(&self) -> Index<K> {
        self.index(|object| controller_of(object).map(|owner| owner.uid.clone()).into_iter().collect())
    }

    /// An index by the value of a label.
    pub fn index_by_label(&self, label: &'static str) -> Index<K> {
        self.index(move |object| {
            object
                .metadata()
                .labels
                .as_ref()
                .and_then(|labels| labels.get(label))
                .cloned()
                .into_iter()
                .collect()
        })
    }

    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.read(|store| store.get(key).cloned())
    }

    /// All objects, by namespace and name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.shared.read(Store::all)
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.read(|store| store.in_namespace(namespace))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.read(Store::len)
    }

    /// True if there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True once the first list is in and all handlers have heard of it.
    pub fn has_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits for [`Informer::has_synced`].
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `self.shared`, so this cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }
}

impl Informer<Pod> {
    /// An index of pods by the node that they are bound to.
    pub fn index_by_node(&self) -> Index<Pod> {
        self.index(|pod| {
            pod.spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .filter(|name| !name.is_empty())
                .into_iter()
                .collect()
        })
    }
}

/// A secondary index of an informer.
pub struct Index<K> {
    shared: Arc<Shared<K>>,
    _task: Arc<Task>,
    number: usize,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), _task: self._task.clone(), number: self.number }
    }
}

impl<K: Object> Index<K> {
    /// The objects that stand under `key`, in no particular order.
    pub fn get(&self, key: &str) -> Vec<Arc<K>> {
        self.shared.read(|store| store.by(self.number, key))
    }
}
