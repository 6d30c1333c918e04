//! What sessions use now, from their control groups, for people who ask: a session's own process looks only while somebody views it.
//! Called by `sessions`.

use drydock_protocol::{
    SessionId,
    api::SessionUsage,
    state::{Power, SessionState, Usage},
};
use drydock_runtime::cgroup::{Hierarchies, SessionGroup};

/// The control groups of this server's sessions.
#[derive(Debug)]
pub struct Groups {
    hierarchies: Hierarchies,
    server: String,
}

impl Groups {
    /// Those of the server that this process is; nothing where it is none (in tests).
    pub fn find() -> Option<Self> {
        let server = drydock_warden::server_of(nix::unistd::getuid().as_raw())?;
        let hierarchies = Hierarchies::detect();
        let hierarchies =
            hierarchies.inspect_err(|e| tracing::warn!(error = %e, "figures can't be read")).ok()?;
        Some(Self { hierarchies, server: server.to_string() })
    }

    fn group(&self, id: &SessionId) -> SessionGroup {
        SessionGroup::new(self.hierarchies.clone(), &self.server, id.as_str())
    }

    /// What a session uses.
    pub fn of_session(&self, id: &SessionId) -> Option<SessionUsage> {
        let sample = self.group(id).usage();
        let sample =
            sample.inspect_err(|e| tracing::debug!(%id, error = %e, "figures can't be read")).ok()?;
        let cpu_seconds = sample.cpu_nanos / 1_000_000_000;
        Some(SessionUsage { memory: sample.memory, processes: sample.processes, cpu_seconds })
    }

    /// Adds what nodes use where the session's process has not looked. CPU use takes two looks: that stays 0.
    pub fn fill(&self, id: &SessionId, state: &mut SessionState) {
        let Ok(nodes) = self.group(id).open_nodes() else { return };
        for node in state.nodes.iter_mut().filter(|n| n.power == Power::On && n.usage.is_none()) {
            let sample = nodes.usage(node.name);
            node.usage = sample
                .inspect_err(|e| tracing::debug!(%id, error = %e, "figures can't be read"))
                .ok()
                .map(|s| Usage { cpu_millis: 0, memory: s.memory, processes: s.processes });
        }
    }
}
