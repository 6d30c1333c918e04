//! The client of a build, as an engine's builder sees it: questions that block until it has answered. Not for the threads of an
//! async runtime.

use crate::scratch::Scratch;
use crate::session::{Agent, Session};
use drydock_dockerfile::build::{Answer, BackendError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tonic::Status;

/// SSH agents of one build.
const MAX_AGENTS: usize = 16;

/// The client of a build.
#[derive(Debug)]
pub struct BuildClient {
    runtime: Handle,
    session: Arc<Session>,
    scratch: Scratch,
    agents: Mutex<BTreeMap<String, Agent>>,
}

impl BuildClient {
    pub(crate) fn new(session: Arc<Session>, scratch: Scratch) -> Self {
        Self { runtime: Handle::current(), session, scratch, agents: Mutex::default() }
    }

    /// A secret (`--secret id=…`); `None`: the client gave none of this name.
    ///
    /// # Errors
    /// If the client can't be asked.
    pub fn secret(&self, id: &str) -> Answer<Option<Vec<u8>>> {
        self.runtime.block_on(self.session.secret(id)).map_err(text)
    }

    /// User and password for a registry; `None`: the client has none.
    ///
    /// # Errors
    /// If the client can't be asked.
    pub fn credentials(&self, host: &str) -> Answer<Option<(String, String)>> {
        self.runtime.block_on(self.session.credentials(host)).map_err(text)
    }

    /// A socket that leads to the client's SSH agent (`--ssh`) for as long as this build lasts; `None`: the client gave none.
    ///
    /// # Errors
    /// If the socket can't be made.
    pub fn ssh(&self, id: &str) -> Answer<Option<PathBuf>> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(id) {
            return Ok(Some(agent.path().to_owned()));
        }
        if agents.len() >= MAX_AGENTS {
            return Err(BackendError("too many SSH agents".into()));
        }
        let open = Agent::open(Arc::clone(&self.session), id, self.scratch.path());
        let Some(agent) = self.runtime.block_on(open).map_err(text)? else { return Ok(None) };
        let path = agent.path().to_owned();
        agents.insert(id.to_owned(), agent);
        Ok(Some(path))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(status: Status) -> BackendError {
    BackendError(status.message().to_owned())
}
