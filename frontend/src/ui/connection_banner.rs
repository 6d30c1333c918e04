//! Says that the connection is lost, once that has lasted a second, and when it is tried again.

use super::parts::{on, text, when};
use crate::{
    browser,
    store::{session::Connection, use_app},
};
use gloo_timers::callback::Interval;
use leptos::prelude::*;

/// How long a loss must last before it is worth words, in milliseconds.
const PATIENCE: f64 = 1000.0;

/// The banner.
#[component]
pub fn ConnectionBanner() -> impl IntoView {
    let session = use_app().session;
    let since = RwSignal::new(None::<f64>);
    let now = RwSignal::new(browser::now());
    let timer = StoredValue::new_local(None::<Interval>);
    Effect::new(move |_| match session.connection.get() {
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
    let shown = Memo::new(move |_| since.get().is_some_and(|since| now.get() - since >= PATIENCE));
    let wait = Memo::new(move |_| match session.connection.get() {
        Connection::Lost { retry_at } => Some(((retry_at - now.get()) / 1000.0).ceil().max(0.0) as u32),
        _ => None,
    });
    view! {
        <div class="banner-place" role="status">
            {when(move || shown.get(), move || view! {
                <div class="banner" data-testid="connection-banner">
                    <span>
                        {text(move || if session.me.get() == 0 {
                            "Connecting to the session …"
                        } else {
                            "The connection is lost. The session goes on; what you type is kept."
                        })}
                    </span>
                    // The seconds are not read out each time.
                    <span aria-hidden="true">
                        {text(move || match wait.get() {
                            Some(0) | None => String::new(),
                            Some(s) => format!(" Next attempt in {s} s."),
                        })}
                    </span>
                    <button data-testid="retry-now" on:click=on(move |_| session.retry_now())>"Try now"</button>
                </div>
            }.into_any())}
        </div>
    }
}
