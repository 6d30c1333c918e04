//! Fills secrets of the type `kubernetes.io/service-account-token` with a token of the account that they name, and deletes them with it.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::bootstrap::secrets;
use super::jwt::Signer;
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

/// The type of such secrets.
pub const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

struct Controller {
    client: Client,
    secrets: Informer<Secret>,
    signer: Signer,
    root_ca: Option<String>,
}

/// Sets the controller up, if the command line names a key.
pub fn start(context: &Context) -> Option<Running> {
    let signer = match Signer::new(context.settings.service_account_key.as_deref()?) {
        Ok(signer) => signer,
        Err(error) => {
            tracing::error!(%error, "secrets get no tokens");
            return None;
        }
    };
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let secrets = secrets(context);
    let to_queue = queue.clone();
    secrets.subscribe(move |event| {
        if event.object().type_.as_deref() == Some(TYPE) && !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    let (all, to_queue) = (secrets.clone(), queue.clone());
    context.informer::<ServiceAccount>().subscribe(move |event| {
        if matches!(event, Event::Updated { .. }) {
            return;
        }
        let account = event.object();
        for secret in all.in_namespace(account.namespace()) {
            if secret.type_.as_deref() == Some(TYPE) && secret.annotation(NAME) == Some(account.name()) {
                to_queue.add(secret.key());
            }
        }
    });
    let root_ca = context.settings.root_ca.clone();
    Some(work(Arc::new(Controller { client: context.client.clone(), secrets, signer, root_ca }), queue, 1))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(secret) = self.secrets.get(key).filter(|secret| !secret.deleting()) else { return Ok(None) };
        let Some(name) = secret.annotation(NAME) else { return Ok(None) };
        // Whether the account is there must not be guessed from a late cache: the secret would be deleted.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let account = accounts.get_opt(name).await?;
        let known = secret.annotation(UID);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let account =
            account.filter(|account| known.is_none_or(|uid| uid.is_empty() || uid == account.uid()));
        let Some(account) = account else {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid.clone(),
                    resource_version: secret.metadata.resource_version.clone(),
                }),
                ..DeleteParams::default()
            };
            errors::unless_gone(api.delete(&key.name, &params).await)?;
            return Ok(None);
        };
        let Some(full) = self.filled(&secret, &account)? else { return Ok(None) };
        errors::unless_gone(api.replace(&key.name, &PostParams::default(), &full).await)?;
        Ok(None)
    }
}

impl Controller {
    /// The secret with all that it shall have; `None`: it has.
    fn filled(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Secret>, Error> {
        let has = |name: &str| {
            secret.data.as_ref().and_then(|data| data.get(name)).is_some_and(|bytes| !bytes.0.is_empty())
        };
        let ca_is_right = self.root_ca.as_ref().is_none_or(|ca| {
            secret
                .data
                .as_ref()
                .and_then(|data| data.get("ca.crt"))
                .is_some_and(|bytes| bytes.0 == ca.as_bytes())
        });
        if has("token") && has("namespace") && ca_is_right && secret.annotation(UID) == Some(account.uid()) {
            return Ok(None);
        }
        let mut full = secret.clone();
        full.metadata.annotations.get_or_insert_default().insert(UID.into(), account.uid().into());
        let data = full.data.get_or_insert_default();
        if let Some(ca) = &self.root_ca {
            data.insert("ca.crt".into(), ByteString(ca.clone().into_bytes()));
        }
        data.insert("namespace".into(), ByteString(secret.namespace().as_bytes().to_vec()));
        if !has("token") {
            let claim = |name: &str| format!("kubernetes.io/serviceaccount/{name}");
            let claims = json!({
                "iss": "kubernetes/serviceaccount",
                "sub": format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
                claim("namespace"): account.namespace(),
                claim("secret.name"): secret.name(),
                claim("service-account.name"): account.name(),
                claim("service-account.uid"): account.uid(),
            });
            data.insert("token".into(), ByteString(self.signer.sign(&claims)?.into_bytes()));
        }
        Ok(Some(full))
    }
}
