//! The search box of a terminal (Ctrl+Shift+F).

use super::parts::{on, text};
use super::icon::{self, Icon};
use crate::store::use_app;
use drydock_protocol::TerminalId;
use leptos::{html, prelude::*};
use web_sys::KeyboardEvent;

/// The box.
#[component]
pub fn SearchBox(id: TerminalId) -> impl IntoView {
    let session = use_app().session;
    let input = NodeRef::<html::Input>::new();
    let wanted = RwSignal::new(String::new());
    let nothing = RwSignal::new(false);
    input.on_load(|input| {
        let _ = input.focus();
    });
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
    view! {
        <div class="search" role="search">
            <input
                type="search"
                node_ref=input
                data-testid=format!("search-{id}")
                placeholder="Find in the terminal"
                aria-label="Find in the terminal"
                aria-invalid=text(move || nothing.get().to_string())
                on:input=on(move |event| {
                    wanted.set(event_target_value(&event));
                    find(true);
                })
                on:keydown=on(key)
            />
            <span class="search-result" role="status">{text(move || if nothing.get() { "not found" } else { "" })}</span>
            <button class="quiet" aria-label="Find above (Enter)" title="Above (Enter)" on:click=on(move |_| find(true))><Icon d=icon::UP/></button>
            <button class="quiet" aria-label="Find below (Shift+Enter)" title="Below (Shift+Enter)" on:click=on(move |_| find(false))><Icon d=icon::DOWN/></button>
            <button class="quiet" aria-label="Close the search (Escape)" on:click=on(move |_| close())><Icon d=icon::CLOSE/></button>
        </div>
    }
}
