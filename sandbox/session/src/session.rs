//! The session's state: nodes, terminals, viewers, and the picture of all that pages are pushed. Everything in this
//! process holds an `Rc` of it. One thread; no borrow of a cell lives across an await.

use crate::{
    error::Error, link::Link, nodes::Node, pty::Pty, services::Calls, terminal::ViewerId, viewer::Viewer,
    wire,
};
use drydock_protocol::{
    NodeName, TerminalId,
    control::ToPage,
    pipe::{Reply, Step},
    state::{self, SessionState},
};
use drydock_runtime::{cgroup::NodesDir, messages::ToSpawner};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// Most terminals of a session.
pub const MAX_TERMINALS: usize = 32;
/// Most pages that may look at a session at once.
pub const MAX_VIEWERS: usize = 256;
/// Pages whose input numbers are remembered.
const MAX_CLIENTS: usize = 512;
/// Changes are pushed at most this often.
const PUSH_GAP: Duration = Duration::from_millis(25);

/// The session.
pub struct Session {
    /// Where a node's figures are read.
    pub cgroup: NodesDir,
    /// The way to the spawner.
    pub spawner: Link<ToSpawner>,
    /// The nodes.
    pub nodes: RefCell<BTreeMap<NodeName, Node>>,
    /// The open terminals.
    pub terminals: RefCell<BTreeMap<TerminalId, Rc<Pty>>>,
    /// Terminals that are being opened.
    pub opening: Cell<usize>,
    /// Number of the last terminal.
    pub last_terminal: Cell<u32>,
    /// Connections of nodes that wait for serve.
    pub calls: Calls,
    /// The pages.
    pub viewers: RefCell<BTreeMap<ViewerId, Rc<Viewer>>>,
    /// The terminal that is opened before anybody asks.
    pub first: RefCell<First>,
    /// Rises with every change of nodes, viewers and the first terminal, for those who wait for one.
    pub changes: watch::Sender<u64>,
    /// The newest picture as a message, for the pages.
    pub picture: watch::Sender<Rc<str>>,
    last_viewer: Cell<ViewerId>,
    /// Last input number by page name, the page used last at the end.
    clients: RefCell<VecDeque<(String, u32)>>,
    dirty: Notify,
    last_activity: Cell<Instant>,
    trace: RefCell<Vec<Step>>,
    /// Zero of the trace's time line: when the session was asked for.
    origin: Cell<Instant>,
}

/// How far the first terminal is.
#[derive(Debug)]
pub enum First {
    /// Its node is not up yet.
    Awaited,
    /// Its shell is being started, since then.
    Starting,
    /// It has printed something.
    Printed,
    /// It could not be started.
    Failed(String),
}

impl Session {
    /// A session without nodes.
    pub fn new(cgroup: NodesDir, spawner: Link<ToSpawner>, trace: Vec<Step>, origin: Instant) -> Rc<Self> {
        Rc::new(Self {
            cgroup,
            spawner,
            nodes: RefCell::default(),
            terminals: RefCell::default(),
            opening: Cell::new(0),
            last_terminal: Cell::new(0),
            calls: Calls::default(),
            viewers: RefCell::default(),
            first: RefCell::new(First::Awaited),
            changes: watch::Sender::new(0),
            picture: watch::Sender::new("".into()),
            last_viewer: Cell::new(0),
            clients: RefCell::default(),
            dirty: Notify::new(),
            last_activity: Cell::new(Instant::now()),
            trace: RefCell::new(trace),
            origin: Cell::new(origin),
        })
    }

    /// Something in the picture has changed.
    pub fn mark_dirty(&self) {
        self.dirty.notify_one();
    }

