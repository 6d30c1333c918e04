//! The search box of a terminal (Ctrl+Shift+F).

use super::el::{El, el};
use super::icon::{self, icon};
use crate::store::use_app;
use drydock_protocol::TerminalId;
use leptos::prelude::*;
use web_sys::{Event, KeyboardEvent};

/// The box.
pub fn search_box(id: TerminalId) -> El {
    let session = use_app().session;
    let wanted = RwSignal::new(String::new());
    let nothing = RwSignal::new(false);
    let find = move |back: bool| {
        let words = wanted.get_untracked();
        let found = words.is_empty() || session.view(id).is_some_and(|view| view.find(&words, back));
        nothing.set(!found);
    };
    let close = move || {
        session.searching.set(None);
        if let Some(view) = session.view(id) {
            view.find_nothing();
        }
        session.focus_terminal(id);
    };
    let key = move |event: KeyboardEvent| match event.key().as_str() {
        "Escape" => close(),
        "Enter" => {
            event.prevent_default();
            find(!event.shift_key());
        }
        _ => {}
    };
    el("div")
        .class("search")
        .attr("role", "search")
        .child(
            el("input")
                .attr("type", "search")
                .focus()
                .testid(format!("search-{id}"))
                .attr("placeholder", "Find in the terminal")
                .attr("aria-label", "Find in the terminal")
                .attr_of("aria-invalid", move || nothing.get().to_string())
                .on("input", move |event: Event| {
                    wanted.set(event_target_value(&event));
                    find(true);
                })
                .on("keydown", key),
        )
        .child(
            el("span")
                .class("search-result")
                .attr("role", "status")
                .text_of(move || if nothing.get() { "not found" } else { "" }),
        )
        .child(
            el("button")
                .class("quiet")
                .attr("aria-label", "Find above (Enter)")
                .attr("title", "Above (Enter)")
                .click(move || find(true))
                .child(icon(icon::UP)),
        )
        .child(
            el("button")
                .class("quiet")
                .attr("aria-label", "Find below (Shift+Enter)")
                .attr("title", "Below (Shift+Enter)")
                .click(move || find(false))
                .child(icon(icon::DOWN)),
        )
        .child(
            el("button")
                .class("quiet")
                .attr("aria-label", "Close the search (Escape)")
                .click(close)
                .child(icon(icon::CLOSE)),
        )
}
