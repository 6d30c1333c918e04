//! The tabs of one group of terminals, and the buttons that open, split and close.

use super::parts::{each, flag, on, text, when};
use super::{
    icon::{self, Icon},
    workspace::fill,
};
use crate::{
    logic::layout::{Axis, Group, Id, Rect},
    store::{terminals::Place, use_app},
};
use drydock_protocol::TerminalId;
use leptos::prelude::*;
use web_sys::{KeyboardEvent, MouseEvent};

/// The bar.
#[component]
pub fn TabBar(id: Id) -> impl IntoView {
    let session = use_app().session;
    let group = Memo::new(move |_| session.groups().into_iter().find(|(g, _)| g.id == id));
    let tabs = move || {
        group.with(|g| g.as_ref().map(|(g, _)| g.tabs.iter().map(|t| t.0).collect()).unwrap_or_default())
    };
    let place = move || fill(group.with(|g| g.as_ref().map_or(Rect { x: 0.0, y: 0.0, w: 0.0, h: 0.0 }, |(_, r)| *r)));
    let focus = move || session.layout.with(|l| l.focus()) == id;
    // Arrow keys go through the tabs; Tab goes on to the terminal.
    let key = move |event: KeyboardEvent| {
        let Some((Group { tabs, active, .. }, _)) = group.get_untracked() else { return };
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
        crate::browser::focus(&format!("[data-testid='tab-{next}']"));
    };
    view! {
        <div class="tab-bar" class:focus=flag(focus) style=text(place)>
            <div class="tabs" role="tablist" aria-label="Terminals of this pane" on:keydown=on(key)>
                {each(tabs, move |number| {
                    let active = Signal::derive(move || group.with(|g| g.as_ref().and_then(|(g, _)| g.active)));
                    view! { <Tab terminal=TerminalId(number) group=active/> }.into_any()
                })}
            </div>
            {when(move || session.may_type(), move || view! {
                <GroupButtons id group/>
            }.into_any())}
        </div>
    }
}

/// One tab. The cross is for the mouse only; the keyboard closes with Delete, so that nothing focusable is inside a tab.
#[component]
fn Tab(terminal: TerminalId, group: Signal<Option<TerminalId>>) -> impl IntoView {
    let session = use_app().session;
    let active = move || group.get() == Some(terminal);
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
    let ended = move || session.terminal(terminal).is_some_and(|t| t.exited.is_some());
    let close = move |event: MouseEvent| {
        event.stop_propagation();
        session.close_terminal(terminal);
    };
    view! {
        <div
            class="tab"
            class:active=flag(active)
            class:ended=flag(ended)
            class:bell=flag(move || session.bells.with(|b| b.contains(&terminal)))
            role="tab"
            id=format!("tab-{terminal}")
            data-testid=format!("tab-{terminal}")
            aria-selected=text(move || active().to_string())
            aria-controls=format!("terminal-{terminal}")
            tabindex=text(move || if active() { "0" } else { "-1" })
            title=text(name)
            on:click=on(move |_| session.focus_terminal(terminal))
            on:auxclick=on(move |event: MouseEvent| {
                if event.button() == 1 && untrack(|| session.may_type()) {
                    close(event);
                }
            })
        >
            <span class="tab-name">{text(name)}</span>
            {when(move || session.may_type(), move || view! {
                <span class="tab-close" aria-hidden="true" title="Close (Delete)" on:click=on(close)><Icon d=icon::CLOSE/></span>
            }.into_any())}
        </div>
    }
}

/// Opens, splits, closes.
#[component]
fn GroupButtons(id: Id, group: Memo<Option<(Group, Rect)>>) -> impl IntoView {
    let app = use_app();
    let session = app.session;
    let active = move || group.with_untracked(|g| g.as_ref().and_then(|(g, _)| g.active));
    let new = move |_| {
        if let Some(node) = session.node_of_group(id) {
            session.open_terminal(node, Place::Group(id));
        }
    };
    let close = move |_| {
        if let Some(terminal) = active() {
            session.close_terminal(terminal);
        }
    };
    view! {
        <div class="group-buttons">
            <button class="quiet" data-testid="new-tab" title="New terminal (Ctrl+Shift+Enter)" aria-label="New terminal" on:click=on(new)>
                <Icon d=icon::PLUS/>
            </button>
            <button
                class="quiet wide-only"
                data-testid="split-right"
                title="Split to the right (Ctrl+Shift+E)"
                aria-label="Split to the right"
                on:click=on(move |_| session.split(id, Axis::Row))
            ><Icon d=icon::SPLIT_RIGHT/></button>
            <button
                class="quiet wide-only"
                data-testid="split-down"
                title="Split downwards (Ctrl+Shift+O)"
                aria-label="Split downwards"
                on:click=on(move |_| session.split(id, Axis::Column))
            ><Icon d=icon::SPLIT_DOWN/></button>
            <button class="quiet" data-testid="close-tab" title="Close this terminal" aria-label="Close this terminal" on:click=on(close)>
                <Icon d=icon::CLOSE/>
            </button>
        </div>
    }
}
