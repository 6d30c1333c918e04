//! A page in the stead of a session that can't be used: what happened, and the way on.

use super::el::{El, el, group, nothing};
use crate::reactive::*;
use crate::store::watch::watch;
use crate::{
    logic::clock,
    store::{route::Route, session::Over, start::Progress, use_app},
};
use drydock_protocol::api::CreateSession;

/// What is the matter.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// The address names no page.
    NoPage,
    /// The session can't be used.
    Session(Over),
}

struct Words {
    kind: &'static str,
    title: &'static str,
    text: String,
    reload: bool,
}

/// The page.
pub fn problem_page(kind: Kind) -> El {
    let app = use_app();
    let words = words(kind);
    document().set_title(&format!("{} · Drydock", words.title));
    // What had the focus is gone; a screen reader goes on here.
    let heading = el("h1").attr("tabindex", "-1").text(words.title).focus();
    let about = app.session.about;
    let again = move || {
        let Some(session) = about.get() else { return nothing() };
        let nodes = session.state.as_ref().and_then(|s| u8::try_from(s.nodes.len()).ok());
        let wish = CreateSession { playground: session.playground.clone(), nodes, ttl_seconds: None };
        let label = format!("Start a new {} session", session.playground);
        let busy = move || app.start.progress.with(|p| *p == Progress::Starting);
        let start = move || app.start.start(app, wish.clone());
        el("button").class("primary").testid("start-again").off_if(busy).click(start).text(label)
    };
    // The queue and what went wrong are told on the start page.
    let mut first = true;
    watch(move || {
        let elsewhere = matches!(app.start.progress.get(), Progress::Waiting(_) | Progress::Failed(_));
        if !std::mem::replace(&mut first, false) && elsewhere {
            app.go(Route::Start);
        }
    });
    el("main")
        .class("problem")
        .testid("problem")
        .attr("data-kind", words.kind)
        .child(el("p").class("brand").text("Drydock"))
        .child(heading)
        .child(el("p").class("lead").text(words.text))
        .child(el("p").class("muted").child(lifetime()))
        .child(
            el("div")
                .class("actions")
                .part(again)
                .children(words.reload.then(|| {
                    el("button")
                        .click(move || {
                            let _ = crate::browser::window().location().reload();
                        })
                        .text("Try again")
                }))
                .child(
                    el("a")
                        .class("button")
                        .attr("href", "/")
                        .testid("to-start")
                        .on("click", move |event: web_sys::MouseEvent| {
                            event.prevent_default();
                            app.go(Route::Start);
                        })
                        .text("Go to the start page"),
                ),
        )
}

/// How long the session lived, if the server still tells.
fn lifetime() -> El {
    let about = use_app().session.about;
    group().text_of(move || {
        let Some(session) = about.get() else { return String::new() };
        let lived = session.expires_at.saturating_sub(session.created_at);
        if session.created_at > 0 && session.expires_at <= crate::browser::wall_clock() {
            format!(
                "Session {} lived {}.",
                session.id,
                clock::words(if lived < 60 { lived } else { lived / 60 * 60 })
            )
        } else {
            String::new()
        }
    })
}

fn words(kind: Kind) -> Words {
    let of = |kind, title, text: String| Words { kind, title, text, reload: false };
    match kind {
        Kind::NoPage => of(
            "no-page",
            "There is no such page",
            "The address is not one of this server. Perhaps a part of a link was lost when it was copied.".into(),
        ),
        Kind::Session(Over::Forbidden(text)) => of("forbidden", "This link opens nothing", text),
        Kind::Session(Over::NotFound(text)) => of("not-found", "There is no such session", text),
        Kind::Session(Over::Ended(because)) => {
            let because = because.unwrap_or_else(|| "It was ended.".into());
            of("ended", "This session has ended", format!("{because} Its nodes and files are deleted."))
        }
        Kind::Session(Over::Limit) => Words {
            reload: true,
            ..of(
                "limit",
                "Too many pages have this session open",
                "The server takes no more connections to it. Close one of the others, then try again.".into(),
            )
        },
        Kind::Session(Over::NoWebSocket) => of(
            "no-websocket",
            "This browser can't show terminals",
            "It has no WebSocket, or an extension switched it off. Open this page in a current Firefox, Chrome, Edge or Safari.".into(),
        ),
    }
}
