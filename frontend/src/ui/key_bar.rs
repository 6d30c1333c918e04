//! Keys that a phone's keyboard lacks, shown on narrow screens and where there is only touch.

use super::parts::{on, text, when};
use crate::store::use_app;
use leptos::prelude::*;

/// Name, letter on the key, what it sends, what it sends in application mode.
const KEYS: [(&str, &str, &str, &str); 10] = [
    ("esc", "Esc", "\x1b", "\x1b"),
    ("tab", "Tab", "\t", "\t"),
    ("left", "←", "\x1b[D", "\x1bOD"),
    ("up", "↑", "\x1b[A", "\x1bOA"),
    ("down", "↓", "\x1b[B", "\x1bOB"),
    ("right", "→", "\x1b[C", "\x1bOC"),
    ("pipe", "|", "|", "|"),
    ("slash", "/", "/", "/"),
    ("dash", "-", "-", "-"),
    ("tilde", "~", "~", "~"),
];

/// The bar.
#[component]
pub fn KeyBar() -> impl IntoView {
    let session = use_app().session;
    let press = move |plain: &'static str, application: &'static str| {
        let Some(id) = session.layout.with_untracked(|l| l.active()) else { return };
        let application_mode = session.view(id).is_some_and(|view| view.application_cursor_keys());
        session.type_into(id, if application_mode { application } else { plain }.as_bytes());
    };
    // The focus must stay in the terminal, or the phone's keyboard closes.
    let keep_focus = |event: web_sys::PointerEvent| event.prevent_default();
    let keys = move || {
        KEYS.into_iter()
        .map(|(name, letter, plain, application)| {
            view! {
                <button
                    tabindex="-1"
                    aria-label=name
                    data-testid=format!("key-{name}")
                    on:pointerdown=on(keep_focus)
                    on:mousedown=on(|event: web_sys::MouseEvent| event.prevent_default())
                    on:click=on(move |_| press(plain, application))
                >{letter}</button>
            }
            .into_any()
        })
        .collect::<Vec<_>>()
    };
    view! {
        {when(move || session.may_type(), move || view! {
            <div class="key-bar" role="toolbar" aria-label="Keys">
                <button
                    tabindex="-1"
                    data-testid="key-ctrl"
                    aria-pressed=text(move || session.ctrl.get().to_string())
                    on:pointerdown=on(keep_focus)
                    on:mousedown=on(|event: web_sys::MouseEvent| event.prevent_default())
                    on:click=on(move |_| session.ctrl.update(|held| *held = !*held))
                >"Ctrl"</button>
                {keys()}
            </div>
        }.into_any())}
    }
}
