//! Sessions: the logic between the API and the sandbox, independent of HTTP. [`Sessions`] is the one entry; its
//! methods are spread over the files of this folder by subject: making ([`create`]), ending and comparing with the
//! warden ([`end`]), sleep and expiry ([`minder`]), links ([`links`]) and nodes ([`nodes`]).
//!
//! What must outlive this process is in the session processes, the warden and the database. What is here in
//! memory ([`live::Live`]) is rebuilt from those at start.

pub mod create;
pub mod end;
pub mod links;
pub mod live;
pub mod minder;
pub mod nodes;
pub mod queue;

use crate::{
    config::Config,
    error::Error,
    metrics::Metrics,
    pipe::Sockets,
    registry::{Making, SiteRegistry},
    store::{SessionRow, Store},
    usage::Groups,
    warden::{Event, Warden, WardenError},
};
use drydock_protocol::{
    SessionId,
    api::{Host, Session, SessionLimits, SessionLine, Status},
    pipe::{Control, Reply, Step},
    state::{Role, SessionState},
};
use drydock_warden::messages::Request;
use live::{Active, For, Live, Phase};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{broadcast, mpsc, watch};

/// What stands for the client address of the operator's own sessions.
pub const OPERATOR: &str = "operator";
/// Name of the node image.
pub const IMAGE: &str = "node";
/// How long the record of an ended session is kept, in seconds.
const KEEP_ENDED: u64 = 7 * 86_400;
/// How often the log is told that newcomers are refused.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Everything about sessions.
#[derive(Debug)]
pub struct Sessions {
    /// The operator's options.
    pub config: Config,
    /// Sessions that fit.
    pub capacity: u32,
    /// Figures for the operator.
    pub metrics: Metrics,
    /// The way to session processes.
    pub sockets: Sockets,
    /// What is being made for the catalogue: (name, how far).
    pub preparing: broadcast::Sender<(String, String)>,
    /// Who waits for which of them.
    pub making: Making,
    /// The site's image registry.
    pub registry: SiteRegistry,
    /// True once this server is about to end: connections close with "restart".
    pub closing: watch::Sender<bool>,
    store: Store,
    warden: Warden,
    state_dir: PathBuf,
    groups: Option<Groups>,
    table: Mutex<Table>,
    /// The id of the next session, for which the warden may have one ready.
    next: Mutex<Option<SessionId>>,
    reconciling: tokio::sync::Mutex<()>,
}

/// What must change together.
#[derive(Debug, Default)]
struct Table {
    live: HashMap<SessionId, Arc<Live>>,
    queue: queue::Queue,
    /// When the log was last told that newcomers are refused.
    told: Option<Instant>,
}

impl Table {
    /// A newcomer has a place from now on.
    fn admit(&mut self, row: SessionRow) -> (Arc<Live>, SessionRow) {
        let live = Arc::new(Live::new(&row));
        self.live.insert(row.id.clone(), live.clone());
        (live, row)
    }

