//! Where the terminals are on the screen: keeps the arrangement in step with the session, tells the session how much
//! room each visible terminal has, and moves the focus.

use super::{
    session::{Area, Connection, SessionStore, layout_key},
    terminals::Place,
    watch::watch,
};
use crate::reactive::*;
use crate::{
    browser,
    logic::layout::{Bar, Group, Id, Rect},
    net::rest,
    term::vendor,
};
use drydock_protocol::{
    NodeName, TerminalId,
    control::FromPage,
    frame::{ClientFrame, Size},
    state::Role,
};
use gloo_events::EventListener;
use gloo_timers::callback::Timeout;
use wasm_bindgen_futures::spawn_local;

/// How long sizes must rest before the session hears of them, in milliseconds.
const REST: u32 = 50;

impl SessionStore {
    /// The groups on the screen: all, or the one that a narrow screen shows.
    pub fn groups(self) -> Vec<(Group, Rect)> {
        self.layout.with(|l| if self.narrow.get() { vec![l.one_group()] } else { l.groups() })
    }

    /// The lines between them.
    pub fn bars(self) -> Vec<Bar> {
        if self.narrow.get() { Vec::new() } else { self.layout.with(|l| l.bars()) }
    }

    /// Shows a terminal and puts the focus into it.
    pub fn focus_terminal(self, id: TerminalId) {
        self.area.set(Area::Terminals);
        self.layout.update(|l| l.activate(id));
        self.inner().wants_focus.set(Some(id));
        // After the page has been drawn anew: a terminal that does not show can't have the focus.
        Timeout::new(0, move || self.give_focus(id)).forget();
    }

    /// Shows a terminal; the focus stays where it is.
    pub fn show_terminal(self, id: TerminalId) {
        self.layout.update(|l| l.activate(id));
    }

    /// A terminal is on the screen now, or the focus moved into it.
    pub fn give_focus(self, id: TerminalId) {
        let inner = self.inner();
        if inner.wants_focus.get() == Some(id)
            && let Some(view) = self.view(id).filter(|view| view.is_open())
        {
            inner.wants_focus.set(None);
            view.focus();
        }
    }

    /// The focus is in this terminal.
    pub fn focused(self, id: TerminalId) {
        let inner = self.inner();
        if inner.wants_focus.get() != Some(id) {
            inner.wants_focus.set(None);
        }
        if self.layout.with_untracked(|l| l.active()) != Some(id) {
            self.layout.update(|l| l.activate(id));
        }
    }

    /// A pane has another size.
    pub fn pane_resized(self, id: TerminalId) {
        // Without a connection nobody hears of it, and the message that says so takes some of the room.
        if self.connection.get_untracked() != Connection::Up
            && let Some(view) = self.view(id)
        {
            vendor::bring_cursor_to_sight(view.xterm());
        }
        let inner = self.inner();
        // The first size counts at once: the prompt is drawn for it.
        if self.rooms.with_untracked(|rooms| rooms.get(id).is_none()) {
            return self.tell_rooms();
        }
        let later = Timeout::new(REST, move || self.tell_rooms());
        inner.fit_later.replace(Some(later));
    }

    /// Tells the session how much room each terminal has, where that has changed.
    pub(super) fn tell_rooms(self) {
        if self.connection.get_untracked() != Connection::Up {
            return;
        }
        let inner = self.inner();
        let look = !document().hidden();
        let reader = self.role.get_untracked() < Role::Type;
        let shown: Vec<_> =
            untrack(|| self.groups()).into_iter().filter_map(|(group, _)| group.active).collect();
        for (id, view) in inner.views.borrow().iter() {
            let visible = look && shown.contains(&id);
            let room = visible.then(|| view.room()).flatten();
            if reader {
                view.shrink_to_fit();
                continue;
            }
            // A pane that shows but has not been drawn yet has no size to tell.
            let hidden = room.is_none() && visible && untrack(|| self.area.get()) == Area::Terminals;
            if hidden || self.rooms.with_untracked(|rooms| rooms.get(id) == Some(&room)) {
                continue;
            }
            self.rooms.update(|rooms| rooms.insert(id, room));
            if let Some(link) = inner.link.borrow().as_ref() {
                link.send_bytes(&ClientFrame::Resize { terminal: id, room }.encode());
            }
        }
    }

    /// A terminal's size, if another screen has less room for it than this one.
    pub fn limit(self, id: TerminalId) -> Option<Size> {
        let size = self.terminal(id).filter(|t| t.exited.is_none())?.size;
        let room = self.rooms.with(|rooms| rooms.get(id).copied().flatten())?.clamped();
        (size.cols < room.cols || size.rows < room.rows).then_some(size)
    }

    /// Only what can be seen gets the graphics card.
    pub(super) fn show_views(self) {
        let shown: Vec<_> =
            untrack(|| self.groups()).into_iter().filter_map(|(group, _)| group.active).collect();
        for (id, view) in self.inner().views.borrow().iter() {
            view.set_visible(shown.contains(&id));
        }
    }