    /// Something that others wait for has changed (and the picture with it).
    pub fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
        self.mark_dirty();
    }

    /// Somebody typed, uploaded or started something.
    pub fn touch(&self) {
        self.last_activity.set(Instant::now());
    }

    /// Notes a step that began at `since` and ends now.
    pub fn step(&self, name: impl Into<String>, since: Instant) {
        let start = micros(since.saturating_duration_since(self.origin.get()));
        self.steps([Step { name: name.into(), start_micros: start, micros: micros(since.elapsed()) }]);
    }

    /// The session was asked for so long after zero of the time line, where it is from now on. What was done before that nobody has
    /// waited for.
    pub fn given(&self, after: Duration) {
        self.origin.set(self.origin.get() + after);
        self.touch();
        let after = micros(after);
        self.trace.borrow_mut().retain_mut(|step| {
            let end = step.start_micros.saturating_add(step.micros);
            step.start_micros = step.start_micros.saturating_sub(after);
            end > after
        });
    }

    /// Notes steps that another process measured.
    pub fn steps(&self, steps: impl IntoIterator<Item = Step>) {
        self.trace.borrow_mut().extend(steps);
    }

    /// The terminal with this number.
    pub fn terminal(&self, id: TerminalId) -> Result<Rc<Pty>, Error> {
        self.terminals.borrow().get(&id).cloned().ok_or(Error::NoTerminal(id))
    }

    /// Ends a terminal's processes and forgets it.
    pub fn close_terminal(&self, id: TerminalId) -> Result<(), Error> {
        let pty = self.terminals.borrow_mut().remove(&id).ok_or(Error::NoTerminal(id))?;
        pty.close();
        for viewer in self.viewers.borrow().values() {
            viewer.forget(id);
        }
        self.changed();
        Ok(())
    }

    /// A number for a new page's connection.
    pub fn new_viewer_id(&self) -> ViewerId {
        self.last_viewer.set(self.last_viewer.get() + 1);
        self.last_viewer.get()
    }

    /// Highest input number taken from a page.
    pub fn input_seq(&self, client: &str) -> u32 {
        self.clients.borrow().iter().find(|(name, _)| name == client).map_or(0, |(_, seq)| *seq)
    }

    /// Takes an input number: false if it (or a later one) was taken before.
    pub fn take_input_seq(&self, client: &str, seq: u32) -> bool {
        let mut clients = self.clients.borrow_mut();
        let at = clients.iter().rposition(|(name, _)| name == client);
        let mut entry = at.and_then(|at| clients.remove(at)).unwrap_or_else(|| (client.to_owned(), 0));
        let new = seq > entry.1;
        entry.1 = entry.1.max(seq);
        clients.push_back(entry);
        if clients.len() > MAX_CLIENTS {
            clients.pop_front();
        }
        new
    }

    /// The whole picture now.
    pub fn state(&self) -> SessionState {
        SessionState {
            nodes: self.nodes.borrow().iter().map(|(name, node)| node.state(*name)).collect(),
            terminals: self.terminals.borrow().values().map(|pty| pty.state()).collect(),
            viewers: self
                .viewers
                .borrow()
                .values()
                .map(|v| state::Viewer { id: v.id, role: v.role, focus: v.focus.get() })
                .collect(),
        }
    }

    /// The answer to [`drydock_protocol::pipe::Control::State`].
    pub fn report(&self) -> Reply {
        Reply::State {
            state: self.state(),
            idle_micros: micros(self.last_activity.get().elapsed()),
            viewers: u32::try_from(self.viewers.borrow().len()).unwrap_or(u32::MAX),
        }
    }

    /// The steps so far, in order.
    pub fn trace(&self) -> Vec<Step> {
        let mut steps = self.trace.borrow().clone();
        steps.sort_by_key(|s| s.start_micros);
        steps
    }

    /// Pushes the picture to the pages whenever it has changed. A page that is slow sees only the newest one.
    pub async fn push_pictures(self: Rc<Self>) {
        let mut last = SessionState::default();
        loop {
            self.dirty.notified().await;
            let state = self.state();
            if state != last {
                self.picture.send_replace(wire::json(&ToPage::State { state: state.clone() }).into());
                last = state;
                tokio::time::sleep(PUSH_GAP).await;
            }
        }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
