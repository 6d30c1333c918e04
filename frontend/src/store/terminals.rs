//! The session's terminals in this page: which are attached, what they send, what their keys do.

use super::session::{Area, Connection, SessionStore};
use crate::reactive::*;
use crate::{
    browser,
    logic::{
        keys::{self, Action, Direction},
        layout::{Axis, Id},
    },
    net::{self},
    term::{
        vendor,
        view::{Out, View},
    },
};
use drydock_protocol::{
    NodeName, TerminalId,
    control::FromPage,
    frame::ClientFrame,
    state::{Role, Terminal},
};
use gloo_timers::callback::Timeout;
use std::rc::Rc;
use wasm_bindgen_futures::{JsFuture, spawn_local};

/// Most bytes that are kept for a terminal that is not there yet.
const HELD: usize = 64 * 1024;

/// The question whether a terminal shall be closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Closing {
    /// Which one.
    pub terminal: TerminalId,
    /// What runs in it.
    pub program: String,
    /// Since when it is asked, on the clock of [`browser::now`].
    pub since: f64,
}

/// How soon after a press a second one is but the same double click, in milliseconds.
pub const SAME: f64 = 500.0;

/// The same where a second press soon after the first may well be meant: who closes several terminals, one after the other.
const HASTE: f64 = 250.0;

/// After how long a viewer who types is told again that it goes nowhere, in milliseconds.
const SAID_AGAIN: f64 = 60_000.0;

/// A terminal that was asked for.
#[derive(Debug)]
pub struct Asked {
    /// On which node.
    pub node: NodeName,
    /// Where it will be.
    pub place: Place,
    /// What was typed since, which is meant for it.
    pub typed: Vec<u8>,
}

/// Where a new terminal will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As a tab of a group.
    Group(Id),
    /// In the stead of one that has ended.
    Instead(TerminalId),
}

impl SessionStore {
    /// A terminal of this page.
    pub fn view(self, id: TerminalId) -> Option<Rc<View>> {
        self.inner().views.borrow().get(id).cloned()
    }

    /// All terminals of this page.
    pub(super) fn views(self) -> Vec<Rc<View>> {
        self.inner().views.borrow().iter().map(|(_, view)| view.clone()).collect()
    }

    /// What the server says about a terminal.
    pub fn terminal(self, id: TerminalId) -> Option<Terminal> {
        self.state.with(|s| s.terminals.iter().find(|t| t.id == id).cloned())
    }

    /// Asks for a terminal on a node.
    pub fn open_terminal(self, node: NodeName, place: Place) {
        self.open_and_type(node, place, Vec::new());
    }

    fn open_and_type(self, node: NodeName, place: Place, typed: Vec<u8>) {
        if self.connection.get_untracked() != Connection::Up {
            self.notices.error("There is no connection to the session just now. Try again when it is back.");
            return;
        }
        let inner = self.inner();
        let request = inner.next_request.get() + 1;
        inner.next_request.set(request);
        inner.asked.borrow_mut().insert(request, Asked { node, place, typed });
        self.say(&FromPage::Open { node, request });
    }

    /// A new tab in the focused group.
    pub fn open_tab(self, node: NodeName) {
        self.area.set(Area::Terminals);
        self.open_terminal(node, Place::Group(self.layout.with_untracked(|l| l.focus())));
    }

    /// A new tab in the focused group, in which a command runs.
    pub fn open_command(self, node: NodeName, command: &str) {
        self.area.set(Area::Terminals);
        let place = Place::Group(self.layout.with_untracked(|l| l.focus()));
        self.open_and_type(node, place, format!("{command}\r").into_bytes());
    }

    /// A new terminal beside a group, on the node of the group's own terminal.
    pub fn split(self, group: Id, axis: Axis) {
        let Some(node) = self.node_of_group(group) else { return };
        let groups = self.layout.with_untracked(|l| l.groups());
        let active = groups.iter().find(|(g, _)| g.id == group).and_then(|(g, _)| g.active);
        let room = active.and_then(|id| self.view(id)?.room());
        if room.is_some_and(|room| !axis.divides(room)) {
            return self.notices.error("This pane is too small for two. Make it larger, or open a tab.");
        }
        match self.layout.update(|layout| layout.split(group, axis)) {
            Some(new) => self.open_terminal(node, Place::Group(new)),
            None => self.notices.error("There is no room for more panes. Close one first."),
        }
    }

