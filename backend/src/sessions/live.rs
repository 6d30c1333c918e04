//! A session that has not ended, as serve holds it in memory: how it stands, who is connected, and the signals
//! that connections wait for. It holds no state of the sandbox; that is in the session process.
//!
//! ```text
//! Starting ──▶ Running ◀──▶ Asleep
//!    │            │            │
//!    └────────────┴────────────┴──▶ Ended     (never left)
//! ```

use crate::{
    store::SessionRow,
    token::{PortLabel, PortSecret},
};
use drydock_protocol::{SessionId, api::Status, control::close};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
    time::Instant,
};
use tokio::sync::{Notify, watch};
use tokio_rustls::rustls::ClientConfig;

/// How a session stands and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// When it ends, seconds since 1970.
    pub expires_at: u64,
    /// How it stands.
    pub phase: Phase,
}

/// How a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Being made.
    Starting,
    /// In use.
    Running,
    /// Its nodes are frozen.
    Asleep,
    /// Over.
    Ended(End),
}

impl Phase {
    /// The same for the API.
    pub fn status(&self) -> Status {
        match self {
            Self::Starting => Status::Starting,
            Self::Running => Status::Running,
            Self::Asleep => Status::Asleep,
            Self::Ended(_) => Status::Ended,
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Which of the kinds that are counted.
    pub kind: EndKind,
    /// A sentence for people.
    pub because: String,
}

/// Kinds of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndKind {
    /// Its time was over.
    Expired,
    /// Nobody used it.
    Idle,
    /// Its owner ended it.
    Deleted,
    /// The operator stopped the server.
    Stopped,
    /// Its process died.
    Died,
    /// It could not be made.
    Failed,
}

impl EndKind {
    /// Name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Deleted => "deleted",
            Self::Stopped => "stopped",
            Self::Died => "died",
            Self::Failed => "failed",
        }
    }
    /// Close code for WebSockets.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Expired | Self::Idle => close::EXPIRED,
            _ => close::GONE,
        }
    }
}

/// A session that has not ended (or ends just now).
#[derive(Debug)]
pub struct Live {
    /// The id.
    pub id: SessionId,
    /// Its playground.
    pub playground: String,
    /// Client address that it counts for; absent: the operator's.
    pub client: Option<String>,
    /// Seconds since 1970.
    pub created_at: u64,
    /// How it stands.
    pub life: watch::Sender<Life>,
    /// Changes when a link was revoked: every connection checks its own again.
    pub links_changed: watch::Sender<u64>,
    /// Key of the port addresses; a change closes every port connection.
    pub port_secret: watch::Sender<PortSecret>,
    /// Held while the session falls asleep or wakes. See [`super::minder`].
    pub gate: tokio::sync::Mutex<()>,
    /// Held while nodes are added or removed.
    pub changes: tokio::sync::Mutex<()>,
    /// Number of nodes, for lists.
    pub nodes: AtomicU32,
    /// Told when the last connection has gone.
    pub left: Notify,
    cluster_admin: Mutex<Option<Arc<ClientConfig>>>,
    connections: Mutex<Connections>,
    last_used: Mutex<Instant>,
}

/// For whom a connection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum For {
    /// Who may do everything: the operator, and owners by their links.
    Owner,
    /// Another link, by its number.
    Link(u64),
    /// Ports of nodes: whoever has their address.
    Ports,
}

/// How many there are.
#[derive(Debug, Default)]
struct Connections {
    all: u32,
    /// Those that are not the owner's.
    others: HashMap<For, u32>,
}

impl Connections {
    /// What one link, and all ports together, may have of all connections.
    const SHARE: u32 = 4;
    /// What is kept for the owner of all connections.
    const KEPT: u32 = 8;

    fn count_in(&mut self, who: For, most: u32) -> bool {
        if who == For::Owner {
            let fits = self.all < most;
            self.all += u32::from(fits);
            return fits;
        }
        let theirs = self.others.get(&who).copied().unwrap_or(0);
        if self.all >= most.saturating_sub((most / Self::KEPT).max(1))
            || theirs >= (most / Self::SHARE).max(1)
        {
            return false;
        }
        self.all += 1;
        self.others.insert(who, theirs + 1);
        true
    }

    fn count_out(&mut self, who: For) {
        self.all -= 1;
        if let Entry::Occupied(mut theirs) = self.others.entry(who) {
            *theirs.get_mut() -= 1;
            if *theirs.get() == 0 {
                theirs.remove();
            }
        }
    }
}

