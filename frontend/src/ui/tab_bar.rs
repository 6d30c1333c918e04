//! The tabs of one group of terminals, and the buttons that open, split and close.

use super::el::{El, el};
use super::{
    icon::{self, icon, icon_button},
    workspace::fill,
};
use crate::reactive::*;
use crate::{
    browser,
    logic::layout::{Axis, Group, Id},
    store::{terminals::Place, use_app, watch::watch},
};
use drydock_protocol::TerminalId;
use web_sys::{Element, KeyboardEvent, MouseEvent};

/// The bar.
pub fn tab_bar(id: Id) -> El {
    let session = use_app().session;
    let group = move || session.groups().into_iter().find(|(g, _)| g.id == id);
    let tabs = move || group().map(|(g, _)| g.tabs.iter().map(|t| t.0).collect()).unwrap_or_default();
    let place = move || group().map(|(_, rect)| fill(rect)).unwrap_or_default();
    let focus = move || session.layout.with(|l| l.focus()) == id;
    // Arrow keys go through the tabs; Tab goes on to the terminal.
    let key = move |event: KeyboardEvent| {
        let Some((Group { tabs, active, .. }, _)) = untrack(group) else { return };
        let Some(at) = tabs.iter().position(|t| Some(*t) == active) else { return };
        let next = match event.key().as_str() {
            "ArrowLeft" => tabs[(at + tabs.len() - 1) % tabs.len()],
            "ArrowRight" => tabs[(at + 1) % tabs.len()],
            "Home" => tabs[0],
            "End" => tabs[tabs.len() - 1],
            "Delete" if untrack(|| session.may_type()) => return session.close_terminal(tabs[at]),
            "Enter" | "ArrowDown" => {
                event.prevent_default();
                return session.focus_terminal(tabs[at]);
            }
            _ => return,
        };
        event.prevent_default();
        session.show_terminal(next);
        browser::focus(&format!("[data-testid='tab-{next}']"));
    };
    let list = el("div");
    browser::keep_tab_in_sight(&list.dom());
    el("div")
        .class("tab-bar")
        .class_if("focus", focus)
        .attr_of("style", place)
        .child(
            list.class("tabs")
                .attr("role", "tablist")
                .attr("aria-label", "Terminals of this pane")
                .on("keydown", key)
                .each(tabs, move |number| tab(TerminalId(number), id)),
        )
        .when(move || session.may_type(), move || group_buttons(id))
}

/// One tab. The cross is for the mouse only; the keyboard closes with Delete, so that nothing focusable is inside a tab.
fn tab(terminal: TerminalId, group: Id) -> El {
    let session = use_app().session;
    let active = move || session.groups().iter().any(|(g, _)| g.id == group && g.active == Some(terminal));
    let name = move || {
        session.terminal(terminal).map_or_else(
            || "…".to_owned(),
            |t| match t.title.trim() {
                "" => t.node.to_string(),
                title if title.starts_with(&t.node.to_string()) => title.to_owned(),
                title => format!("{}: {title}", t.node),
            },
        )
    };
    let named = move || format!("Terminal {terminal}, {}", name());
    let ended = move || session.terminal(terminal).is_some_and(|t| t.exited.is_some());
    let close = move |event: MouseEvent| {
        event.stop_propagation();
        session.close_terminal(terminal);
    };
    let made = el("div");
    let element: Element = made.dom();
    watch(move || {
        if active() {
            browser::bring_to_sight(&element);
        }
    });
    made.class("tab")
        .class_if("active", active)
        .class_if("ended", ended)
        .class_if("bell", move || session.bells.with(|b| b.contains(&terminal)))
        .attr("role", "tab")
        .attr("id", format!("tab-{terminal}"))
        .testid(format!("tab-{terminal}"))
        .attr_of("aria-selected", move || active().to_string())
        .attr("aria-controls", format!("terminal-{terminal}"))
        .attr_of("tabindex", move || if active() { "0" } else { "-1" })
        .attr_of("title", named)
        .click(move || session.focus_terminal(terminal))
        .on("auxclick", move |event: MouseEvent| {
            if event.button() == 1 && untrack(|| session.may_type()) {
                close(event);
            }
        })
        .child(el("span").class("muted").text(format!("{terminal} ")))
        .child(el("span").class("tab-name").text_of(name))
        .when(
            move || session.may_type(),
            move || {
                el("span")
                    .class("tab-close")
                    .attr("aria-hidden", "true")
                    .attr("title", "Close (Delete)")
                    .on("click", close)
                    .child(icon(icon::CLOSE))
            },
        )
}

/// Opens, splits, closes.
fn group_buttons(id: Id) -> El {
    let app = use_app();
    let session = app.session;
    let active = move || {
        untrack(|| session.groups()).into_iter().find(|(g, _)| g.id == id).and_then(|(g, _)| g.active)
    };
    let new = move || {
        if let Some(node) = session.node_of_group(id) {
            session.open_terminal(node, Place::Group(id));
        }
    };
    let close = move || {
        if let Some(terminal) = active() {
            session.close_terminal(terminal);
        }
    };
    el("div")
        .class("group-buttons")
        .child(icon_button("New terminal (Ctrl+Shift+Enter)", icon::PLUS).testid("new-tab").click(new))
        .child(
            icon_button("Split to the right (Ctrl+Shift+E)", icon::SPLIT_RIGHT)
                .class("quiet wide-only")
                .testid("split-right")
                .click(move || session.split(id, Axis::Row)),
        )
        .child(
            icon_button("Split downwards (Ctrl+Shift+O)", icon::SPLIT_DOWN)
                .class("quiet wide-only")
                .testid("split-down")
                .click(move || session.split(id, Axis::Column)),
        )
        .child(icon_button("Close this terminal", icon::CLOSE).testid("close-tab").click(close))
}
