//! A page in the stead of a session that can't be used: what happened, and the way on.

use super::parts::{flag, on, part, text};
use crate::{
    logic::clock,
    store::{
        route::Route,
        session::Over,
        start::Progress,
        use_app,
    },
};
use drydock_protocol::api::CreateSession;
use leptos::prelude::*;

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
#[component]
pub fn ProblemPage(kind: Kind) -> impl IntoView {
    let app = use_app();
    let words = words(kind);
    document().set_title(&format!("{} · Drydock", words.title));
    let heading = NodeRef::<leptos::html::H1>::new();
    heading.on_load(|h1| {
        // What had the focus is gone; a screen reader goes on here.
        let _ = h1.focus();
    });
    let about = app.session.about;
    let again = move || {
        let Some(session) = about.get() else { return ().into_any() };
        let nodes = session.state.as_ref().and_then(|s| u8::try_from(s.nodes.len()).ok());
        let wish = CreateSession { playground: session.playground.clone(), nodes, ttl_seconds: None };
        let label = format!("Start a new {} session", session.playground);
        let busy = move || app.start.progress.with(|p| *p == Progress::Starting);
        let start = move |_| app.start.start(app, wish.clone());
        view! {
            <button class="primary" data-testid="start-again" disabled=flag(busy) on:click=on(start)>{label}</button>
        }
        .into_any()
    };
    // The queue and what went wrong are told on the start page.
    Effect::new(move |before: Option<()>| {
        let elsewhere = matches!(app.start.progress.get(), Progress::Waiting(_) | Progress::Failed(_));
        if elsewhere && before.is_some() {
            app.go(Route::Start);
        }
    });
    view! {
        <main class="problem" data-testid="problem" data-kind=words.kind>
            <p class="brand">"Drydock"</p>
            <h1 tabindex="-1" node_ref=heading>{words.title}</h1>
            <p class="lead">{words.text}</p>
            <p class="muted"><Lifetime/></p>
            <div class="actions">
                {part(again)}
                {words.reload.then(|| view! {
                    <button on:click=on(move |_| {
                        let _ = crate::browser::window().location().reload();
                    })>"Try again"</button>
                })}
                <a
                    class="button"
                    href="/"
                    data-testid="to-start"
                    on:click=on(move |event: web_sys::MouseEvent| {
                        event.prevent_default();
                        app.go(Route::Start);
                    })
                >"Go to the start page"</a>
            </div>
        </main>
    }
}

/// How long the session lived, if the server still tells.
#[component]
fn Lifetime() -> impl IntoView {
    let about = use_app().session.about;
    text(move || {
        let Some(session) = about.get() else { return String::new() };
        let lived = session.expires_at.saturating_sub(session.created_at);
        if session.created_at > 0 && session.expires_at <= crate::browser::wall_clock() {
            format!("Session {} lived {}.", session.id, clock::words(if lived < 60 { lived } else { lived / 60 * 60 }))
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
