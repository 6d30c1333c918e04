//! The dot that tells whether the session can be reached, with the delay.

use super::parts::text;
use crate::store::{session::Connection, use_app};
use leptos::prelude::*;

/// The dot.
#[component]
pub fn ConnectionState() -> impl IntoView {
    let session = use_app().session;
    let state = move || match session.connection.get() {
        Connection::Connecting => "connecting",
        Connection::Up => "up",
        Connection::Lost { .. } => "lost",
    };
    let words = move || match session.connection.get() {
        Connection::Connecting => "connecting".to_owned(),
        Connection::Lost { .. } => "no connection".to_owned(),
        Connection::Up => session.latency.get().map_or("connected".into(), |ms| format!("{:.0} ms", ms.max(1.0))),
    };
    let title = move || match session.connection.get() {
        Connection::Up => "Connected; the delay to the server",
        _ => "Not connected",
    };
    view! {
        <span class="connection" data-testid="connection-state" data-state=text(state) title=text(title)>
            <span class="dot" aria-hidden="true"></span>
            <span class="connection-words">{text(words)}</span>
        </span>
    }
}
