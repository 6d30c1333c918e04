//! The session's WebSocket, kept up: opens it, notices when it dies (also when no close ever arrives), and opens it
//! again with growing waits, at once when the browser comes back online or the page is looked at again. The store
//! gets every message as an [`Event`] and speaks through [`Link::send_text`] and [`Link::send_bytes`].

use super::socket::WorkerSocket;
use crate::{browser, logic::backoff::Backoff};
use drydock_protocol::control::{FromPage, SUBPROTOCOL, close};
use gloo_events::EventListener;
use gloo_timers::callback::{Interval, Timeout};
use js_sys::{ArrayBuffer, Uint8Array};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use wasm_bindgen::JsCast;
use web_sys::{CloseEvent, MessageEvent, WebSocket};

/// Time between two pings, in milliseconds.
const PING: u32 = 5000;
/// When the first one is sent after a connection is up, in milliseconds.
const FIRST_PING: u32 = 1000;
/// A connection is dead when so many pings in a row brought nothing.
const UNANSWERED: u32 = 3;
/// How long a page that comes back waits for a sign of life, in milliseconds.
const PROBE: u32 = 3000;

/// What happens on the connection.
pub enum Event {
    /// A JSON message.
    Text(String),
    /// A terminal frame.
    Binary(Uint8Array),
    /// It is lost and will be opened again.
    Lost {
        /// When, on the clock of [`browser::now`].
        retry_at: f64,
        /// False if it never came up this time: the server may have refused.
        was_up: bool,
    },
    /// The server closed it for good, with this code.
    Closed(u16),
}

/// A connection that comes back. Dropping it closes it for good.
pub struct Link(Rc<Inner>);

struct Inner {
    url: String,
    on_event: Box<dyn Fn(Event)>,
    socket: RefCell<Option<Socket>>,
    backoff: RefCell<Backoff>,
    retry: RefCell<Option<Timeout>>,
    probe: RefCell<Option<Timeout>>,
    pulse: RefCell<Option<Interval>>,
    listeners: RefCell<Vec<EventListener>>,
    unanswered: Cell<u32>,
    over: Cell<bool>,
}

