//! The place of one terminal on the screen: gives xterm.js its element, watches its size, takes dropped files, and says
//! when the program has ended.

use super::parts::{flag, on, part, text, when};
use super::{search_box::SearchBox, workspace::fill};
use crate::store::{App, use_app};
use drydock_protocol::TerminalId;
use gloo_events::EventListener;
use leptos::{html, prelude::*};
use wasm_bindgen::{JsCast, prelude::Closure};
use web_sys::{DragEvent, ResizeObserver};

/// The pane.
#[component]
pub fn TerminalPane(id: TerminalId) -> impl IntoView {
    let app = use_app();
    let session = app.session;
    let host = NodeRef::<html::Div>::new();
    let place = Memo::new(move |_| {
        session.groups().into_iter().find(|(g, _)| g.active == Some(id)).map(|(_, rect)| rect)
    });
    let node = Memo::new(move |_| session.terminal(id).map(|t| t.node));
    let label = move || {
        let on = node.get().map_or_else(String::new, |node| format!(" on {node}"));
        let only = if session.may_type() { "" } else { " View only." };
        format!("Terminal {id}{on}.{only} Control, Shift and Escape leave it.")
    };
    open_when_shown(app, id, host, Memo::new(move |_| place.get().is_some()), label);
    let dragging = RwSignal::new(false);
    let on_drop = move |event: DragEvent| {
        event.prevent_default();
        dragging.set(false);
        let files = event.data_transfer().and_then(|data| data.files()).filter(|files| files.length() > 0);
        if let (Some(files), Some(node), true) = (files, node.get_untracked(), untrack(|| session.may_type())) {
            app.files.upload_home(node, &files);
        }
    };
    view! {
        <div
            class="term-pane"
            id=format!("terminal-{id}")
            role="tabpanel"
            aria-labelledby=format!("tab-{id}")
            data-testid=format!("terminal-{id}")
            hidden=flag(move || place.get().is_none())
            style=text(move || place.get().map(fill).unwrap_or_default())
            class:focus=flag(move || session.layout.with(|l| l.active()) == Some(id))
            class:stale=flag(move || session.connection.get() != crate::store::session::Connection::Up)
            on:focusin=on(move |_| session.focused(id))
            on:mousedown=on(move |_| copy_when_selected(app, id))
            on:dragover=on(move |event: DragEvent| {
                event.prevent_default();
                dragging.set(true);
            })
            on:dragleave=on(move |_| dragging.set(false))
            on:drop=on(on_drop)
        >
            <div class="term-host" node_ref=host></div>
            {when(move || session.searching.get() == Some(id), move || view! { <SearchBox id/> }.into_any())}
            {when(move || dragging.get() && session.may_type(), move || view! {
                <p class="drop-hint">{text(move || format!("Drop to upload into /root of {}", node.get().map(|n| n.to_string()).unwrap_or_default()))}</p>
            }.into_any())}
            <Ended id/>
        </div>
    }
}

/// Hands the element to xterm.js when it first shows, and tells the store when its size changes.
fn open_when_shown(
    app: App, id: TerminalId, host: NodeRef<html::Div>, shown: Memo<bool>, label: impl Fn() -> String + Copy + Send + Sync + 'static,
) {
    let session = app.session;
    let watcher = StoredValue::new_local(None::<(ResizeObserver, Closure<dyn Fn()>)>);
    // After a reload the remembered layout shows the pane before the session has told of its terminal.
    let there = Memo::new(move |_| session.terminal(id).is_some());
    Effect::new(move |_| {
        let (Some(element), true, true) = (host.get(), shown.get(), there.get()) else { return };
        let Some(view) = session.view(id) else { return };
        if view.is_open() {
            return;
        }
        view.open(&element, &untrack(label));
        let resized = Closure::<dyn Fn()>::new(move || session.pane_resized(id));
        if let Ok(observer) = ResizeObserver::new(resized.as_ref().unchecked_ref()) {
            observer.observe(&element);
            watcher.set_value(Some((observer, resized)));
        }
        session.pane_resized(id);
        session.give_focus(id);
    });
    Effect::new(move |_| {
        let label = label();
        if let Some(view) = session.view(id).filter(|view| view.is_open()) {
            view.set_label(&label);
        }
    });
    on_cleanup(move || {
        watcher.update_value(|watcher| {
            if let Some((observer, _)) = watcher.take() {
                observer.disconnect();
            }
        });
    });
}

/// A selection is copied when the mouse lets go, wherever that is.
fn copy_when_selected(app: App, id: TerminalId) {
    if app.settings.with_untracked(|s| s.copy_on_select) {
        EventListener::once(&document(), "mouseup", move |_| app.session.copy_selection(id)).forget();
    }
}

/// What is said when the program of a terminal has ended.
#[component]
fn Ended(id: TerminalId) -> impl IntoView {
    let session = use_app().session;
    let exited = Memo::new(move |_| session.terminal(id).and_then(|t| t.exited));
    part(move || {
        let Some(status) = exited.get() else { return ().into_any() };
        view! {
            <div class="ended" role="status" data-testid=format!("exit-{id}")>
                <span>{format!("The shell has ended with status {status}.")}</span>
                {when(move || session.may_type(), move || view! {
                    <button data-testid=format!("restart-{id}") on:click=on(move |_| session.restart(id))>
                        "Start a new one (Enter)"
                    </button>
                    <button on:click=on(move |_| session.close_terminal(id))>"Close"</button>
                }.into_any())}
            </div>
        }
        .into_any()
    })
}
