//! The open session: signals for what the server says about it, and how it is opened, watched and left. Messages are
//! taken apart in `store::messages`, terminals are kept in `store::terminals`.

use super::{
    app::App,
    known::Known,
    life::Life,
    notices::Notices,
    own_sessions::{self, OwnSession},
    settings::Looks,
    terminals::Closing,
    uploads::Upload,
};
use crate::reactive::*;
use crate::{
    browser,
    logic::{latency::Latency, layout::Layout, outbox::Outbox, small::Few},
    net::{
        link::{Event, Link},
        rest::{self, Problem},
    },
    term::view::View,
};
use drydock_protocol::{
    NodeName, SessionId, TerminalId,
    api::{Session, SessionLimits, Status},
    control::close,
    frame::Size,
    state::{Role, SessionState, Usage},
};
use gloo_timers::callback::Timeout;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use wasm_bindgen_futures::spawn_local;

/// Figures of a node that its small chart shows.
pub const USAGE_KEPT: usize = 30;

/// How far the page has come with its session.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// No session is open.
    None,
    /// It is being entered.
    Entering,
    /// It works.
    Live,
    /// It can't be used.
    Over(Over),
}

/// Why a session can't be used.
#[derive(Debug, Clone, PartialEq)]
pub enum Over {
    /// This browser has no right to it.
    Forbidden(String),
    /// There is no such session.
    NotFound(String),
    /// It has ended; why, if the server says so.
    Ended(Option<String>),
    /// The server refuses more connections.
    Limit,
    /// The browser has no WebSocket, or none for workers.
    NoWebSocket,
}

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Connection {
    /// The first attempt.
    Connecting,
    /// It works.
    Up,
    /// It is lost.
    Lost {
        /// When the next attempt is made, on the clock of [`browser::now`].
        retry_at: f64,
    },
}

/// The area of the page that a narrow screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// The list of nodes.
    Nodes,
    /// The terminals.
    Terminals,
    /// The files.
    Files,
    /// Containers and images.
    Docker,
}

/// The session's store; copies are handles to the same.
#[derive(Clone, Copy)]
pub struct SessionStore {
    /// Its id.
    pub id: Known<Option<SessionId>>,
    /// How far the page has come.
    pub phase: Known<Phase>,
    /// How the connection stands.
    pub connection: Known<Connection>,
    /// Median of the last pings in milliseconds.
    pub latency: Known<Option<f64>>,
    /// What this page may do.
    pub role: Known<Role>,
    /// The number of this page's connection.
    pub me: Known<u64>,
    /// Nodes, terminals and viewers.
    pub state: Known<SessionState>,
    /// What `GET /sessions/{id}` says.
    pub about: Known<Option<Rc<Session>>>,
    /// When it ends.
    pub life: Known<Option<Life>>,
    /// How its terminals are arranged.
    pub layout: Known<Layout>,
    /// Each node's last figures.
    pub usage: Known<Few<NodeName, Vec<Usage>>>,
    /// Terminals that rang the bell and were not looked at since.
    pub bells: Known<Vec<TerminalId>>,
    /// The terminal that is to be closed if the learner says so again.
    pub closing: Known<Option<Closing>>,
    /// The terminal whose search box is open.
    pub searching: Known<Option<TerminalId>>,
    /// The room last told for each terminal on this connection.
    pub(super) rooms: Known<Few<TerminalId, Option<Size>>>,
    /// Files on their way.
    pub uploads: Known<Vec<Upload>>,
    /// What a narrow screen shows.
    pub area: Known<Area>,
    /// The Docker view is open.
    pub docker_open: Known<bool>,
    /// A node is being added.
    pub adding: Known<bool>,
    /// The key bar's Ctrl is held.
    pub ctrl: Known<bool>,
    pub(super) looks: Looks,
    pub(super) narrow: Known<bool>,
    pub(super) notices: Notices,
    inner: StoredValue<Rc<Inner>, LocalStorage>,
}

