//! Bootstrap tokens: `ID.SECRET`, kept in secrets `kube-system/bootstrap-token-ID`; with them a new node says hello (k8s.io/kubernetes
//! `plugin/pkg/auth/authenticator/token/bootstrap`).

use super::User;
use crate::storage::decode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drydock_apimachinery::object::{self, text};
use drydock_etcd::Store;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Whose token it is.
pub fn user(store: &Store, token: &str) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if id.len() != 6 || secret.len() != 16 || !is_plain(id) || !is_plain(secret) {
        return None;
    }
    let key = format!("/registry/secrets/kube-system/bootstrap-token-{id}");
    let held = decode(&*store.get(key.as_bytes(), None).ok()??).ok()?;
    let data = |field: &str| -> Option<String> {
        String::from_utf8(STANDARD.decode(text(&held, &["data", field])).ok()?).ok()
    };
    let is_expired = match data("expiration").filter(|time| !time.is_empty()) {
        Some(time) => time.parse::<Timestamp>().ok()? <= Timestamp::now(),
        None => false,
    };
    // Digests, so that the time it takes tells nothing of how much of a guess is right.
    let digest = |text: &str| Sha256::digest(text);
    let is_good = text(&held, &["type"]) == "bootstrap.kubernetes.io/token"
        && !object::is_deleting(&held)
        && data("token-id")? == id
        && digest(&data("token-secret")?) == digest(secret)
        && data("usage-bootstrap-authentication").as_deref() == Some("true")
        && !is_expired;
    let extra = data("auth-extra-groups").unwrap_or_default();
    let extra = extra.split(',').filter(|group| group.starts_with("system:bootstrappers:"));
    let groups = std::iter::once("system:bootstrappers").chain(extra).map(String::from).collect();
    is_good.then(|| User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}
