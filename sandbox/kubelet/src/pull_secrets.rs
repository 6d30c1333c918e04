//! Accounts of registries from a pod's `imagePullSecrets` (`pkg/credentialprovider/secrets`), as the engine wants to be told them.

use crate::{kubelet::Kubelet, pods::pod};
use data_encoding::{BASE64, BASE64URL};
use drydock_images::Reference;
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// How Docker's own registry is called where accounts are kept.
const DOCKER_HUB: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: BTreeMap<String, Account>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Account {
    username: String,
    password: String,
    auth: String,
}

impl Account {
    /// What is only in `auth` (`user:password`, base64) is taken apart.
    fn whole(mut self) -> Option<Self> {
        if self.username.is_empty() {
            let text = String::from_utf8(BASE64.decode(self.auth.as_bytes()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            (self.username, self.password) = (user.into(), password.into());
        }
        Some(self)
    }
}

/// `X-Registry-Auth` for an image, if one of the pod's secrets has an account for its registry. Secrets that are missing are passed
/// over, as the kubelet does: the image may be for everybody.
pub async fn header(kubelet: &Kubelet, pod: &Pod, image: &str) -> Option<String> {
    let domain = Reference::parse(image).ok()?.domain().to_owned();
    for reference in pod::spec(pod).image_pull_secrets.iter().flatten() {
        let secret = kubelet.objects.secret(pod::namespace(pod), &reference.name, pod::uid(pod)).await;
        let account = match secret {
            Ok(secret) => account(&secret, &domain),
            Err(error) => {
                tracing::warn!(pod = pod::described(pod), secret = reference.name, %error, "Unable to retrieve pull secret");
                None
            }
        };
        if let Some(account) = account {
            let told = json!({ "username": account.username, "password": account.password, "serveraddress": domain });
            return Some(BASE64URL.encode(told.to_string().as_bytes()));
        }
    }
    None
}

fn account(secret: &Secret, domain: &str) -> Option<Account> {
    let data = secret.data.as_ref()?;
    let config: Config = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
        (Some(json), _) => serde_json::from_slice(&json.0).ok()?,
        (None, Some(json)) => Config { auths: serde_json::from_slice(&json.0).ok()? },
        (None, None) => return None,
    };
    let fits = |key: &str| {
        let host = key
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or_default();
        host == domain || (DOCKER_HUB.contains(&host) && DOCKER_HUB.contains(&domain))
    };
    config.auths.into_iter().find(|(key, _)| fits(key)).and_then(|(_, account)| account.whole())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_registry() {
        let config = json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": BASE64.encode(b"ann:secret:word") },
            "registry:5000": { "username": "bob", "password": "p" },
        } });
        let secret: Secret = serde_json::from_value(json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": { ".dockerconfigjson": BASE64.encode(config.to_string().as_bytes()) },
        }))
        .unwrap();
        let of = |domain: &str| account(&secret, domain).map(|a| (a.username, a.password));
        assert_eq!(of("docker.io"), Some(("ann".into(), "secret:word".into())));
        assert_eq!(of("registry:5000"), Some(("bob".into(), "p".into())));
        assert_eq!(of("quay.io"), None);
    }
}