impl Live {
    /// From its row.
    pub fn new(row: &SessionRow) -> Self {
        let phase = match row.status {
            Status::Starting => Phase::Starting,
            Status::Running => Phase::Running,
            Status::Asleep => Phase::Asleep,
            Status::Ended => Phase::Ended(End {
                kind: EndKind::Died,
                because: row.ended_because.clone().unwrap_or_default(),
            }),
        };
        Self {
            id: row.id.clone(),
            playground: row.playground.clone(),
            client: (row.client != super::OPERATOR).then(|| row.client.clone()),
            created_at: row.created_at,
            life: watch::Sender::new(Life { expires_at: row.expires_at, phase }),
            links_changed: watch::Sender::new(0),
            port_secret: watch::Sender::new(row.port_secret),
            gate: tokio::sync::Mutex::new(()),
            changes: tokio::sync::Mutex::new(()),
            nodes: AtomicU32::new(row.nodes.into()),
            left: Notify::new(),
            cluster_admin: Mutex::new(None),
            connections: Mutex::default(),
            last_used: Mutex::new(Instant::now()),
        }
    }

    /// How it stands now.
    pub fn now(&self) -> Life {
        self.life.borrow().clone()
    }

    /// How the administrator of its cluster connects, once that is known.
    pub fn cluster_admin(&self) -> Option<Arc<ClientConfig>> {
        self.cluster_admin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes, or forgets, how the administrator of its cluster connects.
    pub fn set_cluster_admin(&self, admin: Option<Arc<ClientConfig>>) {
        *self.cluster_admin.lock().unwrap_or_else(PoisonError::into_inner) = admin;
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.life.borrow().phase, Phase::Ended(_))
    }

    /// Its row as it will be once the end that is under way is noted.
    pub fn ending(&self, row: SessionRow) -> SessionRow {
        match self.now().phase {
            Phase::Ended(end) if row.status != Status::Ended => SessionRow {
                status: Status::Ended,
                ended_at: Some(super::now()),
                ended_because: Some(end.because),
                ..row
            },
            _ => row,
        }
    }

    /// Moves to another phase; false (and nothing changed) if it has ended.
    pub fn set_phase(&self, phase: Phase) -> bool {
        self.life.send_if_modified(|life| {
            let over = matches!(life.phase, Phase::Ended(_));
            if !over {
                life.phase = phase;
            }
            !over
        })
    }

    /// Whether a port's label is genuine now.
    pub fn opens_port(&self, label: &PortLabel) -> bool {
        label.is_genuine(&self.port_secret.borrow())
    }

    /// Connections now.
    pub fn active(&self) -> u32 {
        self.connections().all
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When somebody was last connected.
    pub fn last_used(&self) -> Instant {
        if self.active() > 0 {
            return Instant::now();
        }
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, if there are not too many: of `most`, no link has more than a part, and some are kept for the owner.
    pub fn count_in(self: &Arc<Self>, who: For, most: u32) -> Option<Active> {
        let counted = self.connections().count_in(who, most);
        counted.then(|| Active(self.clone(), who))
    }
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub struct Active(Arc<Live>, For);

impl Drop for Active {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut connections = self.0.connections();
        connections.count_out(self.1);
        if connections.all == 0 {
            self.0.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_its_share_of_connections_and_the_owner_always_room() {
        let mut all = Connections::default();
        let mut count = |who| (0..300).filter(|_| all.count_in(who, 200)).count();
        assert_eq!(count(For::Link(2)), 50);
        assert_eq!(count(For::Ports), 50);
        assert_eq!(count(For::Link(3)), 50);
        assert_eq!(count(For::Link(4)), 25, "some are kept");
        assert_eq!(count(For::Link(5)), 0);
        assert_eq!(count(For::Owner), 25);
        all.count_out(For::Link(2));
        assert!(!all.count_in(For::Link(5), 200) && all.count_in(For::Owner, 200));
        for who in [For::Link(2), For::Link(3), For::Ports] {
            (0..49).for_each(|_| all.count_out(who));
        }
        assert!(all.count_in(For::Link(5), 200));
        let mut few = Connections::default();
        assert!(
            few.count_in(For::Link(1), 2) && !few.count_in(For::Link(2), 2) && few.count_in(For::Owner, 2)
        );
    }
}
