//! The session's links, for the share dialog.

use super::{known::Known, notices::Notices, session::SessionStore};
use crate::{browser, net::rest};
use drydock_protocol::{
    api::{CreateLink, Link},
    state::Role,
};
use wasm_bindgen_futures::spawn_local;

/// The share dialog's store.
#[derive(Clone, Copy)]
pub struct Share {
    /// The links; absent while they are not known.
    pub links: Known<Option<Vec<Link>>>,
    /// The link just made, with its secret.
    pub fresh: Known<Option<Link>>,
    /// A request is on its way.
    pub busy: Known<bool>,
    session: SessionStore,
    notices: Notices,
}

impl Share {
    pub(super) fn new(session: SessionStore, notices: Notices) -> Self {
        let (links, fresh, busy) = (Known::new(None), Known::new(None), Known::new(false));
        Self { links, fresh, busy, session, notices }
    }

    /// Forgets everything: another session.
    pub fn reset(self) {
        self.links.set(None);
        self.fresh.set(None);
        self.busy.set(false);
    }

    /// Asks for the links.
    pub fn load(self) {
        let Some(id) = self.session.id.get_untracked() else { return };
        spawn_local(async move {
            match rest::links(&id).await {
                Ok(links) => self.links.set(Some(links)),
                Err(problem) => self.notices.error(problem.message),
            }
        });
    }

    /// Makes a link.
    pub fn create(self, role: Role, ttl_seconds: Option<u64>) {
        let Some(id) = self.session.id.get_untracked().filter(|_| !self.busy.get_untracked()) else { return };
        self.busy.set(true);
        spawn_local(async move {
            match rest::create_link(&id, &CreateLink { role, ttl_seconds }).await {
                Ok(link) => self.fresh.set(Some(link)),
                Err(problem) => self.notices.error(problem.message),
            }
            self.busy.set(false);
            self.load();
        });
    }

    /// Makes a kubeconfig and lets the browser keep it.
    pub fn kubeconfig(self) {
        let Some(id) = self.session.id.get_untracked().filter(|_| !self.busy.get_untracked()) else { return };
        self.busy.set(true);
        spawn_local(async move {
            match rest::kubeconfig(&id).await {
                Ok(text) => browser::download(&format!("drydock-{id}.kubeconfig"), "application/yaml", &text),
                Err(problem) => self.notices.error(problem.message),
            }
            self.busy.set(false);
        });
    }

    /// Makes a link useless.
    pub fn revoke(self, link: u64) {
        let Some(id) = self.session.id.get_untracked() else { return };
        spawn_local(async move {
            match rest::revoke_link(&id, link).await {
                Ok(()) => {
                    if self.fresh.with_untracked(|f| f.as_ref().is_some_and(|f| f.id == link)) {
                        self.fresh.set(None);
                    }
                    self.notices.info("The link opens nothing any more.");
                }
                Err(problem) => self.notices.error(problem.message),
            }
            self.load();
        });
    }
}
