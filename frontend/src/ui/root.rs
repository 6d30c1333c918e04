//! The whole page: makes the store, shows the page that the address bar names, and owns the keys that work everywhere.

use super::el::{El, group, mount};
use super::{
    notice_list::notice_list,
    problem_page::{Kind, problem_page},
    session_page::session_page,
    start_page::start_page,
};
use crate::reactive::*;
use crate::{
    browser,
    store::{App, route::Route, session::Phase, terminals},
};
use gloo_events::{EventListener, EventListenerOptions};
use wasm_bindgen::JsCast;
use web_sys::{HtmlElement, KeyboardEvent};

/// Puts the page into the document.
pub fn run() {
    mount(root);
}

/// Everything.
fn root() -> El {
    let app = App::new();
    provide_context(app);
    let sheet = RwSignal::new(false);
    listen(app, sheet);
    let route = app.route;
    // Whether the session is being entered or works makes no other page.
    let shown = move || match (route.get(), app.session.phase.get()) {
        (Route::Session(_), Phase::Over(why)) => (route.get(), Some(why)),
        (route, _) => (route, None),
    };
    group()
        .switch(shown, move |shown| match shown {
            (Route::Start, _) => start_page(),
            (Route::Session(_), None) => session_page(sheet),
            (Route::Session(_), Some(why)) => problem_page(Kind::Session(why)),
            (Route::Unknown, _) => problem_page(Kind::NoPage),
        })
        .child(notice_list())
}

/// Keys of the whole page, and files dropped beside the places that take them.
fn listen(app: App, sheet: RwSignal<bool>) {
    let options = EventListenerOptions::enable_prevent_default();
    EventListener::new_with_options(&document(), "keydown", options, move |event| {
        let event: &KeyboardEvent = event.unchecked_ref();
        if event.default_prevented() || app.session.id.with_untracked(Option::is_none) {
            return;
        }
        let plain = !event.ctrl_key() && !event.alt_key() && !event.meta_key();
        match event.key().as_str() {
            "F6" if plain => {
                event.prevent_default();
                terminals::next_area(event.shift_key());
            }
            "?" if plain && !is_typing() => sheet.set(true),
            "Escape" if plain => app.notices.clear(),
            _ => {}
        }
    })
    .forget();
    // A file dropped beside its target must not replace the page.
    for name in ["dragover", "drop"] {
        let options = EventListenerOptions::enable_prevent_default();
        EventListener::new_with_options(&browser::window(), name, options, |event| {
            event.prevent_default();
        })
        .forget();
    }
    EventListener::new_with_options(
        &browser::window(),
        "beforeunload",
        EventListenerOptions::enable_prevent_default(),
        move |event| {
            if app.would_lose() {
                event.prevent_default();
            }
        },
    )
    .forget();
}

/// True if what has the focus takes letters.
fn is_typing() -> bool {
    browser::focused().is_some_and(|element| {
        let editable = element.dyn_ref::<HtmlElement>().is_some_and(HtmlElement::is_content_editable);
        editable || ["INPUT", "TEXTAREA", "SELECT"].contains(&element.tag_name().as_str())
    })
}
