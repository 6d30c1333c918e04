//! One informer per kind for a whole component (client-go's SharedInformerFactory): controllers that look at the same kind share one
//! watch and one copy of the objects. Called while a component is put together.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, Resource};

use crate::informer::{Event, Informer, Object, Source};

type Synced = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Is told the metadata of what is new, has changed, or (`true`) is gone.
pub type MetaHandler = Box<dyn FnMut(&ObjectMeta, bool) + Send>;

/// An informer of whatever kind.
trait OfAnyKind: Send + Sync {
    fn any(&self) -> &dyn Any;
    fn start(&self);
    fn synced(&self) -> Synced;
    /// The collection of which it knows every object.
    fn path(&self) -> Option<&str>;
    fn hear(&self, handler: MetaHandler);
}

impl<K: Object> OfAnyKind for Informer<K> {
    fn any(&self) -> &dyn Any {
        self
    }

    fn start(&self) {
        Informer::start(self);
    }

    fn synced(&self) -> Synced {
        let informer = self.clone();
        Box::pin(async move { informer.synced().await })
    }

    fn path(&self) -> Option<&str> {
        self.source().whole()
    }

    fn hear(&self, mut handler: MetaHandler) {
        self.subscribe(move |event| {
            handler(event.object().metadata(), matches!(event, Event::Deleted(_)));
        });
    }
}

/// The informers of a component, by kind; clones share them.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    entries: Arc<Mutex<HashMap<TypeId, Box<dyn OfAnyKind>>>>,
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
        let mut entries = self.lock();
        let entry = entries.entry(TypeId::of::<K>()).or_insert_with(|| Box::new(make(self.client.clone())));
        match entry.any().downcast_ref::<Informer<K>>() {
            Some(informer) => informer.clone(),
            None => unreachable!("entries are keyed by the type that they hold"),
        }
    }

    /// Tells `handler` of all objects of the collection at a path, as [`Informer::subscribe`] does, and waits until it has heard of
    /// those that there are. Without an informer of all of them the handler comes back.
    pub fn hear(
        &self,
        path: &str,
        handler: MetaHandler,
    ) -> Result<impl Future<Output = ()> + Send + use<>, MetaHandler> {
        let entries = self.lock();
        let Some(informer) = entries.values().find(|informer| informer.path() == Some(path)) else {
            return Err(handler);
        };
        informer.hear(handler);
        Ok(informer.synced())
    }

    /// Starts all that are not running yet.
    pub fn start(&self) {
        self.lock().values().for_each(|informer| informer.start());
    }

    /// Waits until all know what there is.
    pub async fn synced(&self) {
        let waits: Vec<Synced> = self.lock().values().map(|informer| informer.synced()).collect();
        for wait in waits {
            wait.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TypeId, Box<dyn OfAnyKind>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::connection::client;
    use crate::testing::{Server, json as answer, lines};

    #[tokio::test]
    async fn whoever_wants_metadata_hears_an_informer_of_all_objects_and_no_other() {
        let server = Server::start(|_, path, _| {
            if path.contains("watch=true") {
                let (sender, response) = lines();
                return Box::pin(async move {
                    let gone = json!({"metadata": {"namespace": "ns", "name": "a", "resourceVersion": "11"}, "spec": {"containers": []}});
                    sender.send(format!(r#"{{"type":"DELETED","object":{gone}}}"#)).unwrap();
                    response
                });
            }
            let pod = json!({"metadata": {"namespace": "ns", "name": "a", "resourceVersion": "9"}, "spec": {"containers": []}});
            let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "10"}, "items": [pod]});
            Box::pin(async move { answer(200, &list) })
        })
        .await;
        let informers = Informers::new(client(server.config.clone()));
        informers.of::<Pod>();
        let labelled = Source::all::<ConfigMap>().labels("a=b");
        informers.or_insert::<ConfigMap>(|client| Informer::new(client, labelled));
        let ignore = || -> MetaHandler { Box::new(|_, _| ()) };
        assert!(informers.hear("/api/v1/configmaps", ignore()).is_err(), "some of them are not all");
        assert!(informers.hear("/api/v1/secrets", ignore()).is_err());
        let (sender, mut told) = mpsc::unbounded_channel();
        let handler: MetaHandler = Box::new(move |meta, is_gone| {
            let _ = sender.send((meta.name.clone().unwrap_or_default(), is_gone));
        });
        let synced = informers.hear("/api/v1/pods", handler).ok().unwrap();
        informers.of::<Pod>().start();
        synced.await;
        assert_eq!(told.recv().await, Some(("a".into(), false)));
        assert_eq!(told.recv().await, Some(("a".into(), true)));
    }
}