    /// The node of the terminal that a group shows.
    pub fn node_of_group(self, group: Id) -> Option<NodeName> {
        let groups = self.layout.with_untracked(|l| l.groups());
        let active = groups.iter().find(|(g, _)| g.id == group).and_then(|(g, _)| g.active);
        self.state.with_untracked(|s| {
            let of_terminal = s.terminals.iter().find(|t| Some(t.id) == active).map(|t| t.node);
            of_terminal.or_else(|| s.nodes.first().map(|n| n.name))
        })
    }

    /// Starts a new shell where one has ended.
    pub fn restart(self, ended: TerminalId) {
        let node = self.state.with_untracked(|s| s.terminals.iter().find(|t| t.id == ended).map(|t| t.node));
        if let Some(node) = node {
            self.open_terminal(node, Place::Instead(ended));
        }
    }

    /// Closes a terminal. If something runs in it beside its shell, it only asks the first time ([`Self::on_busy`]); asked again it closes.
    pub fn close_terminal(self, id: TerminalId) {
        let runs =
            self.state.with_untracked(|s| s.terminals.iter().any(|t| t.id == id && t.exited.is_none()));
        match self.closing.get_untracked() {
            Some(asked) if runs && asked.terminal == id => {
                if browser::now() - asked.since > SAME {
                    self.end_terminal(id, true);
                }
            }
            _ => self.end_terminal(id, !runs),
        }
    }

    /// The terminal that was to be closed runs a program: asks (`ui::terminal_pane`).
    pub fn on_busy(self, id: TerminalId, program: String) {
        self.show_terminal(id);
        self.closing.set(Some(Closing { terminal: id, program, since: browser::now() }));
    }

    /// Nothing is asked any more.
    pub fn keep_terminal(self) {
        if self.closing.with_untracked(Option::is_some) {
            self.closing.set(None);
        }
    }

    /// Ends a terminal.
    fn end_terminal(self, id: TerminalId, anyway: bool) {
        let (inner, now) = (self.inner(), browser::now());
        // The second press of a double one meets another terminal's cross.
        if !anyway && inner.closed_at.get().is_some_and(|at| now - at < HASTE) {
            return;
        }
        inner.closed_at.set(Some(now));
        self.keep_terminal();
        self.say(&FromPage::Close { terminal: id, anyway });
    }

    /// What was typed goes to the terminal that is to have the focus, if that is still on its way to it.
    pub fn typed(self, id: TerminalId, bytes: &[u8]) {
        self.keep_terminal();
        let inner = self.inner();
        if let Some(asked) = inner.asked.borrow_mut().last_mut() {
            if asked.typed.len() + bytes.len() > HELD {
                self.notices.error("The new terminal is not there yet. What you type is not kept any more.");
            } else {
                asked.typed.extend(bytes);
            }
            return;
        }
        let wanted = inner.wants_focus.get().filter(|wanted| self.view(*wanted).is_some());
        self.type_into(wanted.unwrap_or(id), bytes);
    }

    /// A terminal that was asked for will not come; says so if something was typed for it.
    pub(super) fn give_up(self, asked: &Asked) {
        if !asked.typed.is_empty() {
            self.notices.error("The new terminal was not opened. What you typed for it is dropped.");
        }
    }

    /// Types into a terminal.
    pub fn type_into(self, id: TerminalId, bytes: &[u8]) {
        if self.role.get_untracked() < Role::Type {
            return;
        }
        let ended =
            self.state.with_untracked(|s| s.terminals.iter().any(|t| t.id == id && t.exited.is_some()));
        if ended {
            if bytes == b"\r" {
                self.restart(id);
            }
            return;
        }
        let held = self.ctrl.get_untracked();
        let mut control = [0];
        let bytes = match std::str::from_utf8(bytes).ok().filter(|_| held).and_then(keys::with_ctrl) {
            Some(byte) => {
                self.ctrl.set(false);
                control[0] = byte;
                &control[..]
            }
            None => bytes,
        };
        let inner = self.inner();
        let up = self.connection.get_untracked() == Connection::Up;
        let messages = inner.outbox.borrow_mut().push(id, bytes, up);
        match messages {
            Ok(messages) => {
                if let Some(link) = inner.link.borrow().as_ref() {
                    messages.iter().for_each(|m| link.send_bytes(m));
                }
            }
            Err(_) => self
                .notices
                .error("There is no connection, and no room to keep more of what you type until it is back."),
        }
    }

