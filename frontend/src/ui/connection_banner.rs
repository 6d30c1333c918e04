//! Says that the connection is lost, once that has lasted a second, and when it is tried again: a line of its own below the
//! top bar, that can be read at every width.

use super::el::{El, el};
use crate::reactive::*;
use crate::store::watch::watch;
use crate::{
    browser,
    store::{known::Known, session::Connection, use_app},
};
use gloo_timers::callback::Interval;

/// How long a loss must last before it is worth words, in milliseconds.
const PATIENCE: f64 = 1000.0;

/// The banner.
pub fn connection_banner() -> El {
    let session = use_app().session;
    let since = Known::new(None::<f64>);
    let now = Known::new(browser::now());
    let timer = StoredValue::new_local(None::<Interval>);
    watch(move || match session.connection.get() {
        Connection::Up => {
            since.set(None);
            timer.set_value(None);
        }
        _ if since.get_untracked().is_none() => {
            since.set(Some(browser::now()));
            timer.set_value(Some(Interval::new(250, move || now.set(browser::now()))));
        }
        _ => {}
    });
    on_cleanup(move || timer.set_value(None));
    let shown = move || since.get().is_some_and(|since| now.get() - since >= PATIENCE);
    let wait = move || match session.connection.get() {
        Connection::Lost { retry_at } => Some(((retry_at - now.get()) / 1000.0).ceil().max(0.0) as u32),
        _ => None,
    };
    el("div").class("banner-place").attr("role", "status").when(shown, move || {
        el("div")
            .class("banner")
            .testid("connection-banner")
            .child(
                el("span")
                    .child(el("span").text_of(move || match session.me.get() {
                        0 => "Connecting to the session …",
                        _ => "The connection is lost. The session goes on; what you type is kept.",
                    }))
                    .child(el("span").attr("aria-hidden", "true").text_of(move || match wait() {
                        Some(0) | None => String::new(),
                        Some(s) => format!(" Next attempt in {s} s."),
                    })),
            )
            .child(el("button").testid("retry-now").click(move || session.retry_now()).text("Reconnect"))
    })
}
