//! Tokens of service accounts: made for `serviceaccounts/NAME/token`, checked on requests and by token reviews (k8s.io/kubernetes
//! `pkg/serviceaccount/{claims,jwt,legacy}.go`). A token is good as long as its signature, its times and audiences are, and what it is
//! bound to (account, pod, secret, node) is still there under the same uid.
//!
//! A signature that was checked once is remembered until its token expires; what it is bound to is looked up each time.

use super::User;
use super::keys::{Signer, Verifier};
use crate::options::Options;
use crate::storage::decode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list, text};
use drydock_etcd::Store;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The issuer of tokens in secrets of type `kubernetes.io/service-account-token`.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// No token is longer.
const LONGEST: usize = 16 << 10;
/// Tokens that are remembered.
const REMEMBERED: usize = 2000;
/// A deleted pod's token is good for so long after its time is up (`jwt/claims.go`).
const LEEWAY: i64 = 60;

/// Makes and checks tokens.
#[derive(Debug)]
pub struct ServiceAccounts {
    store: Store,
    /// Who makes the tokens, by their own word.
    pub issuer: String,
    verifiers: Vec<Verifier>,
    signer: Option<(Signer, String)>,
    checked: Mutex<HashMap<[u8; 32], Value>>,
}

/// What a new token is bound to beside its account.
#[derive(Debug, Default)]
pub struct Bound {
    /// Name and uid of a pod.
    pub pod: Option<(String, String)>,
    /// Of a secret.
    pub secret: Option<(String, String)>,
    /// Of a node.
    pub node: Option<(String, String)>,
}

/// What a new token says.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// The account.
    pub account: &'a Value,
    /// What else it is bound to.
    pub bound: Bound,
    /// For whom it is.
    pub audiences: &'a [String],
    /// Seconds that it is good for.
    pub seconds: i64,
    /// After so many seconds it should have been renewed.
    pub warn_after: Option<i64>,
}

impl ServiceAccounts {
    /// With the keys that the options name.
    pub fn new(store: &Store, options: &Options) -> std::io::Result<Self> {
        let mut verifiers = Vec::new();
        for path in &options.service_account_keys {
            verifiers.extend(Verifier::read(path)?);
        }
        let signer = match &options.service_account_signing_key {
            Some(path) => {
                let signer = Signer::read(path)?;
                let id = signer.id(&verifiers).map(String::from).ok_or_else(|| {
                    let why = format!("{}: no service-account key file has its public key", path.display());
                    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
                })?;
                Some((signer, id))
            }
            None => None,
        };
        let issuer = options.service_account_issuer.clone();
        Ok(Self { store: store.clone(), issuer, verifiers, signer, checked: Mutex::default() })
    }

