//! Keys that a phone's keyboard lacks, shown on narrow screens and where there is only touch.

use super::el::{El, el, group};
use crate::store::use_app;

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
pub fn key_bar() -> El {
    let session = use_app().session;
    let press = move |plain: &'static str, application: &'static str| {
        let Some(id) = session.layout.with_untracked(|l| l.active()) else { return };
        let application_mode = session.view(id).is_some_and(|view| view.application_cursor_keys());
        session.typed(id, if application_mode { application } else { plain }.as_bytes());
    };
    // The focus must stay in the terminal, or the phone's keyboard closes.
    let keep_focus = |event: web_sys::PointerEvent| event.prevent_default();
    let keys = move || {
        KEYS.into_iter()
            .map(|(name, letter, plain, application)| {
                el("button")
                    .attr("tabindex", "-1")
                    .attr("aria-label", name)
                    .testid(format!("key-{name}"))
                    .on("pointerdown", keep_focus)
                    .on("mousedown", |event: web_sys::MouseEvent| event.prevent_default())
                    .click(move || press(plain, application))
                    .text(letter)
            })
            .collect::<Vec<_>>()
    };
    group().when(
        move || session.may_type(),
        move || {
            el("div")
                .class("key-bar")
                .attr("role", "toolbar")
                .attr("aria-label", "Keys")
                .child(
                    el("button")
                        .attr("tabindex", "-1")
                        .testid("key-ctrl")
                        .attr_of("aria-pressed", move || session.ctrl.get().to_string())
                        .on("pointerdown", keep_focus)
                        .on("mousedown", |event: web_sys::MouseEvent| event.prevent_default())
                        .click(move || session.ctrl.update(|held| *held = !*held))
                        .text("Ctrl"),
                )
                .children(keys())
        },
    )
}