/// What is no signal.
#[derive(Default)]
pub(super) struct Inner {
    pub link: RefCell<Option<Link>>,
    pub outbox: RefCell<Outbox>,
    pub latency: RefCell<Latency>,
    pub views: RefCell<Few<TerminalId, Rc<View>>>,
    /// Terminals asked for, by request.
    pub asked: RefCell<Few<u32, super::terminals::Asked>>,
    pub next_request: Cell<u32>,
    /// Terminals that were opened and are not in the state yet.
    pub ahead: RefCell<Vec<TerminalId>>,
    /// When the learner last closed a terminal, on the clock of [`browser::now`].
    pub closed_at: Cell<Option<f64>>,
    pub fit_later: RefCell<Option<Timeout>>,
    /// The terminal that gets the focus once it is on the screen.
    pub wants_focus: Cell<Option<TerminalId>>,
    /// The connection is new: every terminal has to be attached.
    pub attach_all: Cell<bool>,
    pub resume_from: Cell<u32>,
    pub seen_state: Cell<bool>,
    pub seen_output: Cell<bool>,
    /// When a viewer who types was told last that it goes nowhere, on the clock of [`browser::now`].
    pub said_that_it_only_looks: Cell<Option<f64>>,
    /// Counts sessions opened, so that a late answer about the last one changes nothing.
    pub generation: Cell<u32>,
}

impl SessionStore {
    pub(super) fn new(looks: Looks, narrow: Known<bool>, notices: Notices) -> Self {
        let store = Self {
            id: Known::new(None),
            phase: Known::new(Phase::None),
            connection: Known::new(Connection::Connecting),
            latency: Known::new(None),
            role: Known::new(Role::View),
            me: Known::new(0),
            state: Known::new(SessionState::default()),
            about: Known::new(None),
            life: Known::new(None),
            layout: Known::new(Layout::default()),
            usage: Known::new(Few::default()),
            bells: Known::new(Vec::new()),
            closing: Known::new(None),
            searching: Known::new(None),
            rooms: Known::new(Few::default()),
            uploads: Known::new(Vec::new()),
            area: Known::new(Area::Terminals),
            docker_open: Known::new(false),
            adding: Known::new(false),
            ctrl: Known::new(false),
            looks,
            narrow,
            notices,
            inner: StoredValue::new_local(Rc::default()),
        };
        store.follow_settings();
        store.follow_layout();
        store
    }

    pub(super) fn inner(self) -> Rc<Inner> {
        self.inner.get_value()
    }

    /// True if the session has no terminal, as far as is known.
    pub fn is_empty(self) -> bool {
        self.connection.get() == Connection::Up && self.state.with(|s| s.terminals.is_empty())
    }

    /// True if this page may type, move files and open ports.
    pub fn may_type(self) -> bool {
        self.role.get() >= Role::Type
    }

    /// True if this page may change nodes and links and end the session.
    pub fn may_own(self) -> bool {
        self.role.get() >= Role::Own
    }

    /// Opens or closes the Docker view.
    pub fn show_docker(self, open: bool) {
        self.docker_open.set(open);
        self.area.set(if open { Area::Docker } else { Area::Terminals });
    }

    /// Opens a session, with a link's token if there is one.
    pub fn open(self, id: SessionId, token: Option<String>) {
        self.leave();
        self.id.set(Some(id.clone()));
        self.phase.set(Phase::Entering);
        if let Some(layout) = browser::load_text(&layout_key(&id)).and_then(|text| Layout::from_json(&text)) {
            self.layout.set(layout);
        }
        if !App::can_connect() {
            self.phase.set(Phase::Over(Over::NoWebSocket));
            return;
        }
        let Some(token) = token else { return self.connect(&id) };
        let generation = self.inner().generation.get();
        spawn_local(async move {
            let entered = rest::enter(&id, &token).await;
            if self.inner().generation.get() != generation {
                return;
            }
            match entered {
                Ok(()) => self.connect(&id),
                // Whoever has been here may come back by a link that is no good (any more); the server says if not.
                Err(problem) if problem.status == 403 && own_sessions::find(&id).is_some() => {
                    self.connect(&id);
                }
                Err(problem) => self.refused(problem),
            }
        });
    }

    /// Leaves the session as it is; it goes on.
    pub fn leave(self) {
        let inner = self.inner();
        let generation = inner.generation.get() + 1;
        self.inner.set_value(Rc::new(Inner { generation: Cell::new(generation), ..Inner::default() }));
        self.id.set(None);
        self.phase.set(Phase::None);
        self.connection.set(Connection::Connecting);
        self.latency.set(None);
        self.role.set(Role::View);
        self.state.set(SessionState::default());
        self.about.set(None);
        self.life.set(None);
        self.layout.set(Layout::default());
        self.usage.update(Few::clear);
        self.bells.update(Vec::clear);
        self.closing.set(None);
        self.searching.set(None);
        self.rooms.update(Few::clear);
        self.uploads.with_untracked(|all| all.iter().for_each(Upload::cancel));
        self.uploads.update(Vec::clear);
        self.area.set(Area::Terminals);
        self.docker_open.set(false);
        self.adding.set(false);
        self.ctrl.set(false);
    }

