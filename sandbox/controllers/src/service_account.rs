//! Every namespace has a service account `default` and a config map `kube-root-ca.crt`
//! (k8s.io/kubernetes/pkg/controller/serviceaccount/serviceaccounts_controller.go and pkg/controller/certificates/rootcacertpublisher).

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer, Source};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

const DEFAULT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

struct Accounts {
    client: Client,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

/// Namespaces go into the queue when they appear or change, and when the object that each must have goes or changes.
fn queue_namespaces(namespaces: &Informer<Namespace>) -> WorkQueue<ObjectKey> {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let to_queue = queue.clone();
    namespaces.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    queue
}

fn is_active(namespaces: &Informer<Namespace>, key: &ObjectKey) -> bool {
    namespaces.get(key).is_some_and(|namespace| {
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
        phase != Some("Terminating") && !namespace.deleting()
    })
}

/// A namespace that began to go meanwhile takes nothing new, and one that is gone neither.
fn created<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error)
            if errors::is_already_exists(&error)
                || errors::is_namespace_terminating(&error)
                || errors::is_not_found(&error) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Sets up the controller of service accounts.
pub fn start_accounts(context: &Context) -> Running {
    let namespaces = context.informer::<Namespace>();
    let queue = queue_namespaces(&namespaces);
    let accounts = context.informer::<ServiceAccount>();
    let to_queue = queue.clone();
    accounts.subscribe(move |event| {
        if let Event::Deleted(account) = event
            && account.name() == DEFAULT
        {
            to_queue.add(ObjectKey::new("", account.namespace()));
        }
    });
    work(Arc::new(Accounts { client: context.client.clone(), namespaces, accounts }), queue, 1)
}

impl Reconcile for Accounts {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let there = self.accounts.get(&ObjectKey::new(&*key.name, DEFAULT)).is_some();
        if there || !is_active(&self.namespaces, key) {
            return Ok(None);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.into()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        created(api.create(&PostParams::default(), &account).await)?;
        Ok(None)
    }
}

struct RootCa {
    client: Client,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    certificate: String,
}

/// Sets up the publisher of the cluster's certificate authority.
pub fn start_root_ca(context: &Context) -> Running {
    let namespaces = context.informer::<Namespace>();
    let queue = queue_namespaces(&namespaces);
    // No other controller looks at config maps: only these are kept.
    let source = Source::all::<ConfigMap>().fields(format!("metadata.name={ROOT_CA}"));
    let maps: Informer<ConfigMap> = context.informers.or_insert(|client| Informer::new(client, source));
    let to_queue = queue.clone();
    maps.subscribe(move |event| {
        if !matches!(event, Event::Added(_)) {
            to_queue.add(ObjectKey::new("", event.object().namespace()));
        }
    });
    let certificate = context.settings.root_ca.clone().unwrap_or_default();
    work(Arc::new(RootCa { client: context.client.clone(), namespaces, maps, certificate }), queue, 1)
}

impl Reconcile for RootCa {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        if !is_active(&self.namespaces, key) {
            return Ok(None);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let data = [("ca.crt".to_owned(), self.certificate.clone())].into();
        let annotations = [(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned())];
        match self.maps.get(&ObjectKey::new(&*key.name, ROOT_CA)) {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(ROOT_CA.into()),
                        namespace: Some(key.name.clone()),
                        annotations: Some(annotations.into()),
                        ..ObjectMeta::default()
                    },
                    data: Some(data),
                    ..ConfigMap::default()
                };
                created(api.create(&PostParams::default(), &map).await)?;
            }
            Some(map) if map.data.as_ref() == Some(&data) && map.annotation(DESCRIPTION).is_some() => {}
            Some(map) => {
                let mut map = ConfigMap::clone(&map);
                map.data = Some(data);
                map.metadata.annotations.get_or_insert_default().extend(annotations);
                created(api.replace(ROOT_CA, &PostParams::default(), &map).await)?;
            }
        }
        Ok(None)
    }
}
