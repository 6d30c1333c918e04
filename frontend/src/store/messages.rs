//! What the session says, taken apart: control messages change signals, terminal frames go to their terminals.

use super::{
    life::Life,
    own_sessions::{self, OwnSession},
    session::{Connection, Phase, SessionStore, USAGE_KEPT},
};
use crate::{
    browser,
    logic::{read::from_text, small::Few},
};
use drydock_protocol::{
    control::{FromPage, ToPage},
    frame::ServerFrame,
    state::{Role, SessionState},
};
use gloo_timers::callback::Timeout;
use js_sys::Uint8Array;

/// Bytes of a message that hold the whole of a frame without a body, or all that comes before the body.
const HEAD: u32 = 32;

impl SessionStore {
    /// A JSON message.
    pub(super) fn on_text(self, text: &str) {
        // What this page can't read is newer than it.
        let Some(message) = from_text::<ToPage>(text) else { return };
        match message {
            ToPage::Hello { you, role, input_seq } => self.on_hello(you, role, input_seq),
            ToPage::State { state } => self.on_state(state),
            ToPage::Opened { request, terminal } => self.on_opened(request, terminal),
            ToPage::Answers { terminal, yes } => {
                if let Some(view) = self.view(terminal) {
                    view.set_answers(yes);
                }
            }
            ToPage::Notice { text, request } => {
                self.notices.error(text);
                if let Some(request) = request {
                    self.not_opened(request);
                }
            }
            ToPage::Busy { terminal, program } => self.on_busy(terminal, program),
            ToPage::Pong { t } => {
                let median = self.inner().latency.borrow_mut().add(browser::now() - t);
                self.latency.set(Some(median));
            }
            ToPage::Life { seconds_left, can_extend, asleep } => {
                self.life.set(Some(Life::new(seconds_left, can_extend, asleep)));
                self.remember(seconds_left);
            }
            ToPage::Unknown => {}
        }
    }

    /// A terminal frame. What a terminal printed goes to its emulator as it came: only the frame's head is copied.
    pub(super) fn on_frame(self, message: &Uint8Array) {
        let head = message.subarray(0, message.length().min(HEAD)).to_vec();
        let Ok(frame) = ServerFrame::decode(&head) else { return };
        let body = |begun: &[u8]| message.subarray((head.len() - begun.len()) as u32, message.length());
        match frame {
            ServerFrame::Output { terminal, offset, bytes } => {
                if let Some(view) = self.view(terminal) {
                    view.output(offset, &body(bytes));
                }
            }
            ServerFrame::Snapshot { terminal, offset, size, bytes } => {
                if let Some(view) = self.view(terminal) {
                    view.snapshot(offset, size, &body(bytes));
                }
            }
            ServerFrame::Size { terminal, size } => {
                if let Some(view) = self.view(terminal) {
                    view.resized(size);
                }
            }
            ServerFrame::Exit { terminal, status } => self.state.update(|state| {
                // The next state says the same; this one comes right behind the last output.
                if let Some(t) = state.terminals.iter_mut().find(|t| t.id == terminal) {
                    t.exited = Some(status);
                }
            }),
        }
    }

    fn on_hello(self, you: u64, role: Role, input_seq: u32) {
        let inner = self.inner();
        inner.attach_all.set(true);
        inner.resume_from.set(input_seq);
        self.rooms.update(Few::clear);
        // What the last connection was asked for is not answered on this one.
        inner.asked.take().iter().for_each(|(_, asked)| self.give_up(asked));
        if let Some(link) = inner.link.borrow().as_ref() {
            link.works();
        }
        self.me.set(you);
        if self.role.get_untracked() != role {
            self.role.set(role);
        }
        for view in self.views() {
            view.set_read_only(role < Role::Type);
        }
        self.phase.set(Phase::Live);
    }

    fn on_state(self, state: SessionState) {
        let inner = self.inner();
        let first = !inner.seen_state.replace(true);
        if first {
            browser::mark("state");
        }
        self.keep_usage(&state);
        inner.ahead.borrow_mut().retain(|id| !state.terminals.iter().any(|t| t.id == *id));
        let present: Vec<_> = state.terminals.iter().map(|t| (t.id, t.node)).collect();
        if self.state.with_untracked(|old| *old != state) {
            self.state.set(state);
        }
        let fresh = inner.attach_all.replace(false);
        let had_focus = self.attach(&present, fresh);
        self.arrange(&present, first);
        if had_focus {
            self.focus_left();
        }
        if fresh {
            self.say_focus();
            self.connection.set(Connection::Up);
            let again = inner.outbox.borrow_mut().resume(inner.resume_from.get());
            if let Some(link) = inner.link.borrow().as_ref() {
                again.iter().for_each(|frame| link.send_bytes(frame));
            }
            // Once the message of the lost connection has given its room back.
            Timeout::new(0, move || self.tell_rooms()).forget();
        }
    }

    /// Each node's figures for its small chart.
    fn keep_usage(self, state: &SessionState) {
        self.usage.update(|all| {
            all.retain(|name| state.nodes.iter().any(|n| n.name == name));
            for node in &state.nodes {
                let Some(usage) = node.usage else { continue };
                match all.get_mut(node.name) {
                    Some(kept) => {
                        if kept.len() == USAGE_KEPT {
                            kept.remove(0);
                        }
                        kept.push(usage);
                    }
                    None => all.insert(node.name, vec![usage]),
                }
            }
        });
    }

    fn remember(self, seconds_left: u64) {
        let Some(id) = self.id.get_untracked() else { return };
        let nodes = self.state.with_untracked(|s| u8::try_from(s.nodes.len()).ok()).filter(|n| *n > 0);
        let expires_at = browser::wall_clock() + seconds_left;
        own_sessions::remember(OwnSession { id, playground: None, nodes, expires_at });
    }

    /// Sends a control message.
    pub(super) fn say(self, message: &FromPage) {
        if let Some(link) = self.inner().link.borrow().as_ref() {
            link.send_text(message);
        }
    }

    /// A request for a terminal was refused: the place that waited for it goes.
    fn not_opened(self, request: u32) {
        let inner = self.inner();
        let asked = inner.asked.borrow_mut().remove(request);
        if let Some(asked) = asked {
            self.give_up(&asked);
            let present: Vec<_> =
                self.state.with_untracked(|s| s.terminals.iter().map(|t| (t.id, t.node)).collect());
            self.arrange(&present, false);
        }
    }
}
