//! ConfigMaps and Secrets that pods of this node use: one watch for each object, as long as a pod uses it, shared by all pods
//! (`pkg/kubelet/util/manager/watch_based_manager.go`). A change wakes the pods.

use drydock_kubeclient::{
    Informer, ObjectKey,
    informer::{Object, Source},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a pod waits for an object that it needs, before it says so and tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// It does not exist.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The API server does not answer, or does not give it to us.
    #[error("failed to sync {kind} cache: timed out waiting for the condition")]
    Unknown {
        /// `configmap` or `secret`.
        kind: &'static str,
    },
}

impl ObjectError {
    /// It does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Called with the uid of a pod that shall look again.
pub type Wake = Arc<dyn Fn(&str) + Send + Sync>;

struct Entry<K> {
    informer: Informer<K>,
    users: Arc<Mutex<BTreeSet<String>>>,
}

struct Cache<K> {
    kind: &'static str,
    path: &'static str,
    entries: Mutex<HashMap<ObjectKey, Entry<K>>>,
}

impl<K: Object> Cache<K> {
    fn new(kind: &'static str, path: &'static str) -> Self {
        Self { kind, path, entries: Mutex::default() }
    }

    fn informer(&self, client: &kube::Client, wake: &Wake, key: &ObjectKey, uid: &str) -> Informer<K> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let source = Source {
                path: format!("/api/v1/namespaces/{}/{}", key.namespace, self.path),
                fields: format!("metadata.name={}", key.name),
                ..Source::default()
            };
            let informer = Informer::new(client.clone(), source);
            let users: Arc<Mutex<BTreeSet<String>>> = Arc::default();
            let (told, wake) = (users.clone(), wake.clone());
            informer.subscribe(move |_| {
                for uid in told.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    wake(uid);
                }
            });
            informer.start();
            Entry { informer, users }
        });
        entry.users.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
        entry.informer.clone()
    }

    async fn get(
        &self,
        client: &kube::Client,
        wake: &Wake,
        key: &ObjectKey,
        uid: &str,
    ) -> Result<Arc<K>, ObjectError> {
        let informer = self.informer(client, wake, key, uid);
        if tokio::time::timeout(PATIENCE, informer.synced()).await.is_err() {
            return Err(ObjectError::Unknown { kind: self.kind });
        }
        informer.get(key).ok_or_else(|| ObjectError::NotFound { kind: self.kind, name: key.name.clone() })
    }

    fn release(&self, uid: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| {
            let mut users = entry.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.remove(uid);
            !users.is_empty()
        });
    }
}

/// See the top of the file.
pub struct Objects {
    client: kube::Client,
    wake: Wake,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
}

impl Objects {
    /// None yet. `wake` is called when an object changes.
    pub fn new(client: kube::Client, wake: Wake) -> Self {
        Self {
            client,
            wake,
            config_maps: Cache::new("configmap", "configmaps"),
            secrets: Cache::new("secret", "secrets"),
        }
    }

    /// A ConfigMap for a pod.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Arc<ConfigMap>, ObjectError> {
        self.config_maps.get(&self.client, &self.wake, &ObjectKey::new(namespace, name), uid).await
    }

    /// A Secret for a pod.
    pub async fn secret(&self, namespace: &str, name: &str, uid: &str) -> Result<Arc<Secret>, ObjectError> {
        self.secrets.get(&self.client, &self.wake, &ObjectKey::new(namespace, name), uid).await
    }

    /// A pod is gone: what nobody else uses is not watched any more.
    pub fn release(&self, uid: &str) {
        self.config_maps.release(uid);
        self.secrets.release(uid);
    }
}