    /// Logs why newcomers are refused, once a minute: there may be many.
    fn tell_operator(&mut self, now: Instant, why: &str) {
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            tracing::warn!("{why}");
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Sessions {
    /// Opens the database below `state_dir`, connects to the warden and takes up what runs. Returns once the first
    /// comparison with the warden is done, or as soon as it is known that the warden does not answer.
    pub async fn start(
        config: Config,
        capacity: u32,
        state_dir: &Path,
    ) -> Result<Arc<Self>, crate::store::StoreError> {
        let store = Store::open(&state_dir.join("web/drydock.db"))?;
        store.purge(now().saturating_sub(KEEP_ENDED))?;
        let registry = SiteRegistry::open(&state_dir.join("web"), &config)
            .map_err(crate::store::StoreError::Registry)?;
        let (warden, events) = Warden::start(state_dir.join("run/warden.sock"));
        let sessions = Arc::new(Self {
            config,
            capacity,
            metrics: Metrics::new(),
            sockets: Sockets::new(state_dir.join("run/sessions")),
            preparing: broadcast::Sender::new(64),
            making: Making::default(),
            registry,
            closing: watch::Sender::new(false),
            store,
            warden,
            state_dir: state_dir.to_owned(),
            groups: Groups::find(),
            table: Mutex::default(),
            next: Mutex::default(),
            reconciling: tokio::sync::Mutex::new(()),
        });
        let (first, first_done) = tokio::sync::oneshot::channel();
        tokio::spawn(follow(sessions.clone(), events, first));
        tokio::spawn(sessions.clone().clean_registry());
        // The warden was started before this process gave up root, so it answers at once or not at all.
        if tokio::time::timeout(std::time::Duration::from_secs(5), first_done).await.is_err() {
            tracing::error!("the warden does not answer; sessions cannot be made until it does");
        }
        Ok(sessions)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that has not ended.
    pub fn live(&self, id: &SessionId) -> Option<Arc<Live>> {
        self.table().live.get(id).cloned()
    }

    /// Sessions that have not ended.
    pub fn running(&self) -> u32 {
        self.table().live.len() as u32
    }

    /// Connections to sessions now.
    pub fn connections(&self) -> u32 {
        self.table().live.values().map(|l| l.active()).sum()
    }

    /// Has the warden make an image of the catalogue.
    pub async fn prepare_image(&self, name: &str, within: std::time::Duration) -> Result<(), WardenError> {
        let request = Request::PrepareImage { name: name.to_owned() };
        self.warden.call_within(within, request).await.map(drop)
    }

    /// Whether sessions can be made now.
    pub fn is_healthy(&self) -> bool {
        self.warden.is_connected()
    }

    /// Bytes that are free on the host's disk, where the sessions' disks are.
    pub fn free_space(&self) -> Option<u64> {
        let free = crate::space::free(&self.state_dir);
        free.inspect_err(|e| tracing::warn!(error = %e, "cannot see the free disk space")).ok()
    }

    /// Whether the host's disk is too full for more sessions.
    pub fn is_disk_full(&self) -> bool {
        self.free_space().is_some_and(|free| free < crate::space::LEAST_FREE)
    }

    /// What a newcomer should know.
    pub fn host(&self) -> Host {
        let mut table = self.table();
        Host {
            version: env!("CARGO_PKG_VERSION").into(),
            running: table.live.len() as u32,
            capacity: self.capacity,
            queued: table.queue.len(Instant::now()),
            default_ttl_seconds: self.config.default_ttl.seconds().min(self.config.max_ttl.seconds()),
            max_ttl_seconds: self.config.max_ttl.seconds(),
        }
    }

    /// All sessions that have not ended, oldest first.
    pub fn list(&self) -> Vec<SessionLine> {
        let mut lines: Vec<SessionLine> = self
            .table()
            .live
            .values()
            .map(|live| {
                let life = live.now();
                SessionLine {
                    id: live.id.clone(),
                    playground: live.playground.clone(),
                    status: life.phase.status(),
                    nodes: live.nodes.load(Ordering::Relaxed) as u8,
                    created_at: live.created_at,
                    expires_at: life.expires_at,
                    usage: None,
                }
            })
            .collect();
        for line in &mut lines {
            line.usage = self.groups.as_ref().and_then(|groups| groups.of_session(&line.id));
        }
        lines.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        lines
    }

    /// The whole picture of a session that has not ended.
    pub async fn describe(&self, live: &Live, role: Role) -> Result<Session, Error> {
        // The rest of the picture is worth showing even if the session process does not answer.
        let state = self
            .state(&live.id)
            .await
            .map_err(|e| tracing::debug!(id = %live.id, error = %e, "no state"))
            .ok();
        let state = state.map(|(mut state, _)| {
            if let Some(groups) = &self.groups {
                groups.fill(&live.id, &mut state);
            }
            state
        });
        let row = self.row(&live.id)?.ok_or_else(Error::no_right)?;
        Ok(self.picture(row, role, state))
    }

    /// The picture of a session by its row.
    pub fn picture(&self, row: SessionRow, role: Role, state: Option<SessionState>) -> Session {
        let over = row.status == Status::Ended;
        let limits = self.config.limits();
        Session {
            can_extend: if over { 0 } else { self.can_extend(row.created_at, row.expires_at) },
            expires_at: row.ended_at.unwrap_or(row.expires_at),
            id: row.id,
            playground: row.playground,
            status: row.status,
            ended_because: row.ended_because,
            role,
            created_at: row.created_at,
            max_nodes: self.config.session_nodes,
            limits: SessionLimits {
                cpu_millis: limits.cpu_millis,
                memory: limits.memory,
                disk: limits.disk,
                processes: limits.pids,
            },
            state: if over { None } else { state },
            trace: row.trace,
        }
    }

    fn row(&self, id: &SessionId) -> Result<Option<SessionRow>, Error> {
        self.store.session(id).map_err(Error::internal)
    }

    /// The session process's own picture and the time since anybody did anything, in microseconds.
    pub async fn state(&self, id: &SessionId) -> Result<(SessionState, u64), crate::pipe::PipeError> {
        match self.sockets.control(id, Control::State).await? {
            Reply::State { state, idle_micros, .. } => Ok((state, idle_micros)),
            _ => Err(crate::pipe::PipeError::Malformed("an answer to another question")),
        }
    }

    /// Seconds by which a session may still be extended.
    pub fn can_extend(&self, created_at: u64, expires_at: u64) -> u64 {
        (created_at + self.config.max_ttl.seconds()).saturating_sub(expires_at)
    }

    /// Lets a session live longer; when it ends now. What the database does not take does not hold.
    pub fn extend(&self, live: &Live, seconds: u64) -> Result<u64, Error> {
        let mut result = Err(Error::conflict("ended", "This session has just ended."));
        live.life.send_if_modified(|life| {
            if matches!(life.phase, Phase::Ended(_)) {
                return false;
            }
            let most = self.can_extend(live.created_at, life.expires_at);
            if seconds == 0 || seconds > most {
                let message =
                    format!("This session can be extended by 1 to {most} seconds, not by {seconds}.");
                result = Err(Error::conflict("cannot_extend", message));
                return false;
            }
            let expires_at = life.expires_at + seconds;
            result = match self.store.set_expiry(&live.id, expires_at) {
                Ok(()) => {
                    life.expires_at = expires_at;
                    Ok(expires_at)
                }
                Err(e) => Err(Error::internal(e)),
            };
            result.is_ok()
        });
        result
    }

    /// Counts a connection to a session and wakes it if it sleeps.
    pub async fn enter(&self, live: &Arc<Live>, who: For) -> Result<Active, Error> {
        let active = live.count_in(who, self.config.connections_per_session).ok_or_else(|| {
            let which = match who {
                For::Owner => "This session has",
                For::Link(_) => "This link, or the session, has",
                For::Ports => "The ports of this session have",
            };
            Error::limit(
                "too_many_connections",
                format!("{which} as many connections as are allowed: close one."),
            )
        })?;
        self.wake(live).await?;
        Ok(active)
    }

    fn append_trace(&self, id: &SessionId, more: Vec<Step>) {
        let done = self.store.session(id).and_then(|row| match row {
            Some(mut row) => {
                row.trace.extend(more);
                self.store.set_trace(id, &row.trace)
            }
            None => Ok(()),
        });
        if let Err(e) = done {
            tracing::error!(%id, error = %e, "cannot write the trace");
        }
    }
}

/// Acts on what the warden tells, as long as the server lives.
async fn follow(
    sessions: Arc<Sessions>,
    mut events: mpsc::Receiver<Event>,
    first: tokio::sync::oneshot::Sender<()>,
) {
    let mut first = Some(first);
    let mut closing = sessions.closing.subscribe();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = closing.wait_for(|c| *c) => return,
        };
        let Some(event) = event else { return };
        match event {
            Event::Connected => {
                let sessions = sessions.clone();
                let first = first.take();
                // Not awaited: it asks the warden, whose answers come behind its events.
                tokio::spawn(async move {
                    sessions.reconcile().await;
                    // Another warden knows nothing of what the one before kept ready, or it has something of it left.
                    sessions.forget_next(|_| true);
                    sessions.keep_ready().await;
                    if let Some(first) = first {
                        // Nobody waits any more if the warden was slow.
                        let _ = first.send(());
                    }
                });
            }
            Event::Died { id, reason } => {
                sessions.forget_next(|next| *next == id);
                sessions.died(&id, &reason);
            }
            Event::Preparing { name, line } => {
                // Nobody may listen any more.
                let _unheard = sessions.preparing.send((name, line));
            }
        }
    }
}

/// Measures the steps of one request.
#[derive(Debug)]
pub struct Tracer {
    arrived: Instant,
    began: Instant,
    /// What was measured so far.
    pub steps: Vec<Step>,
}

impl Tracer {
    /// Times count from `arrived`.
    pub fn new(arrived: Instant) -> Self {
        Self { arrived, began: arrived, steps: Vec::new() }
    }

    /// Notes what was done since the last call (or the arrival); when that began, in microseconds.
    pub fn done(&mut self, name: &str) -> u64 {
        let now = Instant::now();
        let start_micros = micros(self.began.duration_since(self.arrived));
        self.steps.push(Step {
            name: format!("serve: {name}"),
            start_micros,
            micros: micros(now.duration_since(self.began)),
        });
        self.began = now;
        start_micros
    }

    /// Puts the steps of another process in, whose times count from `start_micros`. They may come from the
    /// learner's side: number and length are bounded.
    pub fn merge(&mut self, who: &str, start_micros: u64, steps: Vec<Step>) {
        self.steps.extend(steps.into_iter().take(200).map(|s| Step {
            name: format!("{who}: {}", s.name.chars().take(80).collect::<String>()),
            start_micros: s.start_micros.saturating_add(start_micros),
            micros: s.micros,
        }));
    }
}

fn micros(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