    /// Connects now instead of later.
    pub fn retry_now(self) {
        if let Some(link) = self.inner().link.borrow().as_ref() {
            link.retry_now();
        }
    }

    /// Asks the server about the session: playground, limits, whether it still lives.
    pub fn ask_about(self) {
        let Some(id) = self.id.get_untracked() else { return };
        let generation = self.inner().generation.get();
        spawn_local(async move {
            let answer = rest::session(&id).await;
            if self.inner().generation.get() != generation {
                return;
            }
            match answer {
                Ok(session) if session.status == Status::Ended => {
                    let because = session.ended_because.clone();
                    self.about.set(Some(Rc::new(session)));
                    self.over(Over::Ended(because));
                }
                Ok(session) => {
                    own_sessions::remember(OwnSession {
                        id: session.id.clone(),
                        playground: Some(session.playground.clone()),
                        nodes: session.state.as_ref().and_then(|s| u8::try_from(s.nodes.len()).ok()),
                        expires_at: session.expires_at,
                    });
                    self.about.set(Some(Rc::new(session)));
                }
                Err(problem) => self.refused(problem),
            }
        });
    }

    /// The session was ended from this page.
    pub(super) fn over_by_choice(self) {
        self.over(Over::Ended(Some("You ended it.".into())));
    }

    fn connect(self, id: &SessionId) {
        let path = format!("/api/v1/sessions/{id}/ws?client={}", browser::random_name());
        let generation = self.inner().generation.get();
        let link = Link::open(&path, move |event| {
            if self.inner().generation.get() == generation {
                self.on_event(event);
            }
        });
        self.inner().link.replace(Some(link));
        self.ask_about();
    }

    fn on_event(self, event: Event) {
        match event {
            Event::Text(text) => self.on_text(&text),
            Event::Binary(bytes) => self.on_frame(&bytes),
            Event::Lost { retry_at, was_up } => {
                self.connection.set(Connection::Lost { retry_at });
                // A refusal looks like a loss to the page; the server says which it is.
                if !was_up {
                    self.ask_about();
                }
            }
            Event::Closed(close::EXPIRED) => {
                self.over(Over::Ended(Some("Its time was over.".into())));
                self.ask_about();
            }
            Event::Closed(close::GONE) => {
                self.over(Over::Ended(None));
                self.ask_about();
            }
            Event::Closed(close::LIMIT) => self.over(Over::Limit),
            Event::Closed(_) => self.over(Over::Forbidden(
                "The link was revoked, or its time is over. Ask the person who shared it for a new one."
                    .into(),
            )),
        }
    }

    /// A request about the session was refused; only answers that are about the session itself end the page.
    fn refused(self, problem: Problem) {
        match problem.status {
            401 | 403 => self.over(Over::Forbidden(problem.message)),
            // After the end was seen, that the session can't be found any more is nothing new.
            404 if !matches!(self.phase.get_untracked(), Phase::Over(_)) => {
                self.over(Over::NotFound(problem.message))
            }
            410 => {
                let because = problem.session.as_ref().and_then(|session| session.ended_because.clone());
                if let Some(session) = problem.session {
                    self.about.set(Some(session));
                }
                self.over(Over::Ended(because.or(Some(problem.message))));
            }
            _ => {}
        }
    }

    fn over(self, why: Over) {
        let inner = self.inner();
        inner.link.replace(None);
        inner.views.take();
        let lost = matches!(why, Over::Ended(_) | Over::NotFound(_) | Over::Forbidden(_));
        if let (Some(id), true) = (self.id.get_untracked(), lost) {
            // What can be started again is remembered until the page is left.
            if self.about.with_untracked(Option::is_none)
                && let Some(old) = own_sessions::find(&id)
            {
                self.remembered(old);
            }
            own_sessions::forget(&id);
            browser::forget(&layout_key(&id));
        }
        self.phase.set(Phase::Over(why));
    }

    /// What this browser remembers stands in for what the server no longer tells.
    fn remembered(self, old: OwnSession) {
        self.about.set(old.playground.map(|playground| {
            Rc::new(Session {
                id: old.id,
                playground,
                status: Status::Ended,
                ended_because: None,
                role: Role::View,
                created_at: 0,
                expires_at: old.expires_at,
                can_extend: 0,
                max_nodes: old.nodes.unwrap_or(1),
                limits: SessionLimits { cpu_millis: 0, memory: 0, disk: 0, processes: 0 },
                state: None,
                trace: Vec::new(),
            })
        }));
    }
}

/// Where an arrangement is kept.
pub(super) fn layout_key(id: &SessionId) -> String {
    format!("{}{id}", own_sessions::LAYOUT)
}
