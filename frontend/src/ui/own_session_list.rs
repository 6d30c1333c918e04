//! The sessions of this browser that have not ended, on the start page.

use super::parts::on;
use crate::{
    browser,
    logic::clock,
    store::{own_sessions, route::Route, use_app},
};
use leptos::prelude::*;

/// The list; nothing if there are none.
#[component]
pub fn OwnSessionList() -> impl IntoView {
    let app = use_app();
    let list = own_sessions::list();
    if list.is_empty() {
        return ().into_any();
    }
    let now = browser::wall_clock();
    let items = list
        .into_iter()
        .map(|session| {
            let route = Route::Session(session.id.clone());
            let path = route.path();
            let what = session.playground.unwrap_or_else(|| "shared session".into());
            let nodes = match session.nodes {
                Some(1) => ", 1 node".to_owned(),
                Some(n) => format!(", {n} nodes"),
                None => String::new(),
            };
            let left = clock::words((session.expires_at.saturating_sub(now) / 60).max(1) * 60);
            let go = move |event: web_sys::MouseEvent| {
                // Ctrl, Shift and the middle button open a tab, as with any link.
                if !(event.ctrl_key() || event.shift_key() || event.meta_key() || event.button() != 0) {
                    event.prevent_default();
                    app.go(route.clone());
                }
            };
            view! {
                <li>
                    <a href=path data-testid=format!("own-session-{}", session.id) on:click=on(go)>
                        <strong>{what}</strong>
                        <span>{format!(" {}{nodes}, {left} left", session.id)}</span>
                    </a>
                </li>
            }
            .into_any()
        })
        .collect::<Vec<_>>();
    view! {
        <section class="own-sessions" aria-labelledby="own-title">
            <h2 id="own-title">"Your sessions"</h2>
            <ul>{items}</ul>
        </section>
    }
    .into_any()
}