    /// The connection has told of these terminals: those that are new are attached, those that are gone let go. Tells whether one
    /// of those had the focus.
    pub(super) fn attach(self, present: &[(TerminalId, NodeName)], all: bool) -> bool {
        let inner = self.inner();
        let mut had_focus = false;
        let stays =
            |id: &TerminalId| present.iter().any(|(p, _)| p == id) || inner.ahead.borrow().contains(id);
        let gone: Vec<TerminalId> =
            inner.views.borrow().iter().map(|(id, _)| id).filter(|id| !stays(id)).collect();
        for id in gone {
            // Taken out before it is dropped: letting go of a terminal moves the focus, which looks at the others.
            let view = inner.views.borrow_mut().remove(id);
            had_focus |= view.as_ref().is_some_and(|view| view.has_focus());
            drop(view);
        }
        for (id, _) in present {
            let known = self.view(*id);
            let new = known.is_none();
            let view = known.unwrap_or_else(|| self.make_view(*id));
            if all {
                view.reconnected();
            }
            if new || all {
                self.say(&FromPage::Attach { terminal: *id, from: view.from() });
            }
        }
        had_focus
    }

    /// An answer to a request for a terminal.
    pub(super) fn on_opened(self, request: u32, id: TerminalId) {
        let inner = self.inner();
        let Some(asked) = inner.asked.borrow_mut().remove(request) else { return };
        if self.state.with_untracked(|s| !s.terminals.iter().any(|t| t.id == id)) {
            inner.ahead.borrow_mut().push(id);
        }
        if self.view(id).is_none() {
            self.make_view(id);
            self.say(&FromPage::Attach { terminal: id, from: None });
        }
        match asked.place {
            Place::Group(group) => self.layout.update(|l| l.place(id, group)),
            Place::Instead(ended) => {
                self.layout.update(|l| l.replace(ended, id));
                self.end_terminal(ended, true);
            }
        }
        self.focus_terminal(id);
        if !asked.typed.is_empty() {
            self.type_into(id, &asked.typed);
        }
    }

    fn make_view(self, id: TerminalId) -> Rc<View> {
        let settings = self.looks.settings.get_untracked();
        let view =
            View::new(id, &settings, untrack(|| self.looks.dark()), move |id, out| self.on_out(id, out));
        view.set_read_only(self.role.get_untracked() < Role::Type);
        self.inner().views.borrow_mut().insert(id, view.clone());
        view
    }

    fn on_out(self, id: TerminalId, out: Out) {
        match out {
            Out::Input { bytes, typed: true } => self.typed(id, &bytes),
            Out::Input { bytes, typed: false } => self.type_into(id, &bytes),
            Out::Ack(offset) => {
                if let Some(link) = self.inner().link.borrow().as_ref() {
                    link.send_bytes(&ClientFrame::Ack { terminal: id, offset }.encode());
                }
            }
            Out::Again(from) => self.say(&FromPage::Attach { terminal: id, from }),
            Out::Bell => {
                if self.layout.with_untracked(|l| l.active()) != Some(id) {
                    self.bells.update(|bells| {
                        if !bells.contains(&id) {
                            bells.push(id);
                        }
                    });
                }
            }
            Out::Action(action) => self.act(id, action),
            Out::Refused => self.say_that_it_only_looks(),
            Out::Link(address) => self.follow_link(id, &address),
            Out::FirstParsed => {
                if !self.inner().seen_output.replace(true) {
                    browser::mark("first-output-parsed");
                }
                // Looking for a graphics card takes a while; the prompt is drawn first.
                Timeout::new(500, move || self.show_views()).forget();
            }
        }
    }

    fn say_that_it_only_looks(self) {
        let said = &self.inner().said_that_it_only_looks;
        if said.get().is_none_or(|at| browser::now() - at > SAID_AGAIN) {
            said.set(Some(browser::now()));
            self.notices
                .info("You can look here, not type. Ask whoever shared the link for one to type with.");
        }
    }

