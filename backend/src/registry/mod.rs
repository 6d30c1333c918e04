//! The site's image registry, `registry:5000` from every node. Each session has its own repositories and accounts in it; what is
//! named `shared/…` all sessions see. The session process tells of connections (`Open::Services`) and this process takes them, so
//! nothing listens on the host.

mod accounts;
mod cache;
mod prepare;
mod scope;
mod shared;

use crate::{
    config::Config,
    sessions::{Sessions, live::Live, live::Phase},
};
pub use accounts::RulesError;
use accounts::{Site, SiteAccounts};
use axum::body::Body;
use drydock_protocol::{
    SessionId,
    api::{RegistryRules, SetRegistryRules},
    pipe::{NodeCall, Open},
};
use drydock_registry::{
    Cache,
    server::{Garbage, Limits, Registry, TagOf},
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
pub use prepare::Making;
use scope::SHARED;
use serde::{Deserialize, Serialize};
use shared::Shared;
use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Most connections of one session.
const MAX_CONNECTIONS: usize = 32;
/// A request's head must come within this time.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How often garbage is collected.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// Pause before a session process that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// `GET /api/v1/registry/shared`: an image that all sessions see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SharedImage {
    /// `shared/NAME:TAG`.
    pub image: String,
    /// The digest of its manifest.
    pub digest: String,
    /// The session that has shared it, which alone may replace it; absent: any may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// The registry of this server.
pub struct SiteRegistry {
    registry: Registry,
    accounts: Arc<SiteAccounts>,
    /// Of other registries, where there is a way out.
    cache: Option<Cache>,
    /// Ended sessions of which something may be left.
    gone: Mutex<BTreeSet<String>>,
    cleaning: Shared,
}

impl std::fmt::Debug for SiteRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SiteRegistry")
    }
}

impl SiteRegistry {
    /// Opens it below the state directory's `web`.
    pub fn open(web: &Path, config: &Config) -> io::Result<Self> {
        let site = Site {
            quota: config.registry_bytes.0,
            logins: config.registry_logins,
            accounts: config.registry_accounts.as_ref().map(|file| file.0.clone()),
        };
        let accounts = Arc::new(SiteAccounts::open(&web.join("registry-accounts"), &site)?);
        let registry = Registry::open(&web.join("registry"), accounts.clone(), Limits::default())?;
        let cache = cache::open(web, config)?;
        Ok(Self { registry, accounts, cache, gone: Mutex::default(), cleaning: Shared::default() })
    }

    /// How a session stands.
    pub fn rules(&self, session: &SessionId) -> RegistryRules {
        self.accounts.rules(session)
    }

    /// Replaces a session's rules and accounts.
    pub async fn set_rules(&self, session: &SessionId, rules: SetRegistryRules) -> Result<(), RulesError> {
        let (accounts, session) = (self.accounts.clone(), session.clone());
        let set = tokio::task::spawn_blocking(move || accounts.set_rules(&session, &rules)).await;
        set.map_err(|e| RulesError::Disk(io::Error::other(e)))??;
        self.registry.forget_logins();
        Ok(())
    }

    /// The images that all sessions see, and who has shared them.
    pub async fn shared(&self) -> io::Result<Vec<SharedImage>> {
        let told =
            |tag: TagOf| SharedImage { image: tag.image, digest: tag.digest.to_string(), session: tag.by };
        Ok(self.registry.tags_of(SHARED).await?.into_iter().map(told).collect())
    }

    /// Deletes one of them; false if there is none of that name.
    pub async fn delete_shared(&self, image: &str) -> io::Result<bool> {
        if image.split('/').next() != Some(SHARED) {
            return Ok(false);
        }
        self.registry.delete_tag(image).await
    }

    /// Notes that a session has ended. The next [`Self::clean`] deletes what it had in here.
    pub fn forget(&self, session: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(session.to_owned());
    }

    /// Notes the same of everybody who has something in here and does not live; whether there is anybody.
    pub async fn forget_all_but(&self, lives: impl Fn(&SessionId) -> bool) -> io::Result<bool> {
        let mut owners = self.registry.owners().await?;
        owners.extend(self.accounts.owners());
        owners.retain(|owner| owner != SHARED && !owner.parse().is_ok_and(|id| lives(&id)));
        owners.iter().for_each(|owner| self.forget(owner));
        Ok(!owners.is_empty())
    }