    /// Brings the arrangement in step with the session's terminals. `entered`: for the first time.
    pub(super) fn arrange(self, present: &[(TerminalId, NodeName)], entered: bool) {
        let inner = self.inner();
        let asked = inner.asked.borrow();
        let waiting: Vec<Id> = asked
            .iter()
            .map(|(_, a)| a)
            .filter_map(|a| if let Place::Group(g) = a.place { Some(g) } else { None })
            .collect();
        let mut layout = self.layout.get_untracked();
        let mut ids: Vec<TerminalId> = present
            .iter()
            // A terminal that was probably asked for here gets its place when the answer comes.
            .filter(|(id, node)| {
                layout.group_of(*id).is_some() || !asked.iter().map(|(_, a)| a).any(|a| a.node == *node)
            })
            .map(|(id, _)| *id)
            .collect();
        ids.extend(inner.ahead.borrow().iter());
        layout.sync(&ids, &waiting);
        let first = entered || self.layout.with_untracked(|l| l.active().is_none());
        if self.layout.with_untracked(|old| *old != layout) {
            self.layout.set(layout);
        }
        if first && browser::focus_is_lost() {
            inner.wants_focus.set(self.layout.with_untracked(|l| l.active()));
        }
    }

    /// The terminal that had the focus is gone: the one that shows in its stead gets it, or what opens another.
    pub(super) fn focus_left(self) {
        match self.layout.with_untracked(|l| l.active()) {
            Some(active) => self.focus_terminal(active),
            None => {
                let another = || {
                    browser::focus("[data-area='terminals'] button");
                };
                Timeout::new(0, another).forget();
            }
        }
    }

    /// Says which terminal this page looks at.
    pub(super) fn say_focus(self) {
        let terminal = self.layout.with_untracked(|l| l.active());
        self.say(&FromPage::Focus { terminal });
    }

    /// Remembers the arrangement, and tells the session what is looked at.
    pub(super) fn follow_layout(self) {
        let mut before = None;
        watch(move || {
            let layout = self.layout.get();
            self.narrow.track();
            self.area.track();
            if let Some(id) = self.id.get_untracked()
                && !self.inner().views.borrow().is_empty()
            {
                browser::save(&layout_key(&id), &layout);
            }
            let active = layout.active();
            if std::mem::replace(&mut before, active) != active {
                self.say_focus();
                if self.closing.get_untracked().is_some_and(|asked| Some(asked.terminal) != active) {
                    self.keep_terminal();
                }
                if let Some(active) = active {
                    self.bells.update(|bells| bells.retain(|b| *b != active));
                }
            }
            self.show_views();
            // What is hidden now has no room any more; what shows now tells its own.
            let later = Timeout::new(REST, move || self.tell_rooms());
            self.inner().fit_later.replace(Some(later));
        });
        EventListener::new(&document(), "visibilitychange", move |_| self.tell_rooms()).forget();
    }

    /// Terminals follow what the learner chooses.
    pub(super) fn follow_settings(self) {
        let mut first = true;
        watch(move || {
            let (settings, dark) = (self.looks.settings.get(), self.looks.dark());
            if !std::mem::replace(&mut first, false) {
                for view in self.views() {
                    view.apply(&settings, dark);
                }
                // Another size of letters is another number of cells.
                Timeout::new(REST, move || self.tell_rooms()).forget();
            }
        });
    }

    /// Adds a node.
    pub fn add_node(self) {
        let Some(id) = self.id.get_untracked() else { return };
        if self.adding.get_untracked() {
            return;
        }
        self.adding.set(true);
        spawn_local(async move {
            match rest::add_node(&id).await {
                Ok(node) => {
                    self.notices.info(format!("{} is ready at {}.", node.name, node.address));
                    self.open_tab(node.name);
                }
                Err(problem) => self.notices.error(problem.message),
            }
            self.adding.set(false);
        });
    }

    /// Removes a node and its disk.
    pub fn remove_node(self, node: NodeName) {
        let Some(id) = self.id.get_untracked() else { return };
        spawn_local(async move {
            match rest::remove_node(&id, node).await {
                Ok(()) => self.notices.info(format!("{node} is removed.")),
                Err(problem) => self.notices.error(problem.message),
            }
        });
    }

    /// Runs a command in a node, words without quotes; only what goes wrong is told.
    pub fn run(self, node: NodeName, command: String) {
        let Some(id) = self.id.get_untracked() else { return };
        spawn_local(async move {
            if let Err(problem) = rest::run(&id, node, &command).await {
                self.notices.error(problem);
            }
        });
    }

    /// Switches a node on or off.
    pub fn power(self, node: NodeName, on: bool) {
        let Some(id) = self.id.get_untracked() else { return };
        spawn_local(async move {
            match rest::power(&id, node, on).await {
                Ok(()) => self.notices.info(format!("{node} is switched {}.", if on { "on" } else { "off" })),
                Err(problem) => self.notices.error(problem.message),
            }
        });
    }
}
