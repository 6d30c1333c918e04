//! Service-account tokens of pods (TokenRequest), renewed before they expire (`pkg/kubelet/token/token_manager.go`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// A token that is older is asked for anew, however long it may live.
const OLDEST: i64 = 24 * 3600;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wish {
    /// Namespace of the account.
    pub namespace: String,
    /// The account.
    pub account: String,
    /// Whom the token is for; empty: the API server.
    pub audience: String,
    /// How long it shall live.
    pub seconds: i64,
    /// The pod that it is bound to.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    asked: i64,
    expires: i64,
}

impl Token {
    /// After four fifths of its life, or a day.
    fn is_stale(&self, now: i64) -> bool {
        let life = self.expires.saturating_sub(self.asked);
        now >= self.asked + (life.saturating_mul(4) / 5).min(OLDEST)
    }
}

/// The tokens of the node's pods.
#[derive(Debug, Default)]
pub struct Tokens {
    known: Mutex<HashMap<Wish, Token>>,
}

impl Tokens {
    /// A token, an old one if that is good for a while.
    pub async fn get(&self, client: &kube::Client, wish: &Wish) -> Result<String, String> {
        let now = Timestamp::now().as_second();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(wish).cloned();
        if let Some(token) = known.as_ref().filter(|t| !t.is_stale(now)) {
            return Ok(token.text.clone());
        }
        match request(client, wish, now).await {
            Ok(token) => {
                let text = token.text.clone();
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(wish.clone(), token);
                Ok(text)
            }
            // It may be that the API server is away for a moment.
            Err(e) => match known.filter(|t| now < t.expires) {
                Some(token) => Ok(token.text),
                None => Err(format!("failed to fetch token: {e}")),
            },
        }
    }

    /// A pod is gone.
    pub fn release(&self, uid: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|wish, _| wish.uid != uid);
    }
}

async fn request(client: &kube::Client, wish: &Wish, now: i64) -> Result<Token, String> {
    let audiences: Vec<&str> = Some(wish.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": wish.seconds,
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": wish.pod, "uid": wish.uid },
        },
    });
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", wish.namespace, wish.account);
    let body = serde_json::to_vec(&body).map_err(|e| e.to_string())?;
    let request = http::Request::post(path).header("content-type", "application/json").body(body);
    let answer: Value =
        client.request(request.map_err(|e| e.to_string())?).await.map_err(|e| e.to_string())?;
    let text = answer["status"]["token"].as_str().ok_or("the answer has no token")?.to_owned();
    let expires = answer["status"]["expirationTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let expires = expires.map_or(now.saturating_add(wish.seconds), Timestamp::as_second);
    Ok(Token { text, asked: now, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time() {
        let token = |life: i64| Token { text: String::new(), asked: 1000, expires: 1000 + life };
        assert!(!token(3600).is_stale(1000 + 2879) && token(3600).is_stale(1000 + 2880));
        let year = 365 * 24 * 3600;
        assert!(!token(year).is_stale(1000 + OLDEST - 1) && token(year).is_stale(1000 + OLDEST));
    }
}
