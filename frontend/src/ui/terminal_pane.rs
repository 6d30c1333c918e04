//! The place of one terminal on the screen: gives xterm.js its element, watches its size, takes dropped files, and says
//! when the program has ended.

use super::el::{El, el, group, nothing};
use super::{files_dock::dropped_files, search_box::search_box, workspace::fill};
use crate::reactive::*;
use crate::store::watch::watch;
use crate::store::{App, use_app};
use drydock_protocol::TerminalId;
use gloo_events::EventListener;
use wasm_bindgen::{JsCast, prelude::Closure};
use web_sys::{DragEvent, Element, Event, ResizeObserver};

/// The pane.
pub fn terminal_pane(id: TerminalId) -> El {
    let app = use_app();
    let session = app.session;
    let host = el("div").class("term-host");
    let place =
        move || session.groups().into_iter().find(|(g, _)| g.active == Some(id)).map(|(_, rect)| rect);
    let node = move || session.terminal(id).map(|t| t.node);
    let label = move || {
        let on = node().map_or_else(String::new, |node| format!(" on {node}"));
        let only = if session.may_type() { "" } else { " View only." };
        let tells = app.settings.with(|s| s.screen_reader);
        let how = if tells { "" } else { " The settings have a switch for screen readers." };
        format!("Terminal {id}{on}.{only} Control, Shift and Escape leave it.{how}")
    };
    open_when_shown(app, id, host.dom(), move || place().is_some(), label);
    let dragging = RwSignal::new(false);
    let on_drop = move |event: DragEvent| {
        event.prevent_default();
        dragging.set(false);
        if !untrack(|| session.may_type()) {
            app.notices
                .info("You can look here, not upload. Ask whoever shared the link for one to type with.");
        } else if let Some(node) = untrack(node) {
            app.files.upload_home(node, dropped_files(app, &event));
        }
    };
    el("div")
        .class("term-pane")
        .attr("id", format!("terminal-{id}"))
        .attr("role", "tabpanel")
        .attr("aria-labelledby", format!("tab-{id}"))
        .testid(format!("terminal-{id}"))
        .attr_if("hidden", move || place().is_none())
        .attr_of("style", move || place().map(fill).unwrap_or_default())
        .class_if("focus", move || session.layout.with(|l| l.active()) == Some(id))
        .class_if("limited", move || session.limit(id).is_some())
        .class_if("looks", move || !session.may_type())
        .class_if("stale", move || session.connection.get() != crate::store::session::Connection::Up)
        .on("focusin", move |_: Event| session.focused(id))
        .on_first("mousedown", move |_: Event| copy_when_selected(app, id))
        .on("dragover", move |event: DragEvent| {
            event.prevent_default();
            dragging.set(true);
        })
        .on("dragleave", move |_: Event| dragging.set(false))
        .on("drop", on_drop)
        .child(host)
        .when(move || session.searching.get() == Some(id), move || search_box(id))
        .when(
            move || dragging.get() && session.may_type(),
            move || {
                el("p").class("drop-hint").text_of(move || {
                    format!(
                        "Drop to upload into /root of {}",
                        node().map(|n| n.to_string()).unwrap_or_default()
                    )
                })
            },
        )
        .when(move || session.limit(id).is_some(), move || limit(id))
        .child(ended(id))
        .when(move || session.closing.get().is_some_and(|asked| asked.terminal == id), move || closing(id))
}

/// Hands the element to xterm.js when it first shows, and tells the store when its size changes.
fn open_when_shown(
    app: App,
    id: TerminalId,
    host: Element,
    shown: impl Fn() -> bool + 'static,
    label: impl Fn() -> String + Copy + 'static,
) {
    let session = app.session;
    let watcher = StoredValue::new_local(None::<(ResizeObserver, Closure<dyn Fn()>)>);
    // After a reload the remembered layout shows the pane before the session has told of its terminal.
    let there = move || session.terminal(id).is_some();
    watch(move || {
        if !shown() || !there() {
            return;
        }
        let Some(view) = session.view(id) else { return };
        if view.is_open() {
            return;
        }
        view.open(&host, &untrack(label));
        let resized = Closure::<dyn Fn()>::new(move || session.pane_resized(id));
        if let Ok(observer) = ResizeObserver::new(resized.as_ref().unchecked_ref()) {
            observer.observe(&host);
            watcher.set_value(Some((observer, resized)));
        }
        session.pane_resized(id);
        session.give_focus(id);
    });
    let mut told = String::new();
    watch(move || {
        let now = label();
        if now == told {
            return;
        }
        if let Some(view) = session.view(id).filter(|view| view.is_open()) {
            view.set_label(&now);
            told = now;
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

/// Asks whether a terminal shall be closed in which something runs.
fn closing(id: TerminalId) -> El {
    let session = use_app().session;
    let program = session.closing.get_untracked().map_or_else(String::new, |asked| asked.program);
    el("div")
        .class("ended closing")
        .attr("role", "alert")
        .testid(format!("closing-{id}"))
        .child(el("span").text(format!("Close this terminal? {program} still runs in it and ends.")))
        .child(
            el("button")
                .class("danger-fill")
                .testid(format!("close-{id}"))
                .click(move || {
                    session.focus_terminal(id);
                    session.close_terminal(id);
                })
                .text("Close it"),
        )
        .child(
            el("button")
                .click(move || {
                    session.keep_terminal();
                    session.focus_terminal(id);
                })
                .text("Keep it"),
        )
}

/// Why a part of the pane stays empty.
fn limit(id: TerminalId) -> El {
    let session = use_app().session;
    el("p").class("limit").testid(format!("limit-{id}")).text_of(move || {
        session.limit(id).map_or_else(String::new, |size| {
            format!("Limited by another screen ({} × {})", size.cols, size.rows)
        })
    })
}

/// What is said when the program of a terminal has ended.
fn ended(id: TerminalId) -> El {
    let session = use_app().session;
    let exited = move || session.terminal(id).and_then(|t| t.exited);
    group().switch(exited, move |exited| {
        let Some(status) = exited else { return nothing() };
        el("div")
            .class("ended")
            .attr("role", "status")
            .testid(format!("exit-{id}"))
            .child(el("span").text(format!("The shell has ended with status {status}.")))
            .when(
                move || session.may_type(),
                move || {
                    group()
                        .child(
                            el("button")
                                .testid(format!("restart-{id}"))
                                .click(move || session.restart(id))
                                .text("Start a new one (Enter)"),
                        )
                        .child(el("button").click(move || session.close_terminal(id)).text("Close"))
                },
            )
    })
}
