//! What every controller is given: the client, the shared informers, recorders of events; and the loop that carries keys from a queue to a
//! controller's `reconcile`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drydock_kubeclient::informer::Object;
use drydock_kubeclient::{Index, Informer, Informers, ObjectKey, Recorder, WorkQueue};
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::SignedDuration;
use kube::{Client, Resource};

use crate::error::Error;
use crate::manager::Settings;
use crate::shared::meta::Meta;

/// A controller that is set up; to be polled once the informers are synced.
pub type Running = BoxFuture<'static, ()>;

/// What controllers share.
#[derive(Clone)]
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// The informers.
    pub informers: Informers,
    /// What the command line says.
    pub settings: Arc<Settings>,
    pods: Arc<Mutex<Option<Index<Pod>>>>,
    by_node: Arc<Mutex<Option<Index<Pod>>>>,
}

impl Context {
    /// A context over a client.
    pub fn new(client: Client, settings: Settings) -> Self {
        let informers = Informers::new(client.clone());
        Self {
            client,
            informers,
            settings: Arc::new(settings),
            pods: Arc::default(),
            by_node: Arc::default(),
        }
    }

    /// The informer of a kind.
    pub fn informer<K: Object + Resource<DynamicType = ()>>(&self) -> Informer<K> {
        self.informers.of()
    }

    /// A recorder of events of one controller.
    pub fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), component, None)
    }

    /// Pods by owner, see [`by_owner`]. There is one such index for all.
    pub fn pods_by_owner(&self) -> Index<Pod> {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get_or_insert_with(|| by_owner(&self.informer())).clone()
    }

    /// Pods by the node that they are on.
    pub fn pods_by_node(&self) -> Index<Pod> {
        let mut pods = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        pods.get_or_insert_with(|| self.informer::<Pod>().index_by_node()).clone()
    }
}

/// An index by the uid of the controlling owner; objects without one stand under [`orphans`] of their namespace.
pub fn by_owner<K: Object + Resource<DynamicType = ()>>(informer: &Informer<K>) -> Index<K> {
    informer.index(|object| {
        let meta = kube::Resource::meta(object);
        vec![meta.controller().map_or_else(|| orphans(meta.namespace()), |owner| owner.uid.clone())]
    })
}

/// Under what objects without an owner stand in an index [`by_owner`].
pub fn orphans(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

/// What may belong to an owner: what it controls, and what nobody does.
pub fn claimable<K: Object>(index: &Index<K>, uid: &str, namespace: &str) -> Vec<Arc<K>> {
    let mut all = index.get(uid);
    all.extend(index.get(&orphans(namespace)));
    all
}

/// Something that brings one object closer to what its specification says.
pub trait Reconcile: Send + Sync + 'static {
    /// One step for the object of that key; `Some`: look again after that time although nothing happened.
    fn reconcile(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Works on a queue with so many workers.
pub fn work<C: Reconcile>(controller: Arc<C>, queue: WorkQueue<ObjectKey>, workers: usize) -> Running {
    Box::pin(async move {
        let reconcile = |key: ObjectKey| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        };
        queue.work(workers, reconcile).await;
    })
}

/// A time to wait, as the queue takes it.
pub fn wait(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
