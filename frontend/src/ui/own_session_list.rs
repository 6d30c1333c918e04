//! The sessions of this browser that have not ended, on the start page.

use super::el::{El, el, nothing};
use crate::{
    browser,
    logic::clock,
    store::{own_sessions, route::Route, use_app},
};

/// The list; nothing if there are none.
pub fn own_session_list() -> El {
    let app = use_app();
    let list = own_sessions::list();
    if list.is_empty() {
        return nothing();
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
            el("li").child(
                el("a")
                    .attr("href", path)
                    .testid(format!("own-session-{}", session.id))
                    .on("click", go)
                    .child(el("strong").text(what))
                    .child(el("span").text(format!(" {}{nodes}, {left} left", session.id))),
            )
        })
        .collect::<Vec<_>>();
    el("section")
        .class("own-sessions")
        .attr("aria-labelledby", "own-title")
        .child(el("h2").attr("id", "own-title").text("Your sessions"))
        .child(el("ul").children(items))
}