    /// The keys, as `/openid/v1/jwks` tells them.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.verifiers.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>()})
    }

    /// Algorithms of the keys.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut algorithms: Vec<_> = self.verifiers.iter().map(|key| key.algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        algorithms
    }

    /// A new token.
    pub fn issue(&self, new: &NewToken<'_>) -> Result<String, Status> {
        let (signer, id) = self.signer.as_ref().ok_or_else(|| {
            Status::failure(404, "NotFound", "the API server has no key to sign tokens of service accounts")
        })?;
        let now = Timestamp::now().as_second();
        let (namespace, name) = (object::namespace(new.account), object::name(new.account));
        let reference = |(name, uid): &(String, String)| json!({"name": name, "uid": uid});
        let mut bound = json!({
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": object::uid(new.account)},
        });
        for (field, of) in [("pod", &new.bound.pod), ("secret", &new.bound.secret), ("node", &new.bound.node)]
        {
            if let Some(of) = of {
                bound[field] = reference(of);
            }
        }
        if let Some(seconds) = new.warn_after {
            bound["warnafter"] = (now + seconds).into();
        }
        let claims = json!({
            "aud": new.audiences,
            "exp": now + new.seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": crate::rest::meta::uid()?,
            "kubernetes.io": bound,
            "nbf": now,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
        });
        let header = json!({"alg": signer.algorithm(), "kid": id});
        let encode = |tree: &Value| URL_SAFE_NO_PAD.encode(tree.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = signer.sign(message.as_bytes()).map_err(Status::internal)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whose token it is, and for which of the wanted audiences (none: the API server's). None: it is no good.
    pub fn user(&self, token: &str, wanted: &[String]) -> Option<(User, Vec<String>)> {
        let claims = self.claims(token)?;
        let own = [self.issuer.clone()];
        let wanted = if wanted.is_empty() { &own } else { wanted };
        if text(&claims, &["iss"]) == LEGACY_ISSUER {
            // These are for nobody in particular, and so for the API server alone.
            let user = self.legacy_user(&claims, token)?;
            return wanted.contains(&self.issuer).then(|| (user, own.to_vec()));
        }
        let now = Timestamp::now().as_second();
        let number = |field: &str| claims[field].as_i64();
        if text(&claims, &["iss"]) != self.issuer
            || number("exp").is_none_or(|end| end < now)
            || number("nbf").is_some_and(|start| start > now + LEEWAY)
        {
            return None;
        }
        let audiences: Vec<String> =
            list(&claims, &["aud"]).iter().filter_map(Value::as_str).map(String::from).collect();
        let common: Vec<String> = audiences.into_iter().filter(|one| wanted.contains(one)).collect();
        if common.is_empty() {
            return None;
        }
        Some((self.bound_user(&claims, now)?, common))
    }

    /// What a token claims, if its signature is one of ours.
    fn claims(&self, token: &str) -> Option<Value> {
        if token.len() > LONGEST {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = remembered().get(&digest) {
            return Some(claims.clone());
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let part = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        let header = part(header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let (algorithm, id) = (text(&header, &["alg"]), text(&header, &["kid"]));
        let is_ours = self.verifiers.iter().any(|key| {
            key.algorithm == algorithm
                && (id.is_empty() || id == key.id)
                && key.verify(message.as_bytes(), &signature)
        });
        let claims = part(claims).filter(|_| is_ours)?;
        let mut checked = remembered();
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(digest, claims.clone());
        Some(claims)
    }

    fn get(&self, prefix: &str, namespace: &str, name: &str) -> Option<Value> {
        if name.is_empty() || name.contains('/') || namespace.contains('/') {
            return None;
        }
        let key = match namespace {
            "" => format!("/registry/{prefix}/{name}"),
            _ => format!("/registry/{prefix}/{namespace}/{name}"),
        };
        decode(&*self.store.get(key.as_bytes(), None).ok()??).ok()
    }

    /// What the token is bound to, if it is still the same and not on its way out.
    fn bound_user(&self, claims: &Value, now: i64) -> Option<User> {
        let bound = &claims["kubernetes.io"];
        let namespace = text(bound, &["namespace"]);
        let check = |prefix: &str, namespace: &str, field: &str| -> Option<Option<Value>> {
            let Some(claim) = bound.get(field) else { return Some(None) };
            let found = self.get(prefix, namespace, text(claim, &["name"]))?;
            let is_gone = text(&found, &["metadata", "deletionTimestamp"])
                .parse::<Timestamp>()
                .is_ok_and(|time| time.as_second() < now - LEEWAY);
            (object::uid(&found) == text(claim, &["uid"]) && !is_gone).then_some(Some(found))
        };
        let account = check("serviceaccounts", namespace, "serviceaccount")??;
        let name = object::name(&account);
        if text(claims, &["sub"]) != format!("system:serviceaccount:{namespace}:{name}") {
            return None;
        }
        check("secrets", namespace, "secret")?;
        check("pods", namespace, "pod")?;
        // A token that is bound to a pod as well lives as long as the pod does, whatever becomes of the node.
        if bound.get("pod").is_none() {
            check("minions", "", "node")?;
        }
        let mut user = account_user(namespace, name, object::uid(&account));
        let mut extra = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.into()]);
            }
        };
        let id = text(claims, &["jti"]);
        if !id.is_empty() {
            extra("credential-id", &format!("JTI={id}"));
        }
        extra("pod-name", text(bound, &["pod", "name"]));
        extra("pod-uid", text(bound, &["pod", "uid"]));
        extra("node-name", text(bound, &["node", "name"]));
        extra("node-uid", text(bound, &["node", "uid"]));
        Some(user)
    }

    /// A token out of a secret: good while the secret holds it.
    fn legacy_user(&self, claims: &Value, token: &str) -> Option<User> {
        let claim = |name: &str| text(claims, &[&format!("kubernetes.io/serviceaccount/{name}")]).to_owned();
        let (namespace, name) = (claim("namespace"), claim("service-account.name"));
        let account = self.get("serviceaccounts", &namespace, &name)?;
        let secret = self.get("secrets", &namespace, &claim("secret.name"))?;
        let held = STANDARD.decode(text(&secret, &["data", "token"])).ok()?;
        let is_good = held == token.as_bytes()
            && object::uid(&account) == claim("service-account.uid")
            && !object::is_deleting(&secret)
            && !object::is_deleting(&account);
        is_good.then(|| account_user(&namespace, &name, object::uid(&account)))
    }
}

/// The user that a service account is.
pub fn account_user(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: uid.into(),
        groups: account_groups(namespace),
        ..User::default()
    }
}

/// Groups of all service accounts of a namespace.
pub fn account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")]
}

/// Namespace and name of the service account that a user is.
pub fn account_of(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}
