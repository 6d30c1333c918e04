//! The search box of a terminal (Ctrl+Shift+F).

use super::el::{El, el};
use super::icon::{self, icon_button};
use crate::reactive::*;
use crate::store::use_app;
use drydock_protocol::TerminalId;
use web_sys::{Event, KeyboardEvent};

/// The box.
pub fn search_box(id: TerminalId) -> El {
    let app = use_app();
    let session = app.session;
    let wanted = RwSignal::new(String::new());
    // Which of how many.
    let found = RwSignal::new(String::new());
    let nothing = move || found.with(|words| words == "not found");
    let find = move |back: bool| {
        if let Some(view) = session.view(id) {
            view.find(&wanted.get_untracked(), back, untrack(|| app.looks.dark()));
        }
    };
    let told = move |words: String| {
        // The box may be closed by then.
        let _ = found.try_set(words);
    };
    if let Some(view) = session.view(id) {
        // What was typed meanwhile is looked for as soon as it can be.
        view.load_search(told, move || find(true));
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
                .attr_of("aria-invalid", move || nothing().to_string())
                .on("input", move |event: Event| {
                    wanted.set(event_target_value(&event));
                    find(true);
                })
                .on("keydown", key),
        )
        .child(
            el("span")
                .class("search-result")
                .class_if("problem-text", nothing)
                .attr("role", "status")
                .testid("search-result")
                .text_of(move || found.get()),
        )
        .child(icon_button("Above (Enter)", icon::UP).click(move || find(true)))
        .child(icon_button("Below (Shift+Enter)", icon::DOWN).click(move || find(false)))
        .child(icon_button("Close the search (Escape)", icon::CLOSE).click(close))
}