    /// Deletes what nobody needs any more, also of sessions that were noted before this call. Many that call meanwhile share the next
    /// run: one looks at everything, and pushes wait for it.
    pub async fn clean(&self) {
        let cleaned = self.cleaning.run(async || {
            let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
            self.delete(&gone).await.inspect_err(|_| {
                // Tried again next time.
                self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
            })
        });
        if let Err(e) = cleaned.await {
            tracing::warn!(error = %e, "the registry can't be cleaned; images of ended sessions may be left");
        }
    }

    async fn delete(&self, gone: &BTreeSet<String>) -> io::Result<()> {
        if !gone.is_empty() {
            let (accounts, sessions) = (self.accounts.clone(), gone.clone());
            let forgotten =
                tokio::task::spawn_blocking(move || sessions.iter().for_each(|s| accounts.forget(s)));
            forgotten.await.map_err(io::Error::other)?;
            self.registry.delete_owners(gone.clone()).await?;
        }
        // What a push of another session has only just brought is left alone: it may not have its name yet.
        self.registry.collect_garbage(Garbage::default()).await.map(drop)
    }

    /// Answers one request of a session.
    async fn answer(&self, session: &SessionId, request: Request<Incoming>) -> axum::response::Response {
        let mut request = request.map(Body::new);
        let names = scope::enter(session, &mut request);
        let Ok(response) = self.registry.router().oneshot(request).await;
        scope::leave(session, response, names).await
    }
}

impl Sessions {
    /// Deletes at once and then now and then what no image in the registry needs any more, until this server ends.
    pub async fn clean_registry(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        loop {
            self.registry.clean().await;
            tokio::select! {
                () = tokio::time::sleep(CLEAN_EVERY) => {}
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
    }

    /// Serves the nodes of a session for as long as it lives.
    pub async fn serve_registry(self: Arc<Self>, live: Arc<Live>) {
        let mut life = live.life.subscribe();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let over = |phase: &Phase| matches!(phase, Phase::Ended(_));
        // A session that is being made does not listen yet.
        if life.wait_for(|life| life.phase != Phase::Starting).await.is_err() {
            return;
        }
        while !over(&life.borrow().phase) {
            let told = self.clone().take_calls(&live.id, &places);
            tokio::select! {
                done = told => if let Err(e) = done {
                    tracing::debug!(id = %live.id, error = %e, "a session's calls can't be heard");
                },
                _ = life.wait_for(|life| over(&life.phase)) => break,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = life.wait_for(|life| over(&life.phase)) => break,
            }
        }
    }

    async fn take_calls(
        self: Arc<Self>,
        id: &SessionId,
        places: &Arc<Semaphore>,
    ) -> Result<(), crate::pipe::PipeError> {
        let (mut reader, _writer) = self.sockets.open(id, &Open::Services).await?;
        while let Some(frame) = reader.next().await? {
            let crate::pipe::Frame::Text(text) = frame else { continue };
            let Ok(NodeCall { call, .. }) = serde_json::from_slice(&text) else { continue };
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::debug!(%id, "too many connections of a session to the registry");
                continue;
            };
            let (sessions, id) = (self.clone(), id.clone());
            tokio::spawn(async move {
                if let Err(e) = sessions.serve_call(&id, call).await {
                    tracing::debug!(%id, error = %e, "a node's connection to the registry");
                }
                drop(place);
            });
        }
        Ok(())
    }

    async fn serve_call(self: &Arc<Self>, id: &SessionId, call: u64) -> anyhow::Result<()> {
        let stream = self.sockets.tcp(id, &Open::Take { call }).await?;
        let service = service_fn(|request: Request<Incoming>| async move {
            let path = request.uri().path();
            Ok::<_, std::convert::Infallible>(if path.starts_with(prepare::PATH) {
                prepare::answer(self, id, request.method(), path)
            } else if path.starts_with(cache::PATH) {
                cache::answer(self.registry.cache.as_ref(), request).await
            } else {
                self.registry.answer(id, request).await
            })
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    }
}