    /// What a key of a terminal does.
    pub fn act(self, id: TerminalId, action: Action) {
        let group = self.layout.with_untracked(|l| l.group_of(id)).unwrap_or_default();
        match action {
            Action::Copy => {
                self.copy_selection(id);
                // With nothing selected the next Ctrl+C is the program's.
                if let Some(view) = self.view(id) {
                    view.clear_selection();
                }
            }
            Action::Paste => {}
            Action::Search => {
                self.searching.set(Some(id));
                // The box may be open already.
                let again = move || {
                    browser::focus(&format!("[data-testid='search-{id}']"));
                };
                Timeout::new(0, again).forget();
            }
            Action::Leave => self.leave_terminal(id),
            Action::Move(direction) => self.move_focus(group, direction),
            Action::NextArea { back } => next_area(back),
            Action::NewTerminal => {
                if let Some(node) = self.node_of_group(group) {
                    self.open_terminal(node, Place::Group(group));
                }
            }
            Action::Split { down } => self.split(group, if down { Axis::Column } else { Axis::Row }),
            Action::FontSize(step) => self.looks.settings.update(|s| s.change_font(step)),
        }
    }

    /// Copies what is selected in a terminal.
    pub fn copy_selection(self, id: TerminalId) {
        if let Some(text) = self.view(id).and_then(|view| view.selection()) {
            self.copy(text, None);
        }
    }

    /// Copies text; says `done` if it worked.
    pub fn copy(self, text: String, done: Option<&'static str>) {
        spawn_local(async move {
            let copied = JsFuture::from(vendor::copy_text(&text)).await.is_ok_and(|v| v.is_truthy());
            match done {
                Some(done) if copied => self.notices.info(done),
                _ if !copied => self.notices.error("The browser does not let this page copy. Select the text and copy it with the browser's menu."),
                _ => {}
            }
        });
    }

    /// The focus leaves a terminal for its tab.
    fn leave_terminal(self, id: TerminalId) {
        if browser::focus(&format!("[data-testid='tab-{id}']")) {
            return;
        }
        browser::focus("[data-area='terminals'] button");
    }

    /// The focus goes to the pane on one side, or out of the terminals where there is none.
    fn move_focus(self, group: Id, direction: Direction) {
        let layout = self.layout.get_untracked();
        let beside = layout.neighbour(group, direction).filter(|_| !self.narrow.get_untracked());
        let target = beside.and_then(|id| layout.groups().into_iter().find(|(g, _)| g.id == id)?.0.active);
        if let Some(terminal) = target {
            return self.focus_terminal(terminal);
        }
        let found = match direction {
            Direction::Left => focus_area("nodes"),
            Direction::Right => focus_area("files"),
            Direction::Up | Direction::Down => false,
        };
        if !found && let Some(active) = layout.active() {
            self.leave_terminal(active);
        }
    }

    /// An address in a terminal's output: one of the session's own ports opens through its port link.
    fn follow_link(self, id: TerminalId, address: &str) {
        let Ok(url) = web_sys::Url::new(address) else { return };
        if !matches!(url.protocol().as_str(), "http:" | "https:") {
            return self.notices.error("Only http and https links are opened from a terminal.");
        }
        let port = url.port().parse().unwrap_or(if url.protocol() == "https:" { 443 } else { 80 });
        let host = url.hostname();
        let node = self.state.with_untracked(|state| {
            let own = matches!(host.as_str(), "localhost" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]");
            let here = state.terminals.iter().find(|t| t.id == id && own).map(|t| t.node);
            here.or_else(|| {
                state.nodes.iter().find(|n| n.address == host || n.name.to_string() == host).map(|n| n.name)
            })
        });
        match node {
            Some(node) => self.open_port(node, port, &(url.pathname() + &url.search() + &url.hash())),
            None => net::rest::open_window(address),
        }
    }
}

/// The areas that F6 goes through, in their order on the page.
const AREAS: [&str; 6] = ["top", "nodes", "terminals", "docker", "files", "tabs"];

/// Puts the focus into an area; tells whether there is such an area on the page now.
pub fn focus_area(area: &str) -> bool {
    if area == "terminals" && browser::focus(".term-pane:not([hidden]) textarea") {
        return true;
    }
    let inside = format!(
        "[data-area='{area}']:not([hidden]) :is([tabindex='0'], button:not([disabled]):not([tabindex='-1']), a[href], input, select)"
    );
    browser::focus(&inside)
}

/// Puts the focus into the next area, or the one before.
pub fn next_area(back: bool) {
    let now = browser::focused()
        .and_then(|e| e.closest("[data-area]").ok().flatten())
        .and_then(|e| e.get_attribute("data-area"))
        .and_then(|name| AREAS.iter().position(|a| *a == name));
    let count = AREAS.len();
    let start = now.unwrap_or(if back { 0 } else { count - 1 });
    for step in 1..=count {
        let at = if back { (start + count - step % count) % count } else { (start + step) % count };
        if focus_area(AREAS[at]) {
            return;
        }
    }
}
