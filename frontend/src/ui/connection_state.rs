//! The dot that tells whether the session can be reached, with the delay.

use super::el::{El, el};
use crate::logic::units::fixed;
use crate::store::{session::Connection, use_app};

/// The dot.
pub fn connection_state() -> El {
    let session = use_app().session;
    let state = move || match session.connection.get() {
        Connection::Connecting => "connecting",
        Connection::Up => "up",
        Connection::Lost { .. } => "lost",
    };
    let words = move || match session.connection.get() {
        Connection::Connecting => "connecting".to_owned(),
        Connection::Lost { .. } => "no connection".to_owned(),
        Connection::Up => {
            session.latency.get().map_or("connected".into(), |ms| format!("{} ms", fixed(ms.max(1.0), 0)))
        }
    };
    let title = move || match session.connection.get() {
        Connection::Up => "Connected; the delay to the server",
        _ => "Not connected",
    };
    el("span")
        .class("connection")
        .testid("connection-state")
        .attr_of("data-state", state)
        .attr_of("title", title)
        .child(el("span").class("dot").attr("aria-hidden", "true"))
        .child(el("span").class("connection-words").text_of(words))
}
