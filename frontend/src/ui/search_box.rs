//! The search box of a terminal (Ctrl+Shift+F).

use super::el::{El, el};
use super::icon::{self, icon_button};
use crate::reactive::*;
use crate::store::use_app;
use drydock_protocol::TerminalId;
use web_sys::{Event, KeyboardEvent};

/// The box.
pub fn search_box(id: TerminalId) -> El {
    let session = use_app().session;
    let wanted = RwSignal::new(String::new());
    let nothing = RwSignal::new(false);
    let find = move |back: bool| {
        let words = wanted.get_untracked();
        let found = session.view(id).and_then(|view| view.find(&words, back));
        nothing.set(!words.is_empty() && found == Some(false));
    };
    if let Some(view) = session.view(id) {
        // What was typed meanwhile is looked for as soon as it can be.
        view.load_search(move || find(true));
    }
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
        .child(icon_button("Above (Enter)", icon::UP).click(move || find(true)))
        .child(icon_button("Below (Shift+Enter)", icon::DOWN).click(move || find(false)))
        .child(icon_button("Close the search (Escape)", icon::CLOSE).click(close))
}