/// One WebSocket with its listeners; they go when it is dropped, so an old socket's late events reach nobody.
struct Socket {
    socket: WorkerSocket,
    was_up: Rc<Cell<bool>>,
    _listeners: [EventListener; 3],
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl Link {
    /// Opens a connection to a path of this server.
    pub fn open(path: &str, on_event: impl Fn(Event) + 'static) -> Self {
        let location = browser::window().location();
        let scheme = if location.protocol().as_deref() == Ok("https:") { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{path}", location.host().unwrap_or_default());
        let inner = Rc::new(Inner {
            url,
            on_event: Box::new(on_event),
            socket: RefCell::default(),
            backoff: RefCell::default(),
            retry: RefCell::default(),
            probe: RefCell::default(),
            pulse: RefCell::default(),
            listeners: RefCell::default(),
            unanswered: Cell::new(0),
            over: Cell::new(false),
        });
        inner.connect();
        inner.watch();
        Self(inner)
    }

    /// Sends a message, if there is a connection; what must not be lost is sent again by its owner after Hello.
    pub fn send_text(&self, message: &FromPage) {
        self.0.send_text(message);
    }

    /// Sends terminal frames, if there is a connection.
    pub fn send_bytes(&self, frame: &[u8]) {
        if let Some(socket) = self.0.socket.borrow().as_ref() {
            socket.socket.send(&Uint8Array::from(frame));
        }
    }

    /// The connection works: the next loss starts with the shortest wait.
    pub fn works(&self) {
        self.0.backoff.borrow_mut().reset();
    }

    /// Connects now instead of later.
    pub fn retry_now(&self) {
        if self.0.socket.borrow().is_none() {
            self.0.over.set(false);
            self.0.connect();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.0.over.set(true);
        self.0.retry.take();
        self.0.probe.take();
        self.0.pulse.take();
        self.0.listeners.take();
        self.0.socket.take();
    }
}

impl Inner {
    fn connect(self: &Rc<Self>) {
        self.retry.take();
        self.unanswered.set(0);
        let socket = WorkerSocket::new(&self.url, SUBPROTOCOL);
        let was_up = Rc::new(Cell::new(false));
        let listeners = self.listen(&socket, &was_up);
        self.socket.replace(Some(Socket { socket, was_up, _listeners: listeners }));
    }

    fn listen(self: &Rc<Self>, socket: &WorkerSocket, was_up: &Rc<Cell<bool>>) -> [EventListener; 3] {
        let weak = Rc::downgrade(self);
        let up = was_up.clone();
        let opened = EventListener::new(socket, "open", move |_| {
            let Some(this) = weak.upgrade() else { return };
            up.set(true);
            browser::mark("ws-open");
            // The first delay is measured once the start has settled.
            let weak = weak.clone();
            let first = Timeout::new(FIRST_PING, move || {
                if let Some(this) = weak.upgrade() {
                    this.ping();
                }
            });
            this.probe.replace(Some(first));
        });
        let weak = Rc::downgrade(self);
        let message = EventListener::new(socket, "message", move |event| {
            let Some(this) = weak.upgrade() else { return };
            this.unanswered.set(0);
            let data = event.unchecked_ref::<MessageEvent>().data();
            if let Some(buffer) = data.dyn_ref::<ArrayBuffer>() {
                (this.on_event)(Event::Binary(Uint8Array::new(buffer)));
            } else if let Some(text) = data.as_string() {
                (this.on_event)(Event::Text(text));
            }
        });
        let weak = Rc::downgrade(self);
        let closed = EventListener::new(socket, "close", move |event| {
            if let Some(this) = weak.upgrade() {
                this.closed(event.unchecked_ref::<CloseEvent>().code());
            }
        });
        [opened, message, closed]
    }

    fn closed(self: &Rc<Self>, code: u16) {
        match code {
            close::FORBIDDEN | close::GONE | close::EXPIRED | close::LIMIT => {
                self.over.set(true);
                self.socket.take();
                (self.on_event)(Event::Closed(code));
            }
            _ => {
                let was_up = self.socket.borrow().as_ref().is_some_and(|s| s.was_up.get());
                self.lost(was_up);
            }
        }
    }

    fn lost(self: &Rc<Self>, was_up: bool) {
        self.socket.take();
        self.probe.take();
        if self.over.get() {
            return;
        }
        let wait = self.backoff.borrow_mut().next(js_sys::Math::random());
        let weak = Rc::downgrade(self);
        let timer = Timeout::new(wait, move || {
            if let Some(this) = weak.upgrade() {
                this.connect();
            }
        });
        self.retry.replace(Some(timer));
        (self.on_event)(Event::Lost { retry_at: browser::now() + f64::from(wait), was_up });
    }

    /// Pings now and then, and looks at the connection when the browser or the page comes back.
    fn watch(self: &Rc<Self>) {
        let weak = Rc::downgrade(self);
        let pulse = Interval::new(PING, move || {
            if let Some(this) = weak.upgrade() {
                this.pulse();
            }
        });
        self.pulse.replace(Some(pulse));
        let come_back = |target: &web_sys::EventTarget, name: &'static str| {
            let weak = Rc::downgrade(self);
            EventListener::new(target, name, move |_| {
                if let Some(this) = weak.upgrade() {
                    this.come_back();
                }
            })
        };
        // A page that is left may be kept asleep for the way back (back/forward cache): it must not stay a viewer that
        // takes nothing.
        let weak = Rc::downgrade(self);
        let left = EventListener::new(&browser::window(), "pagehide", move |_| {
            if let Some(this) = weak.upgrade().filter(|this| !this.over.get()) {
                this.lost(true);
                this.retry.take();
            }
        });
        self.listeners.replace(vec![
            left,
            come_back(&browser::window(), "pageshow"),
            come_back(&browser::window(), "online"),
            come_back(&crate::reactive::document(), "visibilitychange"),
        ]);
    }

    fn pulse(self: &Rc<Self>) {
        if self.unanswered.get() >= UNANSWERED {
            self.lost(true);
        } else {
            self.ping();
        }
    }

    fn ping(&self) {
        let open = self.socket.borrow().as_ref().is_some_and(|s| s.socket.ready_state() == WebSocket::OPEN);
        if open {
            self.unanswered.set(self.unanswered.get() + 1);
            self.send_text(&FromPage::Ping { t: browser::now() });
        }
    }

    fn come_back(self: &Rc<Self>) {
        if crate::reactive::document().hidden() || self.over.get() {
            return;
        }
        if self.socket.borrow().is_none() {
            self.connect();
            return;
        }
        self.ping();
        let weak = Rc::downgrade(self);
        let probe = Timeout::new(PROBE, move || {
            if let Some(this) = weak.upgrade()
                && this.unanswered.get() > 0
            {
                this.lost(true);
            }
        });
        self.probe.replace(Some(probe));
    }

    fn send_text(&self, message: &FromPage) {
        let socket = self.socket.borrow();
        let Some(socket) = socket.as_ref().filter(|s| s.socket.ready_state() == WebSocket::OPEN) else {
            return;
        };
        if let Ok(text) = serde_json::to_string(message) {
            socket.socket.send(&text.into());
        }
    }
}
