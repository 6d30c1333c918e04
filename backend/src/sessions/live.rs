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
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
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
    active: AtomicU32,
    last_used: Mutex<Instant>,
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
            active: AtomicU32::new(0),
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
        self.active.load(Ordering::SeqCst)
    }

    /// When somebody was last connected.
    pub fn last_used(&self) -> Instant {
        if self.active() > 0 {
            return Instant::now();
        }
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection, if there are not too many.
    pub fn count_in(self: &std::sync::Arc<Self>, most: u32) -> Option<Active> {
        self.active
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < most).then_some(n + 1))
            .ok()
            .map(|_| Active(self.clone()))
    }
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub struct Active(std::sync::Arc<Live>);

impl Drop for Active {
    fn drop(&mut self) {
        *self.0.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if self.0.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.left.notify_one();
        }
    }
}
