//! Who asks: from the client's certificate, from a bearer token, or nobody known. Called once per request by the router, before
//! anything else is looked at; it must not tell why a credential was refused.

mod bootstrap_token;
mod certificate;
pub mod impersonation;
mod keys;
pub mod service_account;
mod tokens;
pub mod websocket;

pub use service_account::ServiceAccounts;
pub use tokens::StaticTokens;

use crate::http::listener::Peer;
use crate::options::Options;
use drydock_apimachinery::Status;
use drydock_etcd::Store;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Who asks (`user.Info`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Such as `system:node:node1`.
    #[serde(rename = "username")]
    pub name: String,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Such as `system:masters`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of all who are known.
pub const AUTHENTICATED: &str = "system:authenticated";

impl User {
    /// Nobody known.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    /// True if it is one of these.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }
}

/// All ways to tell who one is.
#[derive(Debug)]
pub struct Authenticator {
    /// `--token-auth-file`.
    pub tokens: StaticTokens,
    /// Who somebody is that shows nothing.
    pub nobody: User,
    /// Whether they are let in at all (`--anonymous-auth`).
    anonymous: bool,
    /// Tokens of service accounts.
    pub service_accounts: ServiceAccounts,
    /// Where bootstrap tokens are, if they are taken.
    bootstrap: Option<Store>,
}

impl Authenticator {
    /// With what the options name.
    pub fn new(store: &Store, options: &Options) -> std::io::Result<Self> {
        let tokens = match &options.token_file {
            Some(path) => StaticTokens::parse(&std::fs::read_to_string(path)?),
            None => StaticTokens::default(),
        };
        Ok(Self {
            tokens,
            nobody: User::anonymous(),
            anonymous: options.anonymous,
            service_accounts: ServiceAccounts::new(store, options)?,
            bootstrap: options.bootstrap_tokens.then(|| store.clone()),
        })
    }

    /// Who asks.
    pub fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<User, Status> {
        let shown =
            peer.user.get_or_init(|| certificate::user(peer.certificates.first()?).map(authenticated));
        if let Some(user) = shown {
            return Ok(user.clone());
        }
        let unauthorized = || Status::failure(401, "Unauthorized", "Unauthorized");
        let given = match headers.get(AUTHORIZATION) {
            Some(value) => value.to_str().ok().and_then(bearer).map(Cow::Borrowed),
            None => match websocket::token(headers) {
                Some(token) => token.ok().map(Cow::Owned),
                None if self.anonymous => return Ok(self.nobody.clone()),
                None => return Err(unauthorized()),
            },
        };
        match given.and_then(|token| self.token(&token, &[])) {
            Some((user, _)) => Ok(user),
            None => Err(unauthorized()),
        }
    }

    /// Whose token it is, and for which of the wanted audiences (none: the API server's).
    pub fn token(&self, token: &str, wanted: &[String]) -> Option<(User, Vec<String>)> {
        let own = &self.service_accounts.issuer;
        let plain = || {
            let user = self.tokens.user(token);
            let user = user.or_else(|| bootstrap_token::user(self.bootstrap.as_ref()?, token))?;
            // These know no audience: they are for the API server.
            (wanted.is_empty() || wanted.contains(own)).then(|| (user, vec![own.clone()]))
        };
        let (user, audiences) = plain().or_else(|| self.service_accounts.user(token, wanted))?;
        Some((authenticated(user), audiences))
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn authenticated(mut user: User) -> User {
    if !user.is_in(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

#[cfg(test)]
mod tests;
