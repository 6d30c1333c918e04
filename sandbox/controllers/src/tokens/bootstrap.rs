//! Bootstrap tokens: `kube-public/cluster-info` is signed with each, so that a node that knows one can trust what it reads there; and those whose
//! time is over are deleted (k8s.io/kubernetes/pkg/controller/bootstrap).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer, Source};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::jwt::detached;
use crate::context::{Context, Reconcile, Running, wait, work};
use crate::error::Error;
use crate::shared::meta::Meta;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const PREFIX: &str = "jws-kubeconfig-";
const NAMESPACE: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";

struct Signer {
    client: Client,
    secrets: Informer<Secret>,
}

struct Cleaner {
    client: Client,
    secrets: Informer<Secret>,
}

/// The secrets that controllers look at: all but plain ones and those of releases, which may be large, and are none of our business.
pub fn secrets(context: &Context) -> Informer<Secret> {
    let source = Source::all::<Secret>().fields("type!=Opaque,type!=helm.sh/release.v1");
    context.informers.or_insert(|client| Informer::new(client, source))
}

fn text(secret: &Secret, name: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name));
    bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).trim().to_owned()).unwrap_or_default()
}

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE) && secret.namespace() == "kube-system"
}

/// When a token's time is over.
fn expires(secret: &Secret) -> Option<Timestamp> {
    text(secret, "expiration").parse().ok()
}

/// Id and secret of a token with which `cluster-info` is to be signed.
fn signing(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let (id, key) = (text(secret, "token-id"), text(secret, "token-secret"));
    let good = is_token(secret)
        && secret.name() == format!("bootstrap-token-{id}")
        && !key.is_empty()
        && text(secret, "usage-bootstrap-signing") == "true"
        && expires(secret).is_none_or(|at| at > now);
    good.then_some((id, key))
}

/// The data of `cluster-info` with the signatures that it shall have.
fn signed(data: &BTreeMap<String, String>, tokens: &[(String, String)]) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> = data
        .iter()
        .filter(|(name, _)| !name.starts_with(PREFIX))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect();
    if let Some(kubeconfig) = data.get("kubeconfig") {
        for (id, key) in tokens {
            all.insert(format!("{PREFIX}{id}"), detached(kubeconfig.as_bytes(), id, key));
        }
    }
    all
}

/// Sets the signer up.
pub fn start_signer(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let secrets = secrets(context);
    let to_queue = queue.clone();
    secrets.subscribe(move |event| {
        if is_token(event.object()) {
            to_queue.add(ObjectKey::new(NAMESPACE, CLUSTER_INFO));
        }
    });
    // One that is not shared: the other controllers look at other config maps.
    let source = Source {
        path: format!("/api/v1/namespaces/{NAMESPACE}/configmaps"),
        fields: format!("metadata.name={CLUSTER_INFO}"),
        ..Source::default()
    };
    let info: Informer<ConfigMap> = Informer::new(context.client.clone(), source);
    let to_queue = queue.clone();
    info.subscribe(move |event| to_queue.add(event.object().key()));
    let running = work(Arc::new(Signer { client: context.client.clone(), secrets }), queue, 1);
    Box::pin(async move {
        info.start();
        running.await;
    })
}

impl Reconcile for Signer {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(mut info) = api.get_opt(&key.name).await? else { return Ok(None) };
        let now = Timestamp::now();
        let tokens: Vec<_> = self.secrets.all().iter().filter_map(|secret| signing(secret, now)).collect();
        let data = info.data.clone().unwrap_or_default();
        let wanted = signed(&data, &tokens);
        if wanted == data {
            return Ok(None);
        }
        info.data = Some(wanted);
        errors::unless_gone(api.replace(&key.name, &PostParams::default(), &info).await)?;
        Ok(None)
    }
}

/// Sets the cleaner up.
pub fn start_cleaner(context: &Context) -> Running {
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let secrets = secrets(context);
    let to_queue = queue.clone();
    secrets.subscribe(move |event| {
        if is_token(event.object()) && !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    work(Arc::new(Cleaner { client: context.client.clone(), secrets }), queue, 1)
}

impl Reconcile for Cleaner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(secret) = self.secrets.get(key).filter(|secret| is_token(secret)) else { return Ok(None) };
        let Some(at) = expires(&secret) else { return Ok(None) };
        let now = Timestamp::now();
        if at > now {
            return Ok(Some(wait(at.duration_since(now))));
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: secret.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, &params).await {
            Ok(_) => Ok(None),
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;
    use crate::shared::pods::tests::at;

    fn token(name: &str, usage: &str, expiration: Option<&str>) -> Secret {
        let mut secret: Secret = serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "kube-system"}, "type": TYPE}),
        )
        .unwrap();
        let mut data = vec![
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", usage),
        ];
        data.extend(expiration.map(|time| ("expiration", time)));
        secret.data =
            Some(data.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.into()))).collect());
        secret
    }

    #[test]
    fn which_tokens_sign() {
        let now = at(0);
        for (secret, expected) in [
            (token("bootstrap-token-abcdef", "true", None), true),
            (token("bootstrap-token-abcdef", "false", None), false),
            (token("bootstrap-token-other", "true", None), false),
            (token("bootstrap-token-abcdef", "true", Some("2000-01-01T00:00:00Z")), false),
            (token("bootstrap-token-abcdef", "true", Some("2999-01-01T00:00:00Z")), true),
        ] {
            assert_eq!(signing(&secret, now).is_some(), expected, "{secret:?}");
        }
    }

    #[test]
    fn signatures_come_and_go_with_their_tokens() {
        let data =
            [("kubeconfig".to_owned(), "k".to_owned()), (format!("{PREFIX}old"), "x".to_owned())].into();
        let with = signed(&data, &[("abcdef".to_owned(), "secret".to_owned())]);
        assert_eq!(with.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        assert_eq!(signed(&with, &[]).len(), 1);
    }
}
